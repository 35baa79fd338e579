"""Disks of a recovery point as files: into a folder, as a new machine, or in place of a machine's
disks (``replace``)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from holdfast.agent.vm.definition import Definition, DiskFile, described_disk
from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.agent.vm.kept.restoring import LocalDisks, write_copy
from holdfast.agent.vm.keys import HostKeys, put_back
from holdfast.agent.vm.places import beside_original, plain_name
from holdfast.agent.vm.staging import free_name, publish, staged_folder
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.domain.path_text import decode_path, encode_path
from holdfast.errors import ConflictError, NotFoundError, SourceError, TargetError
from holdfast.ports.block_device import BlockTarget
from holdfast.ports.clock import Random
from holdfast.ports.disk_format import DiskFiles, DiskFormat
from holdfast.ports.hypervisor import Machine
from holdfast.ports.image_copy import NotCopiedError
from holdfast.ports.vm_tasks import (
    CREATE_PHASE,
    DOWNLOAD_PHASE,
    DiskProgress,
    DiskRestored,
    KeyRestored,
    NewMachine,
    VmRestore,
    VmRestored,
)
from holdfast.ports.vm_tasks import DiskFiles as FolderTarget
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.point import DiskEntry, MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk
from holdfast.workloads.vm.disks.restore import DiskRestore
from holdfast.workloads.vm.disks.values import Progress, stream_name

log = logging.getLogger("holdfast.agent")
IMAGES = ("qcow2", "raw")  # what machines run from


@dataclass(frozen=True, slots=True)
class RestoreMeans:
    """What restores work with. ``look``: a machine of this host as it is now. ``keys``: of its
    machines' encrypted volumes; ``kept``: copies of their disks on this host."""

    files: DiskFiles
    look: Callable[[str], Machine]
    rng: Random
    keys: HostKeys = field(default_factory=HostKeys)
    kept: KeptCopies | None = None


class PointDisks:
    """The disks asked for, of the session's recovery point. NotFoundError (DiskNotFound),
    IntegrityError."""

    def __init__(
        self, means: RestoreMeans, asked: VmRestore, session: VmSession, control: VmControl
    ) -> None:
        self._files, self._kept, self._control = means.files, means.kept, control
        self.local: set[int] = set()  # LUNs that came from a copy on this host
        self._asked, self._grant = asked, session.grant
        self._point = MachinePoint(ChunkFetcher(session))
        described = self._point.machine().get("machine")
        self.described = described if isinstance(described, dict) else {}
        held = {entry.lun: entry for entry in self._point.disks}
        luns = list(dict.fromkeys(asked.luns)) or sorted(held)
        if missing := [lun for lun in luns if lun not in held]:
            raise NotFoundError(
                f"the recovery point has no disk {missing[0]}",
                code="DiskNotFound",
                hint=f"it has {', '.join(map(str, held))}",
            )
        self.entries: list[DiskEntry] = [held[lun] for lun in luns]
        self._done = dict.fromkeys(luns, 0)
        self._show()

    def put_keys(self, keys: HostKeys, *, in_place: bool = False) -> tuple[KeyRestored, ...]:
        """Of the machine, into the host's key vault; see ``put_back``."""
        told = (self._asked, self._point, self._grant, self._control)
        return put_back(keys, *told, in_place=in_place)

    def write(self, entry: DiskEntry, target: Path, form: str) -> None:
        """Make ``target`` hold a disk; see ports.disk_format.DiskFiles."""
        kind = DiskFormat(form)
        if self._from_copy(entry, target, form):
            self.local.add(entry.lun)
        elif self._files.takes_blocks(kind):
            with self._files.create(target, kind, entry.size) as made:
                self._fill(entry, made)
        else:
            with closing(PointDisk(self._point, entry.lun, whole=True)) as source:
                self._files.write(
                    source,
                    target,
                    kind,
                    progress=lambda done, _total: self._reached(entry, done),
                    cancelled=lambda: self._control.stopped,
                )
        self._reached(entry, entry.size)

    def _from_copy(self, entry: DiskEntry, target: Path, form: str) -> bool:
        """From the local copy of the same point in time, if there is one. TargetError,
        CancelledError."""
        found = self._kept.find(entry.token) if self._kept is not None and entry.token else None
        disks = {disk.lun: disk for disk in found.disks} if found is not None else {}
        if self._kept is None or entry.lun not in disks or disks[entry.lun].size != entry.size:
            return False
        try:
            write_copy(
                self._kept,
                self._files,
                disks[entry.lun],
                target,
                form,
                progress=lambda done: self._reached(entry, done),
                cancelled=lambda: self._control.stopped,
            )
        except (NotCopiedError, SourceError) as error:
            log.info("disk %d comes from the vault, not from its local copy: %s", entry.lun, error)
            return False
        return True

    def _fill(self, entry: DiskEntry, made: BlockTarget) -> None:
        figures = Progress(total_bytes=entry.size)

        def cancelled() -> bool:  # asked before each piece
            self._reached(entry, figures.done_bytes)
            return self._control.stopped

        DiskRestore(self._point, entry.lun, made, progress=figures, cancelled=cancelled).run()

    def _reached(self, entry: DiskEntry, done: int) -> None:
        self._done[entry.lun] = done
        self._show()

    def _show(self) -> None:
        shown = [
            DiskProgress(lun=one.lun, done_bytes=self._done[one.lun], total_bytes=one.size)
            for one in self.entries
        ]
        self._control.show(DOWNLOAD_PHASE, shown)


