"""Which peers the benchmark compares with, and what it keeps of a run that ended early."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CELLS = Path(__file__).parents[2] / "bench" / "cells.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_cells", CELLS)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_cells"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def started(bench: ModuleType, folder: Path, **settings: object) -> Any:
    cells = bench.Cells(folder / "bench.jsonl", settings)
    cells.begin()
    return cells


def add(
    bench: ModuleType, cells: Any, who: str, wall: float, stored: float, number: int = 1
) -> None:
    cells.add(bench.Cell("mixed", number, bench.FIRST, who, wall=wall, stored=stored))


def test_a_fast_peer_that_stores_more_than_a_tenth_more_does_not_count(
    bench: ModuleType, tmp_path: Path
) -> None:
    cells = started(bench, tmp_path)
    add(bench, cells, "holdfast", 10.0, 50.0)
    add(bench, cells, "smallest", 30.0, 100.0)
    add(bench, cells, "near", 20.0, 110.0)
    add(bench, cells, "hasty", 1.0, 111.0)
    add(bench, cells, "tar", 2.0, 1.0)
    found = bench.ratio(cells, "mixed", bench.FIRST, "wall", bench.FIRST, "tar")
    assert (found.values, found.best) == ((0.5,), "near")


def test_ratios_are_taken_within_a_round(bench: ModuleType, tmp_path: Path) -> None:
    cells = started(bench, tmp_path)
    for number, (ours, theirs) in enumerate([(1.0, 2.0), (9.0, 10.0), (4.0, 5.0)], 1):
        add(bench, cells, "holdfast", ours, 1.0, number)
        add(bench, cells, "peer", theirs, 1.0, number)
    assert bench.ratio(cells, "mixed", bench.FIRST, "wall", bench.FIRST, "").middle == 0.8


def test_a_peer_that_failed_leaves_the_others_to_compare_with(
    bench: ModuleType, tmp_path: Path
) -> None:
    cells = started(bench, tmp_path)
    add(bench, cells, "holdfast", 1.0, 1.0)
    cells.add(bench.Cell("mixed", 1, bench.FIRST, "broken", failed="it ended with 1"))
    assert bench.ratio(cells, "mixed", bench.FIRST, "wall", bench.FIRST, "") is None
    add(bench, cells, "sound", 4.0, 1.0)
    assert bench.ratio(cells, "mixed", bench.FIRST, "wall", bench.FIRST, "").best == "sound"


def test_a_run_goes_on_after_its_last_whole_round(bench: ModuleType, tmp_path: Path) -> None:
    cells = started(bench, tmp_path, scale=1)
    add(bench, cells, "holdfast", 1.0, 1.0)
    cells.finish("mixed", 1)
    add(bench, cells, "holdfast", 2.0, 1.0, 2)  # and here it ended
    again = bench.Cells(cells.path, {"scale": 1})
    again.go_on()
    assert ([cell.wall for cell in again.cells], again.units) == ([1.0], {("mixed", 1)})
    with cells.path.open("a") as out:
        out.write('{"cell": {"data": "mix')  # cut off by the power
    twice = bench.Cells(cells.path, {"scale": 1})
    twice.go_on()
    assert [cell.wall for cell in twice.cells] == [1.0]


def test_a_run_with_other_settings_is_not_gone_on_with(bench: ModuleType, tmp_path: Path) -> None:
    cells = started(bench, tmp_path, scale=1)
    with pytest.raises(SystemExit, match="was measured with"):
        bench.Cells(cells.path, {"scale": 2}).go_on()
