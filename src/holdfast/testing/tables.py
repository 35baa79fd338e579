"""Reading the tables commands print, as a person does: by their headings."""

from __future__ import annotations

import re


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of the first table in ``text``; AssertionError when there is none."""
    lines = text.splitlines()
    for number, line in enumerate(lines[1:], start=1):
        if line and set(line) <= {"-", " "}:
            spans = [found.span() for found in re.finditer("-+", line)]
            return _rows(lines[number - 1], spans, lines[number + 1 :])
    raise AssertionError(f"no table in:\n{text}")


def _rows(heading: str, spans: list[tuple[int, int]], lines: list[str]) -> list[dict[str, str]]:
    names = [heading[start:end].strip() for start, end in spans]
    gaps = [end for _, end in spans[:-1]]
    found = []
    for line in lines:
        padded = line.ljust(spans[-1][1])
        if not line or any(padded[gap : gap + 2] != "  " for gap in gaps):
            break  # what is printed below the table
        found.append({
            name: padded[start:end].strip()
            for name, (start, end) in zip(names, spans, strict=True)
        })  # fmt: skip
    return found
