"""holdfast login"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from holdfast.cli import options
from holdfast.cli.api import Api, fetch_token, http_client
from holdfast.cli.profile import Profile, load_profile, save_profile
from holdfast.errors import HoldfastError, UsageError


@click.command()
@click.option("--server", required=True, help="https://HOST:PORT")
@click.option("--ca", required=True, type=options.FILE, help="The server's ca.pem.")
@click.option("--credentials", type=options.FILE, help="File with client_id and client_secret.")
@click.option("--client-id", help="Instead of --credentials, with --secret-file.")
@click.option("--secret-file", type=options.FILE, help="File that holds the client's secret.")
def command(
    server: str,
    ca: Path,
    credentials: Path | None,
    client_id: str | None,
    secret_file: Path | None,
) -> None:
    """Log in to a server; the profile is kept under $HOLDFAST_CONFIG_DIR.

    \b
    Example:
      holdfast login --server https://127.0.0.1:8443 --ca DIR/ca.pem --credentials DIR/admin.json
    """
    if not server.startswith("https://"):
        raise click.UsageError("--server must begin with https://")
    if credentials is not None:
        client_id, secret = _from_file(credentials)
    elif client_id and secret_file is not None:
        secret = options.read_text(secret_file).strip()
    else:
        raise click.UsageError("give --credentials FILE, or --client-id with --secret-file")
    group, vault = _defaults_at(server.rstrip("/"))
    profile = Profile(
        server.rstrip("/"), options.read_text(ca), str(client_id), secret, group=group, vault=vault
    )
    fetch_token(profile, http_client(profile.server, profile.ca))
    save_profile(profile)
    subscription = Api(profile).subscription()
    save_profile(replace(profile, subscription_id=subscription))
    click.echo(f"logged in to {profile.server}")


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
