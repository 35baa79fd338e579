"""Local copies of a machine's disks: which recovery points have them, as hosts report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import machines
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.domain.virtual_machines import WORKLOAD

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """``container_id``: of the host that has it; ``told``: as it reports it, see
    ``ports.vm_tasks.KeptSeen``."""

    container_id: str
    told: Body

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
    return [HeldCopy(report.container_id, told) for report in reports for told in report.kept]


def copy_of(point: PointRow, copies: Sequence[HeldCopy]) -> HeldCopy | None:
    """A local copy of a recovery point that is in the vault."""
    return next((one for one in copies if one.is_of(point)), None)
