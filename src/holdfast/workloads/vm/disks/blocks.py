"""Reading blocks of a disk: only runs that hold data are read, zeros are found by content too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from holdfast.errors import SourceError
from holdfast.ports.block_device import BlockSource, Extent, ExtentKind
from holdfast.vaultstore.disk_pages import BlockState, Geometry, States

WINDOW_BYTES = 8 * 1024 * 1024
MAX_RUNS = 32  # of one block; beyond, it is read whole
Mask = npt.NDArray[np.bool_]


class Piece(NamedTuple):
    """A run of data to read: bytes ``offset`` to ``offset + length`` of the disk."""

    offset: int
    length: int


class Survey(NamedTuple):
    """What a range of blocks holds by the source's word. ``states``: of its blocks, DATA where
    something must be read; ``pieces``: what, by place in the range."""

    first: int
    states: States
    pieces: dict[int, list[Piece]]


def survey(source: BlockSource, geometry: Geometry, first: int, count: int) -> Survey:
    """Ask the source for blocks ``first`` to ``first + count``. SourceError (SourceLied) when its
    runs leave a gap."""
    grid = geometry.grid_exponent
    states = np.full(count, BlockState.UNALLOCATED, np.uint8)
    pieces: dict[int, list[Piece]] = {}
    for run in covering(source, geometry, first, count):
        start, end = (run.offset >> grid) - first, (run.end - 1 >> grid) - first + 1
        if run.kind is ExtentKind.DATA:
            states[start:end] = BlockState.DATA
            for place in range(start, end):
                pieces.setdefault(place, []).append(_clip(run, geometry, first + place))
        elif run.kind is ExtentKind.ZERO:
            np.maximum(states[start:end], np.uint8(BlockState.ZERO), out=states[start:end])
    for place, runs in pieces.items():
        if len(runs) > MAX_RUNS:
            offset = first + place << grid
            pieces[place] = [Piece(offset, geometry.block_length(first + place))]
    return Survey(first, states, pieces)


def covering(source: BlockSource, geometry: Geometry, first: int, count: int) -> Iterator[Extent]:
    at = first << geometry.grid_exponent
    end = min(first + count << geometry.grid_exponent, geometry.size)
    for run in source.extents(at, end - at):
        if run.offset != at or run.length <= 0 or run.end > end:
            raise _gap(at)
        yield run
        at = run.end
    if at != end:
        raise _gap(at)


def _gap(at: int) -> SourceError:
    return SourceError(
        f"what the disk says it holds has a gap or an overlap at byte {at}", code="SourceLied"
    )


def _clip(run: Extent, geometry: Geometry, block: int) -> Piece:
    start = block << geometry.grid_exponent
    offset = max(run.offset, start)
    return Piece(offset, min(run.end, start + geometry.block_length(block)) - offset)


def dirty_mask(source: BlockSource, geometry: Geometry, first: int, count: int) -> Mask | None:
    """Which blocks of a range may have changed, runs rounded to the grid; None: the source does
    not know. Runs may reach beyond the range."""
    grid = geometry.grid_exponent
    offset = first << grid
    runs = source.dirty(offset, min(first + count << grid, geometry.size) - offset)
    if runs is None:
        return None
    mask = np.zeros(count, bool)
    for run in runs:
        if run.length > 0:
            mask[
                max(0, (run.offset >> grid) - first) : max(0, (run.end - 1 >> grid) - first + 1)
            ] = 1
    return mask


class Wanted(NamedTuple):
    """A block to read, and the runs of it that hold data."""

    block: int
    pieces: Sequence[Piece]


def windows(wanted: Sequence[Wanted], geometry: Geometry) -> Iterator[list[Wanted]]:
    """Blocks that fit one buffer together."""
    most = max(1, WINDOW_BYTES >> geometry.grid_exponent)
    for start in range(0, len(wanted), most):
        yield list(wanted[start : start + most])


class BlockReader:
    """Reads windows of blocks of one disk into a buffer per thread. Thread safe."""

    _local = threading.local()

    def __init__(
        self, source: BlockSource, geometry: Geometry, pace: Callable[[int], object] | None
    ) -> None:
        self._source = source
        self._geometry = geometry
        self._pace = pace
        self._lock = threading.Lock()
        self.read_bytes = 0

    def read(self, window: Sequence[Wanted]) -> list[memoryview]:
        """The bytes of each block, valid until this thread reads again. SourceError."""
        size = self._geometry.block_bytes
        buffer = self._buffer(max(WINDOW_BYTES, size))
        views = []
        for place, wanted in enumerate(window):
            length = self._geometry.block_length(wanted.block)
            view = buffer[place * size : place * size + length]
            if sum(piece.length for piece in wanted.pieces) < length:
                view[:] = bytes(length)
            views.append(view)
        for offset, at, length in self._reads(window):
            if self._pace is not None:
                self._pace(length)
            self._source.read_into(offset, buffer[at : at + length])
            with self._lock:
                self.read_bytes += length
        return views

    def _reads(self, window: Sequence[Wanted]) -> list[tuple[int, int, int]]:
        """(offset on the disk, place in the buffer, length); neighbours are joined."""
        size = self._geometry.block_bytes
        reads: list[tuple[int, int, int]] = []
        for place, wanted in enumerate(window):
            start = wanted.block << self._geometry.grid_exponent
            for piece in wanted.pieces:
                at = place * size + piece.offset - start
                if reads:
                    last, before, length = reads[-1]
                    if last + length == piece.offset and before + length == at:
                        reads[-1] = (last, before, length + piece.length)
                        continue
                reads.append((piece.offset, at, piece.length))
        return reads

    def _buffer(self, size: int) -> memoryview:
        found: memoryview | None = getattr(self._local, "buffer", None)
        if found is None or len(found) < size:
            found = self._local.buffer = memoryview(bytearray(size))
        return found


def is_zero(view: memoryview) -> bool:
    """Whether all bytes are zero; most data is told apart by its first bytes."""
    head = view[:64]
    if head != bytes(len(head)):
        return False
    return not bool(np.frombuffer(view, np.uint8).any())
