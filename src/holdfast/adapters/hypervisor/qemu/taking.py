"""Taking a point in time: the sequence from an opened machine to exports that can be read."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from holdfast.adapters.hypervisor.qemu import bitmaps, exports, filters, handing, scratch
from holdfast.adapters.hypervisor.qemu.drives import Drive, nodes_of, our_nodes
from holdfast.adapters.hypervisor.qemu.guard import Guard
from holdfast.adapters.hypervisor.qemu.levels import FreezeRecord, judge
from holdfast.adapters.hypervisor.qemu.opening import Opened
from holdfast.adapters.hypervisor.qemu.quiesce import Quiesce
from holdfast.adapters.hypervisor.qemu.scratch import ScratchArea
from holdfast.adapters.hypervisor.qemu.snapshot import QemuSnapshot, Turn, take_down
from holdfast.errors import ConflictError, SourceError
from holdfast.ports.hypervisor import AtRest, DiskExport, Generations, SnapshotOutcome, Wish

NBD_SOCKET = "nbd.sock"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a snapshot keeps things: ``sockets`` (short path), ``scratch``, and the guard's
    ``note``. ``let_go`` is called when the snapshot ends; ``at_rest`` in its moment."""

    sockets: Path
    scratch: Path
    note: Path
    let_go: Callable[[], None]
    at_rest: AtRest | None = None


def take(
    opened: Opened, drives: Sequence[Drive], wish: Wish, generations: Generations, place: Place
) -> QemuSnapshot:
    """After an error the machine is as before; see ports.hypervisor.Hypervisor.begin."""
    if our_nodes(nodes_of(opened.monitor)):
        raise ConflictError(
            f"machine {opened.entry.name} still has parts of an earlier backup",
            code="SnapshotInProgress",
            hint="they are removed when the next backup settles; see that no other agent has it",
            retry="later",
        )
    turns = [_turn(opened, drive, generations) for drive in drives]
    with ExitStack() as undo:
        areas = _make_scratch(opened, turns, place, undo) if opened.live else []
        undo.callback(_undo, opened, turns)
        _start_server(opened, drives[0], place, undo)
        if opened.live:
            outcome = _take_live(opened, turns, wish, place, undo)
        else:
            outcome = _take_off(opened, turns, wish, place)
        shown = [_export(opened, turn, place) for turn in turns]
        undo.pop_all()
    token, monitor = generations.token, opened.monitor
    return QemuSnapshot(token, outcome, shown, turns, areas, monitor, place.scratch, place.let_go)


def _turn(opened: Opened, drive: Drive, generations: Generations) -> Turn:
    lun, machine = drive.disk.lun, opened.entry.id
    parent = generations.parents.get(lun)
    if not drive.persistent and not opened.live:
        return Turn(drive, None, None, "a raw image of a machine that is off has no record")
    new = bitmaps.bitmap_name(machine, lun, generations.token)
    name = bitmaps.bitmap_name(machine, lun, parent.token) if parent else ""
    old, why = bitmaps.choose(drive.bitmaps, name, parent, drive.disk.identity)
    return Turn(drive, new, old.name if old else None, why)


def _take_off(opened: Opened, turns: Sequence[Turn], wish: Wish, place: Place) -> SnapshotOutcome:
    """Nothing writes, so the moment is any moment."""
    record = FreezeRecord(why_not="the machine was off")
    outcome = judge(record, wish, len(turns), 0.0)
    _rotate(opened, turns)
    if place.at_rest is not None:
        _prepare(place.at_rest, turns, runs=False)
        place.at_rest.take()
    return outcome


def _make_scratch(
    opened: Opened, turns: Sequence[Turn], place: Place, undo: ExitStack
) -> list[ScratchArea]:
    drives = [turn.drive for turn in turns]
    undo.callback(shutil.rmtree, place.scratch, ignore_errors=True)
    areas = scratch.make_areas(place.scratch, drives, opened.entry.scratch_percent)
    undo.callback(_undo, opened, turns)
    for area in areas:
        scratch.add_node(opened.monitor, area)
    return areas


