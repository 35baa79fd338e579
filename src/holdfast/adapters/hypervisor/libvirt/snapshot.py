"""A point in time that libvirt holds as a backup job, and how it ends."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.libvirt import checkpoints
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.adapters.hypervisor.libvirt.writes import count_writes
from holdfast.domain.guest_pace import Counts
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import DiskExport, ScratchUse, SnapshotOutcome

END_SECONDS = 30.0
POLL_SECONDS = 0.02
WARNING = 0.8  # of the budget
EMPTY_FOLDER = 16 << 20  # free bytes below which the guest would soon be stopped by a failed write
BLOCK = 512  # bytes a file's blocks are counted in


@dataclass(frozen=True, slots=True)
class Area:
    """The scratch file of a disk. ``budget`` in bytes."""

    path: Path
    budget: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a snapshot works with. ``checkpoint``: the one that began with it, or empty.
    ``targets``: of all the guest's disks."""

    connection: Connection
    domain: Any
    areas: Sequence[Area]
    checkpoint: str
    folder: Path
    targets: Sequence[str]


class LibvirtSnapshot:
    """See ports.hypervisor.Snapshot."""

    def __init__(
        self,
        token: str,
        outcome: SnapshotOutcome,
        shown: Sequence[DiskExport],
        held: Held,
        let_go: Callable[[], None],
    ) -> None:
        self._token, self._outcome, self._exports = token, outcome, tuple(shown)
        self._held, self._let_go = held, let_go
        self._lock = threading.Lock()  # one end at a time
        self._ended = False

    @property
    def token(self) -> str:
        return self._token

    @property
    def outcome(self) -> SnapshotOutcome:
        return self._outcome

    @property
    def exports(self) -> tuple[DiskExport, ...]:
        return self._exports

    def scratch(self) -> ScratchUse:
        """libvirt's job would stop the guest when the folder is full, so the point counts as broken
        a little before."""
        if self._ended:
            return ScratchUse(0, 0, False, False)
        used = [_used(area.path) for area in self._held.areas]
        pairs = list(zip(used, self._held.areas, strict=True))
        full = shutil.disk_usage(self._held.folder).free < EMPTY_FOLDER
        over = any(size > area.budget for size, area in pairs)
        warned = any(size > area.budget * WARNING for size, area in pairs)
        budget = sum(area.budget for area in self._held.areas)
        return ScratchUse(min(sum(used), budget), budget, warned or full or over, over or full)

    def guest_writes(self) -> Counts:
        if self._ended:
            return {}
        return count_writes(self._held.connection, self._held.domain, self._held.targets)

    def check(self) -> None:
        if self._ended:
            return
        if not has_job(self._held.connection, self._held.domain):
            raise SourceError(
                f"libvirt's backup of machine {self._held.domain.name()} ended before its time",
                code="MachineLost",
                hint="see whether the machine was shut down, or the job ended by another program",
                retry="later",
            )
        use = self.scratch()
        if use.broken:
            raise SourceError(
                f"the guest overwrote more than the scratch area takes ({use.budget >> 20} MiB), "
                "so the backup was given up; the guest was not disturbed",
                code="ScratchFull",
                hint="set libvirt_scratch_percent higher, name a larger folder as libvirt_scratch, "
                "or back the machine up when it writes less",
                retry="later",
            )

    def commit(self) -> None:
        self._end(self._token)

    def rollback(self) -> None:
        self._end(None)

    def _end(self, committed: str | None) -> None:
        connection, domain = self._held.connection, self._held.domain
        with self._lock:
            if self._ended:
                return
            self._ended = True
            try:
                end_job(connection, domain)
                if committed is not None:
                    checkpoints.keep_only(connection, domain, committed)
                elif self._held.checkpoint:
                    checkpoints.remove(connection, domain, self._held.checkpoint)
            except connection.error as error:
                raise connection.failed(f"backup of {domain.name()}", error) from error
            finally:
                self._let_go()
                shutil.rmtree(self._held.folder, ignore_errors=True)


def has_job(connection: Connection, domain: Any) -> bool:
    """Whether a backup job runs on the machine."""
    return bool(job_of(connection, domain))


def job_of(connection: Connection, domain: Any) -> str:
    """The XML of the backup job that runs, or empty."""
    try:
        return str(domain.backupGetXMLDesc(0))
    except connection.error:
        return ""


def end_job(connection: Connection, domain: Any) -> None:
    """End the backup job and wait until it is gone; a guest that a full scratch folder stopped goes
    on. SourceError (ExportStuck)."""
    libvirt = connection.libvirt
    if has_job(connection, domain):
        domain.abortJob()
    until = time.monotonic() + END_SECONDS
    while has_job(connection, domain):
        if time.monotonic() > until:
            raise SourceError(
                f"libvirt does not end the backup job of {domain.name()}",
                code="ExportStuck",
                hint="see the machine's log; the next backup tries again",
                retry="later",
            )
        time.sleep(POLL_SECONDS)
    with suppress(connection.error):
        state, reason = domain.state()
        if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            domain.resume()


def _used(path: Path) -> int:
    try:
        return path.stat().st_blocks * BLOCK
    except OSError:
        return 0
