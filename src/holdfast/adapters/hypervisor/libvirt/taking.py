"""Taking a point in time of a machine that runs: the sequence to exports that can be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.libvirt import checkpoints, documents
from holdfast.adapters.hypervisor.libvirt.agent import LibvirtQuiesce
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.adapters.hypervisor.libvirt.documents import Wanted
from holdfast.adapters.hypervisor.libvirt.domains import Domain, DomainDisk
from holdfast.adapters.hypervisor.libvirt.guard import Guard
from holdfast.adapters.hypervisor.libvirt.snapshot import Area, Held, LibvirtSnapshot, end_job
from holdfast.adapters.hypervisor.qemu import handing
from holdfast.adapters.hypervisor.qemu.levels import judge
from holdfast.adapters.hypervisor.qemu.scratch import share, unusable
from holdfast.errors import HoldfastError
from holdfast.ports.hypervisor import Disk, DiskExport, Generations, SnapshotOutcome, Wish

INCOMPLETE = "the record of changes is incomplete: the machine ended without storing it"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a snapshot keeps things: ``sockets`` (short path), ``scratch``, the guard's ``note``.
    ``let_go`` is called when the snapshot ends."""

    sockets: Path
    scratch: Path
    note: Path
    percent: int
    freeze_seconds: int
    let_go: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A disk of the point. ``since``: its checkpoint, or empty and ``why_full``."""

    found: DomainDisk
    disk: Disk
    since: str
    why_full: str


class Taking:
    """One try. ``read``: the machine as its XML has it."""

    def __init__(self, connection: Connection, domain: Any, read: Domain, place: Place) -> None:
        self._connection, self._domain = connection, domain
        self._read, self._place = read, place

    def take(
        self, disks: Sequence[tuple[DomainDisk, Disk]], wish: Wish, generations: Generations
    ) -> LibvirtSnapshot:
        """After an error the machine is as before."""
        chosen = self._choose(disks, generations)
        with ExitStack() as undo:
            areas = self._make_scratch(chosen, undo)
            _give(self._place.sockets, chosen[0].disk)
            begun = _Begun(self, chosen, areas, generations.token)
            undo.callback(begun.undo)
            outcome = self._moment(begun, wish)
            undo.pop_all()
        held = Held(
            self._connection,
            self._domain,
            areas,
            begun.checkpoint,
            self._place.scratch,
            [one.target for one in self._read.disks],
        )
        shown = [self._export(one) for one in begun.chosen]
        return LibvirtSnapshot(generations.token, outcome, shown, held, self._place.let_go)

    def _choose(
        self, disks: Sequence[tuple[DomainDisk, Disk]], generations: Generations
    ) -> list[Chosen]:
        """What each disk's changes count from; what libvirt forgot is told to it."""
        known = checkpoints.known_names(self._domain)
        wanted: dict[str, list[str]] = {}
        for found, _ in disks:
            parent = generations.parents.get(found.lun)
            if parent is not None and found.format == "qcow2":
                name = checkpoints.checkpoint_name(parent.token)
                if name not in known:
                    wanted.setdefault(name, []).append(found.target)
        for name, targets in wanted.items():
            others = self._others(targets)
            if checkpoints.make_known(self._connection, self._domain, name, targets, others):
                known.append(name)
        return [
            Chosen(found, disk, *checkpoints.choose(found, disk.identity, generations, known))
            for found, disk in disks
        ]

    def _others(self, targets: Sequence[str]) -> list[str]:
        return [one.target for one in self._read.disks if one.target not in targets]

    def _make_scratch(self, chosen: Sequence[Chosen], undo: ExitStack) -> list[Area]:
        """Room for what the guest overwrites; libvirt makes the files. LimitError, SourceError
        (ScratchUnusable)."""
        folder = self._place.scratch
        shutil.rmtree(folder, ignore_errors=True)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            free = _new_scratch(folder, chosen[0].disk)
        except OSError as error:
            raise unusable(folder, error.strerror or str(error)) from error
        budgets = share([one.disk.size for one in chosen], free, self._place.percent)
        return [
            Area(folder / f"{one.found.target}.qcow2", budget)
            for one, budget in zip(chosen, budgets, strict=True)
        ]

    def _moment(self, begun: _Begun, wish: Wish) -> SnapshotOutcome:
        """Freeze, begin, thaw; and what came of it."""
        quiesce = LibvirtQuiesce(self._connection, self._domain, self._place.freeze_seconds, wish)
        try:
            if self._domain.state()[0] == self._connection.libvirt.VIR_DOMAIN_PAUSED:
                quiesce.record.why_not = "the machine was paused"
                begun.begin()
            else:
                quiesce.ask(self._read.agent)
                self._guarded(begun, quiesce)
                quiesce.finish()
        finally:
            quiesce.close()
        return judge(quiesce.record, wish, len(begun.chosen), 0.0)

    def _guarded(self, begun: _Begun, quiesce: LibvirtQuiesce) -> None:
        if not quiesce.ready:
            begun.begin()
            return
        guard = Guard(self._connection, self._read.id, self._place.note)
        try:
            quiesce.freeze()
            begun.begin()
        finally:
            try:
                quiesce.thaw()
            finally:
                guard.end(thawed=not quiesce.owed)

    def _export(self, one: Chosen) -> DiskExport:
        context = f"qemu:dirty-bitmap:{documents.BITMAP}" if one.since else None
        socket = str(socket_of(self._place.sockets))
        return DiskExport(one.disk, socket, one.found.target, context, one.why_full)


