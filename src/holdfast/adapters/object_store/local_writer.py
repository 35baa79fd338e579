"""How the bytes of a large object reach the disk: past the kernel's page cache, where that works.

A pack is written once and seldom read soon. Through the page cache each of its bytes is copied
once more and drives out what others want to keep there. So large objects are written with
O_DIRECT from one aligned buffer; file systems that refuse it, and small objects, get plain writes.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from functools import cached_property
from typing import Protocol

import numpy as np

LARGE_BYTES = 512 * 1024  # a first write of so much makes an object a large one
BUFFER_BYTES = 4 * 1024 * 1024
BLOCK = 4096  # what O_DIRECT asks lengths and places to be a multiple of, on any usual disk
WRITEBACK_BYTES = 1024 * 1024  # the disk starts on so many bytes at once, not at the sync


class FileWriter(Protocol):
    """Appends to an open file. OSError as the kernel gives it; the file is of no use then."""

    def write(self, data: memoryview) -> None: ...

    def finish(self) -> None:
        """Hand the last bytes to the kernel; the caller syncs."""
        ...


def writer_for(handle: int, first_bytes: int) -> FileWriter:
    """The way to write a new file whose first write has ``first_bytes``."""
    if first_bytes >= LARGE_BYTES and _set_direct(handle, on=True):
        return DirectWriter(handle)
    return PlainWriter(handle)


class PlainWriter:
    """Through the page cache; the disk is told to begin early."""

    def __init__(self, handle: int, at: int = 0) -> None:
        self._handle = handle
        self._size = self._started = at

    def write(self, data: memoryview) -> None:
        _write_all(self._handle, data)
        self._size += len(data)
        pending = self._size - self._started
        if pending >= WRITEBACK_BYTES:
            os.posix_fadvise(self._handle, self._started, pending, os.POSIX_FADV_DONTNEED)
            self._started = self._size

    def finish(self) -> None:
        """Nothing is held back."""


class DirectWriter:
    """Past the page cache, in whole blocks; the tail goes the plain way. So does everything from
    the first block on that the file system refuses.

    What lies at the border of a block in memory is written from where it is, anything else by way
    of an aligned buffer."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._held = 0
        self._plain: PlainWriter | None = None
        self._written = 0

    @cached_property
    def _buffer(self) -> memoryview:
        return memoryview(mmap.mmap(-1, BUFFER_BYTES))

    def write(self, data: memoryview) -> None:
        while data and self._plain is None:
            if not self._held and len(data) >= BLOCK and _is_aligned(data):
                data = data[self._pour(data[: len(data) - len(data) % BLOCK]) :]
                continue
            count = min(len(data), BUFFER_BYTES - self._held)
            self._buffer[self._held : self._held + count] = data[:count]
            self._held += count
            data = data[count:]
            if self._held == BUFFER_BYTES:
                self._flush(BUFFER_BYTES)
        if data and self._plain is not None:
            self._plain.write(data)

    def finish(self) -> None:
        if self._plain is None:
            self._flush(self._held - self._held % BLOCK)
        if self._plain is None and self._held:
            self._go_plain()
            self._give_plain()

    def _flush(self, count: int) -> None:
        """Write the buffer's first ``count`` bytes, whole blocks; the rest moves to its front, and
        goes the plain way when not all were taken."""
        if not self._held:
            return
        done = self._pour(self._buffer[:count])
        rest = self._held - done
        self._buffer[:rest] = bytes(self._buffer[done : self._held])
        self._held = rest
        self._give_plain()

    def _give_plain(self) -> None:
        """Once the plain way is taken, it takes what the buffer holds too."""
        if self._plain is not None:
            self._plain.write(self._buffer[: self._held])
            self._held = 0

    def _pour(self, blocks: memoryview) -> int:
        """Write whole blocks; how many bytes were taken. Fewer than given: the rest, and all that
        comes, goes the plain way."""
        done = 0
        while done < len(blocks):
            try:
                wrote = os.write(self._handle, blocks[done:])
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                wrote = 0
            self._written += wrote
            done += wrote
            if wrote == 0 or wrote % BLOCK:  # refused, or cut short within a block
                self._go_plain()
                break
        return done

    def _go_plain(self) -> None:
        _set_direct(self._handle, on=False)
        self._plain = PlainWriter(self._handle, self._written)


def _is_aligned(data: memoryview) -> bool:
    return bool(np.frombuffer(data, np.uint8).ctypes.data % BLOCK == 0)


def _write_all(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _set_direct(handle: int, *, on: bool) -> bool:
    """Switch O_DIRECT; False when the file system does not know it."""
    flag = getattr(os, "O_DIRECT", 0)
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | flag if on else flags & ~flag)
    except OSError:
        return False
    return bool(flag)
