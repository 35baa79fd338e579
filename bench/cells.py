"""What ``make bench`` has measured, kept line by line: a run that ends early loses nothing.

A cell is one phase of one contender on one data set in one round. A unit is a round of a data set:
its contenders take turns, so it is measured as a whole, or again when the run goes on.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FIRST, UNCHANGED, CHANGED = "first", "unchanged", "changed"
RESTORE, ONE_FILE, LIST = "restore all", "restore one file", "list a folder"
EXPIRE, VERIFY = "expire half, collect", "verify all"
PHASES = (FIRST, UNCHANGED, CHANGED, RESTORE, ONE_FILE, LIST, EXPIRE, VERIFY)
BACKUPS = (FIRST, UNCHANGED, CHANGED)
OURS = "holdfast"
STORES_MORE = 1.10  # a peer that stores more than this times the smallest does not count


@dataclass(frozen=True, slots=True)
class Cell:
    """Seconds of wall and CPU; bytes of peak memory, stored afterwards, and sent (nil: no backup).
    ``failed``: why there are no figures."""

    data: str
    round: int
    phase: str
    who: str
    wall: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0
    stored: float = 0.0
    sent: float | None = None
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at after a phase, and whether it held."""

    data: str
    round: int
    name: str
    held: bool
    detail: str = ""


@dataclass(slots=True)
class Cells:
    """``settings``: what the figures depend on; ``units``: (data set, round) that are complete."""

    path: Path
    settings: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    units: set[tuple[str, int]] = field(default_factory=set)

    def begin(self) -> None:
        """A new file; an older one is kept beside it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self.path.replace(self.path.with_suffix(".jsonl.before"))
        self._append({"settings": self.settings})

    def read(self) -> None:
        """What an earlier run measured, though it ended early. SystemExit when there is none."""
        try:
            lines = self.path.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            raise SystemExit(f"bench: there is no {self.path} yet") from None
        found = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be torn
        self.settings = found[0]["settings"]
        self.units = {(one["unit"][0], one["unit"][1]) for one in found if "unit" in one}
        self.cells = [Cell(**one["cell"]) for one in found if "cell" in one]
        self.checks = [Check(**one["check"]) for one in found if "check" in one]

    def go_on(self) -> None:
        """Take over the complete units of an earlier run. SystemExit when it had other settings."""
        wanted = self.settings
        self.read()
        if self.settings != wanted:
            raise SystemExit(f"bench: {self.path} was measured with {self.settings}")
        self.cells = [cell for cell in self.cells if (cell.data, cell.round) in self.units]
        self.checks = [check for check in self.checks if (check.data, check.round) in self.units]
        self.begin()
        for cell in self.cells:
            self._append({"cell": asdict(cell)})
        for check in self.checks:
            self._append({"check": asdict(check)})
        for unit in sorted(self.units):
            self._append({"unit": unit})

    def add(self, cell: Cell) -> None:
        self.cells.append(cell)
        self._append({"cell": asdict(cell)})

    def add_check(self, check: Check) -> None:
        self.checks.append(check)
        self._append({"check": asdict(check)})

    def finish(self, data: str, number: int) -> None:
        self.units.add((data, number))
        self._append({"unit": (data, number)})

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as out:
            out.write(json.dumps(line) + "\n")
            out.flush()
            os.fsync(out.fileno())

    def of(self, data: str, phase: str) -> Iterator[Cell]:
        """Those with figures."""
        return (one for one in self.cells if (one.data, one.phase, one.failed) == (data, phase, ""))

    def rounds(self) -> int:
        return len({cell.round for cell in self.cells})


@dataclass(frozen=True, slots=True)
class Ratio:
    """Holdfast's figure divided by that of ``best``, in each round; ``best`` of the last one."""

    values: tuple[float, ...]
    best: str

    @property
    def middle(self) -> float:
        return statistics.median(self.values)


def peers_that_count(cells: Cells, data: str, number: int, phase: str, left_out: str) -> set[str]:
    """Peers that store at most a tenth more than the smallest of them after ``phase``."""
    sizes = {
        cell.who: cell.stored
        for cell in cells.of(data, phase)
        if cell.round == number and cell.who not in (OURS, left_out)
    }
    return {who for who, size in sizes.items() if size <= STORES_MORE * min(sizes.values())}


def ratio(
    cells: Cells, data: str, phase: str, figure: str, first: str, left_out: str
) -> Ratio | None:
    """To the best peer of each round among those that count (by what they store after ``first``);
    None where Holdfast or all of them have no figure."""
    values, best = [], ""
    ours = {cell.round: cell for cell in cells.of(data, phase) if cell.who == OURS}
    for number, own in sorted(ours.items()):
        count = peers_that_count(cells, data, number, first, left_out)
        theirs = {
            cell.who: float(getattr(cell, figure))
            for cell in cells.of(data, phase)
            if cell.round == number and cell.who in count
        }
        if theirs and min(theirs.values()) > 0:
            best = min(theirs, key=lambda who: theirs[who])
            values.append(getattr(own, figure) / theirs[best])
    return Ratio(tuple(values), best) if values else None


def ratio_to(cells: Cells, data: str, phase: str, figure: str, who: str) -> Ratio | None:
    """To one contender."""
    theirs = {cell.round: cell for cell in cells.of(data, phase) if cell.who == who}
    values = tuple(
        getattr(own, figure) / getattr(theirs[own.round], figure)
        for own in cells.of(data, phase)
        if own.who == OURS and own.round in theirs
    )
    return Ratio(values, who) if values else None
