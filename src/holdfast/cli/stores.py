"""holdfast store ...: a vault's folder and its key, no server and no catalog."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from holdfast.cli import follow, options, show
from holdfast.domain.path_text import decode_path, encode_path

SHOWN_FINDINGS = 20
FOLDER = click.option("--path", required=True, type=options.FOLDER, help="The vault's folder.")
KEY = click.option(
    "--key",
    required=True,
    type=options.FILE,
    help="The exported key file.",
)
COLUMNS: list[show.Column] = [
    ("item", lambda row: row["item"]),
    ("machine", lambda row: row["container"]),
    ("recovery point", lambda row: row["recoveryPoint"]),
    ("time (UTC)", lambda row: show.moment(row["time"])),
    ("logical", lambda row: show.size(row["logicalBytes"])),
    ("files", lambda row: row["files"]),
    ("findings", lambda row: row["findings"]),
]


@click.group()
def command() -> None:
    """Read a vault without a server.

    \b
    Example:
      holdfast store list --path /mnt/vaults/ID --key office.key
    """


def _open(path: Path, key: Path, passphrase_file: Path | None) -> Any:
    from holdfast.adapters.object_store.local import LocalStore
    from holdfast.workloads.files.standalone import read_vault, store_folder

    passphrase = options.read_passphrase(passphrase_file)
    return read_vault(LocalStore(store_folder(path)), key, passphrase)


@command.command("list")
@FOLDER
@KEY
@options.passphrase_file
@options.output
def list_(path: Path, key: Path, passphrase_file: Path | None, output: str) -> None:
    """List items and recovery points.

    \b
    Example:
      holdfast store list --path /mnt/vaults/ID --key office.key
    """
    from holdfast.workloads.files.standalone import point_rows

    reader = _open(path, key, passphrase_file)
    show.emit(point_rows(reader), output, COLUMNS)


@command.command()
@FOLDER
@KEY
@click.option("--item", required=True, help="Name of the item.")
@click.option("--container", default="", help="Its machine, when several have the item.")
@click.option("--recovery-point", "point", required=True, help="Id, or latest.")
@click.option("--to", "target", required=True, type=options.FOLDER, help="Folder.")
@click.option(
    "--only", "paths", multiple=True, type=options.PATH_TEXT, help="Only this path; repeatable."
)
@options.passphrase_file
def restore(
    path: Path,
    key: Path,
    item: str,
    container: str,
    point: str,
    target: Path,
    paths: tuple[str, ...],
    passphrase_file: Path | None,
) -> int:
    """Restore files from the vault's folder.

    \b
    Example:
      holdfast store restore --path DIR --key K --item docs --recovery-point latest --to /tmp/back
    """
    from holdfast.workloads.files.standalone import restore_point

    reader = _open(path, key, passphrase_file)
    wanted = tuple(os.fsdecode(decode_path(path)) for path in paths)
    done, findings = restore_point(reader, item, container, point, target, wanted)
    click.echo(f"{done.files:,} files restored, {show.size(done.logical_bytes)}")
    shown = [
        {"code": one.code, "path": encode_path(one.path), "message": one.message}
        for one in findings[:SHOWN_FINDINGS]
    ]
    follow.show_findings(shown)
    if len(findings) > SHOWN_FINDINGS:
        click.echo(f"  ... {len(findings):,} findings in all")
    return 3 if findings else 0
