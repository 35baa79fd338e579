"""A point in time that is held: what it serves, and how it ends in commit or rollback."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.adapters.hypervisor.qemu import bitmaps, exports, filters, scratch
from holdfast.adapters.hypervisor.qemu.bitmaps import Action
from holdfast.adapters.hypervisor.qemu.drives import Drive
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.adapters.hypervisor.qemu.scratch import ScratchArea
from holdfast.adapters.hypervisor.qemu.writes import count_writes
from holdfast.domain.guest_pace import Counts
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import DiskExport, ScratchUse, SnapshotOutcome


@dataclass(frozen=True, slots=True)
class Turn:
    """The rotation of one disk's bitmaps. ``new`` None: the disk cannot have one now."""

    drive: Drive
    new: str | None
    old: str | None
    why_full: str

    def start(self) -> list[Action]:
        if self.new is None:
            return []
        persistent = self.drive.persistent
        return bitmaps.start(self.drive.node, self.new, self.old, persistent=persistent)

    def commit(self) -> list[Action]:
        return bitmaps.commit(self.drive.node, self.old) if self.new else []

    def rollback(self) -> list[Action]:
        return bitmaps.rollback(self.drive.node, self.new, self.old) if self.new else []


class QemuSnapshot:
    """See ports.hypervisor.Snapshot. ``areas``: empty for a machine that is off. ``let_go``: what
    ends with it (connection, storage daemon, the mark that the machine is taken)."""

    def __init__(
        self,
        token: str,
        outcome: SnapshotOutcome,
        shown: Sequence[DiskExport],
        turns: Sequence[Turn],
        areas: Sequence[ScratchArea],
        monitor: QmpConnection,
        folder: Path,
        let_go: Callable[[], None],
    ) -> None:
        self._token, self._outcome, self._exports = token, outcome, tuple(shown)
        self._turns, self._areas, self._folder = turns, areas, folder
        self._monitor, self._let_go = monitor, let_go
        self._lock = threading.Lock()  # one of commit, rollback, scratch at a time
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
        with self._lock:
            if self._ended or not self._areas:
                return ScratchUse(0, 0, False, False)
            return scratch.measure(self._monitor, self._areas)

    def guest_writes(self) -> Counts:
        with self._lock:
            return {} if self._ended or not self._areas else count_writes(self._monitor)

    def check(self) -> None:
        with self._lock:
            if self._ended:
                return
            if not self._areas:
                self._monitor.execute("query-block-exports")
                return
            use = scratch.measure(self._monitor, self._areas)
        if use.broken:
            raise SourceError(
                f"the guest overwrote more than the scratch area takes ({use.budget >> 20} MiB), "
                "so the point in time is lost; the guest was not disturbed",
                code="ScratchFull",
                hint="give the machine a larger scratch_percent or a larger scratch folder, or "
                "back it up when it writes less",
                retry="later",
            )

    def commit(self) -> None:
        self._end([action for turn in self._turns for action in turn.commit()])

    def rollback(self) -> None:
        self._end([action for turn in self._turns for action in turn.rollback()])

    def _end(self, actions: list[Action]) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
            try:
                take_down(self._monitor, started=True)
                if actions:
                    self._monitor.execute("transaction", actions=actions)
            finally:
                self._let_go()
                shutil.rmtree(self._folder, ignore_errors=True)


def take_down(monitor: QmpConnection, *, started: bool) -> None:
    """Exports, then filters, then the scratch areas. ``started``: as for ``exports.stop``.
    MachineLostError when there is nobody left."""
    exports.stop(monitor, started=started)
    filters.remove(monitor)
