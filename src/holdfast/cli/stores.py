"""holdfast store ...: a vault's folder and its key, no server and no catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from holdfast.cli import follow, options, show
from holdfast.cli.standalone_follow import followed
from holdfast.domain.path_text import decode_path, encode_path
from holdfast.errors import CancelledError, UsageError

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

DAMAGES: list[show.Column] = [
    ("object", lambda row: row["object"]),
    ("problem", lambda row: row["problem"]),
    ("detail", lambda row: row["detail"]),
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
@options.output
def scrub(path: Path, output: str) -> int:
    """Read every object and check what needs no key.

    Names what is missing, cut off, altered or in another's place. What only a key can tell
    (tables, refsets, the last log record) is checked by `holdfast vault scrub` and verify.

    \b
    Example:
      holdfast store scrub --path /mnt/vaults/ID
    """
    from holdfast.adapters.object_store.local import LocalStore
    from holdfast.vaultstore.scrub import scrub_store
    from holdfast.workloads.files.standalone import store_folder

    folder, found = store_folder(path), False
    only = path.absolute().name if folder != path.absolute() else ""
    for vault, result in scrub_store(LocalStore(folder), only):
        rows = [
            {"object": one.key, "problem": one.problem, "detail": one.detail}
            for one in result.damages
        ]
        found = found or bool(rows)
        if output == "json":
            figures = {"objects": result.objects, "storedBytes": result.stored_bytes}
            show.emit_json({"vault": vault, **figures, "damages": rows})
            continue
        if rows:
            show.emit(rows, output, DAMAGES)
        size = show.size(result.stored_bytes)
        click.echo(f"{vault}: {result.objects:,} objects, {size} read, {len(rows)} damaged")
    return 3 if found else 0


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
@click.option(
    "--disk",
    "luns",
    multiple=True,
    type=click.IntRange(-1),
    help="Only this disk (LUN; -1: the system's); repeatable.",
)
@click.option(
    "--keys-to",
    "keys",
    type=options.FOLDER,
    help="Put keys of a machine's encrypted volumes into this folder, DIR/NAME/VERSION.",
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
    luns: tuple[int, ...],
    keys: Path | None,
    passphrase_file: Path | None,
) -> int:
    """Restore files, or the disks of a machine, from the vault's folder.

    Disks become sparse raw images, disk-LUN.raw and disk-os.raw, beside machine.json that
    describes the machine.

    \b
    Example:
      holdfast store restore --path DIR --key K --item docs --recovery-point latest --to /tmp/back
    """
    from holdfast.workloads.files.restore_progress import RestoreProgress
    from holdfast.workloads.files.standalone import choose_point, restore_point
    from holdfast.workloads.vm.disks.standalone import holds_machine

    reader = _open(path, key, passphrase_file)
    record = choose_point(reader, item, container, point)
    if holds_machine(reader, record):
        return _restore_machine(reader, record, target, paths, luns, keys)
    if luns or keys:
        raise UsageError(f"{item} has no disks", hint="leave --disk and --keys-to out")
    wanted = tuple(os.fsdecode(decode_path(path)) for path in paths)
    progress = RestoreProgress()
    with _resumable(), followed(progress) as stopped:
        done, findings = restore_point(
            reader, item, container, point, target, wanted, progress=progress, cancelled=stopped
        )
    click.echo(f"{done.files:,} files restored, {show.size(done.logical_bytes)}")
    shown = [
        {"code": one.code, "path": encode_path(one.path), "message": one.message}
        for one in findings[:SHOWN_FINDINGS]
    ]
    follow.show_findings(shown)
    if len(findings) > SHOWN_FINDINGS:
        click.echo(f"  ... {len(findings):,} findings in all")
    return 3 if findings else 0


@contextmanager
def _resumable() -> Iterator[None]:
    """Say how a restore that was stopped goes on."""
    try:
        yield
    except CancelledError as error:
        raise CancelledError(
            "the restore was stopped; what it wrote is kept",
            hint="give the same command again: it goes on where it was",
        ) from error


def _restore_machine(
    reader: Any,
    record: Any,
    target: Path,
    paths: tuple[str, ...],
    luns: tuple[int, ...],
    keys: Path | None,
) -> int:
    from holdfast.workloads.vm.disks.standalone import restore_machine
    from holdfast.workloads.vm.disks.values import Progress

    if paths:
        raise UsageError(
            "this recovery point holds disks, not files",
            hint="choose disks with --disk, and take files out of the restored images",
        )
    progress = Progress()
    with _resumable(), followed(progress) as stopped:
        done = restore_machine(reader, record, target, luns, progress=progress, cancelled=stopped)
    for path in done.files:
        click.echo(str(path))
    click.echo(f"{show.size(done.size)} of disks restored, {show.size(done.data_bytes)} of data")
    if keys is not None:
        _restore_keys(reader, record, keys)
    return 0


def _restore_keys(reader: Any, record: Any, folder: Path) -> None:
    from holdfast.adapters.key_vault import FolderKeyVault
    from holdfast.workloads.vm.disks.standalone import restore_keys

    put = restore_keys(reader, record, FolderKeyVault(folder.absolute()))
    for one in put:
        click.echo(f"key {one.name}, version {one.version}, is in {folder}")
    if not put:
        click.echo("this recovery point holds no keys")
