"""The seam to what backs up and restores virtual machines on this host.

An agent is given something that keeps ``VmWork``, or nothing: then it reports no machines, and
restores those of others as far as it has something for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from holdfast.errors import CancelledError
from holdfast.ports.vm_tasks import (
    DiskProgress,
    MachineSeen,
    VmBackedUp,
    VmBackup,
    VmRestore,
    VmRestored,
    VmTested,
)
from holdfast.workloads.findings import Findings
from holdfast.workloads.transport import BackupTransport, RestoreTransport


class VmSession(BackupTransport, RestoreTransport, Protocol):
    """A vault session as the task's kind grants: a backup's reads its parent point too."""


@dataclass(frozen=True, slots=True)
class VmFigures:
    """Where a task is. ``phase``: Azure's word for the piece of work. Bytes are sums over disks."""

    phase: str = "Preparing"
    done_bytes: int = 0
    total_bytes: int | None = None
    transferred_bytes: int = 0
    detail: str = ""
    disks: tuple[DiskProgress, ...] = ()
    done_files: int = 0
    total_files: int | None = None


class VmControl:
    """What a task's work tells and is told while it goes on. Thread safe."""

    def __init__(
        self,
        cancelled: Callable[[], bool],
        wait: Callable[[float], object] = lambda _: None,
        moved_on: Callable[[], object] = lambda: None,
        *,
        undone: Callable[[], bool] = lambda: False,
        machines_changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._cancelled = cancelled
        self.wait = wait
        self._moved_on = moved_on
        self._undone = undone
        self.machines_changed = machines_changed
        self.findings = Findings()
        self._lock = threading.Lock()
        self._figures = VmFigures()

    @property
    def progress(self) -> VmFigures:
        with self._lock:
            return self._figures

    def show(
        self,
        phase: str,
        disks: Sequence[DiskProgress] = (),
        *,
        transferred_bytes: int = 0,
        detail: str = "",
    ) -> None:
        """Say where the work is. From ``UPLOAD_PHASE`` on the snapshot counts as taken and a user
        cannot cancel the backup any more: the server is told before this returns, so it is called
        when the guest is thawed."""
        total = sum(disk.total_bytes for disk in disks) if disks else None
        done = sum(disk.done_bytes for disk in disks)
        figures = VmFigures(phase, done, total, transferred_bytes, detail, tuple(disks))
        with self._lock:
            new_phase = phase != self._figures.phase
            self._figures = figures
        if new_phase:
            self._moved_on()

    def count(self, phase: str, files: int, data_bytes: int) -> None:
        """Say how many files are restored so far."""
        figures = VmFigures(phase, done_bytes=data_bytes, done_files=files)
        with self._lock:
            self._figures = figures

    def finding(self, code: str, disk: str, message: str) -> None:
        """Something about one disk ("" for the machine) that a user should know."""
        self.findings.add(code, disk.encode(errors="surrogateescape"), message)

    @property
    def stopped(self) -> bool:
        return self._cancelled()

    @property
    def undone(self) -> bool:
        """Whether a user cancelled: what was made is to be removed. Otherwise work that stops is
        gone on with later."""
        return self._undone()

    def check(self) -> None:
        """CancelledError when the work is to stop; asked between steps and pieces."""
        if self._cancelled():
            raise CancelledError("the task was cancelled")


class VmWork(Protocol):
    """Virtual machines of this host. All methods may be called from several threads, for several
    machines at a time. What fails raises a HoldfastError whose code and hint a user understands;
    the guest goes on unharmed whatever happens."""

    def inventory(self) -> Sequence[MachineSeen]:
        """Every machine of the host, on or off, with its disks; empty when there is none."""
        ...

    def back_up(self, asked: VmBackup, session: VmSession, control: VmControl) -> VmBackedUp:
        """Make one recovery point of one machine and commit it through ``session``, with the
        consistency reached in its claims. SourceError (UserErrorVmNotFoundV2,
        UserErrorVmNotInDesirableState, ConsistencyNotReached, ...); CancelledError."""
        ...

    def restore(
        self, asked: VmRestore, session: VmSession, control: VmControl
    ) -> VmRestored | VmTested:
        """Bring disks of the session's recovery point back, run a machine from it until its disks
        are moved, or test it. TargetError (UserErrorVmNotShutDown, TargetUnavailable, ...);
        CancelledError."""
        ...

    def restore_local(self, asked: VmRestore, control: VmControl) -> VmRestored:
        """Bring disks back of a point that only this host has. Errors as ``restore``; SourceError
        (LocalCopyGone)."""
        ...
