"""A source that shows only what changed, made whole by the point before.

Some points in time let nothing be read but what a bitmap marks. The vault's blocks are larger than
a bitmap's, so what lies beside a change is taken from the point before: less is read of the
guest's disk, and more from the vault. Such a source cannot be audited.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.ports.block_device import BlockSource, Extent
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.parent import Parent, ParentUnreadableError
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk
from holdfast.workloads.vm.disks.values import DisksTransport


def disk_before(transport: DisksTransport, lun: int, identity: str) -> PointDisk | None:
    """The same disk in the session's parent point, or None. ``close`` it. None also when the point
    cannot be read, which the backup will say."""
    point = transport.grant.parent
    if point is None:
        return None
    try:
        stream = Parent(transport, point).find(lun, identity)
        if stream is None or stream.parameters.get("identity", "") != identity:
            return None
        source = ChunkFetcher(transport)
        source.root_id = point.root_id
        return PointDisk(MachinePoint(source), int(stream.parameters["lun"]), ahead_blocks=0)
    except (ParentUnreadableError, KeyError, TypeError, ValueError):
        return None


class PatchedSource:
    """``source`` where it changed or is longer, ``before`` elsewhere. Both stay the caller's."""

    def __init__(self, source: BlockSource, before: BlockSource) -> None:
        self._source = source
        self._before = before

    @property
    def size(self) -> int:
        return self._source.size

    def dirty(self, offset: int, length: int) -> Iterator[Extent] | None:
        return self._source.dirty(offset, length)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        for place, at, size in self._parts(offset, length):
            yield from place.extents(at, size)

    def read_into(self, offset: int, view: memoryview) -> None:
        for place, at, size in self._parts(offset, len(view)):
            place.read_into(at, view[at - offset : at - offset + size])

    def _parts(self, offset: int, length: int) -> Iterator[tuple[BlockSource, int, int]]:
        """(where to read, offset, length), in order, covering the range."""
        end = offset + length
        known = min(end, self._before.size)
        runs = self._source.dirty(offset, length)
        at = offset
        for run in runs if runs is not None else ():
            start, stop = max(at, min(run.offset, known)), min(run.end, known)
            if stop <= start:
                continue
            if start > at:
                yield self._before, at, start - at
            yield self._source, start, stop - start
            at = stop
        if runs is not None and at < known:
            yield self._before, at, known - at
            at = known
        if at < end:
            yield self._source, at, end - at