class _Begun:
    """libvirt's job of a point, begun and undone."""

    def __init__(
        self, taking: Taking, chosen: list[Chosen], areas: Sequence[Area], token: str
    ) -> None:
        self.chosen = chosen
        self._taking, self._areas = taking, areas
        kept = [one.found.target for one in chosen if one.found.format == "qcow2"]
        self._name = checkpoints.checkpoint_name(token)
        self._kept = kept
        self.checkpoint = self._name if kept else ""

    def begin(self) -> None:
        """All disks in one transaction of QEMU's. A record that turns out to be incomplete is not
        used. SourceError (LibvirtFailed)."""
        connection = self._taking._connection
        try:
            self._call()
        except connection.error as error:
            libvirt = connection.libvirt
            code = error.get_error_code()  # type: ignore[attr-defined]
            if code != libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT:
                raise self._failed(error) from error
            self.chosen = [
                Chosen(one.found, one.disk, "", one.why_full or INCOMPLETE) for one in self.chosen
            ]
            try:
                self._call()
            except connection.error as again:
                raise self._failed(again) from again

    def _call(self) -> None:
        taking = self._taking
        targets = [one.found.target for one in self.chosen]
        wanted = [
            Wanted(one.found.target, area.path, one.since, bool(self.checkpoint))
            for one, area in zip(self.chosen, self._areas, strict=True)
        ]
        job = documents.backup(socket_of(taking._place.sockets), wanted, taking._others(targets))
        began = None
        if self.checkpoint:
            others = taking._others(self._kept)
            began = documents.checkpoint(self._name, self._kept, others)
        taking._domain.backupBegin(job, began, 0)

    def _failed(self, error: Exception) -> HoldfastError:
        what = f"libvirt begins no backup of machine {self._taking._read.name}"
        return self._taking._connection.failed(what, error)

    def undo(self) -> None:
        """What cannot be undone now ``settle`` undoes later."""
        connection, domain = self._taking._connection, self._taking._domain
        with suppress(HoldfastError, connection.error):
            end_job(connection, domain)
            checkpoints.remove(connection, domain, self._name)


def socket_of(folder: Path) -> Path:
    return folder / "nbd.sock"


def _new_scratch(folder: Path, disk: Disk) -> int:
    """Bytes free in it. The folder above may be the user's whom it is given to: see handing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with handing.new_folder(folder) as handle:
        found = os.fstatvfs(handle)
        handing.give_as(handle, disk.path)
    return found.f_bavail * found.f_frsize


def _give(folder: Path, disk: Disk) -> None:
    """QEMU may run as another user, who then owns the disk's image."""
    with handing.opened(folder, handing.FOLDER) as handle:
        os.fchmod(handle, 0o700)
        handing.give_as(handle, disk.path)
