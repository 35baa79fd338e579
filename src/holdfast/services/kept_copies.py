"""Local copies of a machine's disks: which recovery points have them, as hosts report, and points
that consist of nothing else yet, or for good when their transfer failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import machines, points
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import ConflictError

Body = dict[str, Any]
LOCAL_ONLY = "localOnly"  # of a point's details: the container whose host has it


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """``container_id``: of the host that has it; ``told``: as it reports it, see
    ``ports.vm_tasks.KeptSeen``; ``disks``: of the machine, as it reports them."""

    container_id: str
    told: Body
    disks: Sequence[Body]

    def is_of(self, point: PointRow) -> bool:
        """By the point, or by the job that made both: whoever was to note the point may have died
        between the two."""
        named = self.told.get("point")
        return named == point.rp_id if named else self.told.get("jobId") == point.job_id


def copies_of(connection: Connection, item: ItemRow) -> list[HeldCopy]:
    """Of a machine, on all hosts that report it; of other items none."""
    if item.workload_type != WORKLOAD:
        return []
    reports = machines.reports_of(connection, item.vault_id, str(item.properties.get("uuid")))
    return [
        HeldCopy(report.container_id, told, report.disks)
        for report in reports
        for told in report.kept
    ]


def copy_of(point: PointRow, copies: Sequence[HeldCopy]) -> HeldCopy | None:
    """A local copy of a recovery point that is in the vault."""
    return next((one for one in copies if one.is_of(point)), None)


def local_points(
    connection: Connection, item: ItemRow, copies: Sequence[HeldCopy]
) -> list[PointRow]:
    """Points that are in no vault, newest first. A copy whose point was deleted there is none: that
    was somebody's will."""
    fresh = [one for one in copies if not one.told.get("point")]
    found = [
        _as_point(item, one)
        for one in fresh
        if points.point_of_job(connection, str(one.told.get("jobId") or "")) is None
    ]
    return sorted(found, key=lambda row: row.time, reverse=True)


def find_copied(connection: Connection, item: ItemRow, token: str) -> PointRow | None:
    """The point a copy is of: in the vault, or made of the copy alone. None: there is no such
    copy."""
    copies = copies_of(connection, item)
    copy = next((one for one in copies if one.told["token"] == token), None)
    if copy is None:
        return None
    named, job = str(copy.told.get("point") or ""), str(copy.told.get("jobId") or "")
    if named:
        return points.get_point(connection, item.vault_id, named)
    return points.point_of_job(connection, job) or _as_point(item, copy)


def in_vault(point: PointRow) -> PointRow:
    """ConflictError (RecoveryPointNotInVault) for a point that is not there."""
    if LOCAL_ONLY not in point.details:
        return point
    raise ConflictError(
        f"recovery point {point.rp_id} is not in the vault: its host alone has it",
        code="RecoveryPointNotInVault",
        hint="its disks can be restored there: holdfast vm restore NAME --recovery-point "
        f"{point.rp_id}",
    )


def _as_point(item: ItemRow, copy: HeldCopy) -> PointRow:
    """Nobody counts how much of it is its own."""
    told, luns = copy.told, set(copy.told.get("luns") or ())
    until = datetime.fromisoformat(told["until"]).astimezone(UTC)
    names = [{**disk, "included": disk["lun"] in luns} for disk in copy.disks]
    return PointRow(
        vault_id=item.vault_id,
        rp_id=told["token"],
        item_id=item.id,
        job_id=str(told.get("jobId") or ""),
        sequence=0,
        time=datetime.fromisoformat(told["takenAt"]).astimezone(UTC),
        type="Incremental",
        scheduled=False,
        tags=[],
        retain_until=until,
        logical_bytes=sum(disk["sizeBytes"] for disk in copy.disks if disk["lun"] in luns),
        transferred_bytes=0,
        stored_bytes=0,
        file_count=0,
        findings_count=0,
        consistency=str(told.get("consistency") or "CrashConsistent"),
        consistency_reason=str(told.get("reason") or ""),
        details={
            LOCAL_ONLY: copy.container_id,
            "machine": {"disks": names},
            "measured": {"instant": {"kept": True, "until": told["until"], "reason": ""}},
        },
    )
