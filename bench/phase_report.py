"""The report of ``make bench``: ratios to the best peer, goals, and a table for each data set."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from cells import (
    BACKUPS,
    CHANGED,
    EXPIRE,
    FIRST,
    OURS,
    PHASES,
    RESTORE,
    UNCHANGED,
    Cells,
    ratio,
    ratio_to,
)
from data_sets import DATA_SETS
from peers import TarLife
from report import (
    Results,
    checks_and_versions,
    goals_table,
    plot,
    table,
    today_text,
    write_files,
)

TAR = TarLife.name
Row = tuple[str, float | None, float]
GOALS: tuple[tuple[str, str, float, tuple[str, ...]], ...] = (
    (FIRST, "wall", 0.6, ()),
    (UNCHANGED, "wall", 0.4, ()),
    (CHANGED, "wall", 0.5, ("image",)),
    (RESTORE, "wall", 0.7, ()),
    (EXPIRE, "wall", 0.3, ()),
    (FIRST, "stored", 1.02, ()),
    (EXPIRE, "stored", 1.02, ()),
)
TAR_WALL, TAR_STORED = 0.8, 1.0


def measured_sets(cells: Cells) -> list[str]:
    """Names of the data sets there are figures of, in their order."""
    there = {cell.data for cell in cells.cells}
    return [what.name for what in DATA_SETS if what.name in there]


def goal_rows(cells: Cells) -> list[Row]:
    """(goal and data set, measured, the most it may be)."""
    rows: list[Row] = []
    for phase, figure, limit, only in GOALS:
        sets = [name for name in measured_sets(cells) if not only or name in only]
        what = phase if figure == "wall" else f"stored after {phase}"
        found = [(name, _middle(cells, name, phase, figure)) for name in sets]
        rows += [(f"{what}: {name}", value, limit) for name, value in found]
        values = [value for _, value in found if value is not None]
        if len(values) > 1:
            rows.append((f"**{what}: median of the sets**", statistics.median(values), limit))
    for name in measured_sets(cells):
        for figure, limit in (("wall", TAR_WALL), ("stored", TAR_STORED)):
            what = "first" if figure == "wall" else "stored after first"
            to_tar = ratio_to(cells, name, FIRST, figure, TAR)
            told = f"{what} / {TAR.replace('|', chr(92) + '|')}: {name}"
            rows.append((told, to_tar.middle if to_tar else None, limit))
    return rows


def _middle(cells: Cells, name: str, phase: str, figure: str) -> float | None:
    found = ratio(cells, name, phase, figure, FIRST, TAR)
    return found.middle if found else None


def ratio_table(cells: Cells) -> list[str]:
    """Wall time divided by that of the best peer that counts: phases down, data sets across."""
    sets = measured_sets(cells)
    lines = [f"| phase | {' | '.join(sets)} |", f"|---|{'---|' * len(sets)}"]
    for phase in PHASES:
        found = [ratio(cells, name, phase, "wall", FIRST, TAR) for name in sets]
        told = [f"{one.middle:.2f} ({one.best})" if one else "" for one in found]
        lines.append(f"| {phase} | {' | '.join(told)} |")
    return lines


def lost(cells: Cells) -> list[str]:
    """Where the best peer that counts is faster."""
    lines = []
    for name in measured_sets(cells):
        for phase in PHASES:
            found = ratio(cells, name, phase, "wall", FIRST, TAR)
            if found and found.middle > 1:
                lines.append(f"- {name}, {phase}: {found.middle:.2f} times {found.best}")
    return lines or ["- nowhere"]


def results_of(cells: Cells, name: str) -> Results:
    """Of one data set, in the shape tables and plots take."""
    results: Results = {}
    for phase in PHASES:
        for cell in cells.of(name, phase):
            row = {"wall": cell.wall, "cpu": cell.cpu, "rss": cell.rss, "stored": cell.stored}
            if phase in BACKUPS and cell.sent is not None:
                row["sent"] = cell.sent
            results.setdefault(phase, {}).setdefault(cell.who, []).append(
                row | {"round": float(cell.round)}
            )
    return {
        phase: dict(sorted(by.items(), key=lambda pair: pair[0] != OURS))
        for phase, by in results.items()
    }


def write_phases(folder: Path, name: str, cells: Cells, facts: Mapping[str, str]) -> None:
    """NAME.md, NAME.json and a plot for each data set, of what has been measured so far."""
    scale = cells.settings["scale"]
    sections: list[str] = []
    for what in DATA_SETS:
        results = results_of(cells, what.name)
        if results:
            phases = tuple(phase for phase in PHASES if phase in results)
            plot(folder / f"{name}-{what.name}.png", phases, results)
            sections += [f"## {what.name}: {what.title}", "", *table(results, phases), "",
                         f"![seconds of each phase]({name}-{what.name}.png)", ""]  # fmt: skip
    failed = [f"- {one.data}, round {one.round}, {one.phase}: {one.failed}"
              for one in cells.cells if one.failed]  # fmt: skip
    lines = [
        "# Benchmark: a repository's whole life", "",
        f"{today_text()}, {facts['cores']} cores, scale {scale:g}, {cells.rounds()} rounds, "
        "interleaved, warm cache. Ratios are Holdfast's wall time divided by that of the best peer "
        "among those that store at most a tenth more than the smallest; medians of the rounds.", "",
        "## Ratios", "", *ratio_table(cells), "",
        "## Goals", "", *goals_table(goal_rows(cells)), "",
        "## Where Holdfast loses", "", *lost(cells), "",
        *(["## Failed", "", *failed, ""] if failed else []),
        *sections,
        *checks_and_versions(checks_of(cells), facts),
    ]  # fmt: skip
    body = {"date": today_text(), "facts": facts, "settings": cells.settings,
            "checks": [asdict(check) for check in cells.checks],
            "cells": [asdict(cell) for cell in cells.cells]}  # fmt: skip
    write_files(folder, name, lines, body)


def checks_of(cells: Cells) -> dict[str, bool]:
    """Those of all rounds; ``detail`` as part of the name."""
    told = {}
    for one in cells.checks:
        detail = f" ({one.detail})" if one.detail else ""
        told[f"{one.data}, round {one.round}: {one.name}{detail}"] = one.held
    return told
