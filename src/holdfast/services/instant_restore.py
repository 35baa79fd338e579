"""Machines that run from a vault, and recovery points tested by starting them: refused before any
job when they cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, jobs
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.points import PointRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.restore_tests import DEFAULT_SECONDS, MOST_SECONDS
from holdfast.domain.virtual_machines import check_machine_name, container_name, item_name
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.ports.vm_tasks import (
    MAX_SCRIPT,
    TAG_JOB,
    InstantMachine,
    MoveDisks,
    RestoreTest,
)
from holdfast.services.accounts import account_of_id
from holdfast.services.items import find_container, find_item
from holdfast.services.machine_items import HOST
from holdfast.services.machines import MachineView, find_machine, there
from holdfast.services.platform import Platform
from holdfast.services.point_jobs import submit_on_point
from holdfast.services.recovery import find_point

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunAsked:
    """A job to submit. ``host``: the container that does it; ``elsewhere``: it is not the
    machine's own."""

    item: ItemRow
    point: PointRow
    host: ContainerRow
    target: InstantMachine | MoveDisks | RestoreTest
    elsewhere: bool
    account: str = ""


def plan_instant(platform: Platform, vault: VaultRow, machine: str, properties: Body) -> RunAsked:
    """UsageError (InvalidName, UserErrorDisksExcluded); NotFoundError (ItemNotFound,
    ContainerNotFound, RecoveryPointNotFound); ConflictError (UserErrorTargetVmExists,
    InstantRestoreUnderWay, TargetHostUnknown)."""
    with platform.catalog.read() as connection:
        item, point = _item_and_point(connection, vault, machine, properties)
        own, host = _hosts(connection, vault, item, str(properties.get("container") or ""))
        name = check_machine_name(str(properties.get("name") or f"{item.friendly_name}-instant"))
        _check_free(connection, vault, item, point, name)
    elsewhere = own is None or own.id != host.id
    return RunAsked(item, point, host, InstantMachine(name=name), elsewhere)


def plan_test(platform: Platform, vault: VaultRow, machine: str, properties: Body) -> RunAsked:
    """Errors as ``plan_instant``, and UsageError (InvalidRestoreTest)."""
    script, seconds = properties.get("script") or "", properties.get("timeoutSeconds")
    seconds = DEFAULT_SECONDS if seconds is None else seconds
    known = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not isinstance(script, str) or len(script) > MAX_SCRIPT:
        raise _no_test(f"script must be text of at most {MAX_SCRIPT:,} characters")
    if not known or not 1 <= seconds <= MOST_SECONDS:
        raise _no_test(f"timeoutSeconds must be a number from 1 to {MOST_SECONDS}")
    with platform.catalog.read() as connection:
        item, point = _item_and_point(connection, vault, machine, properties)
        own, host = _hosts(connection, vault, item, str(properties.get("container") or ""))
    elsewhere = own is None or own.id != host.id
    return RunAsked(item, point, host, RestoreTest(script=script, seconds=seconds), elsewhere)


def plan_move(platform: Platform, vault: VaultRow, machine: str, properties: Body) -> RunAsked:
    """``machine``: one that was restored instantly. UsageError (InvalidStorageAccount,
    StorageAccountRequired); NotFoundError (ResourceNotFound); ConflictError
    (InstantMachineNotServed, InstantRestoreUnderWay)."""
    with platform.catalog.read() as connection:
        view = find_machine(connection, vault.subscription_id, vault.group_key, machine, vault.id)
        serving = serving_job(connection, view)
        if serving is None:
            raise ConflictError(
                f"virtual machine {machine} does not run from the vault",
                code="InstantMachineNotServed",
                hint="start one: holdfast vm instant VM --recovery-point POINT --name NAME",
            )
        _, host = there(view)
        account = _account(connection, vault, properties, host)
        name = str(serving.parameters["target"]["name"])
        if _jobs_of(connection, vault, "move", name):
            raise _under_way(f"the disks of {name} are being moved")
        item, point = _of_job(connection, vault, serving)
    return RunAsked(item, point, host, MoveDisks(name=name, folder=account[1]), False, account[0])


def start(platform: Platform, vault: VaultRow, asked: RunAsked, by: str) -> str:
    """The job's id."""
    keys = isinstance(asked.target, InstantMachine)
    return submit_on_point(
        platform, vault, asked, by, storageAccount=asked.account, restoreKeys=keys
    )


def serving_job(connection: Connection, view: MachineView) -> JobRow | None:
    """The job that keeps a machine running from the vault, by the word of its host and only if it
    is that host's."""
    report = view.report
    job = jobs.get_job(connection, report.tags.get(TAG_JOB, "")) if report is not None else None
    if job is None or report is None or not job.active or job.vault_id != view.row.vault_id:
        return None
    instant = (job.parameters.get("target") or {}).get("kind") == "instant"
    return job if instant and job.container_id == report.container_id else None