def _start_server(opened: Opened, drive: Drive, place: Place, undo: ExitStack) -> None:
    """After the scratch areas: these tell ``settle`` that the server is ours."""
    if opened.live:
        handing.give_folder(place.sockets, drive)
    exports.start_server(opened.monitor, place.sockets / NBD_SOCKET)

    def stop() -> None:
        with suppress(SourceError):
            exports.stop(opened.monitor, started=True)

    undo.callback(stop)


def _take_live(
    opened: Opened, turns: Sequence[Turn], wish: Wish, place: Place, undo: ExitStack
) -> SnapshotOutcome:
    monitor, entry = opened.monitor, opened.entry
    quiesce = Quiesce(entry, wish)
    undo.callback(quiesce.close)
    running = _runs(opened)
    if place.at_rest is not None:
        _prepare(place.at_rest, turns, runs=running)
    if running:
        quiesce.prepare(monitor)
        stop_ms = _guarded(opened, turns, quiesce, place)
        quiesce.finish()
    else:
        quiesce.record.why_not = "the machine was paused"
        _one_moment(opened, turns, place)
        stop_ms = 0.0
    quiesce.close()
    outcome = judge(quiesce.record, wish, len(turns), stop_ms)
    for turn in turns:
        filters.add_access(monitor, turn.drive)
    return outcome


def _guarded(opened: Opened, turns: Sequence[Turn], quiesce: Quiesce, place: Place) -> float:
    """Freeze, stop, the moment, go on, thaw. Returns how long the virtual CPUs stood [ms]."""
    guard = Guard(opened.entry, place.note, freezes=quiesce.ready)
    try:
        try:
            quiesce.freeze()
            return _stopped(opened, turns, guard, place)
        finally:
            quiesce.thaw(heard=not guard.stands)
    finally:
        guard.end(thawed=not quiesce.owed)


def _stopped(opened: Opened, turns: Sequence[Turn], guard: Guard, place: Place) -> float:
    """A call that is not answered may still be carried out: ``guard`` is told first, and that the
    guest goes on only when QEMU said so."""
    began = time.monotonic()
    guard.stands = True
    try:
        opened.monitor.execute("stop")  # also waits for writes in flight
        _one_moment(opened, turns, place)
    finally:
        opened.monitor.execute("cont")
        guard.stands = False
    return (time.monotonic() - began) * 1000


def _one_moment(opened: Opened, turns: Sequence[Turn], place: Place) -> None:
    """The machine stands still, and ``stop`` has flushed all that was written."""
    _rotate(opened, turns)
    for turn in turns:
        filters.insert(opened.monitor, turn.drive)
    if place.at_rest is not None:
        place.at_rest.take()
        if _runs(opened):
            place.at_rest.spoil("somebody let the machine go on meanwhile")


def _prepare(at_rest: AtRest, turns: Sequence[Turn], *, runs: bool) -> None:
    at_rest.prepare([turn.drive.disk for turn in turns], runs=runs)


def _runs(opened: Opened) -> bool:
    return bool(opened.monitor.execute("query-status")["status"] == "running")


def _rotate(opened: Opened, turns: Sequence[Turn]) -> None:
    actions = [action for turn in turns for action in turn.start()]
    if actions:
        opened.monitor.execute("transaction", actions=actions)


def _export(opened: Opened, turn: Turn, place: Place) -> DiskExport:
    node = turn.drive.ours("acc") if opened.live else turn.drive.node
    name = exports.export(opened.monitor, turn.drive, node, turn.old)
    context = f"qemu:dirty-bitmap:{turn.old}" if turn.old else None
    socket = str(place.sockets / NBD_SOCKET)
    return DiskExport(turn.drive.disk, socket, name, context, turn.why_full)


def _undo(opened: Opened, turns: Sequence[Turn]) -> None:
    """Whatever of it was done; what cannot be undone now, ``settle`` undoes later."""
    with suppress(SourceError):
        take_down(opened.monitor, started=False)
    with suppress(SourceError):
        present = {
            one["name"]
            for node in nodes_of(opened.monitor)
            for one in node.get("dirty-bitmaps") or ()
            if one.get("name")
        }
        begun = [turn for turn in turns if turn.new in present]
        actions = [action for turn in begun for action in turn.rollback()]
        if actions:
            opened.monitor.execute("transaction", actions=actions)
