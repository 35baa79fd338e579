"""holdfast vm ..."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from holdfast.cli import follow, item_life, options, policy_plan, show, vm_runs
from holdfast.cli.api import find_scope
from holdfast.cli.item_put import put_item
from holdfast.cli.storage_accounts import path_of
from holdfast.cli.vm_files import browse, names_of, restore_files

LEVELS = click.Choice(["application", "file-system", "crash"])
LEAST = click.Choice(["application", "file-system", "crash", "policy"])
FORMATS = click.Choice(["qcow2", "raw", "vhd", "vhdx"])


def _disks(row: show.Body) -> str:
    found = show.prop("holdfast", "disks")(row) or []
    return f"{len(found)} ({show.size(sum(disk['sizeBytes'] for disk in found))})"


def _source(row: show.Body) -> str:
    found = show.prop("holdfast", "runsFromVault")(row)
    return f"instant restore of {found['machine']}" if found else ""


COLUMNS: list[show.Column] = [
    ("vm", lambda row: row["name"]),
    ("host", show.prop("holdfast", "hosts")),
    ("power", show.prop("holdfast", "powerState")),
    ("guest agent", show.prop("holdfast", "agentState")),
    ("disks", _disks),
    ("protection", show.prop("holdfast", "protectionState")),
    ("latest point (UTC)", show.when("holdfast", "lastRecoveryPoint")),
    ("state", show.prop("holdfast", "state")),
    ("runs from the vault", _source),
]
PROTECTED: list[show.Column] = [
    ("vm", show.prop("friendlyName")),
    ("policy", show.prop("policyName")),
    ("state", show.prop("protectionState")),
    ("consistency", show.prop("holdfast", "consistencyInForce", "wish")),
    ("at least", show.prop("holdfast", "consistencyInForce", "atLeast")),
    ("asked by", show.prop("holdfast", "consistencyInForce", "atLeastBy")),
    ("left out (LUN)", show.prop("extendedProperties", "diskExclusionProperties", "diskLunList")),
    ("latest point (UTC)", show.when("lastRecoveryPoint")),
]
POINTS: list[show.Column] = [
    ("recovery point", lambda row: row["name"]),
    ("time (UTC)", show.when("recoveryPointTime")),
    ("consistency", show.prop("recoveryPointType")),
    ("why not more", show.prop("holdfast", "consistency", "reason")),
    ("frozen (ms)", show.prop("holdfast", "measured", "freezeMs")),
    ("stopped (ms)", show.prop("holdfast", "measured", "stopMs")),
    ("waited (ms)", show.prop("holdfast", "measured", "waitedMs")),
    ("expires (UTC)", show.when("recoveryPointProperties", "expiryTime")),
]


@click.group()
def command() -> None:
    """Virtual machines of hosts that are enrolled.

    \b
    Example:
      holdfast vm list
      holdfast vm protect web --policy EnhancedPolicy
    """


for _one in (vm_runs.instant, vm_runs.migrate, vm_runs.test):
    command.add_command(_one)


@command.command("list")
@options.vault
@options.output
def list_(group: str | None, vault: str | None, output: str) -> None:
    """List the virtual machines that hosts of the vault report.

    \b
    Example:
      holdfast vm list
    """
    scope = find_scope(group, vault)
    show.emit(scope.api.listed(f"{scope.ours}/virtualMachines"), output, COLUMNS)


@command.command("show")
@click.argument("vm")
@options.vault
@options.output
def show_(vm: str, group: str | None, vault: str | None, output: str) -> None:
    """Show a virtual machine: its disks and, if it is protected, its recovery points.

    \b
    Example:
      holdfast vm show web
    """
    scope = find_scope(group, vault)
    body = scope.api.get(f"{scope.ours}/virtualMachines/{quote(vm, safe='')}")
    show.emit(body, output, COLUMNS)
    if output != "table":
        return
    ours = body["properties"]["holdfast"]
    if ours["reason"]:
        click.echo(f"note: {ours['reason']}")
    click.echo()
    rows = [
        [disk["lun"], disk["name"], show.size(disk["sizeBytes"]), disk.get("problem", "")]
        for disk in ours["disks"]
    ]
    show.table(["LUN", "disk", "size", "cannot be backed up because"], rows)
    if ours["protectionState"] not in ("NotProtected", "SoftDeleted"):
        click.echo()
        points = scope.api.listed(f"{scope.item(*names_of(scope, body['name']))}/recoveryPoints")
        show.emit(points, output, POINTS)


@command.command()
@click.argument("vm")
@click.option("--policy", required=True, help="Name of a policy of type AzureIaasVM.")
@click.option(
    "--exclude-disk",
    "excluded",
    type=click.IntRange(0, 63),
    multiple=True,
    help="LUN of a data disk to leave out; repeatable. The system's disk is always backed up.",
)
@click.option("--all-disks", is_flag=True, help="Leave no disk out any more.")
@click.option("--consistency", type=LEVELS, help="What is tried first (default: application).")
@click.option(
    "--at-least",
    type=LEAST,
    help="Below this a backup fails (default: policy, as its policy says; else crash).",
)
@options.output
@options.vault
def protect(
    vm: str,
    policy: str,
    excluded: tuple[int, ...],
    all_disks: bool,
    consistency: str | None,
    at_least: str | None,
    group: str | None,
    vault: str | None,
    output: str,
) -> None:
    """Protect a virtual machine, or change how: policy, disks, consistency.

    What is not given stays as it was. It also says that a machine found on another host is the one
    that was protected.

    \b
    Example:
      holdfast vm protect web --policy EnhancedPolicy --exclude-disk 1 --at-least file-system
    """
    if excluded and all_disks:
        raise click.UsageError("give either --exclude-disk or --all-disks")
    scope = find_scope(group, vault)
    properties: dict[str, Any] = {"policyId": scope.policy(policy)}
    if excluded:
        left_out = {"diskLunList": sorted(set(excluded)), "isInclusionList": False}
        properties["extendedProperties"] = {"diskExclusionProperties": left_out}
    if all_disks:
        properties["extendedProperties"] = {"diskExclusionProperties": None}
    levels = {"wish": consistency, "atLeast": at_least}
    given = {name: level for name, level in levels.items() if level is not None}
    if given:
        properties["holdfast"] = {"consistency": given}
    body = put_item(scope, *names_of(scope, vm), properties)
    show.emit(body, output, PROTECTED)
    policy_plan.tell_change(body, output)


@command.command()
@click.argument("vm")
@click.option("--retain-until", help="Keep until this date (default: 30 days).")
@options.wait
@options.vault
@options.output
def backup(
    vm: str,
    retain_until: str | None,
    wait: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Back a virtual machine up now.

    \b
    Example:
      holdfast vm backup web --wait
    """
    scope = find_scope(group, vault)
    asked = {"objectType": "IaasVMBackupRequest", "recoveryPointExpiryTimeInUTC": retain_until}
    address = f"{scope.item(*names_of(scope, vm))}/backup"
    answer = scope.api.call("POST", address, {"properties": asked})
    job = follow.job_id_of(scope, answer.headers)
    return follow.follow(scope, job, wait=wait, output=output)


