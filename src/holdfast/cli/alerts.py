"""holdfast alert ..."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import options, show
from holdfast.cli.address import segment
from holdfast.cli.api import Scope, find_scope

ALERTS = "/providers/Microsoft.AlertsManagement/alerts"


def essential(name: str) -> Any:
    return show.prop("essentials", name)


COLUMNS: list[show.Column] = [
    ("alert", lambda row: row["name"]),
    ("severity", essential("severity")),
    ("what", show.prop("holdfast", "title")),
    ("about", show.prop("holdfast", "subject")),
    ("state", essential("alertState")),
    ("condition", essential("monitorCondition")),
    ("times", show.prop("holdfast", "occurrences")),
    ("since (UTC)", show.when("essentials", "startDateTime")),
]


@click.group()
def command() -> None:
    """What needs somebody's attention.

    \b
    Example:
      holdfast alert list
    """


def _path(scope: Scope, alert: str = "") -> str:
    return f"{scope.path}{ALERTS}" + (f"/{segment(alert)}" if alert else "")


@command.command("list")
@click.option("--all", "every", is_flag=True, help="Also what is closed, or over.")
@click.option("--state", help="New, Acknowledged or Closed.")
@click.option("--severity", help="Sev0 (critical) to Sev4.")
@click.option("--rule", help="Such as BackupFailure or AgentLost.")
@options.vault
@options.output
def list_(
    every: bool,
    state: str | None,
    severity: str | None,
    rule: str | None,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """List alerts whose cause stands and that nobody closed, newest first.

    \b
    Example:
      holdfast alert list --severity Sev1
    """
    scope = find_scope(group, vault)
    asked = {"alertState": state, "severity": severity, "alertRule": rule}
    query = {key: value for key, value in asked.items() if value}
    if not every and not state:
        query["monitorCondition"] = "Fired"
    rows = scope.api.listed(_path(scope), query)
    if not every and not state:
        rows = [row for row in rows if essential("alertState")(row) != "Closed"]
    show.emit(rows, output, COLUMNS)


@command.command("show")
@click.argument("alert")
@options.vault
@options.output
def show_(alert: str, group: str | None, vault: str | None, output: str) -> None:
    """Show an alert: its cause, what to do, who was told, and its history.

    \b
    Example:
      holdfast alert show ID
    """
    scope = find_scope(group, vault)
    body = scope.api.get(_path(scope, alert))
    if output == "json":
        show.emit_json(body)
        return
    show.emit(body, output, COLUMNS)
    ours = body["properties"]["holdfast"]
    click.echo(f"what happened: {show.cell_text(essential('description')(body))}")
    if ours["hint"]:
        click.echo(f"what to do: {show.cell_text(ours['hint'])}")
    for key, value in ours["details"].items():
        click.echo(f"{show.cell_text(key)}: {show.cell_text(value)}")
    for one in ours["messages"]:
        why = f": {show.cell_text(one['lastError'])}" if one["lastError"] else ""
        target = show.cell_text(one["target"])
        click.echo(f"message ({one['event']}) by {one['channel']} to {target}: {one['state']}{why}")
    click.echo("history (UTC):")
    for event in scope.api.get(_path(scope, alert) + "/history")["properties"]["modifications"]:
        click.echo(f"  {show.moment(event['modifiedAt'])}  {_event_text(event)}")


def _event_text(event: show.Body) -> str:
    moved = " -> ".join(filter(None, (event["oldValue"], event["newValue"])))
    said = f": {event['comments']}" if event["comments"] else ""
    return show.plain(f"{moved} by {event['modifiedBy']}{said}")


def _change(alert: str, state: str, comment: str, group: str | None, vault: str | None) -> None:
    scope = find_scope(group, vault)
    path = _path(scope, alert) + "/changestate"
    scope.api.call("POST", path, {"comments": comment}, {"newState": state})
    click.echo(state.lower())


COMMENT = click.option("--comment", default="", help="Kept in the alert's history.")


@command.command()
@click.argument("alert")
@COMMENT
@options.vault
def acknowledge(alert: str, comment: str, group: str | None, vault: str | None) -> None:
    """Say that somebody looks after it.

    \b
    Example:
      holdfast alert acknowledge ID --comment "the disk comes on Monday"
    """
    _change(alert, "Acknowledged", comment, group, vault)


@command.command()
@click.argument("alert")
@COMMENT
@options.vault
def close(alert: str, comment: str, group: str | None, vault: str | None) -> None:
    """Say that it is dealt with. The same failure raises a new alert.

    \b
    Example:
      holdfast alert close ID
    """
    _change(alert, "Closed", comment, group, vault)


@command.command()
@click.option("--email", "emails", multiple=True, help="Replaces all addresses; repeatable.")
@click.option(
    "--webhook",
    "webhooks",
    multiple=True,
    help="Name of the server's settings; replaces all; repeatable.",
)
@click.option("--nobody", is_flag=True, help="Tell nobody but the server's own receivers.")
@click.option("--severity", type=click.IntRange(0, 4), help="Alerts up to it are sent.")
@options.vault
@options.output
def settings(
    emails: tuple[str, ...],
    webhooks: tuple[str, ...],
    nobody: bool,
    severity: int | None,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """Show or change who is told of a vault's alerts besides the server's own receivers.

    \b
    Example:
      holdfast alert settings --email ann@example.org --severity 1
    """
    scope = find_scope(group, vault)
    path = f"{scope.ours}/alertSettings"
    body = scope.api.get(path)
    if emails or webhooks or nobody or severity is not None:
        asked = body["properties"]
        if emails or nobody:
            asked["emails"] = list(emails)
        if webhooks or nobody:
            asked["webhooks"] = list(webhooks)
        if severity is not None:
            asked["severity"] = severity
        body = scope.api.call("PUT", path, {"properties": asked}).body
    columns: list[show.Column] = [
        ("emails", show.prop("emails")),
        ("webhooks", show.prop("webhooks")),
        ("up to severity", show.prop("severity")),
    ]
    show.emit(body, output, columns)
