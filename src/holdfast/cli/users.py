"""holdfast user ...: people, their passwords and authenticator apps."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli import options, show
from holdfast.cli.address import segment
from holdfast.cli.api import Api

BASE = "/providers/Holdfast.Backup/users"
COLUMNS: list[show.Column] = [
    ("name", lambda row: row["name"]),
    ("display name", show.prop("displayName")),
    ("password", show.prop("hasPassword")),
    ("app", show.prop("hasTotp")),
    ("provider", show.prop("provider", "issuer")),
    ("last sign-in", show.when("signedInAt")),
    ("locked until", show.when("lockedUntil")),
    ("deleted", show.when("deletedAt")),
]


def _path(name: str) -> str:
    return f"{BASE}/{segment(name)}"


@click.group()
def command() -> None:
    """People; roles say what each may do.

    \b
    Example:
      holdfast user create ann
      holdfast role assign "Backup Operator" --user ann -g home -v office
    """


@command.command()
@click.argument("name")
@click.option("--display-name", default="", help="The person's name in full.")
@options.password_file
@click.option("--external", is_flag=True, help="Signs in at the OpenID provider; no password.")
@click.option("--subject", default="", help="Their subject at the provider, when it is known.")
@options.output
def create(
    name: str, display_name: str, file: Path | None, external: bool, subject: str, output: str
) -> None:
    """Make an account without any role; the password is asked for, or read from a file.

    \b
    Example:
      holdfast user create ann --display-name "Ann Example"
      holdfast user create bob@example.org --external
    """
    asked: show.Body = {"displayName": display_name}
    if external or subject:
        asked |= {"external": True, "provider": {"subject": subject}}
    else:
        asked["password"] = options.read_password(file, confirm=True)
    show.emit(Api().call("PUT", _path(name), {"properties": asked}).body, output, COLUMNS)


@command.command("list")
@options.output
def list_(output: str) -> None:
    """List people, deleted ones too.

    \b
    Example:
      holdfast user list
    """
    show.emit(Api().listed(BASE), output, COLUMNS)


@command.command("show")
@click.argument("name")
@options.output
def show_(name: str, output: str) -> None:
    """Show an account.

    \b
    Example:
      holdfast user show ann
    """
    show.emit(Api().get(_path(name)), output, COLUMNS)


@command.command()
@click.argument("name")
@options.yes
def delete(name: str, yes: bool) -> None:
    """End an account with its roles and sessions; the audit record keeps its name.

    \b
    Example:
      holdfast user delete ann --yes
    """
    options.confirm(f"End the account {name} and all its roles?", yes)
    Api().call("DELETE", _path(name))
    click.echo(f"{name} can no longer sign in")


@command.command("set-password")
@click.argument("name")
@options.password_file
def set_password(name: str, file: Path | None) -> None:
    """Replace somebody's password; all their sessions end.

    \b
    Example:
      holdfast user set-password ann
    """
    body = {"properties": {"password": options.read_password(file, confirm=True)}}
    Api().call("POST", f"{_path(name)}/setPassword", body)
    click.echo(f"{name} signs in with the new password from now on")


@command.command("change-password")
@options.password_file
@click.option("--new-password-file", type=options.FILE, help="File with the new one.")
def change_password(file: Path | None, new_password_file: Path | None) -> None:
    """Replace your own password; you log in again afterwards.

    \b
    Example:
      holdfast user change-password
    """
    old = options.read_password(file, prompt="Present password")
    new = options.read_password(new_password_file, confirm=True, prompt="New password")
    body = {"properties": {"old": old, "new": new}}
    Api().call("POST", "/providers/Holdfast.Backup/changePassword", body)
    click.echo("changed; log in again: holdfast login --user NAME")


@command.command("enable-totp")
@click.argument("name")
@options.output
def enable_totp(name: str, output: str) -> None:
    """Ask somebody for codes of an authenticator app (RFC 6238) from now on; shows its secret once.

    \b
    Example:
      holdfast user enable-totp ann
    """
    body = Api().call("POST", f"{_path(name)}/enableTotp").body
    if output == "json":
        show.emit_json(body)
        return
    totp = body["properties"]["totp"]
    click.echo("shown this once; type it into the app, or make a QR code of the address:")
    click.echo(f"  secret:  {totp['secret']}")
    click.echo(f"  address: {totp['address']}")


@command.command("disable-totp")
@click.argument("name")
def disable_totp(name: str) -> None:
    """Ask somebody for the password alone.

    \b
    Example:
      holdfast user disable-totp ann
    """
    Api().call("POST", f"{_path(name)}/disableTotp")
    click.echo(f"{name} signs in by password alone")


@command.command("end-sessions")
@click.argument("name")
def end_sessions(name: str) -> None:
    """Refuse every token somebody holds; they sign in again.

    \b
    Example:
      holdfast user end-sessions ann
    """
    Api().call("POST", f"{_path(name)}/endSessions")
    click.echo(f"{name} is signed out everywhere")


@command.command()
@click.argument("name")
def unlock(name: str) -> None:
    """Let somebody try again who is locked after wrong codes.

    \b
    Example:
      holdfast user unlock ann
    """
    Api().call("POST", f"{_path(name)}/unlock")
    click.echo(f"{name} may try again")
