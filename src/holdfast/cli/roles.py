"""holdfast role ...: what each login may do, and where."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import click

from holdfast.cli import options, show
from holdfast.cli.api import Api, find_scope
from holdfast.errors import NotFoundError

AUTH = "providers/Microsoft.Authorization"
ROLE_COLUMNS: list[show.Column] = [
    ("role", show.prop("roleName")),
    ("allows", lambda row: row["properties"]["permissions"][0]["actions"]),
    ("but not", lambda row: row["properties"]["permissions"][0]["notActions"]),
]
COLUMNS: list[show.Column] = [
    ("who", show.prop("principalName")),
    ("kind", show.prop("principalType")),
    ("role", show.prop("roleDefinitionName")),
    ("scope", show.prop("scope")),
]
Command = Callable[..., Any]


def scope(command: Command) -> Command:
    """-g, -v and --everywhere: never from the profile, as a role too many is a risk."""
    everywhere = click.option("--everywhere", is_flag=True, help="At all groups and vaults.")
    return everywhere(options.vault(command))


def holder(command: Command) -> Command:
    return click.option(
        "--user", "--client", "client", required=True, help="Name or id of the user or client."
    )(command)


def _address(group: str | None, vault: str | None, *, everywhere: bool) -> tuple[Api, str]:
    """The API and the ARM id that the flags name. click.UsageError."""
    if everywhere == bool(group) or (vault and not group):
        raise click.UsageError(
            "say where: -g GROUP for all its vaults, -g GROUP -v VAULT for one, or --everywhere"
        )
    if everywhere:
        api = Api()
        return api, f"/subscriptions/{api.subscription()}"
    found = find_scope(group, vault, need_vault=False)
    return found.api, found.path if vault else found.group_path


@click.group()
def command() -> None:
    """What each login may do, and where.

    \b
    Example:
      holdfast role assign "Backup Operator" --user ann -g home -v office
    """


@command.command("list")
@options.output
def list_(output: str) -> None:
    """List the roles there are.

    \b
    Example:
      holdfast role list
    """
    api = Api()
    rows = api.listed(f"/subscriptions/{api.subscription()}/{AUTH}/roleDefinitions")
    show.emit(rows, output, ROLE_COLUMNS)


@command.command()
@scope
@click.option("--user", "--client", "client", default="", help="Of this login only.")
@options.output
def assignments(
    group: str | None, vault: str | None, everywhere: bool, client: str, output: str
) -> None:
    """List roles given at a place, above it and below it (default: everywhere).

    \b
    Example:
      holdfast role assignments --user ann
    """
    api, place = _address(group, vault, everywhere=everywhere or not group)
    rows = api.listed(f"{place}/{AUTH}/roleAssignments")
    wanted = client.lower()
    show.emit([row for row in rows if not wanted or wanted in _names(row)], output, COLUMNS)


def _names(row: show.Body) -> tuple[str, str]:
    properties = row["properties"]
    return properties["principalId"].lower(), properties["principalName"].lower()


@command.command()
@click.argument("role")
@holder
@scope
@options.output
def assign(
    role: str, client: str, group: str | None, vault: str | None, everywhere: bool, output: str
) -> None:
    """Give a login a role; it counts for everything below the place.

    \b
    Example:
      holdfast role assign "Backup Operator" --user ann -g home -v office
      holdfast role assign "Backup Reader" --client monitoring --everywhere
    """
    api, place = _address(group, vault, everywhere=everywhere)
    asked = {"properties": {"roleDefinitionId": role, "principalId": client}}
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{place}/{client}/{role}".lower())  # repeats find it
    body = api.call("PUT", f"{place}/{AUTH}/roleAssignments/{name}", asked).body
    show.emit(body, output, COLUMNS)


@command.command()
@click.argument("role")
@holder
@scope
def revoke(role: str, client: str, group: str | None, vault: str | None, everywhere: bool) -> None:
    """Take a role away at the place it was given.

    \b
    Example:
      holdfast role revoke "Backup Operator" --user ann -g home -v office
    """
    api, place = _address(group, vault, everywhere=everywhere)
    base = f"{place}/{AUTH}/roleAssignments"
    for row in api.listed(base):
        properties = row["properties"]
        same = properties["scope"].lower() == place.lower()
        if same and client.lower() in _names(row) and role.lower() in _roles(properties):
            api.call("DELETE", f"{base}/{row['name']}")
            click.echo(f"{client} is no longer {properties['roleDefinitionName']} there")
            return
    raise NotFoundError(
        f"{client} was not given the role {role} at this place",
        code="RoleAssignmentNotFound",
        hint=f"see where its roles were given: holdfast role assignments --client {client}",
    )


def _roles(properties: show.Body) -> tuple[str, str]:
    definition = properties["roleDefinitionId"].rpartition("/")[2]
    return definition.lower(), properties["roleDefinitionName"].lower()
