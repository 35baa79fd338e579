"""One disk on its way into a point: leaf by leaf, windows of blocks read by a pool of threads.

What did not change keeps the parent's entries, and a region without a change the parent's page,
which is not even read. A block that is what the parent says is neither asked for nor sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import NamedTuple

import numpy as np

from holdfast.errors import InternalError, SourceError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.disk_pages import (
    LEAF_BLOCKS,
    BlockState,
    Ids,
    Leaf,
    States,
    geometry_of,
)
from holdfast.vaultstore.ids import ChunkKind, IdKeys, chunk_name
from holdfast.vaultstore.manifest_disk import DiskMap, DiskMapWriter, PutPage, Tally, disk_stream
from holdfast.vaultstore.root import Stream
from holdfast.workloads.findings import Findings
from holdfast.workloads.packing import ChunkWriter, stop_if
from holdfast.workloads.vm.disks.audit import audit_disk
from holdfast.workloads.vm.disks.blocks import (
    BlockReader,
    Mask,
    Wanted,
    dirty_mask,
    is_zero,
    survey,
    windows,
)
from holdfast.workloads.vm.disks.parent import Parent, from_parent
from holdfast.workloads.vm.disks.values import (
    Audit,
    AuditOutcome,
    Coverage,
    DiskInput,
    DiskResult,
    DisksPlan,
    stream_name,
)

WINDOWS_AHEAD = 2  # windows of a disk that wait while others are read
LEAVES_AHEAD = 16
WAS_CUT = "it was made smaller and grew again, which no record of changes shows"
NOT_KNOWN = "its changes since the recovery point before are not known"


@dataclass(frozen=True, slots=True)
class Means:
    """What all disks of a run share. ``report`` is told bytes of a disk that are done with."""

    plan: DisksPlan
    writer: ChunkWriter
    put_page: PutPage
    keys: IdKeys
    pool: Executor
    rng: Random
    findings: Findings
    report: Callable[[int], None]
    cancelled: Callable[[], bool]


class Read(NamedTuple):
    """What a block turned out to be; ``id`` is b"" for zeros."""

    place: int
    id: bytes


@dataclass(slots=True)
class _Pending:
    """A leaf whose blocks are being read. ``held``, ``held_data``: what the parent has there, ids
    by block (zero for none), and which are data."""

    first: int
    states: States
    ids: Ids
    held: Ids
    held_data: Mask
    tasks: deque[Future[list[Read]]] = field(default_factory=deque)


class DiskRun:
    """``parent``: the point before, or None to read the disk without it."""

    def __init__(self, disk: DiskInput, parent: Parent | None, means: Means) -> None:
        self.disk = disk
        self._means = means
        self._source = disk.source
        self._geometry = geometry_of(disk.source.size, disk.grid_exponent)
        self._reader = BlockReader(disk.source, self._geometry, means.plan.pace)
        self._writer = DiskMapWriter(means.put_page, self._geometry)
        self._data = Tally()
        self._changed_bytes = self._dirty_bytes = 0
        self.done_bytes = 0
        self._before: DiskMap | None = None
        self._why = self._find(parent)
        self._coverage = Coverage.FULL if self._before is None else Coverage.COMPARED
        self._audit = Audit()
        self._pending: deque[_Pending | None] = deque()
        self._flying = 0

    def _find(self, parent: Parent | None) -> str:
        """Find the disk in the point before; why its changes cannot be used ("" when they can)."""
        disk = self.disk
        if parent is None:
            return "there is no recovery point before"
        stream = parent.find(disk.lun, disk.identity)
        if stream is None:
            return "the recovery point before has no such disk"
        before = parent.open(stream)
        if before.geometry.grid_exponent != disk.grid_exponent:
            return "the recovery point before has another grid"
        self._before = before
        if before.geometry == self._geometry:  # what is kept need not be counted again
            self._data = Tally(stream.logical_bytes, stream.entries)
        if disk.identity != stream.parameters.get("identity", ""):
            return "another disk is in its place"
        if disk.changes_since != parent.rp_id:
            return NOT_KNOWN
        return ""

    @property
    def read_bytes(self) -> int:
        """Bytes read from the disk so far."""
        return self._reader.read_bytes

    # the run

    def run(self) -> tuple[Stream, DiskResult]:
        """Read, store and page the disk. SourceError, CancelledError, ParentUnreadableError."""
        if self._before is not None and not self._why:
            self._decide(self._before)
        for leaf in range(self._geometry.leaves):
            stop_if(self._means.cancelled)
            self._take(leaf)
            while self._is_ahead():
                self._settle_one()
        while self._pending:
            self._settle_one()
        return self._stream(), self._result()

    def _is_ahead(self) -> bool:
        """Whether enough waits to be read, or to be paged."""
        windows = self._means.plan.threads + WINDOWS_AHEAD
        return self._flying > windows or len(self._pending) > LEAVES_AHEAD

    def _decide(self, before: DiskMap) -> None:
        """Whether the changes a source names may be believed."""
        means = self._means
        if self._source.dirty(0, min(self._geometry.size, self._geometry.block_bytes)) is None:
            self._why = NOT_KNOWN
            return
        self._audit = self._audited(before)
        if self._audit.outcome is AuditOutcome.CUT:
            self._why = WAS_CUT
            return
        if self._audit.outcome is not AuditOutcome.LYING:
            self._coverage = Coverage.CHANGES
            return
        self._why = "its change tracking lied"
        means.findings.add(
            "ChangeTrackingLied",
            stream_name(self.disk.lun).encode(),
            f"{len(self._audit.wrong)} of {self._audit.checked} blocks called unchanged had "
            f"changed, the first at byte {self._audit.wrong[0]}; the whole disk was read",
        )

    def _audited(self, before: DiskMap) -> Audit:
        means, plan = self._means, self._means.plan
        if not self.disk.auditable:
            return Audit(AuditOutcome.REFUSED)
        most = max(plan.audit_blocks, ceil(plan.audit_share * self._data.blocks))
        try:
            return audit_disk(self._source, self._reader, before, means.keys, means.rng, most)
        except SourceError as error:
            name = stream_name(self.disk.lun).encode()
            why = f"blocks called unchanged could not be read to compare them ({error.message})"
            means.findings.add("AuditRefused", name, why)
            return Audit(AuditOutcome.REFUSED)

    # leaves in

    def _take(self, index: int) -> None:
        """Begin a leaf: keep the parent's page, or have blocks read."""
        count = self._geometry.leaf_blocks(index)
        first = index * LEAF_BLOCKS
        wanted = self._wanted(first, count)
        if not wanted.any() and self._keeps_page(index, count):
            self._pending.append(None)
            return
        pending = self._base(first, count)
        blocks: list[Wanted] = []
        for start, stop in _runs(wanted):
            found = survey(self._source, self._geometry, first + start, stop - start)
            pending.states[start:stop] = found.states
            pending.ids[start:stop] = 0
            blocks += [Wanted(first + start + at, found.pieces[at]) for at in sorted(found.pieces)]
        self._pending.append(pending)
        for window in windows(blocks, self._geometry):
            pending.tasks.append(self._means.pool.submit(self._read, window, pending.held))
            self._flying += 1

    def _wanted(self, first: int, count: int) -> Mask:
        """Blocks to read: the changed ones and those the parent has not, or all."""
        everything = np.ones(count, bool)
        if self._coverage is not Coverage.CHANGES or self._before is None:
            return everything
        mask = dirty_mask(self._source, self._geometry, first, count)
        if mask is None:
            return everything
        self._dirty_bytes += self._tally(first, mask).bytes
        mask[max(0, self._common_blocks() - first) :] = True
        return mask

    def _common_blocks(self) -> int:
        """Blocks from the start that the disk and its parent have with the same length."""
        if self._before is None:
            return 0
        mine, theirs = self._geometry, self._before.geometry
        if mine.size == theirs.size:
            return mine.blocks
        return min(mine.size, theirs.size) >> mine.grid_exponent

    def _keeps_page(self, index: int, count: int) -> bool:
        before = self._before
        if before is None or index >= before.geometry.leaves:
            return False
        return before.geometry.leaf_blocks(index) == count

    def _base(self, first: int, count: int) -> _Pending:
        """A leaf as the parent has it, as far as that reaches."""
        states = np.zeros(count, np.uint8)
        ids = np.zeros((count, 32), np.uint8)
        before, index = self._before, first // LEAF_BLOCKS
        if before is not None and index < before.geometry.leaves:
            leaf = from_parent(partial(before.leaf, index))
            common = min(count, len(leaf.states))
            states[:common] = leaf.states[:common]
            ids[:common] = leaf.ids_by_block()[:common]
        return _Pending(first, states, ids, ids.copy(), states == BlockState.DATA)

    # a window, on a thread of the pool

    def _read(self, window: list[Wanted], held: Ids) -> list[Read]:
        stop_if(self._means.cancelled)
        found: list[Read] = []
        fresh: list[tuple[bytes, Buffer]] = []
        for wanted, view in zip(window, self._reader.read(window), strict=True):
            place = wanted.block % LEAF_BLOCKS
            if is_zero(view):
                found.append(Read(place, b""))
                continue
            name = chunk_name(self._means.keys, ChunkKind.DATA, view)
            if held[place].tobytes() != name[:32]:
                fresh.append((name, view))
            found.append(Read(place, name[:32]))
        if fresh:
            self._means.writer.store(ChunkKind.DATA, fresh)
        return found

    # leaves out

    def _settle_one(self) -> None:
        """Page the oldest leaf, waiting for its windows."""
        pending = self._pending.popleft()
        index = self._writer.leaves
        if pending is None:
            self._keep(index)
        else:
            self._page(pending)
        blocks = self._geometry.leaf_blocks(index)
        end = min((index * LEAF_BLOCKS + blocks) << self.disk.grid_exponent, self._geometry.size)
        done = end - (index * LEAF_BLOCKS << self.disk.grid_exponent)
        self.done_bytes += done
        self._means.report(done)

    def _keep(self, index: int) -> None:
        before = self._before
        if before is None:
            raise InternalError("a page was kept of no parent")
        self._writer.add_child(from_parent(partial(before.child, index)))
        if before.geometry != self._geometry:
            leaf = from_parent(partial(before.leaf, index))
            self._data += self._tally(leaf.first, leaf.states == BlockState.DATA)

    def _page(self, pending: _Pending) -> None:
        while pending.tasks:
            for place, chunk_id in pending.tasks.popleft().result():
                if chunk_id:
                    pending.ids[place] = np.frombuffer(chunk_id, np.uint8)
                else:
                    pending.states[place] = BlockState.ZERO
            self._flying -= 1
        data = pending.states == BlockState.DATA
        leaf = Leaf(self.disk.grid_exponent, pending.first, pending.states, pending.ids[data])
        self._writer.add_leaf(leaf)
        self._data += self._tally(pending.first, data)
        if self._before is not None and self._before.geometry == self._geometry:
            self._data -= self._tally(pending.first, pending.held_data)
        changed: Mask = (pending.ids != pending.held).any(axis=1)
        self._changed_bytes += self._tally(pending.first, changed).bytes

    def _tally(self, first: int, chosen: Mask) -> Tally:
        """Bytes and number of the chosen blocks from ``first`` on."""
        geometry, blocks = self._geometry, int(np.count_nonzero(chosen))
        size = blocks << geometry.grid_exponent
        if blocks and chosen[-1] and first + len(chosen) == geometry.blocks:
            size += geometry.block_length(geometry.blocks - 1) - geometry.block_bytes
        return Tally(size, blocks)

    # the end

    def _stream(self) -> Stream:
        disk = self.disk
        return disk_stream(
            stream_name(disk.lun),
            self._writer.finish(),
            self._geometry,
            self._data,
            lun=disk.lun,
            identity=disk.identity,
            sector_bytes=disk.sector_bytes,
            token=disk.token,
        )

    def _result(self) -> DiskResult:
        return DiskResult(
            lun=self.disk.lun,
            size=self._geometry.size,
            coverage=self._coverage,
            why=self._why,
            audit=self._audit,
            data_bytes=self._data.bytes,
            dirty_bytes=self._dirty_bytes,
            read_bytes=self._reader.read_bytes,
            changed_bytes=self._changed_bytes,
        )


def _runs(chosen: Mask) -> list[tuple[int, int]]:
    """(start, stop) of the runs of a mask."""
    borders = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).tolist()
    return list(zip(borders[::2], borders[1::2], strict=True))