@command.command()
@click.argument("vm")
@click.option("--recovery-point", "point", required=True, help="Id, or latest.")
@click.option("--new", "new", metavar="NAME", help="As a new machine of that name.")
@click.option("--replace", is_flag=True, help="Replace the disks of the machine, which is off.")
@click.option("--disks-to", metavar="STORAGE", help="Only its disks, into a storage account.")
@click.option("--format", "form", type=FORMATS, help="Of the disks (default: qcow2).")
@click.option("--network", help="Of the new machine; none for no network.")
@click.option(
    "--disk",
    "luns",
    type=click.IntRange(-1, 63),
    multiple=True,
    help="Only the disk with this LUN (-1: the system's); repeatable.",
)
@click.option(
    "--no-safety-point",
    "unsafe",
    is_flag=True,
    help="With --replace: make no recovery point of the disks as they are first.",
)
@click.option(
    "--keys/--no-keys",
    "keys",
    default=None,
    help="Put keys of encrypted volumes into the host's key vault, or do not (default: they are "
    "put there, with --disks-to they are not).",
)
@click.option("--yes", is_flag=True, help="Do not ask before disks are replaced.")
@options.wait
@options.vault
@options.output
def restore(
    vm: str,
    point: str,
    new: str | None,
    replace: bool,
    disks_to: str | None,
    form: str | None,
    network: str | None,
    luns: tuple[int, ...],
    unsafe: bool,
    keys: bool | None,
    yes: bool,
    wait: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Restore a virtual machine: as a new one, in place, or its disks into a folder.

    \b
    Example:
      holdfast vm restore web --recovery-point latest --new web-test --wait
      holdfast vm restore web --recovery-point latest --disks-to restored --format raw --wait
    """
    if sum((new is not None, replace, disks_to is not None)) != 1:
        raise click.UsageError("give one of --new NAME, --replace and --disks-to STORAGE")
    if form and disks_to is None:
        raise click.UsageError("--format is for --disks-to")
    if network and new is None:
        raise click.UsageError("--network is for --new")
    if unsafe and not replace:
        raise click.UsageError("--no-safety-point is for --replace")
    scope = find_scope(group, vault)
    if replace:
        options.confirm(f"Replace the disks of {vm}? The old ones are kept beside them.", yes)
    asked: dict[str, Any] = {"objectType": "IaasVMRestoreRequest"}
    ours: dict[str, Any] = {} if keys is None else {"restoreKeys": keys}
    if new is not None:
        machines = f"{scope.group_path}/providers/Microsoft.Compute/virtualMachines"
        asked |= {
            "recoveryType": "AlternateLocation",
            "targetVirtualMachineId": f"{machines}/{new}",
        }
        ours["network"] = network
    elif replace:
        asked["recoveryType"] = "OriginalLocation"
        if unsafe:
            ours["safetyPoint"] = False
    else:
        account = path_of(scope, disks_to or "")
        asked |= {"recoveryType": "RestoreDisks", "storageAccountId": account}
        ours["format"] = form or "qcow2"
    if luns:
        asked["restoreDiskLunList"] = sorted(set(luns))
    address = f"{scope.point(*names_of(scope, vm), point)}/restore"
    answer = scope.api.call("POST", address, {"properties": asked | {"holdfast": ours}})
    job = follow.job_id_of(scope, answer.headers)
    return follow.follow(scope, job, wait=wait, output=output)


@command.command()
@click.argument("vm")
@click.option("--delete-data", is_flag=True, help="Also delete all its recovery points.")
@click.option("--retain-as-per-policy", is_flag=True, help="Let the policy go on expiring points.")
@options.yes
@options.vault
@options.output
def disable(
    vm: str,
    delete_data: bool,
    retain_as_per_policy: bool,
    yes: bool,
    group: str | None,
    vault: str | None,
    output: str,
) -> int:
    """Stop backups of a virtual machine and keep its recovery points for ever (or delete them).

    \b
    Example:
      holdfast vm disable web
    """
    container, name = names_of(find_scope(group, vault), vm)
    stop = item_life.disable_item
    return stop(name, container, delete_data, retain_as_per_policy, yes, group, vault, output)


@command.command()
@click.argument("vm")
@options.vault
@options.output
def undelete(vm: str, group: str | None, vault: str | None, output: str) -> None:
    """Bring the deleted recovery points of a virtual machine back; its backups stay stopped.

    \b
    Example:
      holdfast vm undelete web
    """
    container, name = names_of(find_scope(group, vault), vm)
    item_life.undelete_item(name, container, group, vault, output)


command.add_command(browse)
command.add_command(restore_files)
