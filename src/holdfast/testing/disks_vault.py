"""Disks of a pretended machine and a real vault in one process, for tests of the disks workload."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import SourceError
from holdfast.ports.block_device import Extent, ExtentKind
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.files_vault import DirectSession, FilesVault
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.backup import DisksBackup
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.restore import DiskRestore, RestoredDisk
from holdfast.workloads.vm.disks.values import DiskInput, DisksPlan, DisksResult

CONTAINER, MACHINE = "Linux;host1", "Linux;host1/VM;web"
SECTOR = 512


class MemoryDisk:
    """A disk in memory that knows its holes and its changes by the sector; a source and a target.
    ``lies``: its changes name nothing. ``reads``: bytes read so far."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.kinds = [ExtentKind.UNALLOCATED] * -(-size // SECTOR)
        self.changed: set[int] | None = set()
        self.lies = False
        self.reads = 0
        self.fails_at: int | None = None
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return len(self.content)

    def put(self, offset: int, data: bytes, *, told: bool = True) -> None:
        """What a guest writes; ``told``: the bitmap sees it."""
        self.content[offset : offset + len(data)] = data
        self._mark(offset, len(data), ExtentKind.DATA, told=told)

    def discard(self, offset: int, length: int, kind: ExtentKind = ExtentKind.UNALLOCATED) -> None:
        """Whole sectors become zeros."""
        first, last = -(-offset // SECTOR), (offset + length) // SECTOR
        for sector in range(first, last):
            start = sector * SECTOR
            end = min(start + SECTOR, self.size)
            self.content[start:end] = bytes(end - start)
            self._mark(start, end - start, kind)

    def resize(self, size: int) -> None:
        del self.content[size:]
        self.content += bytes(size - self.size)
        sectors = -(-size // SECTOR)
        del self.kinds[sectors:]
        self.kinds += [ExtentKind.UNALLOCATED] * (sectors - len(self.kinds))

    def _mark(self, offset: int, length: int, kind: ExtentKind, *, told: bool = True) -> None:
        if not length:
            return
        for sector in range(offset // SECTOR, (offset + length - 1) // SECTOR + 1):
            self.kinds[sector] = kind
            if told and self.changed is not None:
                self.changed.add(sector)

    # source

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        at, end = offset, offset + length
        while at < end:
            sector = at // SECTOR
            kind = self.kinds[sector]
            while sector < len(self.kinds) and self.kinds[sector] is kind and sector * SECTOR < end:
                sector += 1
            stop = min(sector * SECTOR, end)
            yield Extent(at, stop - at, kind)
            at = stop

    def dirty(self, offset: int, length: int) -> Iterator[Extent] | None:
        if self.changed is None:
            return None
        first, last = offset // SECTOR, -(-(offset + length) // SECTOR)
        named = [] if self.lies else sorted(one for one in self.changed if first <= one < last)
        return iter([Extent(one * SECTOR, SECTOR, ExtentKind.DATA) for one in named])

    def read_into(self, offset: int, view: memoryview) -> None:
        if self.fails_at is not None and offset <= self.fails_at < offset + len(view):
            raise SourceError("the disk is broken here", code="DiskUnreadable")
        view[:] = self.content[offset : offset + len(view)]
        with self._lock:
            self.reads += len(view)

    # target

    def write(self, offset: int, view: memoryview) -> None:
        self.put(offset, bytes(view))

    def write_zeroes(self, offset: int, length: int) -> None:
        self.content[offset : offset + length] = bytes(length)
        self._mark(offset, length, ExtentKind.ZERO)

    def flush(self) -> None:
        """Nothing is held back."""


class DisksVault:
    """A vault below ``folder`` with one machine."""

    def __init__(self, folder: Path, *, store: ObjectStore | None = None) -> None:
        self.files = FilesVault(folder, store=store)
        self.vault = self.files.vault
        self.run: DisksBackup | None = None

    def plan(self, disks: Sequence[DiskInput], **more: Any) -> DisksPlan:
        given = {"machine": {"name": "web"}, "host": "host1"} | more
        return DisksPlan(disks=disks, **given)

    def session(self, job_id: bytes | None = None) -> DirectSession:
        job_id = job_id or self.files.job_id()
        grant = self.vault.begin_session("backup", CONTAINER, MACHINE, job_id)
        self.vault.recover_sessions(job_id, grant.session_id)
        return DirectSession(self.vault, grant, self.files.clock)

    def back_up(
        self, *disks: DiskInput, cancelled: Callable[[], bool] = lambda: False, **more: Any
    ) -> DisksResult:
        """One whole backup of these disks; ``run`` is what ran."""
        session = self.session()
        rng = self.files._rng
        run = DisksBackup(
            self.plan(disks, **more), session, self.files.clock, rng, cancelled=cancelled
        )
        self.run = run
        try:
            return run.run()
        finally:
            session.close()

    def codes(self) -> list[str]:
        """Codes of what the last backup found."""
        return [] if self.run is None else [one.code for one in self.run.findings.all()]

    def latest(self) -> str:
        points = self.vault.recovery_points(MACHINE)
        return points[-1].rp_id if points else ""

    def open(self, rp_id: str = "") -> MachinePoint:
        """A point through a restore session that stays open."""
        pins = [rp_id or self.latest()]
        job_id = self.files.job_id()
        grant = self.vault.begin_session("restore", CONTAINER, MACHINE, job_id, pins=pins)
        return MachinePoint(ChunkFetcher(DirectSession(self.vault, grant, self.files.clock)))

    def restore(self, lun: int = 0, rp_id: str = "") -> tuple[MemoryDisk, RestoredDisk]:
        """A disk of a point as it comes back."""
        point = self.open(rp_id)
        size = next(disk.size for disk in point.disks if disk.lun == lun)
        target = MemoryDisk(size)
        return target, DiskRestore(point, lun, target).run()
