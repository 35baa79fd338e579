"""Trees that benchmarks back up: built of the machine's own files, read, changed, compared."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from holdfast.workloads.files.compare import Inventory, compare_inventories, take_inventory

LINES_SHOWN = 20
WHOLE = 10_000  # share of a tree that is all of it


def own_trees() -> list[Path]:
    """The machine's own /usr and Python trees."""
    return [Path("/usr"), Path(sys.base_prefix), Path(sys.prefix), Path("/usr/share")]


def build_tree(target: Path, files: int, size: int, share: float = 1.0) -> None:
    """Copy the machine's own trees until ``target`` has so many files and bytes. ``share``: take
    this part of each, chosen by path."""
    if (target / ".complete").exists():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sources = own_trees()
    for number in range(8):
        copy_share(sources[number % len(sources)].resolve(), target / f"part-{number}", share)
        found, found_size = count_tree(target)
        print(f"tree: {found:,} files, {found_size / 1e9:.2f} GB", flush=True)
        if found >= files and found_size >= size:
            (target / ".complete").touch()
            return
    raise SystemExit("this machine's /usr and Python trees are too small for the benchmark")


def copy_share(source: Path, target: Path, share: float) -> None:
    """``source`` below ``target``, with all attributes, or the ``share`` of its files."""
    if share >= 1:
        os.system(f"cp -a --one-file-system '{source}' '{target}'")
        return
    target.mkdir(parents=True)
    chosen = "\0".join(
        os.path.relpath(path, source)
        for path in walk_files(source)
        if zlib.crc32(os.fsencode(path)) % WHOLE < share * WHOLE
    )
    script = 'tar -C "$1" --null -T - -cf - | tar -C "$2" -xpf -'
    words = ["sh", "-c", script, "sh", str(source), str(target)]
    subprocess.run(words, input=os.fsencode(chosen), check=False)


def walk_files(tree: Path) -> Iterator[str]:
    """All that is no folder below ``tree``, in the order of names; other file systems are left."""
    device = tree.stat().st_dev
    for folder, names, files in os.walk(tree):
        names[:] = sorted(
            name for name in names if os.lstat(os.path.join(folder, name)).st_dev == device
        )
        for name in sorted(files):
            yield os.path.join(folder, name)


def regular_files(tree: Path) -> list[Path]:
    """Of ``tree``, in the order of paths."""
    found = [
        path
        for folder, _, files in os.walk(tree)
        for name in files
        if (path := Path(folder, name)).is_file() and not path.is_symlink()
    ]
    return sorted(found)


def count_tree(path: Path) -> tuple[int, int]:
    """Entries that are no folders, and their bytes."""
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
    names = regular_files(tree)
    chosen = random.Random(seed).sample(names, len(names) // 100)
    for path in chosen:
        mode = path.stat().st_mode
        path.chmod(mode | 0o200)
        with path.open("ab") as out:
            out.write(b"changed by the benchmark\n")
        path.chmod(mode)
    return len(chosen)


def differences(source: Inventory, restored: Path, strip: Path) -> list[str]:
    """Between ``source`` and the tree at ``restored``, whose paths begin with ``strip``: a line
    for each entry."""
    return compare_inventories(
        source,
        take_inventory([restored]),
        strip_right=str(strip),
        owners=os.geteuid() == 0,
    ).lines


def show(lines: list[str]) -> None:
    """The first of them."""
    for line in lines[:LINES_SHOWN]:
        print(f"    differs: {line}", flush=True)
