"""A disk of a point at any offset: for instant restore, and for files out of a machine.

Chunks are kept while they are likely to be asked for again, up to a bound. Reading onwards fetches
ahead. A chunk several readers want is fetched once. Who reads all of a disk has groups of blocks
fetched together, for each call to the vault costs as much as some hundred KiB.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress

from holdfast.errors import HoldfastError, UsageError
from holdfast.ports.block_device import Extent, ExtentKind
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.disk_pages import LEAF_BLOCKS, BlockState, Leaf
from holdfast.workloads.vm.disks.fetch import Located, block_of, fetch, locate
from holdfast.workloads.vm.disks.point import MachinePoint

CACHE_BYTES = 64 * 1024 * 1024
THREADS = 4
AHEAD_BLOCKS = 8
GROUP_BYTES = 8 * 1024 * 1024
LEAVES_LOCATED = 8
KINDS = {
    BlockState.UNALLOCATED: ExtentKind.UNALLOCATED,
    BlockState.ZERO: ExtentKind.ZERO,
    BlockState.DATA: ExtentKind.DATA,
}


class PointDisk:
    """A BlockSource over one disk of a recovery point. Thread safe. ``close`` it. ``whole``: all of
    the disk will be read, more or less in order."""

    def __init__(
        self,
        point: MachinePoint,
        lun: int,
        *,
        cache_bytes: int = CACHE_BYTES,
        ahead_blocks: int = AHEAD_BLOCKS,
        whole: bool = False,
    ) -> None:
        self._source = point.source
        self._map = point.open(lun)
        self._geometry = self._map.geometry
        self._kept = max(1, cache_bytes >> self._geometry.grid_exponent)
        self._ahead = min(ahead_blocks, self._kept // 2)
        most = min(GROUP_BYTES >> self._geometry.grid_exponent, self._kept // 4, LEAF_BLOCKS)
        self._group = 1 << max(1, most).bit_length() - 1 if whole else 1  # divides a leaf
        self._lock = threading.Lock()
        self._paging = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="point-disk")
        self._chunks: OrderedDict[bytes, Future[Buffer]] = OrderedDict()
        self._leaves: OrderedDict[int, tuple[list[bytes | None], Located]] = OrderedDict()
        self._next = -1

    @property
    def size(self) -> int:
        return self._geometry.size

    def close(self) -> None:
        """Wait for what is being fetched, so that no reader waits in vain."""
        self._pool.shutdown()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What the range holds, by blocks. UsageError (InvalidRange), IntegrityError."""
        self._check(offset, length)
        at, end = offset, offset + length
        while at < end:
            block = at >> self._geometry.grid_exponent
            stop = (block - block % LEAF_BLOCKS + LEAF_BLOCKS) << self._geometry.grid_exponent
            with self._paging:
                runs = list(self._map.runs(at, min(end, stop) - at))
            for run in runs:
                yield Extent(run.offset, run.length, KINDS[run.state])
                at = run.offset + run.length

    def dirty(self, offset: int, length: int) -> Iterator[Extent] | None:
        """Not known: a point does not change."""
        self._check(offset, length)
        return None

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` from ``offset``. UsageError (InvalidRange), IntegrityError."""
        self._check(offset, len(view))
        grid = self._geometry.grid_exponent
        first, stop = offset >> grid, -(-(offset + len(view)) >> grid)
        step = max(1, self._kept // 2)
        for start in range(first, stop, step):
            blocks = range(start, min(start + step, stop))
            for block, chunk in zip(blocks, self._get(blocks), strict=True):
                begin = max(offset, block << grid)
                length = self._geometry.block_length(block)
                end = min(offset + len(view), (block << grid) + length)
                part = view[begin - offset : end - offset]
                if chunk is None:
                    part[:] = bytes(len(part))
                else:
                    whole = block_of(self._geometry, block, chunk.result())
                    part[:] = whole[begin - (block << grid) : end - (block << grid)]
        self._read_ahead(first, stop)

    def _read_ahead(self, first: int, stop: int) -> None:
        """A read that goes on where the one before ended fetches what comes next."""
        goes_on = first in (self._next, self._next - 1)
        self._next = stop
        if goes_on and self._ahead:
            with suppress(HoldfastError):  # whoever reads there will be told
                self._get(range(stop, min(stop + self._ahead, self._geometry.blocks)))

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise UsageError(
                f"bytes {offset} to {offset + length} are not on a disk of {self.size} bytes",
                code="InvalidRange",
            )

    # chunks

    def _get(self, blocks: range) -> list[Future[Buffer] | None]:
        """The chunk of each block, on its way; None for zeros."""
        fresh: dict[int, list[bytes]] = {}
        try:
            found = [self._chunk(block, fresh) for block in blocks]
            for index, ids in fresh.items():
                self._fetch(index, ids)
        except BaseException as error:
            for ids in fresh.values():  # others may wait for them already
                self._fail(ids, error)
            raise
        return found

    def _chunk(self, block: int, fresh: dict[int, list[bytes]]) -> Future[Buffer] | None:
        """One that nobody fetched yet is put into ``fresh``."""
        index = block // LEAF_BLOCKS
        names = self._leaf(index)[0]
        chunk_id = names[block % LEAF_BLOCKS]
        if chunk_id is None:
            return None
        with self._lock:
            chunk = self._chunks.get(chunk_id)
            if chunk is None:
                fresh.setdefault(index, []).extend(self._expect(names, block % LEAF_BLOCKS))
                chunk = self._chunks[chunk_id]
            self._chunks.move_to_end(chunk_id)
            self._drop()
        return chunk

    def _expect(self, names: list[bytes | None], place: int) -> list[bytes]:
        """Chunks of a block's group that nobody fetched yet, now to be fetched. ``names``: of the
        blocks of its leaf. Caller holds the lock."""
        first = place - place % self._group
        ids: list[bytes] = []
        for chunk_id in names[first : first + self._group]:
            if chunk_id is not None and chunk_id not in self._chunks:
                self._chunks[chunk_id] = Future()
                ids.append(chunk_id)
        return ids

    def _drop(self) -> None:
        """Forget the oldest that have arrived, beyond the bound. Caller holds the lock."""
        while len(self._chunks) > self._kept:
            oldest = next(iter(self._chunks))
            if not self._chunks[oldest].done():
                return
            del self._chunks[oldest]

    def _fetch(self, index: int, ids: list[bytes]) -> None:
        """Fetch chunks of a leaf in as many parts as there are threads, a group in one."""
        located = self._leaf(index)[1]
        share = max(self._group, -(-len(ids) // THREADS))
        for start in range(0, len(ids), share):
            part = ids[start : start + share]
            try:
                self._pool.submit(self._bring, part, located)
            except RuntimeError as error:
                raise UsageError("the disk was closed", code="DiskClosed") from error

    def _bring(self, ids: list[bytes], located: Located) -> None:
        try:
            found = fetch(self._source, ids, located)
        except BaseException as error:  # noqa: BLE001 - raised to whoever waits for the chunks
            self._fail(ids, error)
            return
        with self._lock:
            waiting = [(self._chunks.get(chunk_id), chunk_id) for chunk_id in ids]
        for chunk, chunk_id in waiting:
            if chunk is not None:
                with suppress(InvalidStateError):  # given up meanwhile
                    chunk.set_result(found[chunk_id])

    def _fail(self, ids: list[bytes], error: BaseException) -> None:
        """Whoever waits is told; whoever asks again has it fetched again."""
        with self._lock:
            waiting = [self._chunks.pop(chunk_id, None) for chunk_id in ids]
        for chunk in waiting:
            if chunk is not None:
                with suppress(InvalidStateError):  # it came meanwhile
                    chunk.set_exception(error)

    def _leaf(self, index: int) -> tuple[list[bytes | None], Located]:
        """The chunk of each block of a leaf, None for zeros, and where they lie."""
        with self._paging:
            found = self._leaves.get(index)
            if found is None:
                names = _names(self._map.leaf(index))
                ids = [name for name in names if name is not None]
                found = names, locate(self._source, ids) if ids else {}
                self._leaves[index] = found
                if len(self._leaves) > LEAVES_LOCATED:
                    self._leaves.popitem(last=False)
            self._leaves.move_to_end(index)
            return found


def _names(leaf: Leaf) -> list[bytes | None]:
    """Once for a leaf: each block is asked for many times."""
    data = (leaf.states == BlockState.DATA).tolist()
    ids = iter(leaf.ids)
    return [next(ids).tobytes() if held else None for held in data]
