"""holdfast vault create, list, show, update, delete."""

from __future__ import annotations

import json
from typing import Any

import click

from holdfast.cli import (
    options,
    show,
    vault_heads,
    vault_keys,
    vault_life,
    vault_report,
    vault_upkeep,
)
from holdfast.cli.address import segment
from holdfast.cli.api import Api, Scope, find_scope
from holdfast.cli.profile import forget, remember
from holdfast.cli.regions import disk_text
from holdfast.errors import NotFoundError

COLUMNS: list[show.Column] = [
    ("name", lambda row: row["name"]),
    ("resource group", lambda row: row["id"].split("/")[4]),
    ("location", lambda row: row["location"]),
]


@click.group()
def command() -> None:
    """Vaults and their upkeep.

    \b
    Example:
      holdfast vault create office -g home
    """


def ensure_group(scope: Scope, location: str = "local") -> None:
    """Resource groups are created on first use."""
    try:
        scope.api.get(scope.group_path)
    except NotFoundError:
        scope.api.call("PUT", scope.group_path, {"location": location})


@command.command()
@click.argument("name")
@options.group
@click.option("-l", "--location", default="local", show_default=True, help="Region.")
@options.output
def create(name: str, group: str | None, location: str, output: str) -> None:
    """Create a vault; its resource group is made when needed.

    \b
    Example:
      holdfast vault create office -g home -l local
    """
    scope = find_scope(group, name)
    ensure_group(scope, location)
    body = scope.api.call("PUT", scope.path, {"location": location, "properties": {}}).body
    remember(scope.group, name)
    show.emit(body, output, COLUMNS)
    if output == "table":
        click.echo(
            "export its recovery key now: "
            f"holdfast vault export-key {name} -g {scope.group} -o {name}.key"
        )


@command.command("list")
@options.group
@options.output
def list_(group: str | None, output: str) -> None:
    """List vaults, of one resource group or of all.

    \b
    Example:
      holdfast vault list -o json
    """
    api = Api()
    base = f"/subscriptions/{api.subscription()}"
    if group:
        base += f"/resourceGroups/{segment(group)}"
    rows = api.listed(f"{base}/providers/Microsoft.RecoveryServices/vaults")
    show.emit(rows, output, COLUMNS)


@command.command("show")
@click.argument("name")
@options.group
@options.output
def show_(name: str, group: str | None, output: str) -> None:
    """Show a vault, its figures and warnings.

    \b
    Example:
      holdfast vault show office -g home
    """
    scope = find_scope(group, name)
    body = scope.api.get(scope.path)
    if output == "json":
        show.emit_json(body)
        return
    ours = body["properties"].get("holdfast") or {}
    show.emit(body, output, COLUMNS)
    click.echo("soft delete: " + vault_life.soft_delete_text(body))
    click.echo("immutability: " + vault_life.immutability_text(body))
    click.echo(f"vault id: {ours.get('vaultId')}\nstore: {ours.get('storeUrl')}")
    if ours.get("storedBytes") is not None:
        stored = show.size(ours["storedBytes"])
        click.echo(f"recovery points: {ours['recoveryPoints']}, stored: {stored}")
        for kind in ("scrub", "verify"):
            click.echo(f"last {kind}: {_check_text(ours.get(f'last{kind.capitalize()}'))}")
        due = ours.get("nextScrub")
        click.echo(f"next scrub: {show.moment(due) if due else 'when you ask for one'}")
    if ours.get("copies"):
        _show_copies(ours["copies"])
    if ours.get("logHead"):
        click.echo(f"head: {ours['logHead']['text']} (term {ours['logHead']['term']})")
    for warning in ours.get("warnings") or []:
        click.echo(f"warning: {warning}", err=True)


def _show_copies(copies: show.Body) -> None:
    fewer = show.size(copies["bytesWithFewer"])
    click.echo(f"copies: {copies['count']}, {fewer} with fewer")
    for disk in copies["disks"]:
        click.echo(disk_text(disk))


def _check_text(check: show.Body | None) -> str:
    """When a check was, how far it came and what it found."""
    if not check:
        return "never"
    text = f"{show.moment(check['time'])}, {show.size(check['storedBytes'])} read"
    if not check["complete"]:
        text += ", stopped before its end"
    return f"{text}, {check['damagedObjects']} damaged objects"


@command.command()
@click.argument("name")
@options.group
@click.option("--tag", "tags", multiple=True, help="KEY=VALUE; replaces all tags.")
@click.option("--properties", help="JSON merged into the vault's properties.")
@vault_life.SOFT_DELETE
@vault_life.SOFT_DELETE_DAYS
@vault_life.IMMUTABILITY
@options.yes
@options.output
def update(
    name: str,
    group: str | None,
    tags: tuple[str, ...],
    properties: str | None,
    soft_delete: str | None,
    soft_delete_days: int | None,
    immutability: str | None,
    yes: bool,
    output: str,
) -> None:
    """Change a vault's tags, properties, soft delete or immutability.

    \b
    Example:
      holdfast vault update office -g home --tag owner=ann
    """
    body: dict[str, Any] = {}
    if tags:
        body["tags"] = dict(tag.partition("=")[::2] for tag in tags)
    if properties:
        try:
            body["properties"] = json.loads(properties)
        except ValueError as error:
            raise click.UsageError(f"--properties is no JSON: {error}") from error
    vault_life.ask_soft_delete(body, soft_delete, soft_delete_days)
    vault_life.ask_immutability(body, immutability, name, yes)
    if not body:
        raise click.UsageError(
            "say what to change: --tag, --properties, --soft-delete or --immutability"
        )
    scope = find_scope(group, name)
    show.emit(scope.api.call("PATCH", scope.path, body).body, output, COLUMNS)


@command.command()
@click.argument("name")
@options.group
@options.yes
def delete(name: str, group: str | None, yes: bool) -> None:
    """Delete a vault that protects nothing; `vault undelete` brings it back for a while.

    \b
    Example:
      holdfast vault delete office -g home --yes
    """
    scope = find_scope(group, name)
    options.confirm(f"Delete vault {name}?", yes)
    status = scope.api.call("DELETE", scope.path).status
    forget(scope.group, name)
    back = f"with soft delete it comes back for a while: holdfast vault undelete {name}"
    click.echo(f"deleted; {back}" if status == 202 else "there was no such vault")


for _one in (
    vault_life.list_deleted,
    vault_life.undelete,
    vault_keys.credentials,
    vault_keys.export_key,
    vault_keys.import_,
    vault_upkeep.verify,
    vault_upkeep.scrub,
    vault_upkeep.repair,
    vault_upkeep.expire,
    vault_upkeep.collect,
    vault_upkeep.confirm_clock,
    vault_heads.accept_head,
    vault_heads.audit,
    vault_report.report,
):
    command.add_command(_one)
