"""The port's three calls for machines of the settings."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from holdfast.adapters.hypervisor.qemu import bitmaps, describe
from holdfast.adapters.hypervisor.qemu.drives import bitmaps_of
from holdfast.adapters.hypervisor.qemu.guard import finish_interrupted
from holdfast.adapters.hypervisor.qemu.opening import Opened, clean, connect, open_machine
from holdfast.adapters.hypervisor.qemu.snapshot import QemuSnapshot
from holdfast.adapters.hypervisor.qemu.taking import Place, take
from holdfast.errors import ConflictError
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import AtRest, Generations, Machine, Wish, unknown_machine

ASKED_AT_ONCE = 8
RUN = Path("/run")
SOCKETS = "holdfast-vm-"


class QemuHypervisor:
    """See ports.hypervisor.Hypervisor. ``state``: the agent's folder; notes of snapshots and, by
    default, scratch areas are kept there."""

    def __init__(self, entries: Sequence[MachineEntry], state: Path) -> None:
        self._entries = {entry.id: entry for entry in entries}
        self._named = frozenset(self._entries)
        self._state = state / "machines"
        self._lock = threading.Lock()  # guards the two below; never held during a call to QEMU
        self._taken: dict[str, Opened | None] = {}
        self._seen: dict[str, Machine] = {}

    def machines(self) -> list[Machine]:
        entries = sorted(self._entries.values(), key=lambda entry: entry.name)
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            return list(pool.map(self._describe, entries))

    def _describe(self, entry: MachineEntry) -> Machine:
        """One whose monitor we hold is asked through it: QEMU serves one client at a time."""
        with self._lock:
            taken, opened = entry.id in self._taken, self._taken.get(entry.id)
            seen = self._seen.get(entry.id)
        if opened is not None and opened.live:
            return describe.describe_held_live(entry, opened.monitor, seen)
        if taken:
            return seen if opened is None and seen else describe.describe_held(entry)
        found = describe.describe(entry)
        with self._lock:
            self._seen[entry.id] = found
        return found

    def is_named(self, machine: str) -> bool:
        """Whether the settings name it."""
        return machine in self._named

    def adopt(self, entry: MachineEntry) -> None:
        """Serve a machine that the settings do not name, or that has other disks now."""
        with self._lock:
            self._entries = {**self._entries, entry.id: entry}

    def forget(self, machine: str) -> None:
        with self._lock:
            self._entries = {key: one for key, one in self._entries.items() if key != machine}
            self._seen.pop(machine, None)

    @contextmanager
    def hold(self, machine: str) -> Iterator[None]:
        """No snapshot of it begins meanwhile. ConflictError (SnapshotInProgress)."""
        with self._claim(self._entry(machine)):
            yield

    def begin(
        self,
        machine: str,
        disks: Sequence[int],
        wish: Wish,
        bitmaps: Generations,
        at_rest: AtRest | None = None,
    ) -> QemuSnapshot:
        entry = self._entry(machine)
        _check_tokens(bitmaps)
        with ExitStack() as ending:
            ending.enter_context(self._claim(entry))
            sockets = self._make_sockets(entry, ending)
            opened = open_machine(entry, sockets, ending)
            self._remember(opened)
            chosen = opened.select(disks)
            kept = ending.pop_all()
            try:
                folder, note = self._scratch(entry), self._note(entry)
                place = Place(sockets, folder, note, kept.close, at_rest)
                return take(opened, chosen, wish, bitmaps, place)
            except BaseException:
                kept.close()
                raise

    def clear(self, machine: str) -> None:
        entry = self._entry(machine)
        with self._claim(entry):
            finish_interrupted(self._note(entry))
            self._remove_leftovers(entry)
            monitor = connect(entry)
            if monitor is not None:
                with monitor:
                    clean(monitor)
            shutil.rmtree(self._scratch(entry), ignore_errors=True)

    def settle(self, machine: str, committed: str | None) -> None:
        entry = self._entry(machine)
        if committed is not None:
            bitmaps.check_token(committed)
        with ExitStack() as ending:
            ending.enter_context(self._claim(entry))
            finish_interrupted(self._note(entry))
            self._remove_leftovers(entry)
            sockets = self._make_sockets(entry, ending)
            opened = open_machine(entry, sockets, ending, cleaned=True)
            self._settle_bitmaps(opened, committed)
            shutil.rmtree(self._scratch(entry), ignore_errors=True)

    @staticmethod
    def _settle_bitmaps(opened: Opened, committed: str | None) -> None:
        """Those on disks that left the settings count from nothing any more."""
        machine = opened.entry.id
        actions = [
            action
            for drive in opened.drives
            for action in bitmaps.settle(
                drive.node, drive.bitmaps, machine, drive.disk.lun, committed
            )
        ]
        known = {drive.node for drive in opened.drives}
        for node, found in bitmaps_of(opened.monitor).items():
            if node not in known:
                actions += bitmaps.forget(node, found)
        if actions:
            opened.monitor.execute("transaction", actions=actions)

    def _entry(self, machine: str) -> MachineEntry:
        found = self._entries.get(machine.lower())
        if found is None:
            raise unknown_machine(machine)
        return found

    @contextmanager
    def _claim(self, entry: MachineEntry) -> Iterator[None]:
        with self._lock:
            if entry.id in self._taken:
                raise ConflictError(
                    f"a backup of machine {entry.name} is under way",
                    code="SnapshotInProgress",
                    hint="wait until it has ended",
                    retry="later",
                )
            self._taken[entry.id] = None
        try:
            yield
        finally:
            with self._lock:
                del self._taken[entry.id]

    def _remember(self, opened: Opened) -> None:
        with self._lock:
            self._taken[opened.entry.id] = opened

    def _make_sockets(self, entry: MachineEntry, ending: ExitStack) -> Path:
        """A folder with a path short enough for sockets, mode 0700."""
        where = RUN if os.access(RUN, os.W_OK) else None
        folder = Path(tempfile.mkdtemp(prefix=f"{SOCKETS}{entry.id[:8]}-", dir=where))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _remove_leftovers(self, entry: MachineEntry) -> None:
        """Socket folders of a killed agent."""
        for where in {RUN, Path(tempfile.gettempdir())}:
            for folder in where.glob(f"{SOCKETS}{entry.id[:8]}-*"):
                if folder.stat().st_uid == os.geteuid() or os.geteuid() == 0:
                    shutil.rmtree(folder, ignore_errors=True)

    def _scratch(self, entry: MachineEntry) -> Path:
        base = Path(entry.scratch) if entry.scratch else self._state / "scratch"
        return base / f"holdfast-{entry.id}"

    def _note(self, entry: MachineEntry) -> Path:
        self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._state / f"{entry.id}.window"


def _check_tokens(generations: Generations) -> None:
    bitmaps.check_token(generations.token)
    for parent in generations.parents.values():
        bitmaps.check_token(parent.token)
