"""A folder that appears whole: filled beside its place, synced, renamed.

Who owns the folder above may run what QEMU runs, and can rename ours or put a link in its place at
any moment. So what is in it is reached through an open handle of it, and it is the agent's alone
until all in it is done; only then it is given to who owns the folder above.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.adapters.disk_format.partial import failed
from holdfast.errors import ConflictError, HoldfastError, TargetError

TRIES = 1000
SUFFIX = ".holdfast.partial"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
ROOM = FOLDER | os.O_NOFOLLOW
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def free_name(path: Path) -> Path:
    """``path``, or the same with a number when that is there. ConflictError (TargetExists)."""
    for number in range(1, TRIES):
        found = path if number == 1 else path.with_name(f"{path.name}-{number}")
        if not os.path.lexists(found):
            return found
    raise ConflictError(
        f"{path} and {TRIES - 2} more like it exist already",
        code="TargetExists",
        hint="remove what is not needed there, then restore again",
    )


@contextmanager
def staged_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder (0700) in ``parent``, locked, and gone at the end unless it was published:
    a path by its handle, good in this process and its children. What interrupted runs left in
    ``parent`` is removed. TargetError (TargetUnavailable), ConflictError (RestoreUnderWay)."""
    if not parent.is_dir():
        raise TargetError(
            f"the folder {parent} is not there",
            code="TargetUnavailable",
            hint="make it on the host, so that the agent can write there",
        )
    staged = parent / f".{name[:100]}{SUFFIX}"
    try:
        with _turn(parent):
            _sweep(parent, staged)
            handle = _make(staged)
    except OSError as error:
        raise failed(staged, error) from error
    inside = f"/proc/{os.getpid()}/fd/{handle}"
    try:
        yield Path(inside)
    except HoldfastError as error:
        error.message = error.message.replace(inside, str(staged))
        raise
    finally:
        if _is_still(staged, handle):
            with suppress(OSError):
                _remove(staged, handle)
        os.close(handle)


def publish(staged: Path, final: Path, owner: os.stat_result | None = None) -> None:
    """Durable and in its place, atomically; ``owner``: whose it is from then on. TargetError."""
    try:
        with opened(staged, FOLDER) as folder:
            for name in os.listdir(folder):
                with opened(name, FILE, folder) as handle:
                    os.fsync(handle)
                    give(handle, owner)
            os.fsync(folder)
            give(folder, owner)
        staged.readlink().rename(final)
        with opened(final.parent, FOLDER) as handle:
            os.fsync(handle)
    except OSError as error:
        raise failed(final, error) from error


@contextmanager
def opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    handle = os.open(path, flags, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def give(handle: int, owner: os.stat_result | None) -> None:
    """To the user of ``owner``, if we can: QEMU may run as another."""
    if owner is not None and os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(handle, owner.st_uid, owner.st_gid)


@contextmanager
def _turn(parent: Path) -> Iterator[None]:
    """One run at a time removes and makes folders there."""
    with opened(parent, FOLDER) as handle:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sweep(parent: Path, mine: Path) -> None:
    """What killed restores left: nobody holds its lock."""
    for path in parent.iterdir():
        if path.name.startswith(".") and path.name.endswith(SUFFIX) and path != mine:
            with suppress(OSError, ConflictError):
                handle = _open(path)
                try:
                    _remove(path, handle)
                finally:
                    os.close(handle)


def _make(staged: Path) -> int:
    """Its handle, locked. One that is there is of an interrupted run. OSError, ConflictError."""
    with suppress(FileNotFoundError):
        handle = _open(staged)
        try:
            _remove(staged, handle)
        finally:
            os.close(handle)
    staged.mkdir(mode=0o700)
    handle = _open(staged)
    found = os.fstat(handle)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or os.listdir(handle):
        os.close(handle)
        raise FileExistsError(None, "somebody put another folder in its place")
    return handle


def _open(staged: Path) -> int:
    """A locked handle. OSError, ConflictError (RestoreUnderWay)."""
    handle = os.open(staged, ROOM)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConflictError(
            f"another restore writes to {staged}",
            code="RestoreUnderWay",
            hint="wait until it has ended, then restore again",
            retry="later",
        ) from error
    return handle


def _remove(staged: Path, handle: int) -> None:
    """Only what is in the folder of that handle, and a name that has nothing in it."""
    for name in os.listdir(handle):
        os.unlink(name, dir_fd=handle)
    staged.rmdir()


def _is_still(staged: Path, handle: int) -> bool:
    """Whether the name still is the folder's: after it was published it may be another run's."""
    try:
        return os.path.samestat(staged.lstat(), os.fstat(handle))
    except OSError:
        return False
