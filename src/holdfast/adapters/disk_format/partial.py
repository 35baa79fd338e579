"""A file that is written beside its place and takes it whole."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from holdfast.errors import ConflictError, TargetError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class PartialFile:
    """An empty file of its owner's (0600) beside ``target``; leaving the ``with`` removes it,
    unless it was published. ConflictError (TargetExists), TargetError."""

    def __init__(self, target: Path) -> None:
        self.target = target.absolute()
        _refuse_existing(self.target)
        name = self.target.name[:100]
        try:
            self.fd, path = tempfile.mkstemp(
                prefix=f".{name}.", suffix=".partial", dir=self.target.parent
            )
        except OSError as error:
            raise failed(self.target, error) from error
        self.path = Path(path)

    def publish(self) -> None:
        """Durable and in its place, atomically. ConflictError (TargetExists), TargetError."""
        try:
            os.fsync(self.fd)
            self._take_place()
            folder = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise failed(self.target, error) from error

    def _take_place(self) -> None:
        """By a link, which never replaces what somebody put there meanwhile."""
        try:
            self.target.hardlink_to(self.path)
        except FileExistsError:
            _refuse_existing(self.target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            _refuse_existing(self.target)  # a file system without links: as near as it gets
            self.path.rename(self.target)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)
        with suppress(OSError):  # gone after a rename; else nothing a caller could do
            self.path.unlink(missing_ok=True)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise ConflictError(
            f"{target} exists already",
            code="TargetExists",
            hint="choose another name, or move the file away",
        )


def failed(target: Path, error: OSError) -> TargetError:
    """What the system refused, as an error of the restore's target."""
    if error.errno in FULL:
        return TargetError(
            f"no room is left for {target}: {error.strerror}",
            code="TargetFull",
            hint="free space there or choose another folder, then restore again",
            retry="later",
        )
    return TargetError(
        f"{target} cannot be written: {error.strerror or error}",
        code="TargetUnavailable",
        hint="check that the folder exists and can be written by the agent",
    )
