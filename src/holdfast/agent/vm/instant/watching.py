"""What goes on beside a machine that runs from the vault."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.agent.vm.instant.records import Record
from holdfast.agent.vm.instant.serving import CountedDisk
from holdfast.agent.vm_work import VmControl
from holdfast.errors import SourceError
from holdfast.ports.machine_runner import RunningMachine
from holdfast.ports.vm_tasks import SERVE_PHASE, SILENT, START_PHASE, DiskProgress

READY_SECONDS, LOOK_SECONDS = 600.0, 1.0
PING_SECONDS = 0.2  # between questions to a guest that does not answer yet
RESUME_SECONDS = 5.0  # between attempts to let a machine go on whose disk failed


@dataclass(slots=True)
class Live:
    """A machine that is served now. ``moved``: set when it does not need the vault any more;
    ``undone``: it is removed, and nothing of it may be written any more."""

    record: Record
    machine: RunningMachine | None = None
    moved: threading.Event = field(default_factory=threading.Event)
    undone: bool = False


class Watch:
    """Waits beside a machine, shows how it is, and lets it go on when a disk had failed."""

    def __init__(self, live: Live, disks: Sequence[CountedDisk], control: VmControl) -> None:
        self._live, self._disks, self._control = live, disks, control
        self._resume_at = 0.0

    def wait_ready(self, begun: float) -> float | None:
        """Seconds from ``begun`` to the guest's first answer; None when none came in time."""
        while time.monotonic() < begun + READY_SECONDS:
            self._look(START_PHASE)
            if machine_of(self._live).answers():
                return time.monotonic() - begun
            self._control.wait(PING_SECONDS)
        self._control.finding(
            SILENT,
            "",
            "the guest's agent did not answer; the machine may run all the same",
        )
        return None

    def keep(self) -> None:
        """Until it is moved. CancelledError, SourceError (InstantMachineEnded)."""
        while not self._live.moved.wait(LOOK_SECONDS):
            self._look(SERVE_PHASE)

    def _look(self, phase: str) -> None:
        self._control.check()
        record = self._live.record
        try:
            status = machine_of(self._live).status
            if status == "io-error" and time.monotonic() >= self._resume_at:
                self._resume_at = time.monotonic() + RESUME_SECONDS
                machine_of(self._live).resume()
        except SourceError as error:
            if self._live.moved.is_set():
                return
            raise SourceError(
                f"virtual machine {record.name} ended; what it wrote is kept in {record.home_path}",
                code="InstantMachineEnded",
                hint="go on with it: holdfast vm instant, with the same name and recovery point",
            ) from error
        self._show(phase, status)

    def _show(self, phase: str, status: str) -> None:
        ready = self._live.record.ready_seconds
        told = f"{self._live.record.name} is {status}"
        if ready is not None:
            told += f"; its guest answered after {ready:.1f} s"
        shown = [
            DiskProgress(lun=kept.lun, done_bytes=0, total_bytes=kept.size)
            for kept in self._live.record.disks
        ]
        read = sum(disk.read_bytes for disk in self._disks)
        self._control.show(phase, shown, transferred_bytes=read, detail=told)


def machine_of(live: Live) -> RunningMachine:
    if live.machine is None:
        raise SourceError(f"{live.record.name} does not run", code="InstantMachineEnded")
    return live.machine
