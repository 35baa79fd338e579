"""Keeps ``VmWork`` over a hypervisor: which machines there are, their backups, their restores."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from holdfast.agent.vm.backup import MachineBackup, Means
from holdfast.agent.vm.files import list_files, restore_files
from holdfast.agent.vm.instant.moving import move_disks
from holdfast.agent.vm.instant.restore import InstantRestores
from holdfast.agent.vm.instant.trial import Trial
from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.agent.vm.kept.restoring import LocalDisks
from holdfast.agent.vm.keys import HostKeys
from holdfast.agent.vm.replace import replace_disks
from holdfast.agent.vm.restore import Disks, PointDisks, RestoreMeans, to_folder, to_new_machine
from holdfast.agent.vm.seen import remembered, to_seen
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.errors import ConflictError, HoldfastError, InternalError, SourceError
from holdfast.ports.clock import Clock, Random
from holdfast.ports.disk_format import DiskFiles
from holdfast.ports.hypervisor import Hypervisor, Machine
from holdfast.ports.machine_runner import MachineRunner
from holdfast.ports.point_files import FileLooker
from holdfast.ports.vm_tasks import DiskFiles as FolderTarget
from holdfast.ports.vm_tasks import (
    FilesListed,
    FilesOut,
    InstantMachine,
    KeptSeen,
    MachineSeen,
    MoveDisks,
    NewMachine,
    ReplaceDisks,
    RestoreTest,
    VmBackedUp,
    VmBackup,
    VmRestore,
    VmRestored,
    VmTested,
)

log = logging.getLogger("holdfast.agent")
BACKUPS_AT_ONCE = 4  # machines of this host
LOOKS_AT_ONCE = 2  # recovery points whose file systems are read; each takes 256 MiB
LOOK_SECONDS = 0.5  # between looks whether a backup that waits was cancelled


@dataclass(frozen=True, slots=True)
class Running:
    """For machines that run from the vault. ``folder``: where the agent keeps what it knows of
    machines."""

    runner: MachineRunner
    folder: Path


class VmExecutor:
    """See ``VmWork``. ``host``: the name of this one; ``running``: None on a host where no machine
    is started from the vault; ``looker``: reads file systems of points, if this host can;
    ``write_latency_ms``, ``kept``: see ``backup.Means``; ``keys``: of encrypted volumes of its
    machines."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        files: DiskFiles,
        clock: Clock,
        rng: Random,
        host: str,
        running: Running | None = None,
        looker: FileLooker | None = None,
        *,
        write_latency_ms: float = 0.0,
        keys: HostKeys | None = None,
        kept: KeptCopies | None = None,
    ) -> None:
        self._hypervisor = hypervisor
        self._looker = looker
        keys = keys or HostKeys()
        self._means = Means(hypervisor, self._find, clock, rng, host, write_latency_ms, keys, kept)
        self._restores = RestoreMeans(files, self._look, rng, keys, kept)
        self._room = threading.BoundedSemaphore(BACKUPS_AT_ONCE)
        self._looks = threading.BoundedSemaphore(LOOKS_AT_ONCE)
        self._lock = threading.Lock()
        self._machines: dict[str, Machine] = {}
        self._misnamed: set[str] = set()
        self._tidy = threading.Event()
        self._tidy.set()
        self._instant: InstantRestores | None = None
        self._trial: Trial | None = None
        if running is not None:
            self._instant = InstantRestores(running.runner, running.folder, rng, keys)
            self._trial = Trial(running.runner, running.folder)
            self._instant.adopt()

    def start(self) -> None:
        """Free the machines, beside all else, of what backups of a killed agent left in them, and
        end those of its tests."""
        self._tidy.clear()
        threading.Thread(target=self._clear, name="clear-machines", daemon=True).start()

    def _clear(self) -> None:
        try:
            if self._trial is not None:
                self._trial.tidy()
            for machine in self._hypervisor.machines():
                try:
                    self._hypervisor.clear(machine.id)
                except HoldfastError as error:
                    told = (machine.name, error.message)
                    log.warning("what an earlier backup left in %s stays: %s", *told)
        finally:
            self._tidy.set()

    def inventory(self) -> Sequence[MachineSeen]:
        """A machine that cannot be asked now keeps the disks it had, so that a backup is tried and
        says why it fails."""
        found = self._hypervisor.machines()
        with self._lock:
            before = self._machines
            known = [remembered(machine, before.get(machine.id)) for machine in found]
            self._machines = {machine.id: machine for machine in known}
        self._tell_misnamed(known)
        tags = self._instant.tags() if self._instant is not None else {}
        copies = self._copies()
        return [
            to_seen(machine, tags.get(machine.id, {}), copies.get(machine.id, ()))
            for machine in known
        ]

    def _copies(self) -> dict[str, tuple[KeptSeen, ...]]:
        """By machine; those whose time is over go first."""
        if self._means.kept is None:
            return {}
        self._means.kept.tidy()
        return self._means.kept.told()

    def _tell_misnamed(self, known: Sequence[Machine]) -> None:
        """Keys of machines that are not here are backed up with none."""
        names = self._means.keys.by_machine.keys() - {machine.name for machine in known}
        with self._lock:
            fresh, self._misnamed = names - self._misnamed, names
        for name in sorted(fresh):
            log.warning("holdfast.toml has keys of machine %s, which is not on this host", name)

    def back_up(self, asked: VmBackup, session: VmSession, control: VmControl) -> VmBackedUp:
        self._wait_tidy(control)
        try:
            with _place(self._room, control):
                return MachineBackup(self._means, asked, session, control).run()
        finally:
            if asked.instant_days:
                control.machines_changed()  # the server is to hear of the local copy

    def _wait_tidy(self, control: VmControl) -> None:
        """CancelledError."""
        while not self._tidy.wait(LOOK_SECONDS):
            control.check()

    def restore(
        self, asked: VmRestore, session: VmSession, control: VmControl
    ) -> VmRestored | VmTested:
        match asked.target:
            case InstantMachine() as target:
                return _served(self._instant).run(asked, target, session, control)
            case MoveDisks() as target:
                return move_disks(_served(self._instant), asked.job_id, target, control)
            case RestoreTest() as target:
                self._wait_tidy(control)
                return _served(self._trial).run(asked, target, session, control)
            case FilesListed() as listed:
                with _place(self._looks, control):
                    return list_files(self._looker, listed, session, control)
            case FilesOut() as out:
                with _place(self._looks, control):
                    return restore_files(self._looker, asked, out, session, control)
            case _:
                return self._restore_disks(asked, session, control)

    def _restore_disks(
        self, asked: VmRestore, session: VmSession, control: VmControl
    ) -> VmRestored:
        return self._put_disks(asked, PointDisks(self._restores, asked, session, control), control)

    def restore_local(self, asked: VmRestore, control: VmControl) -> VmRestored:
        kept = self._means.kept
        if kept is None:
            raise InternalError("this host keeps no local copies")
        return self._put_disks(
            asked, LocalDisks(kept, self._restores.files, asked, control), control
        )

    def _put_disks(self, asked: VmRestore, disks: Disks, control: VmControl) -> VmRestored:
        match asked.target:
            case FolderTarget() as target:
                return to_folder(self._restores, asked, disks, target)
            case NewMachine() as target:
                return to_new_machine(self._restores, asked, disks, target, control)
            case ReplaceDisks():
                return replace_disks(self._restores, asked, disks, control)
            case _:
                raise InternalError(f"{type(asked.target).__name__} is no restore of disks")

    def _look(self, uuid: str) -> Machine:
        """As it is now. SourceError (UserErrorVmNotFoundV2)."""
        self.inventory()
        return self._find(uuid)

    def _find(self, uuid: str) -> Machine:
        """As it was last seen. SourceError (UserErrorVmNotFoundV2)."""
        with self._lock:
            found = self._machines.get(uuid)
        if found is None:
            self.inventory()
            with self._lock:
                found = self._machines.get(uuid)
        if found is None:
            raise SourceError(
                f"this host has no machine {uuid}",
                code="UserErrorVmNotFoundV2",
                hint="name it in the agent's holdfast.toml, or see whether it moved",
            )
        return found


T = TypeVar("T")


def _served(found: T | None) -> T:
    if found is None:
        raise ConflictError(
            "no machine is started from the vault on this host",
            code="InstantRestoreNotServed",
            hint="restore to a host with QEMU, or restore its disks",
        )
    return found


@contextmanager
def _place(room: threading.BoundedSemaphore, control: VmControl) -> Iterator[None]:
    """One of the places there are, waited for. CancelledError."""
    while not room.acquire(timeout=LOOK_SECONDS):
        control.check()
    try:
        yield
    finally:
        room.release()
