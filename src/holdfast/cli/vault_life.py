"""holdfast vault list-deleted, undelete, and the options of soft delete and immutability"""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import options, show
from holdfast.cli.address import segment
from holdfast.cli.api import Api
from holdfast.cli.profile import remember
from holdfast.errors import ConflictError, NotFoundError

STATES = {"enabled": "Enabled", "disabled": "Disabled", "always-on": "AlwaysON"}
SOFT_DELETE = click.option(
    "--soft-delete",
    type=click.Choice(list(STATES)),
    help="Whether deleted data is kept for a while; always-on can never be changed again.",
)
SOFT_DELETE_DAYS = click.option(
    "--soft-delete-days", type=int, help="How long deleted data is kept, 14 to 180 days."
)
IMMUTABLE = {"disabled": "Disabled", "unlocked": "Unlocked", "locked": "Locked"}
IMMUTABILITY = click.option(
    "--immutability",
    type=click.Choice(list(IMMUTABLE)),
    help="Whether recovery points are held until they expire; locked cannot be undone, ever.",
)
LOCATION = click.option("-l", "--location", help="Only of this location.")


def name_of(row: show.Body) -> str:
    return str(row["properties"]["vaultId"].rpartition("/")[2])


COLUMNS: list[show.Column] = [
    ("vault", name_of),
    ("group", lambda row: row["properties"]["vaultId"].split("/")[4]),
    ("location", lambda row: row["id"].split("/")[6]),
    ("deleted (UTC)", show.when("vaultDeletionTime")),
    ("gone for good (UTC)", show.when("purgeAt")),
    ("id", lambda row: row["name"]),
]


def ask_soft_delete(body: show.Body, state: str | None, days: int | None) -> None:
    """Add what was asked for to the body of a vault."""
    settings: dict[str, Any] = {}
    if state is not None:
        settings["softDeleteState"] = STATES[state]
    if days is not None:
        settings["softDeleteRetentionPeriodInDays"] = days
    if settings:
        security = body.setdefault("properties", {}).setdefault("securitySettings", {})
        security.setdefault("softDeleteSettings", {}).update(settings)


def soft_delete_text(body: show.Body) -> str:
    """A vault's setting in words."""
    read = show.prop("securitySettings", "softDeleteSettings")
    found: show.Body = read(body) or {}
    if found.get("softDeleteState", "Disabled") == "Disabled":
        return "off: deleted data is gone at once"
    always = ", always on" if found["softDeleteState"] == "AlwaysON" else ""
    return f"{found['softDeleteRetentionPeriodInDays']} days{always}"


def ask_immutability(body: show.Body, state: str | None, name: str, yes: bool) -> None:
    """Add what was asked for to the body of a vault; a lock is confirmed first."""
    if state is None:
        return
    if state == "locked":
        question = (
            f"Lock the immutability of vault {name}? Nobody can undo that: until they expire, "
            "recovery points cannot be deleted, nor retention reduced, by anybody."
        )
        options.confirm(question, yes)
    security = body.setdefault("properties", {}).setdefault("securitySettings", {})
    security["immutabilitySettings"] = {"state": IMMUTABLE[state]}


def immutability_text(body: show.Body) -> str:
    """A vault's state in words."""
    read = show.prop("securitySettings", "immutabilitySettings", "state")
    state = read(body) or "Disabled"
    if state == "Disabled":
        return "off"
    undone = "locked for ever" if state == "Locked" else "unlocked, can be turned off"
    return f"on, {undone}: no recovery point goes before it expires"


def _address(api: Api, location: str) -> str:
    where = f"/subscriptions/{api.subscription()}/providers/Microsoft.RecoveryServices/locations"
    return f"{where}/{segment(location)}/deletedVaults"


def _deleted(api: Api, location: str | None) -> list[show.Body]:
    """Of one location, or of all regions, the one that goes next first."""
    places = [location] if location else _regions(api)
    rows = [row for place in places for row in api.listed(_address(api, place))]
    return sorted(rows, key=lambda row: str(row["properties"]["purgeAt"]))


def _regions(api: Api) -> list[str]:
    return [row["name"] for row in api.listed(f"/subscriptions/{api.subscription()}/locations")]


@click.command("list-deleted")
@LOCATION
@options.output
def list_deleted(location: str | None, output: str) -> None:
    """List deleted vaults that can still be undeleted.

    \b
    Example:
      holdfast vault list-deleted
    """
    show.emit(_deleted(Api(), location), output, COLUMNS)


@click.command()
@click.argument("name")
@LOCATION
@click.option("--recovery-group", help="The resource group it comes back to; else its own.")
@options.output
def undelete(name: str, location: str | None, recovery_group: str | None, output: str) -> None:
    """Bring a deleted vault back, by its name or id; its items are undeleted one by one.

    \b
    Example:
      holdfast vault undelete office
    """
    api = Api()
    row = _find(_deleted(api, location), name)
    parts = row["properties"]["vaultId"].split("/")
    group = recovery_group or parts[4]
    body = {"properties": {"recoveryResourceGroupId": "/".join([*parts[:4], group])}}
    api.call("POST", f"{row['id']}/undelete", body)
    remember(group, name_of(row))
    there = f"/resourceGroups/{segment(group)}/providers/{'/'.join(parts[6:])}"
    vault = api.get(f"/subscriptions/{api.subscription()}{there}")
    if output == "json":
        show.emit_json(vault)
    else:
        click.echo(f"undeleted; see its items: holdfast item list -g {group} -v {name_of(row)}")


def _find(rows: list[show.Body], name: str) -> show.Body:
    wanted = name.lower()
    found = [row for row in rows if wanted in (name_of(row).lower(), row["name"].lower())]
    if not found:
        raise NotFoundError(
            f"there is no deleted vault {name}",
            code="DeletedVaultNotFound",
            hint="see which there are: holdfast vault list-deleted",
        )
    if len(found) > 1:
        raise ConflictError(
            f"{len(found)} deleted vaults are called {name}",
            code="DeletedVaultAmbiguous",
            hint="name one by its id: holdfast vault list-deleted",
        )
    return found[0]
