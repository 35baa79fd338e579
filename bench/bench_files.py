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
import random
import shutil
import statistics
import sys
from pathlib import Path

from contenders import CONTENDERS, Contender, Holdfast, machine_facts, missing_programs
from doubling import row_of, verdict, write_double
from measure import Measurement
from report import Report, files_goals, write_report

from holdfast.workloads.files.compare import Inventory, compare_inventories, take_inventory

STEPS = ("first backup", "unchanged backup", "backup after 1 % changed", "full restore")
MIN_FILES, MIN_BYTES = 200_000, 5_000_000_000
NAMES: dict[str, type[Contender]] = {kind.__name__.lower(): kind for kind in CONTENDERS}
Results = dict[str, dict[str, list[dict[str, float]]]]


def build_tree(target: Path) -> None:
    """Copy the machine's own /usr and Python trees until the tree is large enough."""
    if (target / ".complete").exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sources = [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), Path("/usr/share")]
    for number in range(8):
        source = sources[number % len(sources)]
        os.system(f"cp -a --one-file-system '{source.resolve()}' '{target}/part-{number}'")
        files, size = count_tree(target)
        print(f"tree: {files:,} files, {size / 1e9:.2f} GB", flush=True)
        if files >= MIN_FILES and size >= MIN_BYTES:
            (target / ".complete").touch()
            return
    raise SystemExit("this machine's /usr and Python trees are too small for the benchmark")


def count_tree(path: Path) -> tuple[int, int]:
    files = size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            files += 1
            size += os.lstat(os.path.join(folder, name)).st_size
    return files, size


def read_once(tree: Path) -> None:
    """Into the page cache, so that whoever is first does not read the disk for the others."""
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb", buffering=0) as file:
                    while file.read(1 << 20):
                        pass


def change_one_percent(tree: Path, seed: int) -> int:
    """Append to 1 % of the regular files, chosen by ``seed``."""
    names = [
        path
        for folder, _, files in os.walk(tree)
        for name in files
        if (path := Path(folder, name)).is_file() and not path.is_symlink()
    ]
    names.sort()
    chosen = random.Random(seed).sample(names, len(names) // 100)
    for path in chosen:
        mode = path.stat().st_mode
        path.chmod(mode | 0o200)
        with path.open("ab") as out:
            out.write(b"changed by the benchmark\n")
        path.chmod(mode)
    return len(chosen)


def record(results: Results, step: str, who: Contender, took: Measurement) -> None:
    row = {
        "wall": took.wall_seconds,
        "cpu": took.cpu_seconds,
        "rss": float(took.peak_rss_bytes),
        "stored": float(who.stored_bytes()),
    }
    results.setdefault(step, {}).setdefault(who.name, []).append(row)
    rss = {name: f"{size / 1e6:.0f}" for name, size in took.rss_by_process.items()}
    print(f"  {step:26} {who.name:18} {took.wall_seconds:7.2f} s wall "
          f"{took.cpu_seconds:7.2f} s CPU  RSS MB {took.peak_rss_bytes / 1e6:.0f} {rss}",
          flush=True)  # fmt: skip


def same_tree(source: Inventory, restored: Path, strip: Path) -> bool:
    difference = compare_inventories(
        source,
        take_inventory([restored]),
        strip_right=str(strip),
        owners=os.geteuid() == 0,
    )
    for line in difference.lines[:20]:
        print(f"    differs: {line}", flush=True)
    return not difference.lines


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
            same = same_tree(source, who.restored_tree(target, tree), target)
            checks[f"round {number + 1}: {who.name} restores the same tree"] = same
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
    once = row_of(tree, data / "double-work", count_tree(tree))
    larger = data / "double"
    try:
        write_double(tree, larger)
        twice = row_of(larger, data / "double-work", count_tree(larger))
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
        build_tree(tree)
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
