"""What a change of policy does to recovery points, before and after it is applied."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import show
from holdfast.cli.api import Scope

PLAN = click.option(
    "--plan", is_flag=True, help="Only show which recovery points would expire or end otherwise."
)
EFFECTS = {
    "expires": "expires",
    "due": "expires anyway",
    "shorter": "ends sooner",
    "longer": "ends later",
}
TOUCHED: list[show.Column] = [
    ("machine", lambda row: row["containerName"]),
    ("item", lambda row: row["itemName"]),
    ("recovery point", lambda row: row["recoveryPointId"]),
    ("time (UTC)", lambda row: show.moment(row["recoveryPointTime"])),
    ("tags", lambda row: row["tags"]),
    ("effect", lambda row: EFFECTS[row["effect"]]),
    ("until now", lambda row: show.moment(row["expiresAtBefore"]) or "no end"),
    ("from now on", lambda row: show.moment(row["expiresAt"]) or "no end"),
    ("reason", lambda row: row["reason"]),
]


def show_plan(scope: Scope, asked: dict[str, Any], output: str) -> None:
    """Ask for the plan of a change and print it; nothing is changed."""
    body = scope.api.call("POST", f"{scope.ours}/planPolicyChange", asked).body
    if output == "json":
        show.emit_json(body)
        return
    if body["value"]:
        show.emit(body["value"], output, TOUCHED)
    click.echo(counts_text(body["properties"]))
    left_out = body["properties"]["affected"] + body["properties"]["dueAnyway"] - len(body["value"])
    if left_out:
        click.echo(f"{left_out} more are not listed")
    refused = body["properties"].get("refused")
    if refused:
        click.echo(f"this change would be refused ({refused['code']}): {refused['message']}")
    else:
        click.echo("nothing was changed; give the same command without --plan to apply it")


def tell_change(body: show.Body, output: str) -> None:
    """After a change: how many recovery points it touches."""
    change = (show.prop("holdfast", "retentionChange")(body)) if output == "table" else None
    if change:
        click.echo(counts_text(change))


def counts_text(counts: show.Body) -> str:
    text = (
        f"{counts['affected']} of {counts['recoveryPoints']} recovery points affected: "
        f"{counts['expire']} expire at the next expiry, {counts['endSooner']} end sooner, "
        f"{counts['endLater']} end later"
    )
    return text + (f"; {counts['dueAnyway']} expire anyway" if counts["dueAnyway"] else "")
