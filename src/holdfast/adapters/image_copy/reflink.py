"""One file that shares the blocks of another (FICLONERANGE), brought up to date piece by piece."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import suppress
from pathlib import Path

from holdfast.adapters.image_copy.extents import Map, differing, read_map
from holdfast.ports.image_copy import Mark, NotCopiedError

FICLONERANGE = 0x4020940D
GET_FLAGS, SET_FLAGS, NO_COPY_ON_WRITE = 0x80086601, 0x40086602, 0x00800000
PIECE = 32 << 20  # [bytes] shared in one call: the guest's writes wait that long, and no longer
RANGE = struct.Struct("=qQQQ")
FLAGS = struct.Struct("@l")


def take_flags(source: int, target: int) -> None:
    """btrfs shares blocks between files only when both, or neither, are written in place."""
    with suppress(OSError):
        own = FLAGS.unpack(fcntl.ioctl(source, GET_FLAGS, FLAGS.pack(0)))[0]
        mine = FLAGS.unpack(fcntl.ioctl(target, GET_FLAGS, FLAGS.pack(0)))[0]
        wanted = mine & ~NO_COPY_ON_WRITE | own & NO_COPY_ON_WRITE
        fcntl.ioctl(target, SET_FLAGS, FLAGS.pack(wanted))


def share(source: int, target: int, at: int, length: int) -> None:
    """OSError."""
    while length > 0:
        piece = min(length, PIECE)
        fcntl.ioctl(target, FICLONERANGE, RANGE.pack(source, at, piece, at))
        at, length = at + piece, length - piece


class ReflinkCopy:
    """See ports.image_copy.ImageCopy. Both files are open, and its own to close, as is ``folder``,
    which is that of ``place``."""

    def __init__(self, source: int, target: int, folder: int, place: Path) -> None:
        self._source, self._target, self._folder, self._place = source, target, folder, place
        self._map: Map | None = None
        self._open = True

    def follow(self) -> float:
        began = time.monotonic()
        try:
            self._follow()
        except OSError as error:
            raise NotCopiedError(
                f"its file system cannot share blocks between files ({error.strerror})"
            ) from error
        return time.monotonic() - began

    def _follow(self) -> None:
        size = os.fstat(self._source).st_size
        if os.fstat(self._target).st_size != size:
            os.ftruncate(self._target, size)
            self._map = None
        before = self._map if self._map is not None else read_map(self._target, size)
        self._map = None
        for at, length in differing(read_map(self._source, size), before, size):
            share(self._source, self._target, at, length)

    def ready(self) -> None:
        self._map = read_map(self._target, os.fstat(self._target).st_size)

    def finish(self) -> Mark:
        os.fchmod(self._target, 0o400)
        os.fsync(self._target)
        os.fsync(self._folder)
        return mark_of(self._target)

    def drop(self) -> None:
        with suppress(OSError):
            os.unlink(self._place.name, dir_fd=self._folder)
            self._place.parent.rmdir()  # when it was the last
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            for fd in (self._source, self._target, self._folder):
                os.close(fd)


def mark_of(fd: int) -> Mark:
    found = os.fstat(fd)
    return Mark(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
