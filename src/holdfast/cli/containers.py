"""holdfast container ..."""

from __future__ import annotations

import click

from holdfast.cli import options, show
from holdfast.cli.api import find_scope

COLUMNS: list[show.Column] = [
    ("machine", show.prop("friendlyName")),
    ("name", lambda row: row["name"]),
    ("status", show.prop("registrationStatus")),
    ("health", show.prop("healthStatus")),
    ("items", show.prop("protectedItemCount")),
    ("agent", show.prop("agentVersion")),
    ("last seen (UTC)", show.when("holdfast", "lastSeenAt")),
]


@click.group()
def command() -> None:
    """Registered machines of a vault.

    \b
    Example:
      holdfast container list -g home -v office
    """


@command.command("list")
@options.vault
@options.output
def list_(group: str | None, vault: str | None, output: str) -> None:
    """List machines.

    \b
    Example:
      holdfast container list
    """
    scope = find_scope(group, vault)
    show.emit(scope.api.listed(f"{scope.path}/backupProtectionContainers"), output, COLUMNS)


@command.command("show")
@click.argument("host")
@options.vault
@options.output
def show_(host: str, group: str | None, vault: str | None, output: str) -> None:
    """Show a machine.

    \b
    Example:
      holdfast container show web1
    """
    scope = find_scope(group, vault)
    show.emit(scope.api.get(scope.container(host)), output, COLUMNS)


@command.command()
@click.argument("host")
@options.vault
def unregister(host: str, group: str | None, vault: str | None) -> None:
    """Remove a machine that protects nothing any more; its agent's key is revoked.

    \b
    Example:
      holdfast container unregister web1
    """
    scope = find_scope(group, vault)
    scope.api.call("DELETE", scope.container(host))
    click.echo(f"{host} is unregistered")
