"""Disks as raw sparse files: a source that finds holes, and a target that leaves them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from holdfast.errors import SourceError, TargetError
from holdfast.ports.block_device import Extent, ExtentKind
from holdfast.workloads.vm.disks.blocks import is_zero

PIECE_BYTES = 64 * 1024  # zeros within data are left out by such pieces
ZEROS = bytes(1 << 20)


class RawFileSource:
    """A raw image that does not change meanwhile. Its changes are not known. ``close`` it."""

    def __init__(self, path: Path) -> None:
        """SourceError (DiskUnreadable)."""
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._size = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise self._failed(error) from error

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        os.close(self._fd)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Data and holes as the file system knows them."""
        at, end = offset, offset + length
        while at < end:
            start = min(self._seek(at, os.SEEK_DATA, end), end)
            if start > at:
                yield Extent(at, start - at, ExtentKind.UNALLOCATED)
            if start < end:
                at = min(self._seek(start, os.SEEK_HOLE, end), end)
                yield Extent(start, at - start, ExtentKind.DATA)
            else:
                at = end

    def _seek(self, at: int, whence: int, end: int) -> int:
        try:
            return os.lseek(self._fd, at, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return end
            if error.errno == errno.EINVAL:  # this file system cannot tell
                return at if whence == os.SEEK_DATA else end
            raise self._failed(error) from error

    def dirty(self, offset: int, length: int) -> Iterator[Extent] | None:
        del offset, length
        return None

    def read_into(self, offset: int, view: memoryview) -> None:
        at = 0
        while at < len(view):
            try:
                count = os.preadv(self._fd, [view[at:]], offset + at)
            except OSError as error:
                raise self._failed(error) from error
            if not count:
                raise SourceError(
                    f"the disk {self._path} ends before byte {offset + len(view)}",
                    code="DiskUnreadable",
                )
            at += count

    def _failed(self, error: OSError) -> SourceError:
        return SourceError(
            f"the disk {self._path} cannot be read: {error.strerror}",
            code="DiskUnreadable",
            hint="check the path and its permissions",
        )


class RawFileTarget:
    """A raw image of ``size`` bytes, sparse where zeros are. ``close`` it."""

    def __init__(self, path: Path, size: int, *, new: bool = True) -> None:
        """TargetError (DiskUnwritable), also when the file of a ``new`` one exists."""
        self._path = path
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        os.close(self._fd)

    def write(self, offset: int, view: memoryview) -> None:
        start = at = 0
        while at < len(view):
            end = min(at + PIECE_BYTES, len(view))
            if is_zero(view[at:end]) and self._is_hole(offset + at, end - at):
                self._put(offset + start, view[start:at])
                start = end
            at = end
        self._put(offset + start, view[start:])

    def write_zeroes(self, offset: int, length: int) -> None:
        while length and not self._is_hole(offset, length):
            part = min(length, len(ZEROS))
            self._put(offset, memoryview(ZEROS)[:part])
            offset, length = offset + part, length - part

    def flush(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error) from error

    def _is_hole(self, offset: int, length: int) -> bool:
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA) >= offset + length
        except OSError as error:
            return error.errno == errno.ENXIO

    def _put(self, offset: int, view: memoryview) -> None:
        while view:
            try:
                count = os.pwrite(self._fd, view, offset)
            except OSError as error:
                raise self._failed(error) from error
            view, offset = view[count:], offset + count

    def _failed(self, error: OSError) -> TargetError:
        return TargetError(
            f"the disk {self._path} cannot be written: {error.strerror}",
            code="DiskUnwritable",
            hint="check the folder, its permissions and its room",
        )
