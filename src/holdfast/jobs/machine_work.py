"""Work on virtual machines: which host does it, and the bodies of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from sqlalchemy import Connection

from holdfast.catalog import containers, items, machines, points, policies
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.machines import ReportRow
from holdfast.catalog.tasks import TaskRow
from holdfast.domain.consistency import in_force, own_wish
from holdfast.domain.instant_tier import goes_to_vault, instant_days
from holdfast.domain.policy import parse_policy
from holdfast.domain.virtual_machines import WORKLOAD, Exclusion, claim_error, claim_of
from holdfast.errors import ConflictError, InternalError, UsageError
from holdfast.ports.key_vault import NAME
from holdfast.ports.vm_tasks import (
    MAX_KEYS,
    DiskAsked,
    KeyShown,
    VmBackup,
    VmRestore,
    read_backed_up,
    to_body,
)
from holdfast.vaultstore.values import RecoveryPointRecord

Body = dict[str, Any]
DESCRIBED = "described"  # of a backup's task, for the server itself: agents pass over it
KeysShown = Annotated[list[KeyShown], msgspec.Meta(max_length=MAX_KEYS)]
KeyNames = Annotated[
    list[Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]],
    msgspec.Meta(max_length=MAX_KEYS),
]
REPORTED = ("passed", "reason", "readySeconds", "exitCode", "output", "screenshot")


def host_of(connection: Connection, item: ItemRow) -> tuple[ReportRow, ContainerRow]:
    """The host that has an item's machine, with what it reports of it. ConflictError
    (UserErrorVmClaimedByTwoHosts, UserErrorVmMoved), NotFoundError (UserErrorVmNotFoundV2)."""
    reports = machines.reports_of(connection, item.vault_id, str(item.properties.get("uuid")))
    found = [(one, containers.get_container(connection, one.container_id)) for one in reports]
    known = [(one, holder) for one, holder in found if holder is not None]
    claim = claim_of([holder.id for _, holder in known], item.properties.get("hostContainerId"))
    if claim != "Present":
        names = [holder.friendly_name for _, holder in known]
        raise claim_error(claim, item.friendly_name, names)
    return known[0]


def doer_of(connection: Connection, job: JobRow) -> ContainerRow | None:
    """The container whose agent does a job: its own, or for a virtual machine's that of its host.
    Errors as ``host_of``."""
    holder = containers.get_container(connection, job.container_id or "")
    item = items.get_item(connection, job.item_id or "")
    own = holder is not None and item is not None and holder.id == item.container_id
    if item is None or item.workload_type != WORKLOAD or not own:
        return holder
    return host_of(connection, item)[1]


def exclusion_of(item: ItemRow) -> Exclusion:
    """Which disks are backed up."""
    found = item.properties.get("diskExclusion") or {}
    return Exclusion(frozenset(found.get("diskLunList", ())), bool(found.get("isInclusionList")))


def disks_asked(item: ItemRow, disks: Sequence[Body]) -> tuple[DiskAsked, ...]:
    """The disks to back up of those a host reports. UsageError (DiskCannotBeBackedUp),
    ConflictError (UserErrorVmWithoutDisks)."""
    exclusion = exclusion_of(item)
    wanted = [disk for disk in disks if exclusion.includes(disk["lun"])]
    for disk in wanted:
        if disk.get("problem"):
            raise UsageError(
                f"disk {disk['name']} (LUN {disk['lun']}) of {item.friendly_name} cannot be backed "
                f"up: {disk['problem']}",
                code="DiskCannotBeBackedUp",
                hint=f"leave it out: holdfast vm protect NAME --exclude-disk {disk['lun']}",
            )
    if not wanted:
        raise ConflictError(
            f"virtual machine {item.friendly_name} has no disk to back up",
            code="UserErrorVmWithoutDisks",
            hint="see its disks: holdfast vm show NAME",
        )
    return tuple(DiskAsked(lun=disk["lun"], name=disk["name"]) for disk in wanted)


def backup_payload(
    connection: Connection, job: JobRow, item: ItemRow, *, every_run: bool = False
) -> Body:
    """The body of a backup's task, with what its recovery point will say of the machine.
    ``every_run``: of an hourly policy goes to the vault. Errors as ``host_of`` and
    ``disks_asked``."""
    report, _ = host_of(connection, item)
    wish, minimum, asker = _levels(connection, item)
    disks = disks_asked(item, report.disks)
    asked = {
        "uuid": report.uuid,
        "name": report.name,
        "disks": [msgspec.to_builtins(one) for one in disks],
        "wish": wish,
        "minimum": minimum,
        "minimumBy": asker,
        "parentPoint": item.latest_point_id or None,
        "throttleBytesPerSecond": item.properties.get("throttleBytesPerSecond"),
        "retainUntil": job.parameters.get("retainUntil"),
        "instantDays": _instant_days(connection, item),
        "localOnly": not every_run and _stays_local(connection, job, item),
        "jobId": job.id,
    }
    body = to_body(msgspec.convert(asked, VmBackup))
    return body | {DESCRIBED: _described(report, [disk.lun for disk in disks])}


def _instant_days(connection: Connection, item: ItemRow) -> int:
    policy = policies.get_policy(connection, item.policy_id or "")
    return instant_days(policy.properties) if policy is not None else 0


def _stays_local(connection: Connection, job: JobRow, item: ItemRow) -> bool:
    """Whether a local copy will do. What a failed run was to be kept for is in the vault first."""
    policy = policies.get_policy(connection, item.policy_id or "")
    if policy is None or job.slot_at is None or item.missed_ranges:
        return False
    parsed, newest = parse_policy(policy.properties), points.latest_point(connection, item.id)
    if parsed.schedule is None or newest is None:
        return False
    return not goes_to_vault(parsed.schedule, parsed.zone, job.slot_at, newest.time)


def _levels(connection: Connection, item: ItemRow) -> tuple[str, str, str]:
    """(wish, minimum, who asks for that)."""
    policy = policies.get_policy(connection, item.policy_id or "")
    found = in_force(own_wish(item.properties), policy.properties if policy is not None else {})
    asker = f"the protection of {item.friendly_name}"
    if found.by == "policy" and policy is not None:
        asker = f"policy {policy.name}"
    return found.wish, found.minimum, asker


def restore_payload(job: JobRow, item: ItemRow) -> Body:
    """The body of a restore's task: its parameters hold the target as it was asked for."""
    asked = {
        "recoveryPointId": job.parameters["recoveryPointId"],
        "uuid": str(item.properties.get("uuid")),
        "name": item.friendly_name,
        "target": job.parameters["target"],
        "jobId": job.id,
        "luns": job.parameters.get("luns") or [],
        "restoreKeys": bool(job.parameters.get("restoreKeys")),
        "localToken": str(job.parameters.get("localToken") or ""),
    }
    return to_body(msgspec.convert(asked, VmRestore))


