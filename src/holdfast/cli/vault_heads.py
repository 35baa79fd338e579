"""holdfast vault accept-head, audit: the head of a vault's log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from holdfast.cli import options, show
from holdfast.cli.api import find_scope
from holdfast.errors import UsageError
from holdfast.files import read_small

NAMED = 3
LOST: list[show.Column] = [
    ("lost recovery point", lambda row: row.get("id")),
    ("time (UTC)", lambda row: show.moment(row.get("time"))),
    ("item", lambda row: row.get("item")),
]
CHANGES: list[show.Column] = [
    ("record", lambda row: row.get("sequence")),
    ("time (UTC)", lambda row: show.moment(row.get("time"))),
    ("what", lambda row: row.get("what")),
    ("size", lambda row: show.size(row.get("size")) if row.get("size") else ""),
    ("which", lambda row: _some(row.get("names") or [])),
    ("item", lambda row: row.get("item")),
    ("reason", lambda row: row.get("reason")),
]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


@click.command("accept-head")
@click.argument("name")
@options.group
@click.option("--plan", is_flag=True, help="Only show what it would give up.")
@options.yes
@options.output
def accept_head(name: str, group: str | None, plan: bool, yes: bool, output: str) -> None:
    """Go on with the log the store serves, though a newer or another one was seen.

    The recovery points that are not in it are given up and named.

    \b
    Example:
      holdfast vault accept-head office -g home --plan
    """
    scope = find_scope(group, name)
    where = f"{scope.ours}/acceptHead"
    if not plan:
        options.confirm(f"Give up what vault {name} lost, and go on with what is there?", yes)
    body = scope.api.call("POST", where, {"properties": {"planOnly": plan}}).body
    if output == "json":
        show.emit_json(body)
        return
    found = body["properties"]
    if found["lostRecoveryPoints"]:
        show.emit(found["lostRecoveryPoints"], output, LOST)
    for line in _told(found):
        click.echo(line)


def _told(found: dict[str, Any]) -> list[str]:
    head = found["head"]
    lines = [f"doubt: {found['doubt']['message']} [{found['doubt']['code']}]"]
    lines += [
        f"given up: record {seen['sequence']} of term {seen['term']}, seen by {seen['seenBy']}"
        for seen in found["witnesses"]
    ]
    if found["setAside"]:
        lines.append(f"set aside to quarantine: {_some(found['setAside'])}")
    lines.append(f"lost recovery points: {len(found['lostRecoveryPoints'])}")
    goes = "went" if "accepted" in found else "would go"
    lines.append(f"the log {goes} on after record {head['sequence']} under term {found['newTerm']}")
    return lines


@click.command()
@click.argument("name")
@options.group
@click.option(
    "--since",
    required=True,
    help="SEQ, SEQ:HASH, or a file: `vault show` or an earlier audit as JSON.",
)
@options.output
def audit(name: str, group: str | None, since: str, output: str) -> None:
    """Prove what was added to a vault and removed from it since a head of its log, which
    `vault show` tells.

    \b
    Example:
      holdfast vault audit office -g home --since head.json
    """
    scope = find_scope(group, name)
    asked = since if since.partition(":")[0].isdigit() else head_in(Path(since))
    body = scope.api.get(f"{scope.ours}/logAudit", {"since": asked})
    found = body["properties"]
    while not found["complete"]:  # a long log comes in parts, each proven from the end of the last
        more = scope.api.get(f"{scope.ours}/logAudit", {"since": found["head"]["text"]})
        _join(found, more["properties"])
    if output == "json":
        show.emit_json(body)
        return
    if found["changes"]:
        show.emit(found["changes"], output, CHANGES)
    for what, count in found["totals"].items():
        click.echo(f"{what}: {count}")
    click.echo(f"records checked: {found['records']}, after record {found['since']['sequence']}")
    click.echo(f"head: {found['head']['text']} (term {found['head']['term']})")


def _join(found: dict[str, Any], more: dict[str, Any]) -> None:
    found["changes"] += more["changes"]
    found["records"] += more["records"]
    for what, count in more["totals"].items():
        found["totals"][what] = found["totals"].get(what, 0) + count
    found["head"], found["complete"] = more["head"], more["complete"]


def head_in(path: Path) -> str:
    """SEQ:HASH of a file that holds it, or the JSON of `vault show` or `vault audit`. UsageError
    (InvalidHead)."""
    try:
        text = read_small(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_head(str(path)) from error
    try:
        found = json.loads(text)
    except ValueError:
        return text.strip()
    for names in (("properties", "holdfast", "logHead"), ("properties", "head")):
        here: Any = found
        for name in names:
            here = here.get(name) if isinstance(here, dict) else None
        if isinstance(here, dict) and here.get("text"):
            return str(here["text"])
    raise _no_head(str(path))


def _no_head(what: str) -> UsageError:
    return UsageError(
        f"{what} holds no head of a log",
        code="InvalidHead",
        hint="give SEQ:HASH, or a file made by: holdfast vault show NAME -o json",
    )
