"""holdfast vault verify, scrub, repair, expire, collect, confirm-clock."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import follow, options, show
from holdfast.cli.api import find_scope

FILES_SHOWN = 5
PLANNED: list[show.Column] = [
    ("item", lambda row: row.get("itemName")),
    ("recovery point", lambda row: row.get("recoveryPointId")),
    ("time (UTC)", lambda row: show.moment(row.get("recoveryPointTime"))),
    ("keep", lambda row: row.get("keep")),
    ("until (UTC)", lambda row: show.moment(row.get("expiresAt"))),
    ("stored", lambda row: show.size(row.get("storedBytes"))),
    ("reason", lambda row: row.get("reason")),
]
COLLECTED: list[show.Column] = [
    ("what", lambda row: row.get("action")),
    ("packs", lambda row: row.get("packs")),
    ("size", lambda row: show.size(row.get("bytes"))),
]

MENDED: list[show.Column] = [
    ("what", lambda row: row.get("action")),
    ("object", lambda row: row.get("object")),
    ("recovery points", lambda row: ", ".join(row.get("recoveryPoints") or [])),
    ("detail", lambda row: row.get("detail")),
    ("files", lambda row: ", ".join((row.get("files") or [])[:FILES_SHOWN])),
]


def _run(kind: str, name: str, group: str | None, plan: bool, output: str) -> int:
    scope = find_scope(group, name)
    body = {"properties": {"planOnly": plan}}
    answer = scope.api.call("POST", f"{scope.ours}/{kind}", body)
    if plan:
        _show_plan(answer.body, output)
        return 0
    job = follow.job_id_of(scope, answer.headers)
    return follow.follow(scope, job, wait=True, output=output)


def _show_plan(body: show.Body, output: str) -> None:
    """The rows of a plan, or what would be read."""
    if output == "json":
        show.emit_json(body)
        return
    found = body["properties"]
    rows = found.get("plan") or []
    if rows:
        show.emit(rows, output, _columns(rows[0]))
    figures = [(key, value) for key, value in found.items() if key != "plan"]
    if not rows and not figures:
        click.echo("there is nothing to do")
    for key, value in figures:
        click.echo(f"{key}: {show.cell_text(value)}")


def _columns(row: show.Body) -> list[show.Column]:
    if "object" in row:
        return MENDED
    return COLLECTED if "action" in row else PLANNED


def _make(kind: str, text: str) -> Any:
    lines = [text, "\b\nExample:", f"  holdfast vault {kind} office -g home --plan"]

    @click.command(kind, help=f"{lines[0]}\n\n{lines[1]}\n{lines[2]}")
    @click.argument("name")
    @options.group
    @click.option("--plan", is_flag=True, help="Only show what it would do.")
    @options.output
    def run(name: str, group: str | None, plan: bool, output: str) -> int:
        return _run(kind, name, group, plan, output)

    return run


verify = _make("verify", "Decrypt, decompress and recompute everything the vault holds.")
scrub = _make("scrub", "Read every object and check what needs no key; goes on where it stopped.")
repair = _make("repair", "Mend what scrub and verify found; deletes nothing, names what is lost.")
expire = _make("expire", "Drop recovery points whose time is over (also runs daily by itself).")
collect = _make("collect", "Free what no recovery point needs (also runs daily by itself).")


@click.command("confirm-clock")
@click.argument("name")
@options.group
def confirm_clock(name: str, group: str | None) -> None:
    """Say that the server's clock is right, so that expire and collect go on.

    \b
    Example:
      holdfast vault confirm-clock office -g home
    """
    scope = find_scope(group, name)
    scope.api.call("POST", f"{scope.ours}/confirmClock", {"properties": {}})
    click.echo("confirmed")
