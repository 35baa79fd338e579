"""holdfast login"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from holdfast.cli import options
from holdfast.cli.api import Api, fetch_token, http_client
from holdfast.cli.profile import Profile, load_profile, save_profile
from holdfast.cli.signing_in import CLIENT_ID, by_device_code, by_password
from holdfast.errors import HoldfastError, UsageError


@click.command()
@click.option("--server", help="https://HOST:PORT (default: the one of the last login).")
@click.option("--ca", type=options.FILE, help="The server's ca.pem (default: as last time).")
@click.option("--credentials", type=options.FILE, help="File with client_id and client_secret.")
@click.option("--client-id", help="Instead of --credentials, with --secret-file.")
@click.option("--secret-file", type=options.FILE, help="File that holds the client's secret.")
@click.option("--user", help="Log in as a person, by password.")
@options.password_file
@click.option("--device-code", is_flag=True, help="Log in as a person, in a browser anywhere.")
def command(
    server: str | None,
    ca: Path | None,
    credentials: Path | None,
    client_id: str | None,
    secret_file: Path | None,
    user: str | None,
    file: Path | None,
    device_code: bool,
) -> None:
    """Log in to a server; the profile is kept under $HOLDFAST_CONFIG_DIR.

    \b
    Example:
      holdfast login --server https://127.0.0.1:8443 --ca DIR/ca.pem --credentials DIR/admin.json
      holdfast login --server https://backup.example:8443 --ca ca.pem --user ann
      holdfast login --device-code
    """
    profile = _where(server, ca)
    if sum(map(bool, (credentials or client_id, user, device_code))) != 1:
        raise click.UsageError(
            "say as whom: --credentials FILE, --user NAME or --device-code "
            "(or --client-id with --secret-file)"
        )
    http = http_client(profile.server, profile.ca)
    if user:
        profile = by_password(profile, http, user, file)
    elif device_code:
        profile = by_device_code(profile, http)
    else:
        profile = _as_client(profile, credentials, client_id, secret_file)
        fetch_token(profile, http)
    save_profile(profile)
    subscription = Api(profile).subscription()
    save_profile(replace(load_profile(), subscription_id=subscription))
    click.echo(f"logged in to {profile.server}")


def _where(server: str | None, ca: Path | None) -> Profile:
    """A profile without a login yet. click.UsageError."""
    if server is not None and not server.startswith("https://"):
        raise click.UsageError("--server must begin with https://")
    if server is None or ca is None:
        try:
            before = load_profile()
        except HoldfastError:
            before = None
        if before is None:
            raise click.UsageError("give --server and --ca")
        same = server is None or server.rstrip("/") == before.server
        if ca is None and not same:
            raise click.UsageError("give --ca: the server is not the one of the last login")
        server, text = server or before.server, options.read_text(ca) if ca else before.ca
    else:
        text = options.read_text(ca)
    group, vault = _defaults_at(server.rstrip("/"))
    return Profile(server.rstrip("/"), text, CLIENT_ID, "", group=group, vault=vault)


def _as_client(
    profile: Profile, credentials: Path | None, client_id: str | None, secret_file: Path | None
) -> Profile:
    if credentials is not None:
        client_id, secret = _from_file(credentials)
    elif client_id and secret_file is not None:
        secret = options.read_text(secret_file).strip()
    else:
        raise click.UsageError("give --credentials FILE, or --client-id with --secret-file")
    return replace(profile, client_id=str(client_id), client_secret=secret)


def _defaults_at(server: str) -> tuple[str, str]:
    """Group and vault of an earlier login at the same server."""
    try:
        before = load_profile()
    except HoldfastError:
        return "", ""
    return (before.group, before.vault) if before.server == server else ("", "")


def _from_file(path: Path) -> tuple[str, str]:
    try:
        body = json.loads(options.read_text(path))
        return str(body["client_id"]), str(body["client_secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no credentials file",
            code="CredentialsInvalid",
            hint="give the server's admin.json",
        ) from error
