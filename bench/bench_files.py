"""``make bench-files``: Holdfast, restic, Borg and tar | zstd on one tree, interleaved.

Each round: the tree is read once; every contender makes a first backup; every contender backs up
the unchanged tree; 1 % of the files change; every contender backs up again; every contender
restores, and the restored tree is compared with the source. The order rotates from round to
round. Results go to bench/results/ as Markdown, JSON and a plot. Ratios are taken within a round;
the table shows their medians.

With --double: Holdfast's peak memory on the tree and on one twice as large (see doubling.py); it
needs room for five times the tree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path

from contenders import CONTENDERS, Contender, Holdfast, machine_facts, missing_programs
from doubling import size_row, verdict, write_double
from measure import Measurement, row_of, tell
from report import Report, Results, files_goals, write_report
from trees import build_tree, change_one_percent, count_tree, differences, read_once, show

from holdfast.workloads.files.compare import take_inventory

STEPS = ("first backup", "unchanged backup", "backup after 1 % changed", "full restore")
MIN_FILES, MIN_BYTES = 200_000, 5_000_000_000
NAMES: dict[str, type[Contender]] = {kind.__name__.lower(): kind for kind in CONTENDERS}


def record(results: Results, step: str, who: Contender, took: Measurement) -> None:
    row = row_of(took) | {"stored": float(who.stored_bytes())}
    results.setdefault(step, {}).setdefault(who.name, []).append(row)
    tell(step, who.name, took)


def one_round(
    number: int,
    kinds: list[type[Contender]],
    tree: Path,
    work: Path,
    results: Results,
    checks: dict[str, bool],
) -> None:
    shift = number % len(kinds)
    order = [kind(work / kind.__name__) for kind in kinds[shift:] + kinds[:shift]]
    for who in order:
        who.set_up(tree)
    read_once(tree)
    try:
        for step in STEPS[:3]:
            if step == STEPS[2]:
                print(f"  changed {change_one_percent(tree, number):,} files", flush=True)
            for who in order:
                os.sync()  # nobody pays for what another left to be written
                if who.incremental or step == STEPS[0]:
                    record(results, step, who, who.back_up(tree))
                elif step == STEPS[2]:
                    who.back_up(tree)
        source = take_inventory([tree])
        for who in order:
            # all restored trees go at the end: ext4 is slow to reuse what was deleted just now
            target = work / f"restored-{type(who).__name__}"
            os.sync()
            record(results, STEPS[3], who, who.restore(target))
            lines = differences(source, who.restored_tree(target, tree), target)
            show(lines)
            checks[f"round {number + 1}: {who.name} restores the same tree"] = not lines
        for who in order:
            for name, held in who.check().items():
                checks[f"round {number + 1}: {name}"] = held
            if isinstance(who, Holdfast):
                decoded = work / "decoded"
                held = who.decode(decoded)
                checks[f"round {number + 1}: the independent decoder restores"] = held
                shutil.rmtree(decoded, ignore_errors=True)
    finally:
        for who in order:
            who.tear_down()


def double(tree: Path, data: Path) -> int:
    """Peak memory on ``tree`` and on twice of it; 0 when it is bounded and flat."""
    once = size_row(tree, data / "double-work", count_tree(tree))
    larger = data / "double"
    try:
        write_double(tree, larger)
        twice = size_row(larger, data / "double-work", count_tree(larger))
    finally:
        shutil.rmtree(larger, ignore_errors=True)
    table, good = verdict(once, twice)
    print(table)
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", nargs="+", choices=sorted(NAMES), help="leave the others out")
    parser.add_argument("--tree", type=Path, default=None, help="use this tree instead")
    parser.add_argument("--double", action="store_true", help="only: does memory grow?")
    arguments = parser.parse_args()
    if not arguments.double and (missing := missing_programs()):
        print(f"bench: not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    tree = (arguments.tree or arguments.data / "tree").resolve()
    if arguments.tree is None:
        build_tree(tree, MIN_FILES, MIN_BYTES)
    if arguments.double:
        return double(tree, arguments.data.resolve())
    files, size = count_tree(tree)
    results: Results = {}
    checks: dict[str, bool] = {}
    kinds = [NAMES[name] for name in arguments.only or NAMES]
    for number in range(arguments.rounds):
        print(f"round {number + 1}", flush=True)
        work = arguments.data.resolve() / f"round-{number + 1}"
        shutil.rmtree(work, ignore_errors=True)
        one_round(number, kinds, tree, work, results, checks)
        shutil.rmtree(work, ignore_errors=True)
    facts = {**machine_facts(), "files": f"{files:,}", "bytes": f"{size:,}"}
    subject = f"{files:,} files / {size:,} bytes"
    goals = files_goals(results, STEPS)
    report = Report("files", "Files benchmark", subject, STEPS, goals)
    write_report(arguments.results, report, results, checks, facts)
    medians = {
        step: {who: statistics.median(row["wall"] for row in rows) for who, rows in by.items()}
        for step, by in results.items()
    }
    print(json.dumps(medians, indent=2))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
