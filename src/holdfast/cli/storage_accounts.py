"""holdfast storage-account ..."""

from __future__ import annotations

from urllib.parse import quote

import click

from holdfast.cli import options, show
from holdfast.cli.api import Scope, find_scope

COLUMNS: list[show.Column] = [
    ("name", lambda row: row["name"]),
    ("host", show.prop("holdfast", "container")),
    ("folder", show.prop("holdfast", "path")),
    ("vault", lambda row: show.prop("holdfast", "vaultId")(row).rpartition("/")[2]),
]


def path_of(scope: Scope, name: str) -> str:
    """The ARM id of an account: of the scope's group, or as it is given."""
    if name.startswith("/"):
        return name
    kind = "providers/Microsoft.Storage/storageAccounts"
    return f"{scope.group_path}/{kind}/{quote(name, safe='')}"


@click.group()
def command() -> None:
    """Folders of hosts that recovery points of virtual machines are restored into.

    \b
    Example:
      holdfast storage-account create restored --container hv1 --path /srv/restored
    """


@command.command()
@click.argument("name")
@click.option("--container", required=True, help="The host whose folder it is.")
@click.option("--path", required=True, type=options.PATH_TEXT, help="Absolute folder on it.")
@options.vault
@options.output
def create(
    name: str, container: str, path: str, group: str | None, vault: str | None, output: str
) -> None:
    """Name a folder of a host, so that disks can be restored into it; 3 to 24 small letters and
    digits. Naming it again moves it to another folder of that host.

    \b
    Example:
      holdfast storage-account create restored --container hv1 --path /srv/restored
    """
    scope = find_scope(group, vault)
    folder = {"vaultId": scope.path, "container": container, "path": path}
    body = {"kind": "StorageV2", "properties": {"holdfast": folder}}
    made = scope.api.call("PUT", path_of(scope, name), body).body
    show.emit(made, output, COLUMNS)


@command.command("list")
@options.group
@options.output
def list_(group: str | None, output: str) -> None:
    """List the named folders of a resource group.

    \b
    Example:
      holdfast storage-account list
    """
    scope = find_scope(group, None, need_vault=False)
    address = f"{scope.group_path}/providers/Microsoft.Storage/storageAccounts"
    show.emit(scope.api.listed(address), output, COLUMNS)


@command.command()
@click.argument("name")
@options.group
@options.output
def remove(name: str, group: str | None, output: str) -> None:
    """Forget a name; the folder and what is in it stay.

    \b
    Example:
      holdfast storage-account remove restored
    """
    scope = find_scope(group, None, need_vault=False)
    scope.api.call("DELETE", path_of(scope, name))
    if output == "json":
        show.emit_json({})
    else:
        click.echo(f"storage account {name} is forgotten; its folder stays")
