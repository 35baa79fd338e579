"""``make bench``: Holdfast and its peers through a repository's whole life, on four data sets.

A round of a data set: it is read once; each contender makes a first backup, then one of the
unchanged data, then 1 % changes and each backs up again (and once more after another 1 %, so that
there are four points); each restores everything, which is compared with the source, and one file,
lists a folder, drops half of its points and frees what only they needed, and verifies all that is
left. In each phase the contenders take turns; who begins moves on from round to round. Restored
trees stay until the end of the round: ext4 is slow where much was deleted just now.

Every figure is written to RESULTS/bench.jsonl when it is there; --resume goes on after the last
complete round of a data set, --report writes the tables of what is there and measures nothing.

A small one tests the tool: --scale 0.01 --rounds 1
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from bench_tools import Tool, read_tools
from cells import Cells
from contenders import machine_facts
from data_sets import DATA_SETS, SEED, DataSet
from peers import configured
from phase_report import write_phases
from whole_life import WholeLife

from unit import Unit

COPIES = 1.7  # what a contender takes of disk at most, as a multiple of the data


def one_unit(cells: Cells, what: DataSet, number: int, arguments: argparse.Namespace) -> None:
    data = arguments.data.resolve()
    source = what.made(data, arguments.scale)
    work = data / f"bench-{what.name}"
    shutil.rmtree(work, ignore_errors=True)
    kinds = contenders(arguments, what)
    shift = number % len(kinds)
    check_room(data, source, len(kinds))
    order = [kind(work / kind.__name__) for kind in kinds[shift:] + kinds[:shift]]
    try:
        Unit(cells, what, source, number, order).run(arguments.scale)
    finally:
        for who in order:
            who.tear_down()
        shutil.rmtree(work, ignore_errors=True)
    cells.finish(what.name, number + 1)


def contenders(arguments: argparse.Namespace, what: DataSet) -> list[type[WholeLife]]:
    found = configured(read_tools(), defaults=arguments.peer_defaults, sparse=what.sparse)
    return [kind for kind in found if not arguments.only or kind.name.split()[0] in arguments.only]


def check_room(data: Path, source: Path, number: int) -> None:
    """SystemExit when the disk may not hold repositories and restored trees of all of them."""
    needed = int(sum(path.lstat().st_blocks for path in source.rglob("*")) * 512 * COPIES * number)
    free = shutil.disk_usage(data).free
    if free < needed:
        told = f"{data} has {free / 1e9:.0f} GB free, this needs up to {needed / 1e9:.0f}"
        raise SystemExit(f"bench: {told}: give another --data, or a smaller --scale")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of all data sets; 1: 13 GB")
    parser.add_argument("--peer-defaults", action="store_true", help="not all set to zstd")
    parser.add_argument("--sets", nargs="+", choices=[one.name for one in DATA_SETS])
    parser.add_argument("--only", nargs="+", help="contenders, by the first word of their name")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--resume", action="store_true", help="go on with a run that ended early")
    parser.add_argument("--report", action="store_true", help="only write the report again")
    return parser.parse_args()


def facts_of(tools: list[Tool]) -> dict[str, str]:
    """Versions of everything, where each came from, and why one stands in or is not there."""
    facts = {
        name: value for name, value in machine_facts().items() if name not in ("restic", "borg")
    }
    for tool in tools:
        told = f"{tool.version} ({tool.source})" if tool.path else "not measured"
        facts[tool.name] = f"{told}; {tool.note}" if tool.note else told
    return facts


def main() -> int:
    arguments = parse()
    tools = read_tools()
    if not tools:
        print("bench: no peers: run make bench-tools first", file=sys.stderr)
        return 2
    name = "bench-peer-defaults" if arguments.peer_defaults else "bench"
    facts = facts_of(tools)
    settings = {"scale": arguments.scale, "seed": SEED, "facts": facts}
    cells = Cells(arguments.results / f"{name}.jsonl", settings)
    if arguments.report:
        cells.read()
    elif arguments.resume:
        cells.go_on()
    else:
        cells.begin()
    if not arguments.report:
        measure_all(cells, arguments, name)
    write_phases(arguments.results, name, cells, cells.settings["facts"])
    print((arguments.results / f"{name}.md").read_text())
    return 0 if all(check.held for check in cells.checks) else 1


def measure_all(cells: Cells, arguments: argparse.Namespace, name: str) -> None:
    """Round by round, data set by data set; the report is written after each."""
    arguments.data.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.rounds):
        for what in DATA_SETS:
            done = (what.name, number + 1) in cells.units
            if done or (arguments.sets and what.name not in arguments.sets):
                continue
            print(f"round {number + 1}: {what.title}", flush=True)
            one_unit(cells, what, number, arguments)
            write_phases(arguments.results, name, cells, cells.settings["facts"])


if __name__ == "__main__":
    sys.exit(main())
