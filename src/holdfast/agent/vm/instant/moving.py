"""Moving the disks of a machine that runs from the vault to images of this host, while it runs.

Each disk is copied whole; from then on writes go to both images, and the machine changes over.
Which image counts is written down before: after a crash in between both hold the same. A copy goes
on when the agent is back; one that failed meanwhile is begun again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from holdfast import crashpoint
from holdfast.adapters.disk_format.partial import failed
from holdfast.agent.vm.definition import FILE_NAME, SETTINGS_NAME, Definition, DiskFile
from holdfast.agent.vm.instant.in_use import note_attached
from holdfast.agent.vm.instant.records import KeptDisk, Record, to_path, to_text
from holdfast.agent.vm.instant.restore import InstantRestores, drop_overlays
from holdfast.agent.vm.instant.rooms import Room, known_room, new_room, remove_file
from holdfast.agent.vm.instant.watching import Live
from holdfast.agent.vm.places import plain_name
from holdfast.agent.vm.staging import free_name
from holdfast.agent.vm_work import VmControl
from holdfast.errors import CancelledError, ConflictError, HoldfastError, TargetError
from holdfast.ports.machine_runner import MachineRunner, Move, RunningMachine
from holdfast.ports.vm_tasks import (
    CREATE_PHASE,
    MOVE_PHASE,
    DiskProgress,
    DiskRestored,
    MoveDisks,
    VmRestored,
)
from holdfast.workloads.vm.disks.values import stream_name

log = logging.getLogger("holdfast.agent")
LOOK_SECONDS = 0.5
SERVED_SECONDS = 60  # for the machine's own job to go on after the agent was started


def move_disks(
    restores: InstantRestores, job: str, target: MoveDisks, control: VmControl
) -> VmRestored:
    """ConflictError (InstantMachineNotServed), TargetError (TargetUnavailable, TargetFull,
    MoveFailed), SourceError (MachineLost), CancelledError: then it runs from the vault as before.
    A backup of the machine that is under way is waited for."""
    control.show(MOVE_PHASE)
    done = restores.records.find(target.name)
    if done is not None and done.moved and done.mover == job:  # handed out again
        drop_overlays(done)
        return _result(done)
    live = _served(restores, target.name, control)
    with ExitStack() as ending:
        ending.callback(control.machines_changed)  # while disks change over none can be told
        _hold(restores.runner, live.record.uuid, control, ending)
        return _Moving(restores, live, control).run(job, to_path(target.folder))


def _hold(runner: MachineRunner, uuid: str, control: VmControl, ending: ExitStack) -> None:
    while True:
        try:
            ending.enter_context(runner.hold(uuid))
            return
        except ConflictError as error:
            control.show(MOVE_PHASE, detail=error.message)
        control.check()
        control.wait(LOOK_SECONDS)


class _Moving:
    def __init__(self, restores: InstantRestores, live: Live, control: VmControl) -> None:
        self._restores, self._runner = restores, restores.runner
        self._live, self._record, self._control = live, live.record, control

    def run(self, job: str, parent: Path) -> VmRestored:
        self._record.mover = job
        with ExitStack() as ending:
            try:
                self._settle()
                room = self._room(parent, ending)
                self._copy(room)
            except BaseException as error:
                if not isinstance(error, CancelledError) or self._control.undone:
                    self._give_up()
                raise
            self._control.show(CREATE_PHASE)
            self._finish(room)
        return _result(self._record)

    @property
    def _machine(self) -> RunningMachine:
        if self._live.machine is None:
            raise _not_served(self._record.name)
        return self._live.machine

    def _left(self) -> list[KeptDisk]:
        return [disk for disk in self._record.disks if disk.backed]

    def _save(self) -> None:
        """ConflictError (InstantMachineNotServed) when it was undone meanwhile."""
        with self._restores.ending:
            self._check_there()
            self._restores.records.save(self._record)

    def _check_there(self) -> None:
        if self._live.undone:
            raise _not_served(self._record.name)

    def _room(self, parent: Path, ending: ExitStack) -> Room:
        """That of an attempt before, or a new one. TargetError (TargetUnavailable, TargetFull)."""
        begun = {to_path(disk.target).parent for disk in self._record.disks if disk.target}
        room = self._known(next(iter(begun)), ending) if begun else None
        if room is None:
            room = self._new(parent, ending)
        for disk in self._record.disks:
            disk.target = disk.target or to_text(room.path / f"{stream_name(disk.lun)}.qcow2")
        self._save()
        return room

    def _known(self, folder: Path, ending: ExitStack) -> Room | None:
        owner = self._record.plan().owner
        room = ending.enter_context(known_room(folder, self._record.room, owner))
        if room is not None:
            room.take()
            return room
        if len(self._left()) < len(self._record.disks):
            raise TargetError(
                f"the folder {folder}, where disks of {self._record.name} are, is not there",
                code="TargetUnavailable",
                hint="mount its file system, or give it its name again, then move the rest",
            )
        self._stop()
        for disk in self._record.disks:
            disk.target = ""
        return None

    def _new(self, parent: Path, ending: ExitStack) -> Room:
        if not parent.is_dir():
            raise TargetError(
                f"the folder {parent} is not there",
                code="TargetUnavailable",
                hint="make it on the host, so that the agent can write there",
            )
        folder = free_name(parent / plain_name(self._record.name))
        try:
            room = ending.enter_context(new_room(folder, self._record.plan().owner))
            room.take()
        except OSError as error:
            raise failed(folder, error) from error
        self._record.room = room.number
        return room

    def _copy(self, room: Room) -> None:
        under_way = {move.lun for move in self._machine.moves()}
        for disk in self._left():
            if disk.lun not in under_way:
                target = to_path(disk.target)
                room.image(self._runner, target.name, disk.size)
                self._machine.move(disk.lun, target)
        crashpoint.reach("agent.vm.move.begun")
        while not self._all_ready(self._machine.moves()):
            self._control.check()
            self._control.wait(LOOK_SECONDS)
        crashpoint.reach("agent.vm.move.copied")
        for disk in self._left():
            self._all_ready(self._machine.moves())  # and none failed meanwhile
            self._switch(disk)
        self._check_moved()
        log.info("%s needs the vault no more; its disks are in %s", self._record.name, room.path)

    def _check_moved(self) -> None:
        """The overlays are removed next. TargetError (MoveFailed), SourceError."""
        if len(self._note()) < len(self._record.disks) or self._left():
            raise TargetError(
                f"{self._record.name} does not use all images it was moved to",
                code="MoveFailed",
                hint="the machine goes on as it is; move it again",
            )

    def _settle(self) -> None:
        """Go on from where an attempt before was interrupted: change over what was noted as moved,
        or take the note back; give up copies that failed."""
        moves = {move.lun: move for move in self._machine.moves()}
        noted = {disk.lun for disk in self._record.disks if not disk.backed}
        self._note()
        for disk in self._left():
            if disk.lun in noted and (move := moves.get(disk.lun)) is not None and move.ready:
                self._switch(disk)
        if any(move.problem for move in moves.values()):
            self._stop()

    def _note(self) -> set[int]:
        """Write down where the disks are; those of which it is known. SourceError."""
        known = note_attached(self._record, self._machine)
        self._save()
        return known

    def _stop(self) -> set[int]:
        """Give up the copies. A change-over that took long may be done just now: where the disks
        are is known from what QEMU uses afterwards. As ``_note``."""
        self._note()
        self._machine.stop_moving()
        return self._note()

    def _switch(self, disk: KeptDisk) -> None:
        """Written down first: both images are alike from when the copy was ready, and the new one
        has more once it is used. Whoever is told of a failure gives up, and asks QEMU then."""
        disk.path, disk.backed = disk.target, False
        self._save()
        crashpoint.reach("agent.vm.move.noted")
        self._machine.switch(disk.lun)

    def _all_ready(self, moves: Sequence[Move]) -> bool:
        """TargetError (TargetFull, MoveFailed)."""
        self._show(moves)
        for move in moves:
            if move.problem:
                raise TargetError(
                    f"disk {move.lun} of {self._record.name} was not moved: {move.problem}",
                    code="TargetFull" if "No space" in move.problem else "MoveFailed",
                    hint="the machine runs from the vault as before; make room there, or see that "
                    "the vault can be read, then move it again",
                )
        return {move.lun for move in moves if move.ready} >= {one.lun for one in self._left()}

    def _show(self, moves: Sequence[Move]) -> None:
        by_lun = {move.lun: move for move in moves}
        shown = []
        for disk in self._record.disks:
            move = by_lun.get(disk.lun)
            done = disk.size if not disk.backed else (min(move.done, disk.size) if move else 0)
            shown.append(DiskProgress(lun=disk.lun, done_bytes=done, total_bytes=disk.size))
        self._control.show(MOVE_PHASE, shown)

    def _give_up(self) -> None:
        """The machine keeps what it changed over to, and its overlays for the rest. What it may
        use stays: also all of it, when it does not answer."""
        try:
            known = self._stop()
            unused = [disk for disk in self._left() if disk.lun in known and disk.target]
            folders = {to_path(disk.target).parent for disk in unused}
            for disk in unused:
                remove_file(to_path(disk.target))
                disk.target = ""
            self._save()
        except (HoldfastError, OSError) as error:
            log.warning("giving up the move of %s: %s", self._record.name, error)
            return
        for folder in folders:
            with suppress(OSError):  # a disk is there still
                folder.rmdir()

    def _finish(self, room: Room) -> None:
        """``moved`` comes last: until then all of this is done again after a crash. ConflictError
        (InstantMachineNotServed), TargetError."""
        record = self._record
        definition = _definition(record)
        with self._restores.ending:
            self._check_there()
            try:
                for name in (FILE_NAME, SETTINGS_NAME):
                    room.remove(name)
                definition.write(room.inside)
                room.give()
            except OSError as error:
                raise failed(room.path, error) from error
            crashpoint.reach("agent.vm.move.described")
            self._restores.records.save(msgspec.structs.replace(record, moved=True))
            record.moved = True
            self._live.moved.set()
        crashpoint.reach("agent.vm.move.moved")
        self._runner.show(record.plan())
        drop_overlays(record)


def _definition(record: Record) -> Definition:
    files = [
        DiskFile(disk.lun, to_path(disk.path).name, "qcow2", disk.size) for disk in record.disks
    ]
    folder = to_path(record.disks[0].path).parent
    machine = (record.name, record.uuid, record.point, record.described)
    return Definition(*machine, files, folder, record.keys)


def _result(record: Record) -> VmRestored:
    return VmRestored(
        disks=tuple(
            DiskRestored(lun=disk.lun, path=disk.path, logical_bytes=disk.size)
            for disk in record.disks
        ),
        machine_uuid=record.uuid,
        definition=to_text(_definition(record).path),
    )


def _served(restores: InstantRestores, name: str, control: VmControl) -> Live:
    """It may not be served yet when the agent was started a moment ago."""
    for _ in range(int(SERVED_SECONDS / LOOK_SECONDS)):
        live = restores.live(name)
        if live is not None and live.machine is not None:
            return live
        if restores.records.find(name) is None:
            break
        control.check()
        control.wait(LOOK_SECONDS)
    record = restores.records.find(name)
    if record is not None and record.moved:
        raise ConflictError(
            f"the disks of {name} were moved already",
            code="InstantMachineNotServed",
            hint=f"they are in {os.fspath(to_path(record.disks[0].path).parent)}",
        )
    raise _not_served(name)


def _not_served(name: str) -> ConflictError:
    return ConflictError(
        f"{name} does not run from the vault on this host",
        code="InstantMachineNotServed",
        hint="start it: holdfast vm instant VM --recovery-point POINT --name NAME",
    )
