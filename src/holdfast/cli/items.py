"""holdfast item ..."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import item_life, options, policy_plan, show
from holdfast.cli.api import find_scope
from holdfast.cli.item_put import COLUMNS, put_item
from holdfast.cli.rates import Hours, Rate, hours_text, rate_text

THROTTLE = click.option(
    "--throttle",
    type=Rate(),
    metavar="RATE",
    help="Most bytes a second that a backup sends, e.g. 20MB; 0 or none: no limit.",
)

WORK_HOURS = click.option(
    "--work-hours",
    type=Hours(),
    metavar="HOURS",
    help="Another limit in some hours, e.g. 'Mon-Fri 09:00-18:00 Europe/Berlin 2MB'; or none.",
)


@click.group()
def command() -> None:
    """What is protected, under which policy.

    \b
    Example:
      holdfast item protect docs --container web1 --include /home --policy DefaultPolicy
    """


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
@WORK_HOURS
@options.output
def protect(
    name: str,
    container: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    policy: str,
    throttle: int | None,
    work_hours: dict[str, Any] | None,
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
    if work_hours:
        ours["workHours"] = work_hours
    properties = {"policyId": scope.policy(policy), "holdfast": ours}
    show.emit(put_item(scope, container, name, properties), output, COLUMNS)


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
        if "includePaths" in ours:
            click.echo("includes: " + show.cell_text(ours["includePaths"]))
            click.echo("excludes: " + (show.cell_text(ours["excludeGlobs"]) or "nothing"))
            click.echo("throttle: " + rate_text(ours.get("throttleBytesPerSecond")))
            click.echo("work hours: " + hours_text(ours.get("workHours")))
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
@WORK_HOURS
@policy_plan.PLAN
@options.output
def update(
    name: str,
    container: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    policy: str | None,
    throttle: int | None,
    work_hours: dict[str, Any] | None,
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
    if not (include or exclude or policy or throttle is not None or work_hours is not None):
        raise click.UsageError(
            "say what to change: --include, --exclude, --policy, --throttle or --work-hours"
        )
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
    if work_hours is not None:
        ours["workHours"] = work_hours or None
    properties: dict[str, Any] = {"holdfast": ours}
    if policy:
        properties["policyId"] = scope.policy(policy)
    body = put_item(scope, container, name, properties)
    show.emit(body, output, COLUMNS)
    policy_plan.tell_change(body, output)


for _one in (item_life.disable, item_life.undelete, item_life.resume):
    command.add_command(_one)
