"""Showing answers: tables for people, the API's JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click

Body = dict[str, Any]
Column = tuple[str, Callable[[Body], Any]]


def emit_json(body: Any) -> None:
    click.echo(json_text(body))


def json_text(body: Any) -> str:
    return json.dumps(body, indent=2)


def emit(body: Any, output: str, columns: Sequence[Column]) -> None:
    """One body or a list of them."""
    if output == "json":
        emit_json(body)
        return
    rows = body if isinstance(body, list) else [body]
    table([name for name, _ in columns], [[read(row) for _, read in columns] for row in rows])


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns aligned by width; numbers to the right."""
    texts = [[cell_text(cell) for cell in row] for row in rows]
    widths = [max([len(name), *(len(row[n]) for row in texts)]) for n, name in enumerate(names)]
    right = [bool(rows) and all(_is_number(row[n]) for row in rows) for n in range(len(names))]
    for line in [list(names), ["-" * width for width in widths], *texts]:
        cells = [
            cell.rjust(widths[n]) if right[n] else cell.ljust(widths[n])
            for n, cell in enumerate(line)
        ]
        click.echo("  ".join(cells).rstrip())


def _is_number(value: Any) -> bool:
    """A number, or a size as ``size`` writes it."""
    if isinstance(value, str):
        return value.endswith("B") and value.partition(" ")[0].replace(".", "").isdigit()
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell_text(value: Any) -> str:
    """A value in a table; nothing in it can move the cursor or break the line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(cell_text, value))
    return plain(str(value))


def plain(text: str) -> str:
    """``text`` with everything that is not printable escaped: names of files may hold anything."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def size(count: int | float | None) -> str:
    """Bytes in decimal units."""
    if count is None:
        return ""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return ""


def moment(text: str | None) -> str:
    """A time of the API, to the second, UTC; "" for never."""
    found = (text or "")[:19].replace("T", " ")
    return "" if found.startswith(("0001-", "2001-01-01 00:00:00")) else found


def prop(*path: str) -> Callable[[Body], Any]:
    """Reads a value below ``properties``."""

    def read(row: Body) -> Any:
        found: Any = row.get("properties") or {}
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    return read


def when(*path: str) -> Callable[[Body], str]:
    """Reads a time below ``properties``."""
    read = prop(*path)
    return lambda row: moment(read(row))
