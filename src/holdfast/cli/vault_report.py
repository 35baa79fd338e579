"""holdfast vault report."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli import options, show
from holdfast.cli.api import find_scope
from holdfast.files import names

COLUMNS: list[show.Column] = [
    ("item", lambda row: row["name"]),
    ("machine", lambda row: row["machine"]),
    ("policy", lambda row: row["policyName"]),
    ("health", lambda row: row["health"]),
    ("newest point (UTC)", lambda row: show.moment(row["newestRecoveryPoint"])),
    ("size", lambda row: show.size(row["logicalBytes"])),
    ("stored", lambda row: show.size(row["storedBytes"])),
    ("points", lambda row: row["recoveryPoints"]),
    ("as its policy says", lambda row: _share(row["compliance"])),
]


@click.command()
@click.argument("name")
@options.group
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "html"]),
    default="table",
    show_default=True,
    help="html is one page for people, with plots.",
)
@click.option("--file", type=options.FILE, help="Write it there.")
def report(name: str, group: str | None, form: str, file: Path | None) -> None:
    """What a vault protects, how well, and what it takes.

    \b
    Example:
      holdfast vault report office -g home --format html --file office.html
    """
    if form == "table" and file is not None:
        raise click.UsageError("--file takes --format json, csv or html")
    scope = find_scope(group, name)
    path = f"{scope.ours}/report"
    if form in ("table", "json"):
        body = scope.api.get(path)
        if form == "table":
            _table(body["properties"])
            return
        text = show.json_text(body)
    else:
        text = scope.api.text(path, {"format": form})
    if file is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    with names(file):
        file.write_text(text, encoding="utf-8", newline="")
    click.echo(f"written to {file}")


def _share(found: show.Body) -> str:
    return f"{found['present']} of {found['expected']}" if found["expected"] else ""


def _table(found: show.Body) -> None:
    show.emit(found["items"], "table", COLUMNS)
    growth = found["growthBytes"]
    since = f", {_signed(growth)} since {found['growthSince']}" if growth is not None else ""
    click.echo(f"stored: {show.size(found['storedBytes'])}{since}")
    expected = f"{found['presentPoints']} of {found['expectedPoints']}"
    click.echo(f"recovery points of the last 30 days: {expected} as the policies say")
    click.echo(f"alerts: {len(found['alerts']) or 'none'}")


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{show.size(abs(count))}"
