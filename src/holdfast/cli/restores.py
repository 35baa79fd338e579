"""holdfast restore"""

from __future__ import annotations

import os
from pathlib import Path

import click

from holdfast.cli import follow, options
from holdfast.cli.api import find_scope
from holdfast.domain.path_text import decode_path, encode_path


def _absolute(target: str) -> str:
    here = Path(os.fsdecode(decode_path(target))).absolute()
    return encode_path(os.fsencode(here))


@click.command()
@options.item
@click.option("--recovery-point", "point", required=True, help="Id, or latest.")
@click.option("--to", "target", type=options.PATH_TEXT, help="Folder to restore into.")
@click.option("--original", is_flag=True, help="Restore to where the files came from.")
@click.option("--to-container", help="Another machine of the vault.")
@click.option(
    "--path", "paths", multiple=True, type=options.PATH_TEXT, help="Only this path; repeatable."
)
@click.option(
    "--conflict",
    type=click.Choice(["overwrite", "skip", "keep-both"]),
    default="overwrite",
    show_default=True,
    help="What to do with files that are there.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@options.wait
@options.output
def command(
    item: str,
    container: str,
    point: str,
    target: str | None,
    original: bool,
    to_container: str | None,
    paths: tuple[str, ...],
    conflict: str,
    dry_run: bool,
    wait: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Restore files. --to puts them at DIR/<source path>.

    \b
    Example:
      holdfast restore --item docs --container web1 --recovery-point latest --to /tmp/back --wait
    """
    if (target is None) == (not original):
        raise click.UsageError("give either --to DIR or --original")
    if original and to_container:
        raise click.UsageError("--to-container needs --to DIR: --original is the machine itself")
    scope = find_scope(group, vault)
    asked = {
        "objectType": "FilesRestoreRequest",
        "recoveryType": "OriginalLocation" if original else "AlternateLocation",
        "targetDirectory": _absolute(target) if target else None,
        "targetContainerName": to_container,
        "paths": list(paths),
        "conflict": conflict,
        "dryRun": dry_run,
    }
    path = f"{scope.point(container, item, point)}/restore"
    answer = scope.api.call("POST", path, {"properties": asked})
    job = follow.job_id_of(scope, answer.headers)
    return follow.follow(scope, job, wait=wait, output=output)
