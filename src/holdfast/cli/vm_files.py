"""holdfast vm browse, holdfast vm restore-files"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from holdfast.cli import follow, options, show
from holdfast.cli.api import Scope, find_scope
from holdfast.cli.points import ENTRY_COLUMNS, newest
from holdfast.domain.path_text import decode_path, encode_path

POLL_SECONDS = 0.2
PAGE = 1000
VOLUME_COLUMNS: list[show.Column] = [
    ("volume", lambda row: row["path"]),
    ("file system", lambda row: row["volume"]["fileSystem"]),
    ("label", lambda row: row["volume"]["label"]),
    ("size", lambda row: show.size(row["size"])),
    ("cannot be read because", lambda row: row["volume"]["problem"]),
]


def names_of(scope: Scope, vm: str) -> tuple[str, str]:
    """(container, item) of a machine, in the group of its vault."""
    names = f"iaasvmcontainerv2;{scope.group};{vm}"
    return f"IaasVMContainer;{names}", f"VM;{names}"


@click.command()
@click.argument("vm")
@click.argument("path", default="/", type=options.PATH_TEXT)
@click.option("--recovery-point", "point", required=True, help="Id, or latest.")
@click.option("--on-container", help="The host that looks, if not the machine's own.")
@options.vault
@options.output
def browse(
    vm: str,
    path: str,
    point: str,
    on_container: str | None,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """List the volumes of a virtual machine's recovery point, or a folder of one.

    The machine's host reads the file systems, in a small machine of its own. It takes some seconds.

    \b
    Example:
      holdfast vm browse web --recovery-point latest
      holdfast vm browse web /osdisk-p1/etc --recovery-point latest
    """
    scope = find_scope(group, vault)
    names = names_of(scope, vm)
    address = scope.point(*names, newest(scope, *names, point))
    rows = list(_rows(scope, address, path, on_container))
    volumes = bool(rows) and rows[0]["type"] == "volume"
    show.emit(rows, output, VOLUME_COLUMNS if volumes else ENTRY_COLUMNS)


def _rows(scope: Scope, point: str, path: str, host: str | None) -> Iterator[show.Body]:
    """All pages, each a job of the host."""
    token = None
    while True:
        asked = {"path": path, "top": PAGE, "skipToken": token, "targetContainerName": host}
        address = f"{point}/providers/Holdfast.Backup/listFiles"
        answer = scope.api.call("POST", address, {"properties": asked})
        page = _result(scope, answer.headers["Location"])
        yield from page["value"]
        token = page.get("skipToken")
        if not token:
            return


def _result(scope: Scope, location: str) -> show.Body:
    """Of an operation, once it has ended. HoldfastError as the job failed."""
    parts = urlsplit(location)  # asked of our server only, whatever host it names
    while True:
        answer = scope.api.call("GET", f"{parts.path}?{parts.query}")
        if answer.status == 200:
            return dict(answer.body)
        if answer.status == 204:
            raise click.ClickException("the list was cancelled")
        time.sleep(POLL_SECONDS)


@click.command("restore-files")
@click.argument("vm")
@click.option("--recovery-point", "point", required=True, help="Id, or latest.")
@click.option(
    "--path",
    "paths",
    multiple=True,
    required=True,
    type=options.PATH_TEXT,
    help="A file or folder, beginning with its volume; repeatable.",
)
@click.option("--to", "target", required=True, type=options.PATH_TEXT, help="Folder on the host.")
@click.option("--to-container", help="Another host of the vault.")
@click.option(
    "--conflict",
    type=click.Choice(["overwrite", "skip", "keep-both"]),
    default="overwrite",
    show_default=True,
    help="What to do with files that are there.",
)
@options.wait
@options.vault
@options.output
def restore_files(
    vm: str,
    point: str,
    paths: tuple[str, ...],
    target: str,
    to_container: str | None,
    conflict: str,
    wait: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Restore files out of a virtual machine's recovery point to DIR/VOLUME/PATH on its host.

    Owners and modes are the machine's; setuid and setgid, devices and extended attributes are left
    out, as they would count on the host.

    \b
    Example:
      holdfast vm restore-files web --recovery-point latest --path /osdisk-p1/etc --to /tmp/web
    """
    scope = find_scope(group, vault)
    names = names_of(scope, vm)
    asked = {
        "targetDirectory": _absolute(target),
        "targetContainerName": to_container,
        "paths": list(paths),
        "conflict": conflict,
    }
    address = f"{scope.point(*names, point)}/providers/Holdfast.Backup/restoreFiles"
    answer = scope.api.call("POST", address, {"properties": asked})
    job = follow.job_id_of(scope, answer.headers)
    return follow.follow(scope, job, wait=wait, output=output)


def _absolute(target: str) -> str:
    return encode_path(os.fsencode(Path(os.fsdecode(decode_path(target))).absolute()))
