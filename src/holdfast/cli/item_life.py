"""holdfast item disable, undelete, resume"""

from __future__ import annotations

import click

from holdfast.cli import follow, options, policy_plan, show
from holdfast.cli.api import find_scope
from holdfast.cli.item_put import COLUMNS, put_item


@click.command()
@click.argument("name")
@options.container
@click.option("--delete-data", is_flag=True, help="Also delete all its recovery points.")
@click.option(
    "--keep-policy",
    "--retain-as-per-policy",
    "keep_policy",
    is_flag=True,
    help="Let the policy go on expiring points; the latest stays.",
)
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
    """Stop backups of an item and keep its recovery points for ever (or delete them).

    Deleted points can be undeleted until the vault's soft delete period ends.

    \b
    Example:
      holdfast item disable docs --container web1
    """
    return disable_item(name, container, delete_data, keep_policy, yes, group, vault, output)


def disable_item(
    name: str,
    container: str,
    delete_data: bool,
    keep_policy: bool,
    yes: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """The exit code."""
    if delete_data and keep_policy:
        raise click.UsageError("give either --delete-data or --retain-as-per-policy")
    scope = find_scope(group, vault)
    if delete_data:
        options.confirm(f"Delete all recovery points of {name.rpartition(';')[2]}?", yes)
        answer = scope.api.call("DELETE", scope.item(container, name))
        job = follow.job_id_of(scope, answer.headers)
        return follow.follow(scope, job, wait=True, output=output)
    state = "BackupsSuspended" if keep_policy else "ProtectionStopped"
    body = put_item(scope, container, name, {"protectionState": state, "policyId": ""})
    show.emit(body, output, COLUMNS)
    return 0


@click.command()
@click.argument("name")
@options.container
@options.output
def undelete(name: str, container: str, group: str | None, vault: str | None, output: str) -> None:
    """Bring the deleted recovery points of an item back; its backups stay stopped.

    \b
    Example:
      holdfast item undelete docs --container web1
    """
    undelete_item(name, container, group, vault, output)


def undelete_item(
    name: str, container: str, group: str | None, vault: str | None, output: str
) -> None:
    """Show it when it is back."""
    scope = find_scope(group, vault)
    asked = {"protectionState": "ProtectionStopped", "policyId": "", "isRehydrate": True}
    show.emit(put_item(scope, container, name, asked), output, COLUMNS)


@click.command()
@click.argument("name")
@options.container
@click.option("--policy", required=True, help="The policy that counts from now on.")
@policy_plan.PLAN
@options.output
def resume(
    name: str,
    container: str,
    policy: str,
    plan: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """Protect a stopped item again.

    The policy counts for the recovery points there are: --plan shows which would expire.

    \b
    Example:
      holdfast item resume docs --container web1 --policy nightly
    """
    scope = find_scope(group, vault)
    if plan:
        asked = {"policy": policy, "container": container, "item": name}
        policy_plan.show_plan(scope, asked, output)
        return
    scope.api.get(scope.item(container, name))
    body = put_item(scope, container, name, {"policyId": scope.policy(policy), "holdfast": {}})
    show.emit(body, output, COLUMNS)
    policy_plan.tell_change(body, output)
