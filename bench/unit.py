"""One round of one data set: all contenders through all phases, in turns."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cells import (
    BACKUPS,
    CHANGED,
    EXPIRE,
    FIRST,
    LIST,
    ONE_FILE,
    RESTORE,
    UNCHANGED,
    VERIFY,
    Cell,
    Cells,
    Check,
)
from contenders import ContenderFailed
from data_sets import DataSet, one_file
from measure import Measurement, row_of, tell
from trees import differences, read_once, show
from whole_life import HoldfastLife, WholeLife

from holdfast.workloads.files.compare import Inventory, take_inventory

Work = Callable[[WholeLife], Measurement]


class Unit:
    """One round of one data set."""

    def __init__(
        self, cells: Cells, what: DataSet, source: Path, number: int, order: list[WholeLife]
    ) -> None:
        self.cells, self.what, self.source, self.number = cells, what, source, number
        self.order = order

    def run(self, scale: float) -> None:
        """All phases; every figure is kept as it comes."""
        self._all("set up", self._set_up)
        read_once(self.source)
        self._phase(FIRST, lambda who: who.back_up(self.source))
        self._phase(UNCHANGED, lambda who: who.back_up(self.source))
        self.what.change_again(self.source.parent, scale)
        self._phase(CHANGED, lambda who: who.back_up(self.source))
        self.what.change_again(self.source.parent, scale)
        self._all("fourth backup", self._fourth)
        one = one_file(self.source)
        self._restores(one)
        self._phase(LIST, lambda who: who.list_folder(one.parent))
        self._all("before expiring", lambda who: who.before_expiring())
        self._phase(EXPIRE, lambda who: who.expire_half())
        self._phase(VERIFY, lambda who: who.verify())

    def _set_up(self, who: WholeLife) -> None:
        who.set_up(self.source)

    def _fourth(self, who: WholeLife) -> None:
        who.back_up(self.source)

    def _restores(self, one: Path) -> None:
        before = take_inventory([self.source])
        self._phase(RESTORE, lambda who: who.restore(self._target(who, "all")))
        for who in self.order:
            self._compare(before, who)
        self._phase(ONE_FILE, lambda who: who.restore_one(one, self._target(who, "one")))
        for who in self.order:
            if who.incremental:
                found = who.restored_tree(self._target(who, "one"), one)
                same = found.is_file() and found.read_bytes() == one.read_bytes()
                self._check(f"{who.name} restores the same file", same)

    def _target(self, who: WholeLife, what: str) -> Path:
        return who.folder.parent / f"restored-{what}-{who.folder.name}"

    def _compare(self, before: Inventory, who: WholeLife) -> None:
        """Holdfast brings everything back; of others contents count, and the rest is told."""
        target = self._target(who, "all")
        found = who.restored_tree(target, self.source)
        if not found.exists():
            self._check(f"{who.name} restores the same tree", False, "nothing was restored")
            return
        lines = differences(before, found, target)
        wrong = [line for line in lines if isinstance(who, HoldfastLife) or is_content(line)]
        show(wrong)
        detail = f"{len(lines)} of {len(before.entries)} entries have other attributes"
        self._check(f"{who.name} restores the same tree", not wrong, detail if lines else "")

    def _check(self, name: str, held: bool, detail: str = "") -> None:
        if not held:
            print(f"  NOT held: {name} {detail}", flush=True)
        self.cells.add_check(Check(self.what.name, self.number + 1, name, held, detail))

    def _phase(self, phase: str, work: Work) -> None:
        for who in self.order:
            if who.incremental or phase in (FIRST, RESTORE):
                os.sync()  # nobody pays for what another left to be written
                self.cells.add(self._measure(phase, who, work))

    def _measure(self, phase: str, who: WholeLife, work: Work) -> Cell:
        cell = Cell(self.what.name, self.number + 1, phase, who.name)
        mark = who.sent_mark() if phase in BACKUPS else None
        try:
            took = work(who)
        except (ContenderFailed, OSError, ValueError) as error:  # the others go on
            print(f"  {phase:26} {who.name:18} FAILED: {error}", flush=True)
            return replace(cell, failed=str(error).partition(": /")[0])
        sent = float(who.sent_since(mark)) if phase in BACKUPS else None
        tell(phase, who.name, took)
        row = row_of(took)
        return replace(cell, wall=row["wall"], cpu=row["cpu"], rss=row["rss"],
                       stored=float(who.stored_bytes()), sent=sent)  # fmt: skip

    def _all(self, what: str, work: Callable[[WholeLife], None]) -> None:
        """Something that is not measured."""
        for who in self.order:
            try:
                work(who)
            except ContenderFailed as error:
                print(f"  {what:26} {who.name:18} FAILED: {error}", flush=True)
                self._check(f"{who.name}: {what}", False)


def is_content(line: str) -> bool:
    """Whether a line of differences says that a file or its bytes are not the same."""
    told = line.rpartition(": ")[2]
    words = ("missing", "not in the original", "kind", "size", "content")
    return any(word in told for word in words)
