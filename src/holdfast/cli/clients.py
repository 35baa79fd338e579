"""holdfast client ...: logins of services, by secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from holdfast.cli import options, show
from holdfast.cli.address import segment
from holdfast.cli.api import Api
from holdfast.cli.new_files import check_new
from holdfast.files import write_whole

BASE = "/providers/Holdfast.Backup/clients"
COLUMNS: list[show.Column] = [
    ("name", lambda row: row["name"]),
    ("client id", show.prop("clientId")),
    ("created", lambda row: show.moment(row["properties"]["createdAt"])),
    ("disabled", lambda row: show.moment(row["properties"]["disabledAt"])),
]


def _path(name: str) -> str:
    return f"{BASE}/{segment(name)}"


@click.group()
def command() -> None:
    """Logins of services by secret; roles say what each may do. People: holdfast user.

    \b
    Example:
      holdfast client create ann -o ann.json
      holdfast role assign "Backup Operator" --client ann -g home -v office
    """


def _keep(target: Path, body: dict[str, Any]) -> None:
    """Write the credentials of an answer to a file that only its owner may read."""
    write_whole(target, json.dumps(body["properties"]["credentials"], indent=2).encode())


@command.command()
@click.argument("name")
@click.option("-o", "--output-file", "target", required=True, type=options.FILE, help="To write.")
def create(name: str, target: Path) -> None:
    """Make a login without any role and write its credentials file.

    \b
    Example:
      holdfast client create ann -o ann.json
    """
    check_new(target, "the credentials of another client")
    _keep(target, Api().call("PUT", _path(name)).body)
    click.echo(
        f"wrote {target}, the only copy of its secret: holdfast login --credentials {target}"
    )
    click.echo(f'it may do nothing yet: holdfast role assign "Backup Reader" --client {name} ...')


@command.command("renew-secret")
@click.argument("name")
@click.option("-o", "--output-file", "target", required=True, type=options.FILE, help="To write.")
def renew_secret(name: str, target: Path) -> None:
    """Replace a login's secret; the old one is refused from now on.

    \b
    Example:
      holdfast client renew-secret ann -o ann-new.json
    """
    check_new(target, "the credentials of another client")
    _keep(target, Api().call("POST", f"{_path(name)}/renewSecret").body)
    click.echo(f"wrote {target}; the old secret is refused from now on")


@command.command("list")
@options.output
def list_(output: str) -> None:
    """List logins, disabled ones too.

    \b
    Example:
      holdfast client list
    """
    show.emit(Api().listed(BASE), output, COLUMNS)


@command.command("show")
@click.argument("name")
@options.output
def show_(name: str, output: str) -> None:
    """Show a login.

    \b
    Example:
      holdfast client show ann
    """
    show.emit(Api().get(_path(name)), output, COLUMNS)


@command.command()
@click.argument("name")
@options.yes
def delete(name: str, yes: bool) -> None:
    """End a login: its roles and tokens end at once; the audit record keeps its name.

    \b
    Example:
      holdfast client delete ann --yes
    """
    options.confirm(f"End the login {name} and all its roles?", yes)
    Api().call("DELETE", _path(name))
    click.echo(f"{name} can no longer log in")
