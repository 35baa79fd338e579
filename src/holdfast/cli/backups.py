"""holdfast backup now"""

from __future__ import annotations

import click

from holdfast.cli import follow, options
from holdfast.cli.api import find_scope


@click.group()
def command() -> None:
    """Back up now.

    \b
    Example:
      holdfast backup now --item docs --container web1 --wait
    """


@command.command()
@options.item
@click.option("--retain-until", help="Keep until this date (default: 30 days).")
@options.wait
@options.output
def now(
    item: str,
    container: str,
    retain_until: str | None,
    wait: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Start a backup outside the schedule.

    \b
    Example:
      holdfast backup now --item docs --container web1 --retain-until 2030-01-01 --wait
    """
    scope = find_scope(group, vault)
    asked = {"objectType": "FilesBackupRequest", "recoveryPointExpiryTimeInUTC": retain_until}
    answer = scope.api.call("POST", f"{scope.item(container, item)}/backup", {"properties": asked})
    job = follow.job_id_of(scope, answer.headers)
    return follow.follow(scope, job, wait=wait, output=output)