def find_tested(
    platform: Platform, vault: VaultRow, machine: str, point: str
) -> tuple[ItemRow, PointRow]:
    """A recovery point that was tested. NotFoundError (RestoreTestNotFound, ...)."""
    with platform.catalog.read() as connection:
        item, found = _item_and_point(connection, vault, machine, {"recoveryPointId": point})
    if not found.details.get("restoreTest"):
        raise NotFoundError(
            f"recovery point {found.rp_id} of {item.friendly_name} was not tested",
            code="RestoreTestNotFound",
            hint="test it: holdfast vm test VM --recovery-point POINT",
        )
    return item, found


def _item_and_point(
    connection: Connection, vault: VaultRow, machine: str, properties: Body
) -> tuple[ItemRow, PointRow]:
    group = vault.group_key
    _, item = find_item(
        connection, vault, container_name(group, machine), item_name(group, machine)
    )
    point = find_point(connection, vault, item, str(properties.get("recoveryPointId") or "latest"))
    disks = (point.details.get("machine") or {}).get("disks") or []
    if left_out := sorted(disk["lun"] for disk in disks if not disk["included"]):
        raise UsageError(
            f"disks with LUN {', '.join(map(str, left_out))} are not in this recovery point, so it "
            "makes no whole machine",
            code="UserErrorDisksExcluded",
            hint="restore its disks: holdfast vm restore VM --disks-to STORAGE",
        )
    return item, point


def _hosts(
    connection: Connection, vault: VaultRow, item: ItemRow, named: str
) -> tuple[ContainerRow | None, ContainerRow]:
    """(the machine's own, the one that is to do it)."""
    own = containers.get_container(connection, str(item.properties.get(HOST) or ""))
    host = find_container(connection, vault, named) if named else own
    if host is None:
        raise ConflictError(
            f"the host of {item.friendly_name} is not registered any more",
            code="TargetHostUnknown",
            hint="say where: --container HOST",
        )
    return own, host


def _check_free(
    connection: Connection, vault: VaultRow, item: ItemRow, point: PointRow, name: str
) -> None:
    """A machine of that name that was restored from the same point and is served by nobody goes
    on."""
    if _jobs_of(connection, vault, "instant", name):
        raise _under_way(f"{name} runs from the vault already")
    try:
        view = find_machine(connection, vault.subscription_id, vault.group_key, name)
    except NotFoundError:
        return
    report = view.report
    before = jobs.get_job(connection, report.tags.get(TAG_JOB, "")) if report is not None else None
    if before is not None and _is_of(before, item, point):
        return
    raise ConflictError(
        f"there is a virtual machine {name} already",
        code="UserErrorTargetVmExists",
        hint="give the new one another name",
    )


def _is_of(job: JobRow, item: ItemRow, point: PointRow) -> bool:
    return (job.item_id, job.parameters.get("recoveryPointId")) == (item.id, point.rp_id)


def _jobs_of(connection: Connection, vault: VaultRow, kind: str, name: str) -> list[JobRow]:
    """Restores of that kind of a machine of that name that have not ended."""
    wanted = (kind, name.lower())
    found = []
    for job in jobs.active_jobs_of(connection, vault.id, kind="restore"):
        target = job.parameters.get("target")
        told = target if isinstance(target, dict) else {}
        if (told.get("kind"), str(told.get("name") or "").lower()) == wanted:
            found.append(job)
    return found


def _of_job(connection: Connection, vault: VaultRow, job: JobRow) -> tuple[ItemRow, PointRow]:
    item = items.get_item(connection, job.item_id or "")
    if item is None:
        raise NotFoundError(
            "the protected item of the machine was removed",
            code="ItemNotFound",
            hint="see which exist: holdfast vm list",
        )
    return item, find_point(connection, vault, item, str(job.parameters["recoveryPointId"]))


def _account(
    connection: Connection, vault: VaultRow, properties: Body, host: ContainerRow
) -> tuple[str, str]:
    """(name, folder) of a folder of that host."""
    given = properties.get("storageAccountId")
    if not given:
        raise UsageError(
            "moving disks needs a storage account to put them into",
            code="StorageAccountRequired",
            hint="name a folder: holdfast storage-account create NAME --container HOST --path DIR",
        )
    view = account_of_id(connection, vault.subscription_id, str(given))
    if view.host.id != host.id:
        raise UsageError(
            f"storage account {view.row.name} is on host {view.host.friendly_name}, and the "
            f"machine runs on {host.friendly_name}",
            code="InvalidStorageAccount",
            hint="disks are moved to a folder of the host the machine runs on",
        )
    return view.row.name, view.row.path


def _under_way(what: str) -> ConflictError:
    return ConflictError(
        what,
        code="InstantRestoreUnderWay",
        hint="give another name, or cancel that job: holdfast job list, holdfast job cancel JOB",
    )


def _no_test(why: str) -> UsageError:
    return UsageError(why, code="InvalidRestoreTest", hint="correct it and ask again")
