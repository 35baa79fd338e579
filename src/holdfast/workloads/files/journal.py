"""How far a restore is: windows whose files are written and synced. It never claims more.

A text file, only appended to. The first line names the request; a journal of another request is
begun anew. ``w N``: window N is done, written after its file systems were synced, and synced
itself. ``d HEX``: a folder this restore is about to make, so that a later run knows it as ours. A
restore started again with the same request skips the windows listed.

The open journal is also a lock: its holder, and the helper processes that share the descriptor, are
the only ones who write for this restore. A run started again waits until they are gone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from holdfast.errors import CancelledError, TargetError
from holdfast.files import names

log = logging.getLogger(__name__)
_MAGIC = "holdfast-restore-1"
_OPEN = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
WAIT_SECONDS, ASK_SECONDS = 60.0, 0.1


def _never() -> bool:
    return False


class RestoreJournal:
    """``path`` None keeps no journal: nothing can be resumed. ``request``: what identifies it.
    ``resumed``: an earlier run of this request was interrupted. Waits for what an earlier run left
    running: TargetError (TargetBusy) when that does not end, CancelledError."""

    def __init__(
        self, path: Path | None, request: str, cancelled: Callable[[], bool] = _never
    ) -> None:
        self._path = path
        self.done: set[int] = set()
        self._folders: set[bytes] = set()
        self.resumed = False
        self._fd = -1
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = _open_alone(path, cancelled)
        head = f"{_MAGIC} {request}"
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # a line that was cut off does not count
        lines = whole.decode(errors="replace").split("\n")
        self.resumed = lines[0] == head
        if self.resumed:
            os.ftruncate(self._fd, len(whole))
            self._read(lines[1:])
        else:
            os.ftruncate(self._fd, 0)
            self._append(head)
            os.fsync(self._fd)

    @property
    def held(self) -> tuple[int, ...]:
        """Descriptors a process that writes for this restore must share."""
        return (self._fd,) if self._fd >= 0 else ()

    def _read(self, lines: list[str]) -> None:
        for line in lines:
            kind, _, value = line.partition(" ")
            if kind == "w" and value.isdigit():
                self.done.add(int(value))
            elif kind == "d":
                self._folders.add(bytes.fromhex(value))

    def will_make(self, folders: Iterable[bytes]) -> None:
        """These folders are about to be made by this restore."""
        if self._fd >= 0 and (rows := [f"d {path.hex()}" for path in folders]):
            self._append("\n".join(rows))

    def made(self, folder: bytes) -> bool:
        """Whether an interrupted run made this folder."""
        return folder in self._folders

    def finish_windows(self, numbers: list[int]) -> None:
        """These windows are written and synced."""
        if self._fd >= 0 and numbers:
            self._append("\n".join(f"w {number}" for number in numbers))
            os.fsync(self._fd)

    def _append(self, line: str) -> None:
        data = memoryview(line.encode() + b"\n")
        with names(self._path or Path()):
            while data:
                data = data[os.write(self._fd, data) :]

    def close(self, *, delete: bool) -> None:
        """``delete`` when the restore is complete."""
        if self._fd >= 0:
            if delete and self._path is not None:
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def _open_alone(path: Path, cancelled: Callable[[], bool]) -> int:
    """A descriptor of the journal that nobody else has locked."""
    while True:
        fd = os.open(path, _OPEN, 0o600)
        try:
            _lock(fd, cancelled)
            if _is_named(fd, path):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # the run waited for was complete and took its journal away


def _lock(fd: int, cancelled: Callable[[], bool]) -> None:
    give_up, waited = time.monotonic() + WAIT_SECONDS, False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not waited:
                log.warning("an earlier run of this restore still writes; waiting for its end")
            waited = True
        except OSError as error:
            log.info("the journal's file system has no locks: %s", error)
            return
        if cancelled():
            raise CancelledError("the restore was cancelled")
        if time.monotonic() >= give_up:
            raise TargetError(
                "an earlier run of this restore still writes to the target, "
                f"after {WAIT_SECONDS:.0f} seconds of waiting",
                code="TargetBusy",
                hint="it ends once the target's disk answers it; start the restore again then",
                retry="later",
            )
        time.sleep(ASK_SECONDS)


def _is_named(fd: int, path: Path) -> bool:
    """Whether ``path`` is still the file that was opened."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