def is_test(job: JobRow) -> bool:
    """Whether a restore is a test of its recovery point."""
    return _target_kind(job.parameters) == "test"


def runs_machine(task: TaskRow) -> bool:
    """Whether it is an instant restore's that an agent has had: a machine may run from the point,
    or wait for it. However long its host is away, only the agent there can end that."""
    return task.fence > 0 and _target_kind(task.payload) == "instant"


def _target_kind(asked: Body) -> str:
    target = asked.get("target")
    return str(target.get("kind")) if isinstance(target, dict) else ""


def write_test_report(connection: Connection, job: JobRow, told: Body, now: datetime) -> None:
    """Keep on its recovery point what a test found, in place of an earlier one's."""
    row = points.get_point(connection, job.vault_id, str(job.parameters.get("recoveryPointId")))
    if row is None:
        return
    kept = {key: told[key] for key in REPORTED if told.get(key) not in (None, "")}
    report = {"jobId": job.id, "time": now.isoformat(), **kept}
    details = {**row.details, "restoreTest": report}
    points.note_details(connection, job.vault_id, row.rp_id, details)


def point_document(connection: Connection, item: ItemRow, asked: Body) -> Body:
    """What a recovery point says of its machine: as its host reported it when the backup began,
    with the disks that were asked for. Since then the machine, or what is excluded of it, may have
    changed; the point has not. ``asked``: the body of the backup's task."""
    if DESCRIBED in asked:
        found: Body = asked[DESCRIBED]
        return found
    reports = machines.reports_of(connection, item.vault_id, str(item.properties.get("uuid")))
    if not reports:  # a task of a server before this one
        return {"uuid": item.properties.get("uuid"), "name": item.friendly_name, "disks": []}
    return _described(reports[0], [disk["lun"] for disk in asked.get("disks", ())])


def _described(report: ReportRow, luns: Sequence[int]) -> Body:
    return {
        "uuid": report.uuid,
        "name": report.name,
        "hypervisor": report.hypervisor,
        "osType": report.os_type,
        "powerState": report.power_state,
        "processors": report.processors,
        "memoryBytes": report.memory_bytes,
        "tags": report.tags,
        "disks": [
            {
                "lun": disk["lun"],
                "name": disk["name"],
                "sizeBytes": disk["sizeBytes"],
                "included": disk["lun"] in luns,
            }
            for disk in report.disks
        ],
    }


def left_out(details: Body) -> list[int]:
    """LUNs of the disks that a recovery point's machine had and its backup left out."""
    machine = details.get("machine") or {}
    return [disk["lun"] for disk in machine.get("disks", ()) if not disk["included"]]


def keys_of(record: RecoveryPointRecord) -> Body:
    """What a recovery point says of the keys of encrypted volumes: names and versions. Nothing of a
    machine that has none, or of what cannot be read."""
    extra = record.extra
    if extra.get("encrypted") is not True:
        return {}
    try:
        keys = msgspec.convert(extra.get("keys"), KeysShown)
        missing = msgspec.convert(extra.get("keysMissing"), KeyNames)
    except msgspec.ValidationError:
        keys, missing = [], []
    return {"encryption": {"keys": msgspec.to_builtins(keys), "keysMissing": missing}}


def measured_of(result: Body) -> Body:
    """What a backup's agent measured, for its recovery point and its job. Nothing of what cannot
    be read: the point is in the vault and counts."""
    try:
        told = read_backed_up(result)
    except InternalError:
        return {}
    return {
        "freezeMs": told.freeze_ms,
        "stopMs": told.stop_ms,
        "waitedMs": told.waited_ms,
        "guestWriteMs": told.guest_write_ms,
        **({"instant": msgspec.to_builtins(told.instant)} if told.instant is not None else {}),
        "disks": [msgspec.to_builtins(disk) for disk in told.disks],
    }