Disks = PointDisks | LocalDisks


def to_folder(
    means: RestoreMeans, asked: VmRestore, disks: Disks, target: FolderTarget
) -> VmRestored:
    """A folder NAME-POINT in the one asked for. TargetError, ConflictError, CancelledError."""
    parent = Path(os.fsdecode(decode_path(target.folder)))
    name = f"{plain_name(asked.name)}-{asked.recovery_point_id}"
    forms = {entry.lun: str(target.format) for entry in disks.entries}
    with staged_folder(parent, name) as staged:
        written = _fill(staged, disks, forms)
        final = free_name(parent / name)
        made = _definition(means, asked, disks, written, asked.name, final)
        made.write(staged)
        publish(staged, final)
    return _restored(final, disks, written, made)


def to_new_machine(
    means: RestoreMeans,
    asked: VmRestore,
    disks: Disks,
    target: NewMachine,
    control: VmControl,
) -> VmRestored:
    """A folder with the name of the new machine: its disks, and files that say how to start it.
    ConflictError (TargetExists), TargetError (TargetUnavailable, ...), CancelledError."""
    parent = _home(disks, target)
    final = parent / plain_name(target.name)
    if os.path.lexists(final):
        raise ConflictError(
            f"{final} exists already",
            code="TargetExists",
            hint="give the new machine another name, or move the folder away",
        )
    forms = {entry.lun: _image_format(disks, entry.lun) for entry in disks.entries}
    with staged_folder(parent, final.name) as staged:
        written = _fill(staged, disks, forms)
        control.show(CREATE_PHASE)
        control.check()
        made = _definition(means, asked, disks, written, target.name, final)
        made.write(staged)
        publish(staged, final, parent.stat())
    if target.network != "none":
        control.finding("NetworkNotRestored", "", "the new machine has no network; add one")
    return _restored(final, disks, written, made)


def _fill(staged: Path, disks: Disks, forms: dict[int, str]) -> list[DiskFile]:
    written = []
    for entry in disks.entries:
        form = forms[entry.lun]
        file = DiskFile(entry.lun, f"{stream_name(entry.lun)}.{form}", form, entry.size)
        disks.write(entry, staged / file.name, form)
        written.append(file)
    return written


def _definition(
    means: RestoreMeans,
    asked: VmRestore,
    disks: Disks,
    written: list[DiskFile],
    name: str,
    final: Path,
) -> Definition:
    """With a UUID of its own: two machines with one UUID are two claims of one."""
    fresh = str(UUID(bytes=means.rng.token(16), version=4))
    keys, point = disks.put_keys(means.keys), asked.recovery_point_id
    return Definition(name, fresh, point, disks.described, written, final, keys)


def _restored(final: Path, disks: Disks, written: list[DiskFile], made: Definition) -> VmRestored:
    return VmRestored(
        disks=tuple(
            restored(disks, entry, final / file.name)
            for entry, file in zip(disks.entries, written, strict=True)
        ),
        machine_uuid=made.uuid,
        definition=told_path(made.path),
        keys=tuple(made.keys),
    )


def restored(disks: Disks, entry: DiskEntry, path: Path) -> DiskRestored:
    return DiskRestored(
        lun=entry.lun,
        path=told_path(path),
        logical_bytes=entry.size,
        written_bytes=entry.data_bytes,
        local_copy=entry.lun in disks.local,
    )


def told_path(path: Path) -> str:
    """As the server is told it: names of files need not be text."""
    return encode_path(os.fsencode(path))


def _image_format(disks: Disks, lun: int) -> str:
    found = described_disk(disks.described, lun).get("format")
    return str(found) if found in IMAGES else IMAGES[0]


def _home(disks: Disks, target: NewMachine) -> Path:
    """Where machines lie: as asked, or beside the original's folder. TargetError."""
    if target.folder is not None:
        return Path(os.fsdecode(decode_path(target.folder)))
    place = beside_original(disks.described, disks.entries[0].lun)
    if place is not None:
        return place
    raise TargetError(
        "the folder where the original's disks lay is not on this host",
        code="TargetUnavailable",
        hint="restore its disks into a storage account: holdfast vm restore NAME --disks-to ...",
    )
