"""Raw disk files: bytes where they are on the disk, holes where nothing is stored."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from holdfast.adapters.disk_format.partial import failed
from holdfast.errors import CancelledError
from holdfast.ports.block_device import BlockSource, BlockTarget, ExtentKind
from holdfast.ports.disk_format import Progress

PIECE_BYTES = 1024 * 1024
THREADS = 4
ZEROES = memoryview(bytes(PIECE_BYTES))
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE of fallocate(2)


class RawFile:
    """A ``BlockTarget`` over an open file of ``size`` bytes. ``path`` names it in errors."""

    def __init__(self, fd: int, size: int, path: Path) -> None:
        self._fd = fd
        self._path = path
        self._size = size
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            raise failed(path, error) from error

    @property
    def size(self) -> int:
        return self._size

    def write(self, offset: int, view: memoryview) -> None:
        data = view.cast("B")
        try:
            while data:
                count = os.pwrite(self._fd, data, offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            raise failed(self._path, error) from error

    def write_zeroes(self, offset: int, length: int) -> None:
        """Holes where the file system can, and nothing where there is a hole already."""
        try:
            for start, end in _data_in(self._fd, offset, offset + length):
                if not _punch(self._fd, start, end - start):
                    for at in range(start, end, PIECE_BYTES):
                        self.write(at, ZEROES[: min(PIECE_BYTES, end - at)])
        except OSError as error:
            raise failed(self._path, error) from error

    def flush(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise failed(self._path, error) from error


def copy_disk(
    source: BlockSource,
    target: BlockTarget,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> None:
    """Fill ``target``, which reads as zeros, with ``source``, and flush it. What either raises,
    CancelledError."""
    total, done = source.size, 0
    waiting: deque[tuple[int, Future[None]]] = deque()

    def copy(offset: int, length: int) -> None:
        view = memoryview(bytearray(length))
        source.read_into(offset, view)
        target.write(offset, view)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="copy-disk") as pool:
        try:
            for offset, length, is_data in _pieces(source):
                if is_data:
                    waiting.append((length, pool.submit(copy, offset, length)))
                else:
                    done += length
                while len(waiting) > (2 * THREADS if offset + length < total else 0):
                    size, one = waiting.popleft()
                    one.result()
                    done += size
                    progress(done, total)
                    _stop_if(cancelled)
                _stop_if(cancelled)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    target.flush()
    progress(total, total)


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise CancelledError("the restore of the disk was cancelled")


def _pieces(source: BlockSource) -> Iterator[tuple[int, int, bool]]:
    """(offset, length, whether it is data), in order, over the whole disk."""
    for run in source.extents(0, source.size):
        if run.kind is not ExtentKind.DATA:
            yield run.offset, run.length, False
            continue
        for at in range(run.offset, run.end, PIECE_BYTES):
            yield at, min(PIECE_BYTES, run.end - at), True


def _data_in(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that are no holes, as the file system tells it."""
    while start < end:
        try:
            begin = os.lseek(fd, start, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole follows
            return
        if begin >= end:
            return
        stop = min(os.lseek(fd, begin, os.SEEK_HOLE), end)
        yield begin, stop
        start = stop


@cache
def _fallocate() -> Any:
    """fallocate(2), or None where the system has none."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return call


def _punch(fd: int, offset: int, length: int) -> bool:
    call = _fallocate()
    return call is not None and call(fd, _KEEP_SIZE_PUNCH_HOLE, offset, length) == 0
