"""holdfast policy ..."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from holdfast.cli import options, policy_plan, show
from holdfast.cli.api import find_scope
from holdfast.errors import NotFoundError, UsageError


def _retention(row: show.Body) -> str:
    parts = []
    for name, part in (show.prop("retentionPolicy")(row) or {}).items():
        if isinstance(part, dict) and part.get("retentionDuration"):
            span = part["retentionDuration"]
            parts.append(f"{name.removesuffix('Schedule')} {span['count']} {span['durationType']}")
    return ", ".join(parts)


COLUMNS: list[show.Column] = [
    ("name", lambda row: row["name"]),
    ("type", show.prop("backupManagementType")),
    ("schedule", show.prop("schedulePolicy", "scheduleRunFrequency")),
    ("zone", show.prop("timeZone")),
    ("retention", _retention),
    ("items", show.prop("protectedItemsCount")),
]
PREVIEWED: list[show.Column] = [
    ("item", lambda row: row["itemName"]),
    ("recovery point", lambda row: row["recoveryPointId"]),
    ("time (UTC)", lambda row: show.moment(row["recoveryPointTime"])),
    ("tags", lambda row: row["tags"]),
    ("keep", lambda row: row["keep"]),
    ("reason", lambda row: row["reason"]),
]
USUAL_KINDS = {
    "schedulePolicy": ("schedulePolicyType", "SimpleSchedulePolicy"),
    "retentionPolicy": ("retentionPolicyType", "LongTermRetentionPolicy"),
}
FILE = click.option(
    "--file",
    "file",
    required=True,
    type=options.FILE,
    help="JSON as `policy show -o json` prints it.",
)


@click.group()
def command() -> None:
    """Schedules and retention.

    \b
    Example:
      holdfast policy show DefaultPolicy -o json > policy.json
    """


def _read(file: Path) -> dict[str, Any]:
    """The policy of a file: a whole ARM body, or only its properties."""
    try:
        body = json.loads(options.read_text(file))
    except ValueError as error:
        raise UsageError(
            f"{file} is no policy: {error}",
            code="UserErrorInvalidPolicyInput",
            hint="start from: holdfast policy show DefaultPolicy -o json",
        ) from error
    found = body.get("properties", body) if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise UsageError(
            f"{file} is no policy: it holds no object",
            code="UserErrorInvalidPolicyInput",
            hint="start from: holdfast policy show DefaultPolicy -o json",
        )
    return _with_kinds(found)


def _with_kinds(policy: dict[str, Any]) -> dict[str, Any]:
    """The API asks of which kind schedule and retention are; a file without it means the usual."""
    filled = dict(policy)
    for name, (key, usual) in USUAL_KINDS.items():
        if isinstance(part := policy.get(name), dict):
            filled[name] = {**part, key: part.get(key) or usual}
    return filled


@command.command("list")
@options.vault
@options.output
def list_(group: str | None, vault: str | None, output: str) -> None:
    """List policies.

    \b
    Example:
      holdfast policy list
    """
    scope = find_scope(group, vault)
    show.emit(scope.api.listed(f"{scope.path}/backupPolicies"), output, COLUMNS)


@command.command("show")
@click.argument("name")
@options.vault
@options.output
def show_(name: str, group: str | None, vault: str | None, output: str) -> None:
    """Show a policy.

    \b
    Example:
      holdfast policy show DefaultPolicy -o json
    """
    scope = find_scope(group, vault)
    body = scope.api.get(scope.policy(name))
    show.emit(body, output, COLUMNS)
    least = show.prop("consistency", "atLeast")(body)
    if least and output == "table":
        click.echo(f"note: a backup of a machine that is not at least {least} fails")


def _put(name: str, file: Path, group: str | None, vault: str | None, new: bool) -> show.Body:
    properties = _read(file)
    scope = find_scope(group, vault)
    path = scope.policy(name)
    try:
        tag = str(scope.api.get(path).get("eTag") or "*")
    except NotFoundError as error:
        if error.code != "BMSUserErrorPolicyNotFound":
            raise
        tag = ""
    if bool(tag) == new:
        raise UsageError(
            f"policy {name} exists already" if tag else f"there is no policy {name}",
            code="PolicyExists" if tag else "BMSUserErrorPolicyNotFound",
            hint="change it with: holdfast policy set"
            if tag
            else "make it: holdfast policy create",
        )
    answer = scope.api.call("PUT", path, {"properties": properties}, if_match=tag)
    body: show.Body = answer.body
    return body


@command.command()
@click.argument("name")
@FILE
@options.vault
@options.output
def create(name: str, file: Path, group: str | None, vault: str | None, output: str) -> None:
    """Create a policy.

    \b
    Example:
      holdfast policy create nightly --file policy.json
    """
    show.emit(_put(name, file, group, vault, True), output, COLUMNS)


@command.command("set")
@click.argument("name")
@FILE
@policy_plan.PLAN
@options.vault
@options.output
def set_(
    name: str, file: Path, plan: bool, group: str | None, vault: str | None, output: str
) -> None:
    """Change a policy; it counts for existing recovery points too: --plan shows for which.

    \b
    Example:
      holdfast policy set nightly --file policy.json --plan
    """
    if plan:
        asked = {"policy": name, "properties": _read(file)}
        policy_plan.show_plan(find_scope(group, vault), asked, output)
        return
    body = _put(name, file, group, vault, False)
    show.emit(body, output, COLUMNS)
    policy_plan.tell_change(body, output)


@command.command()
@click.argument("name")
@options.vault
def delete(name: str, group: str | None, vault: str | None) -> None:
    """Delete a policy that protects nothing.

    \b
    Example:
      holdfast policy delete nightly
    """
    scope = find_scope(group, vault)
    status = scope.api.call("DELETE", scope.policy(name)).status
    click.echo("deleted" if status == 200 else "there was no such policy")


@command.command()
@click.argument("name")
@FILE
@options.vault
@options.output
def preview(name: str, file: Path, group: str | None, vault: str | None, output: str) -> None:
    """What a draft would keep and drop of the recovery points there are, and why; and when its
    backups are due next.

    \b
    Example:
      holdfast policy preview nightly --file policy.json
    """
    asked = {"name": name, "properties": _read(file)}
    scope = find_scope(group, vault)
    body = scope.api.call("POST", f"{scope.ours}/previewPolicy", asked).body
    rows = body["value"]
    if output == "json":
        show.emit_json(rows)
        return
    show.emit(rows, output, PREVIEWED)
    total = body["properties"]["recoveryPoints"]
    click.echo(f"{total} recovery points, {body['properties']['drop']} would be dropped")
    if total > len(rows):
        click.echo(f"{total - len(rows)} more are not listed")
    for one in body["upcoming"]:
        times = ", ".join(show.moment(time) for time in one["times"])
        click.echo(f"next {one['backupType'].lower()} (UTC): {times}")
