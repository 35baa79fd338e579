"""A disk of a point into a target: in order, fetched by several threads, verified, holes left out.

Windows of blocks are fetched ahead; what waits to be written is bounded by their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from holdfast.ports.block_device import BlockTarget
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.disk_pages import LEAF_BLOCKS, BlockState, Leaf
from holdfast.vaultstore.manifest_disk import DiskMap, Run
from holdfast.workloads.packing import stop_if
from holdfast.workloads.vm.disks.fetch import block_of, fetch, locate
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.values import Progress

WINDOW_BYTES = 8 * 1024 * 1024
THREADS = 3


@dataclass(frozen=True, slots=True)
class RestoredDisk:
    """Bytes: the disk's size; written as data; written as zeros."""

    size: int
    data_bytes: int
    zero_bytes: int


class _Window(NamedTuple):
    """What is written next: data blocks being fetched, or nothing for a range of zeros."""

    run: Run
    blocks: list[tuple[int, bytes]]
    fetched: Future[dict[bytes, Buffer]] | None


class DiskRestore:
    """One disk. ``is_empty``: the target reads as zeros now, so that what the point has as
    unallocated need not be written. ``start``: where an earlier restore had got to (its
    ``reached``, after a flush). ``progress`` may be shared by the disks of a restore."""

    def __init__(
        self,
        point: MachinePoint,
        lun: int,
        target: BlockTarget,
        *,
        is_empty: bool = True,
        start: int = 0,
        threads: int = THREADS,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source = point.source
        self._map: DiskMap = point.open(lun)
        self._target = target
        self._is_empty = is_empty
        self.reached = max(0, start)
        self._threads = threads
        self._cancelled = cancelled
        self.progress = progress if progress is not None else Progress(total_bytes=self.size)
        self._data_bytes = self._zero_bytes = 0

    @property
    def size(self) -> int:
        """Bytes the target must have."""
        return self._map.geometry.size

    @property
    def data_bytes(self) -> int:
        """Written as data so far."""
        return self._data_bytes

    def run(self) -> RestoredDisk:
        """Write the disk and flush. IntegrityError (what was written so far stays), TargetError,
        CancelledError."""
        self.progress.phase = "Restore"
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="fetch-disk")
        try:
            ahead: deque[_Window] = deque()
            for window in self._windows(pool):
                stop_if(self._cancelled)
                ahead.append(window)
                while len(ahead) > self._threads:
                    self._write(ahead.popleft())
            while ahead:
                stop_if(self._cancelled)
                self._write(ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
        self._target.flush()
        return RestoredDisk(self.size, self._data_bytes, self._zero_bytes)

    def _windows(self, pool: ThreadPoolExecutor) -> Iterator[_Window]:
        geometry, start = self._map.geometry, self.reached
        grid = geometry.grid_exponent
        most = max(1, WINDOW_BYTES >> grid)
        for index in range((start >> grid) // LEAF_BLOCKS, geometry.leaves):
            leaf = self._map.leaf(index)
            located = locate(self._source, _ids(leaf)) if len(leaf.ids) else {}
            ids = dict(zip(_data_blocks(leaf), _ids(leaf), strict=True))
            begin = max(leaf.first << grid, start >> grid << grid)
            end = min((leaf.first + len(leaf.states)) << grid, geometry.size)
            for run in self._map.runs(begin, end - begin):
                if run.state != BlockState.DATA:
                    yield _Window(run, [], None)
                    continue
                first = run.offset >> grid
                stop = first + -(-run.length >> grid)
                for at in range(first, stop, most):
                    blocks = [(one, ids[one]) for one in range(at, min(at + most, stop))]
                    wanted = [chunk_id for _, chunk_id in blocks]
                    fetched = pool.submit(fetch, self._source, wanted, located)
                    yield _Window(run, blocks, fetched)

    def _write(self, window: _Window) -> None:
        run, geometry = window.run, self._map.geometry
        if window.fetched is None:
            if run.state == BlockState.ZERO or not self._is_empty:
                self._target.write_zeroes(run.offset, run.length)
                self._zero_bytes += run.length
            self._advance(run.offset + run.length)
            return
        found = window.fetched.result()
        for block, chunk_id in window.blocks:
            view = block_of(geometry, block, found[chunk_id])
            self._target.write(block << geometry.grid_exponent, view)
            self._data_bytes += len(view)
            self.progress.transferred_bytes += len(view)
            self._advance((block << geometry.grid_exponent) + len(view))

    def _advance(self, end: int) -> None:
        self.progress.done_bytes += end - min(self.reached, end)
        self.reached = end


def _data_blocks(leaf: Leaf) -> list[int]:
    found: list[int] = (leaf.first + np.flatnonzero(leaf.states == BlockState.DATA)).tolist()
    return found


def _ids(leaf: Leaf) -> list[bytes]:
    return [row.tobytes() for row in leaf.ids]
