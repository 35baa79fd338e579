"""Files and folders of a local store: whose errors they are, whose they are, and when they last.

A temporary file is locked for as long as its writer lives, wherever that process runs: what can be
locked by somebody else has no owner any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import ObjectMissingError, StoreFullError, StoreUnavailableError

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@contextlib.contextmanager
def translated(what: str, home: Path) -> Iterator[None]:
    """Errors of the port. Absence counts only while ``home``, a folder of every store, is there:
    a disk that is not mounted has lost nothing."""
    try:
        yield
    except ABSENT as error:
        if not home.is_dir():
            raise failed(what, error) from error
        raise ObjectMissingError(f"no object {what}") from error
    except OSError as error:
        if error.errno in FULL:
            raise StoreFullError(
                f"the store is full while writing {what}",
                hint="free space on the store's disk, or expire and collect the vault",
            ) from error
        raise failed(what, error) from error


def failed(what: str, error: OSError) -> StoreUnavailableError:
    """The error of a disk that does not do what it is asked."""
    return StoreUnavailableError(
        f"the store failed at {what}: {error.strerror}",
        hint="check the disk and its mount; nothing that was committed is affected",
    )


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_same(path: Path, other: Path) -> bool:
    """Whether both are names of one file; False when either is gone."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder whose name survives a power cut, with those it lies in."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=mode)
        sync_folder(folder.parent)


def open_temporary(path: Path) -> int | None:
    """A handle to write to a new file of its own at ``path``; None when the name is in use."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    if _lock(handle) is False or os.fstat(handle).st_nlink == 0:  # taken for a leftover just now
        os.close(handle)
        return None
    return handle


def remove_abandoned(path: Path) -> bool:
    """Delete a temporary file whose writer is gone; whether it was. False when it lives."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        if not _lock(handle):
            return False
        path.unlink(missing_ok=True)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _lock(handle: int) -> bool | None:
    """Whether the file is ours now; None when the file system knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
