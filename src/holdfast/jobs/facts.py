"""What the service says about a recovery point, from the job that makes it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, policies
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.identifiers import id_text
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.points import PointRow
from holdfast.catalog.policies import PolicyRow
from holdfast.domain import retention
from holdfast.domain.immutability import locked_until
from holdfast.domain.policy import parse_policy, slot_tags
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import InternalError
from holdfast.jobs.machine_work import keys_of, point_document
from holdfast.vaultstore.values import PointFacts, RecoveryPointRecord

ON_DEMAND_DAYS = 30


def facts_for(
    connection: Connection, job: JobRow, asked: dict[str, Any], read_at: datetime
) -> PointFacts:
    """Facts of the point a backup job makes. ``asked``: the body of its task; ``read_at``: when the
    agent began to read."""
    item = items.get_item(connection, job.item_id or "")
    container = containers.get_container(connection, item.container_id) if item else None
    if item is None or container is None:
        raise InternalError(f"the item of backup job {job.id} is gone")
    policy = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    tags = _tags(job, item, policy)
    retain_until = None if job.scheduled else _retain_until(job, read_at)
    return PointFacts(
        time=read_at,
        scheduled=job.scheduled,
        tags=tags,
        retain_until=retain_until,
        item_document=_document(connection, item, container, policy, asked),
        lock_until=retain_until or _end_by(policy, read_at, tags),
    )


def _end_by(policy: PolicyRow | None, read_at: datetime, tags: tuple[str, ...]) -> datetime | None:
    """Until when a policy keeps a scheduled point; None when it has no rule for it."""
    if policy is None:
        return None
    rules = parse_policy(policy.properties).rules
    return locked_until(retention.PointFacts("", read_at, frozenset(tags)), rules)


def _document(
    connection: Connection,
    item: ItemRow,
    container: ContainerRow,
    policy: PolicyRow | None,
    asked: dict[str, Any],
) -> dict[str, Any]:
    found = item_document(item, container, policy)
    if item.workload_type == WORKLOAD:
        found["virtualMachine"] = point_document(connection, item, asked)
    return found


def _tags(job: JobRow, item: ItemRow, policy: PolicyRow | None) -> tuple[str, ...]:
    if not job.scheduled or policy is None:
        return ()
    parsed = parse_policy(policy.properties)
    return tuple(sorted(slot_tags(parsed, job.slot_at or job.started_at, item.missed_ranges)))


def _retain_until(job: JobRow, read_at: datetime) -> datetime:
    asked = job.parameters.get("retainUntil")
    return datetime.fromisoformat(asked) if asked else read_at + timedelta(days=ON_DEMAND_DAYS)


def item_document(
    item: ItemRow, container: ContainerRow, policy: PolicyRow | None
) -> dict[str, Any]:
    """What an import needs to rebuild the item, its container and its policy."""
    document: dict[str, Any] = {
        "name": item.name,
        "friendlyName": item.friendly_name,
        "workloadType": item.workload_type,
        "includePaths": item.include_paths,
        "excludeGlobs": item.exclude_globs,
        "properties": item.properties,
        "container": {
            "name": container.name,
            "friendlyName": container.friendly_name,
            "managementType": container.management_type,
            "platform": container.platform,
        },
    }
    if policy is not None:
        document["policy"] = {
            "name": policy.name,
            "managementType": policy.management_type,
            "properties": policy.properties,
        }
    return document


def point_row(record: RecoveryPointRecord, vault_id: str, item_id: str) -> PointRow:
    """The catalog's row of a point the vault holds."""
    machine = record.item_document.get("virtualMachine")
    return PointRow(
        vault_id=vault_id,
        rp_id=record.rp_id,
        item_id=item_id,
        job_id=id_text(record.job_id),
        sequence=record.sequence,
        time=record.time,
        type=record.type,
        scheduled=record.scheduled,
        tags=list(record.tags),
        retain_until=record.retain_until,
        logical_bytes=record.logical_bytes,
        transferred_bytes=record.transferred_bytes,
        stored_bytes=record.stored_bytes,
        file_count=record.file_count,
        findings_count=record.findings_count,
        consistency=record.consistency,
        consistency_reason=record.consistency_reason,
        details={"machine": machine, **keys_of(record)} if machine else {},
    )
