"""holdfast item ..."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import follow, options, policy_plan, show
from holdfast.cli.api import Scope, find_scope
from holdfast.cli.rates import Rate, rate_text

COLUMNS: list[show.Column] = [
    ("item", show.prop("friendlyName")),
    ("machine", show.prop("computerName")),
    ("policy", show.prop("policyName")),
    ("state", show.prop("protectionState")),
    ("last backup", show.prop("lastBackupStatus")),
    ("latest point (UTC)", show.when("lastRecoveryPoint")),
    ("points", show.prop("extendedInfo", "recoveryPointCount")),
    ("health", show.prop("holdfast", "health")),
]

THROTTLE = click.option(
    "--throttle",
    type=Rate(),
    metavar="RATE",
    help="Most bytes a second that a backup sends, e.g. 20MB; 0 or none: no limit.",
)


@click.group()
def command() -> None:
    """What is protected, under which policy.

    \b
    Example:
      holdfast item protect docs --container web1 --include /home --policy DefaultPolicy
    """


def _put(scope: Scope, container: str, name: str, properties: dict[str, Any]) -> show.Body:
    body = {
        "properties": {
            "protectedItemType": "MabFileFolderProtectedItem",
            "backupManagementType": "MAB",
            "friendlyName": name,
            **properties,
        }
    }
    found: show.Body = scope.api.call("PUT", scope.item(container, name), body).body
    return found


@command.command()
@click.argument("name")
@options.container
@click.option(
    "--include",
    multiple=True,
    required=True,
    type=options.PATH_TEXT,
    help="Absolute path; repeatable.",
)
@click.option(
    "--exclude", multiple=True, type=options.PATH_TEXT, help="Pattern, e.g. '*.tmp'; repeatable."
)
@click.option("--policy", required=True, help="Name of the policy.")
@THROTTLE
@options.output
def protect(
    name: str,
    container: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    policy: str,
    throttle: int | None,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """Protect folders of a machine.

    \b
    Example:
      holdfast item protect docs --container web1 --include /home --policy DefaultPolicy
    """
    scope = find_scope(group, vault)
    ours: dict[str, Any] = {"includePaths": list(include), "excludeGlobs": list(exclude)}
    if throttle is not None:
        ours["throttleBytesPerSecond"] = throttle
    properties = {"policyId": scope.policy(policy), "holdfast": ours}
    show.emit(_put(scope, container, name, properties), output, COLUMNS)


@command.command("list")
@options.vault
@options.output
def list_(group: str | None, vault: str | None, output: str) -> None:
    """List items, failed and overdue ones marked.

    \b
    Example:
      holdfast item list
    """
    scope = find_scope(group, vault)
    show.emit(scope.api.listed(f"{scope.path}/backupProtectedItems"), output, COLUMNS)


@command.command("show")
@click.argument("name")
@options.container
@options.output
def show_(name: str, container: str, group: str | None, vault: str | None, output: str) -> None:
    """Show an item.

    \b
    Example:
      holdfast item show docs --container web1
    """
    scope = find_scope(group, vault)
    body = scope.api.get(scope.item(container, name))
    show.emit(body, output, COLUMNS)
    if output == "table":
        ours = body["properties"]["holdfast"]
        click.echo("includes: " + show.cell_text(ours["includePaths"]))
        click.echo("excludes: " + (show.cell_text(ours["excludeGlobs"]) or "nothing"))
        click.echo("throttle: " + rate_text(ours.get("throttleBytesPerSecond")))
        click.echo("next run (UTC): " + (show.moment(ours["nextRunAt"]) or "none"))
        if ours.get("lastErrorCode"):
            click.echo(
                f"last error: {ours['lastErrorCode']}: holdfast job show {ours['lastJobId']}"
            )
        for remark in ours["remarks"]:
            click.echo(f"note: {remark}")


@command.command()
@click.argument("name")
@options.container
@click.option("--include", multiple=True, type=options.PATH_TEXT, help="Replaces the includes.")
@click.option("--exclude", multiple=True, type=options.PATH_TEXT, help="Replaces the excludes.")
@click.option("--policy", help="Another policy; resumes stopped protection.")
@THROTTLE
@policy_plan.PLAN
@options.output
def update(
    name: str,
    container: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    policy: str | None,
    throttle: int | None,
    plan: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """Change an item's paths, policy or speed limit, or resume it.

    Another policy counts for the recovery points there are: --plan shows for which.

    \b
    Example:
      holdfast item update docs --container web1 --policy nightly
    """
    if not (include or exclude or policy or throttle is not None):
        raise click.UsageError("say what to change: --include, --exclude, --policy or --throttle")
    if plan and not policy:
        raise click.UsageError("--plan shows what another policy would do: give --policy")
    scope = find_scope(group, vault)
    if plan:
        asked = {"policy": policy, "container": container, "item": name}
        policy_plan.show_plan(scope, asked, output)
        return
    scope.api.get(scope.item(container, name))
    ours: dict[str, Any] = {}
    if include:
        ours["includePaths"] = list(include)
    if exclude:
        ours["excludeGlobs"] = list(exclude)
    if throttle is not None:
        ours["throttleBytesPerSecond"] = throttle
    properties: dict[str, Any] = {"holdfast": ours}
    if policy:
        properties["policyId"] = scope.policy(policy)
    body = _put(scope, container, name, properties)
    show.emit(body, output, COLUMNS)
    policy_plan.tell_change(body, output)


@command.command()
@click.argument("name")
@options.container
@click.option("--delete-data", is_flag=True, help="Also delete all its recovery points.")
@click.option("--keep-policy", is_flag=True, help="Let the policy go on expiring points.")
@options.yes
@options.output
def disable(
    name: str,
    container: str,
    delete_data: bool,
    keep_policy: bool,
    yes: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Stop backups of an item and keep its recovery points (or delete them).

    \b
    Example:
      holdfast item disable docs --container web1
    """
    if delete_data and keep_policy:
        raise click.UsageError("give either --delete-data or --keep-policy")
    scope = find_scope(group, vault)
    if delete_data:
        options.confirm(f"Delete all recovery points of {name}?", yes)
        answer = scope.api.call("DELETE", scope.item(container, name))
        job = follow.job_id_of(scope, answer.headers)
        return follow.follow(scope, job, wait=True, output=output)
    state = "BackupsSuspended" if keep_policy else "ProtectionStopped"
    body = _put(scope, container, name, {"protectionState": state, "policyId": ""})
    show.emit(body, output, COLUMNS)
    return 0
