"""holdfast region ..."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from holdfast.cli import options, show
from holdfast.cli.address import segment
from holdfast.cli.api import Api
from holdfast.errors import UsageError

COLUMNS: list[show.Column] = [
    ("name", lambda row: row["name"]),
    ("store", show.prop("store")),
    ("credentials", show.prop("hasCredentials")),
]
BASE = "/providers/Holdfast.Backup/regions"


@click.group()
def command() -> None:
    """Where vaults put their bytes.

    \b
    Example:
      holdfast region create cloud --store s3://bucket/holdfast --credentials s3.json
    """


@command.command()
@click.argument("name")
@click.option("--store", required=True, help="file:///PATH or s3://BUCKET/PREFIX")
@click.option(
    "--credentials",
    type=options.FILE,
    help="JSON: access_key_id, secret_access_key, endpoint, region.",
)
@options.output
def create(name: str, store: str, credentials: Path | None, output: str) -> None:
    """Create or change a region.

    \b
    Example:
      holdfast region create nas --store file:///mnt/nas/holdfast
    """
    asked: dict[str, Any] = {"store": store}
    if credentials is not None:
        asked["credentials"] = _read(credentials)
    body = Api().call("PUT", f"{BASE}/{segment(name)}", {"properties": asked}).body
    show.emit(body, output, COLUMNS)


def _read(file: Path) -> dict[str, str]:
    """A store's credentials. UsageError (InvalidStoreCredentials)."""
    try:
        found = json.loads(options.read_text(file))
        why = "it holds no object of texts"
    except ValueError as error:
        found, why = None, str(error)
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise UsageError(
            f"{file} is no credentials file: {why}",
            code="InvalidStoreCredentials",
            hint="give a JSON object with access_key_id, secret_access_key, endpoint",
        )
    return found


@command.command("list")
@options.output
def list_(output: str) -> None:
    """List regions.

    \b
    Example:
      holdfast region list
    """
    show.emit(Api().listed(BASE), output, COLUMNS)


@command.command("show")
@click.argument("name")
@options.output
def show_(name: str, output: str) -> None:
    """Show a region.

    \b
    Example:
      holdfast region show local
    """
    show.emit(Api().get(f"{BASE}/{segment(name)}"), output, COLUMNS)
