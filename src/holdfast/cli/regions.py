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
@click.option(
    "--store",
    "stores",
    required=True,
    multiple=True,
    help="file:///PATH or s3://BUCKET/PREFIX; given several times, each keeps a copy.",
)
@click.option(
    "--credentials",
    type=options.FILE,
    help="JSON: access_key_id, secret_access_key, endpoint, region.",
)
@options.output
def create(name: str, stores: tuple[str, ...], credentials: Path | None, output: str) -> None:
    """Create or change a region.

    \b
    Example:
      holdfast region create nas --store file:///mnt/nas/holdfast
      holdfast region create safe --store file:///d1/hf --store file:///d2/hf --store file:///d3/hf
    """
    asked: dict[str, Any] = {"store": " ".join(stores)}
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
    _emit(Api().get(f"{BASE}/{segment(name)}"), output)


def _emit(body: show.Body, output: str) -> None:
    show.emit(body, output, COLUMNS)
    if output == "table":
        for disk in body["properties"].get("disks") or []:
            click.echo(disk_text(disk))


def disk_text(disk: show.Body) -> str:
    """One disk of several, in a line."""
    text = f"disk {disk['number']}: {disk['store']}"
    text += ", decides" if disk["decides"] else ""
    text += f", missing: {disk['missing']}" if disk["missing"] else ""
    wrong = disk["wrongReads"]
    return text + (f", {wrong} wrong reads" if wrong else "")


@command.command("adopt-disk")
@click.argument("name")
@click.option("--store", required=True, help="Address of the disk, one of the region's.")
@options.output
def adopt_disk(name: str, store: str, output: str) -> None:
    """Take an empty disk in place of one that was lost.

    The new disk is mounted where the lost one was. Copies are written to it by themselves then.

    \b
    Example:
      holdfast region adopt-disk safe --store file:///d3/hf
    """
    asked = {"properties": {"store": store}}
    _emit(Api().call("POST", f"{BASE}/{segment(name)}/adoptDisk", asked).body, output)


@command.command("fail-over")
@click.argument("name")
@click.option("--store", required=True, help="Address of the disk, one of the region's.")
@click.option(
    "--accept-loss", is_flag=True, help="Though other disks are missing that may hold more."
)
@options.output
def fail_over(name: str, store: str, accept_loss: bool, output: str) -> None:
    """Let another disk decide what is written, when the one that did is lost.

    \b
    Example:
      holdfast region fail-over safe --store file:///d2/hf
    """
    asked = {"properties": {"store": store, "acceptLoss": accept_loss}}
    _emit(Api().call("POST", f"{BASE}/{segment(name)}/failOver", asked).body, output)
