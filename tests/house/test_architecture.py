"""ARCHITECTURE.md lets a newcomer find any room: what its rows name is there, and every folder of
the program is in some row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "holdfast"
PLACES = (ROOT, SOURCE, SOURCE / "adapters")
NO_PATHS = {"az", "__init__"}


def rows() -> Iterator[str]:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.partition("## Where to find what")[2].partition("\nImports run downward")[0]
    yield from (line.split("|")[2] for line in table.splitlines() if line.startswith("| "))


def spelt(name: str) -> Iterator[str]:
    """``a/{b,c}.py`` as both."""
    found = re.search(r"\{([^}]*)\}", name)
    if found is None:
        yield name
        return
    for word in found.group(1).split(","):
        yield from spelt(name[: found.start()] + word + name[found.end() :])


def named(row: str) -> Iterator[tuple[str, list[Path]]]:
    """What a row names and where that is: from the root, the package, the adapters, or a folder
    that the row named before."""
    folders: list[Path] = []
    for quoted in re.findall(r"`([^`]+)`", row):
        if quoted in NO_PATHS:
            continue
        for name in spelt(quoted):
            found = [path for place in (*PLACES, *folders) for path in place.glob(name)]
            folders += [path if path.is_dir() else path.parent for path in found]
            yield name, found


def test_what_the_rows_name_is_there() -> None:
    missing = [(name, row.strip()) for row in rows() for name, found in named(row) if not found]
    assert missing == []


def test_every_folder_is_in_some_row() -> None:
    there = {path for row in rows() for _, found in named(row) for path in found}
    within = {above for path in there for above in (path, *path.parents)}
    folders = {path.parent for path in SOURCE.rglob("*.py")} - {SOURCE}
    lost = {
        folder
        for folder in folders
        if folder not in within and not any(above in there for above in folder.parents)
    }
    assert lost == set()


def test_every_module_of_the_top_is_in_some_row() -> None:
    there = {path for row in rows() for _, found in named(row) for path in found}
    assert {path for path in SOURCE.glob("*.py") if path.stem[0] != "_"} - there == set()
