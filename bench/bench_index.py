"""The chunk index of a vault at scale: build, open, look up in batches on one core, memory.

Synthetic tables of a million rows go through the same index and node cache as a vault's; then a new
process opens them. Memory is the kernel's: anonymous (RssAnon), and mapped pages apart (RssFile).
Prints a Markdown table against the goals and ends with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from holdfast.vaultstore.index import ABSENT, ChunkIndex, Usable
from holdfast.vaultstore.rowstore import MappedRowStore
from holdfast.vaultstore.table import ROW, Rows, empty_rows, order_by_id

ROWS, TABLE_ROWS, BATCH, BATCHES = 100_000_000, 1_000_000, 65_536, 24
BYTES_A_ROW = ROW.itemsize * 9 / 8 + 2 * 2 * 8  # with the room a merge needs for a while
DISK_SHARE = 0.7
RESULTS = Path(__file__).parent / "results"
GOALS = {
    "anonymous bytes a row": (2.0, False),
    "absent lookups a second": (1_000_000, True),
    "present lookups a second": (200_000, True),
    "opened in seconds": (2.0, False),
}


def table_of(number: int, count: int) -> Rows:
    rng = np.random.default_rng(number)
    rows = empty_rows(count)
    rows["id"] = np.frombuffer(rng.bytes(32 * count), np.uint8).reshape(count, 32)
    rows["proof"] = np.frombuffer(rng.bytes(16 * count), np.uint8).reshape(count, 16)
    return rows[order_by_id(rows["id"])]


def counts_of(rows: int) -> list[int]:
    return [min(TABLE_ROWS, rows - start) for start in range(0, rows, TABLE_ROWS)]


def build(folder: Path, rows: int) -> dict[str, float]:
    store = MappedRowStore(folder)
    index = ChunkIndex(store)
    seconds = worst = 0.0
    base = 0
    for number, count in enumerate(counts_of(rows)):
        made = table_of(number, count)
        started = time.perf_counter()
        store.put(base, made)
        store.note_table(number.to_bytes(16, "big"), base, count)
        index.add_stored(base, count, number.to_bytes(16, "big"))
        took = time.perf_counter() - started
        seconds, worst, base = seconds + took, max(worst, took), base + count
        print(f"\r{base:,} of {rows:,} rows", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {"rows added a second": rows / seconds, "longest addition in seconds": worst}


def memory() -> dict[str, int]:
    """Bytes of this process: anonymous, mapped."""
    lines = Path("/proc/self/status").read_text().splitlines()
    words = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return {"anonymous": words["RssAnon:"] * 1024, "mapped": words["RssFile:"] * 1024}


def rate(index: ChunkIndex, batches: list[Rows], *, present: bool) -> float:
    usable = Usable(np.ones(1, bool), writer=0)
    speeds = []
    for rows in batches:
        asked = Usable(usable.packs, 0, np.ascontiguousarray(rows["proof"]))
        started = time.perf_counter()
        found = index.find(np.ascontiguousarray(rows["id"]), asked)
        speeds.append(len(rows) / (time.perf_counter() - started))
        if ((found != ABSENT) != present).any():
            raise SystemExit("a lookup answered wrongly")
    return statistics.median(speeds)


def use(folder: Path, rows: int) -> dict[str, float]:
    """What a new process measures."""
    empty = memory()["anonymous"]
    live, base = {}, 0
    for number, count in enumerate(counts_of(rows)):
        live[number.to_bytes(16, "big")] = base, count
        base += count
    started = time.perf_counter()
    store = MappedRowStore(folder)
    index = ChunkIndex(store)
    index.open_runs(live)
    for table_id in live.keys() - index.tables():
        if not store.has_table(table_id, *live[table_id]):
            raise SystemExit("a table is not in the cache")
        index.add_stored(*live[table_id], table_id)
    opened = time.perf_counter() - started
    held = memory()
    rng = np.random.default_rng(99)
    absent = [table_of(10**6 + number, BATCH) for number in range(BATCHES)]
    present = [index.rows(rng.integers(0, rows, BATCH)) for _ in range(BATCHES)]
    figures = {
        "opened in seconds": opened,
        "absent lookups a second": rate(index, absent, present=False),
        "present lookups a second": rate(index, present, present=True),
        "anonymous bytes a row": (held["anonymous"] - empty) / rows,
        "mapped bytes when opened": held["mapped"],
        "mapped bytes after the lookups": memory()["mapped"],
        "runs": len(index._runs),
    }
    return figures


def affordable(wanted: int, folder: Path) -> int:
    free = shutil.disk_usage(folder).free
    return min(
        wanted, int(free * DISK_SHARE / BYTES_A_ROW) // TABLE_ROWS * TABLE_ROWS or TABLE_ROWS
    )


def report(figures: dict[str, float]) -> tuple[str, bool]:
    lines, met = ["| figure | measured | goal | met |", "|---|---|---|---|"], True
    for name, value in figures.items():
        goal, is_least = GOALS.get(name, (None, True))
        shown = f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"
        if goal is None:
            lines.append(f"| {name} | {shown} | | |")
            continue
        good = value >= goal if is_least else value <= goal
        met &= good
        sign = "at least" if is_least else "at most"
        lines.append(f"| {name} | {shown} | {sign} {goal:,} | {'yes' if good else '**no**'} |")
    return "\n".join(lines), met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument(
        "--folder", type=Path, help="where the cache is built; default: a temporary folder"
    )
    parser.add_argument("--use", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.use:
        print(json.dumps(use(given.use, given.rows)))
        return 0
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        rows = affordable(given.rows, Path(made))
        figures: dict[str, float] = {"rows": rows, **build(Path(made), rows)}
        words = [sys.executable, __file__, "--use", made, "--rows", str(rows)]
        figures |= json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    text, met = report(figures)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "index.md").write_text(text + "\n")
    (RESULTS / "index.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
