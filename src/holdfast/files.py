"""Small files: written so that a crash leaves the old one or the new one, never half; read with a
limit."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE = 0o600
MOST_BYTES = 16 * 1024 * 1024


def read_small(path: Path) -> bytes:
    """The content of a file somebody named. OSError, also when it is larger than any such file."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def read_theirs(path: Path, most: int) -> bytes:
    """The content of a file another user wrote, who may have put a link, a pipe or another name of
    a file of ours there. OSError, also when it is larger than ``most``."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EINVAL, "is no regular file of its own", str(path))
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def write_whole(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Write aside, sync, rename over ``path``, sync the folder. OSError naming ``path``, also when
    something that is no file has the name: a device would be lost."""
    with names(path):
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "is no regular file")
        _write(path, data, mode)


@contextmanager
def names(path: Path) -> Iterator[None]:
    """Let the OSErrors within say which file they are about."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write(path: Path, data: bytes, mode: int) -> None:
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(fd, "wb") as out:
            os.fchmod(fd, mode)  # whatever this process takes from new files
            out.write(data)
            out.flush()
            os.fsync(fd)
        staged.replace(path)
    except OSError:
        with suppress(OSError):
            staged.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
