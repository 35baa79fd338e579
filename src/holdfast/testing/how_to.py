"""What a page of the documentation tells its reader to type, for tests that type it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent


def blocks(page: Path, heading: str) -> list[str]:
    """The blocks of code below a heading, down to the next heading."""
    lines = page.read_text().splitlines()
    start = lines.index(heading) + 1
    found: list[list[str]] = [[]]
    for line in lines[start:]:
        if line.startswith("#"):
            break
        if line.startswith("    ") or (found[-1] and not line):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [dedent("\n".join(block)).strip() for block in found if block]


def commands(block: str) -> list[str]:
    """The commands of a block of shell, each on one line."""
    return block.replace("\\\n", " ").splitlines()


def filled(text: str, values: Mapping[str, str]) -> str:
    """With the reader's own ``values`` in place of the words that stand for them."""
    for word, value in values.items():
        text = text.replace(word, value)
    return text
