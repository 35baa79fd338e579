"""``bench_files.py --double``: does memory grow with the tree?

Holdfast alone backs up a tree and restores it, then does both with a tree of twice the entries and
bytes. The second half has the first one's names and shapes but content of its own, as
compressible: every byte is exchanged for another one, so that nothing is shared.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from contenders import Holdfast
from measure import Measurement

MOST_BYTES = 600_000_000
GROWTH = 1.10  # of twice the tree; more is not flat
BLOCK = 1 << 20
_OTHER = bytes(number ^ 0x55 for number in range(256))
STEPS = ("first backup", "full restore")


@dataclass(frozen=True, slots=True)
class Row:
    """``peaks``: step -> bytes of peak memory of server and agent together."""

    files: int
    size: int
    peaks: dict[str, int]


def write_double(tree: Path, target: Path) -> None:
    """``tree`` and its like below ``target``; what is no file, folder or link is left out."""
    shutil.rmtree(target, ignore_errors=True)
    for name in ("first", "second"):
        (target / name).mkdir(parents=True)
    for folder, names, files in os.walk(tree):
        relative = Path(folder).relative_to(tree)
        for name in names + files:
            source = Path(folder, name)
            for half in ("first", "second"):
                _copy(source, target / half / relative / name, changed=half == "second")


def _copy(source: Path, target: Path, *, changed: bool) -> None:
    mode = source.lstat().st_mode
    if stat.S_ISDIR(mode):
        target.mkdir()
    elif stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISREG(mode) and not changed:
        shutil.copyfile(source, target)
    elif stat.S_ISREG(mode):
        with source.open("rb") as read, target.open("wb") as write:
            while data := read.read(BLOCK):
                write.write(data.translate(_OTHER))


def measure_tree(tree: Path, work: Path) -> dict[str, Measurement]:
    """A first backup and a restore through a server and an agent of their own."""
    shutil.rmtree(work, ignore_errors=True)
    who = Holdfast(work / "holdfast")
    who.set_up(tree)
    try:
        found = {STEPS[0]: who.back_up(tree)}
        os.sync()
        found[STEPS[1]] = who.restore(work / "restored")
    finally:
        who.tear_down()
        shutil.rmtree(work, ignore_errors=True)
    return found


def size_row(tree: Path, work: Path, counted: tuple[int, int]) -> Row:
    """Measure, and say what each step took."""
    files, size = counted
    print(f"{files:,} files, {size / 1e9:.2f} GB", flush=True)
    found = measure_tree(tree, work)
    for step, took in found.items():
        parts = {name: f"{used / 1e6:.0f}" for name, used in took.rss_by_process.items()}
        print(f"  {step:14} {took.wall_seconds:7.2f} s  server and agent MB "
              f"{took.servants_rss_bytes / 1e6:.0f}, each {parts}", flush=True)  # fmt: skip
    return Row(files, size, {step: took.servants_rss_bytes for step, took in found.items()})


def verdict(once: Row, twice: Row) -> tuple[str, bool]:
    """A table, and whether memory stayed below the limit and did not grow with the tree."""
    lines = ["| step | tree | doubled | ratio |", "|---|---|---|---|"]
    good = True
    for step in STEPS:
        before, after = once.peaks[step], twice.peaks[step]
        ratio = after / max(before, 1)
        good = good and after <= MOST_BYTES and ratio <= GROWTH
        lines.append(f"| {step} | {before / 1e6:.0f} MB | {after / 1e6:.0f} MB | {ratio:.2f} |")
    lines.append("")
    lines.append(f"tree: {once.files:,} files, {once.size:,} bytes; "
                 f"doubled: {twice.files:,} files, {twice.size:,} bytes")  # fmt: skip
    said = "held" if good else "NOT held (a tree must be large enough to fill all buffers)"
    lines.append(f"at most {MOST_BYTES / 1e6:.0f} MB, and at most {GROWTH:.2f} times: {said}")
    return "\n".join(lines), good
