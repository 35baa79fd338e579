"""holdfast job ..."""

from __future__ import annotations

import click

from holdfast.cli import follow, options, show
from holdfast.cli.api import find_scope

COLUMNS: list[show.Column] = [
    ("job", lambda row: row["name"]),
    ("operation", show.prop("operation")),
    ("of", show.prop("entityFriendlyName")),
    ("status", show.prop("status")),
    ("started (UTC)", show.when("startTime")),
    ("took", lambda row: follow.seconds_text(show.prop("duration")(row))),
    ("findings", show.prop("holdfast", "findingsCount")),
]


@click.group()
def command() -> None:
    """What runs and what ran.

    \b
    Example:
      holdfast job list
    """


@command.command("list")
@click.option("--status", help="InProgress, Completed, CompletedWithWarnings, Failed, ...")
@click.option("--operation", help="Backup, Restore, Expire, Collect, Verify, Import")
@options.vault
@options.output
def list_(
    status: str | None,
    operation: str | None,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """List jobs, newest first.

    \b
    Example:
      holdfast job list --status Failed
    """
    scope = find_scope(group, vault)
    asked = {"operation": operation, "status": status}
    terms = [f"{key} eq '{value}'" for key, value in asked.items() if value]
    query = {"$filter": " and ".join(terms)} if terms else None
    show.emit(scope.api.listed(f"{scope.path}/backupJobs", query), output, COLUMNS)


@command.command("show")
@click.argument("job_id")
@options.vault
@options.output
def show_(job_id: str, group: str | None, vault: str | None, output: str) -> None:
    """Show a job: its end, findings and history.

    \b
    Example:
      holdfast job show ID
    """
    scope = find_scope(group, vault)
    body = scope.api.get(scope.job(job_id))
    if output == "json":
        show.emit_json(body)
        return
    follow.summary(body)
    ours = body["properties"]["holdfast"]
    if body["properties"]["status"] not in follow.ENDED:
        click.echo(f"progress: {follow.progress_text(body) or 'none yet'}")
        click.echo(f"detail: {show.cell_text(ours['detail'])}")
    follow.show_findings(ours["findings"][follow.SHOWN_FINDINGS :])
    click.echo("history (UTC):")
    for event in ours["history"]:
        text = show.plain(f"{event['event']}: {event['message']}")
        click.echo(f"  {show.moment(event['at'])}  {text}")


@command.command()
@click.argument("job_id")
@options.vault
@options.output
def wait(job_id: str, group: str | None, vault: str | None, output: str) -> int:
    """Show progress until a job ends.

    \b
    Example:
      holdfast job wait ID
    """
    scope = find_scope(group, vault)
    scope.api.get(scope.job(job_id))
    return follow.follow(scope, job_id, wait=True, output=output)


@command.command()
@click.argument("job_id")
@options.vault
def cancel(job_id: str, group: str | None, vault: str | None) -> None:
    """Ask a job to stop; what was sent so far is kept for the next one.

    \b
    Example:
      holdfast job cancel ID
    """
    scope = find_scope(group, vault)
    scope.api.call("POST", f"{scope.job(job_id)}/cancel")
    click.echo(f"cancelling; see: holdfast job show {job_id}")
