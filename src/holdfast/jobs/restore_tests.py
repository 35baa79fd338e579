"""Testing the recovery point a backup made, when the machine's policy says that one is due."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from holdfast.catalog import containers, items, points, policies
from holdfast.catalog.items import ItemRow
from holdfast.catalog.points import PointRow
from holdfast.domain.restore_tests import RestoreTests, is_due, read_restore_tests
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.jobs.context import JobContext
from holdfast.ports.jobs import JobSpec
from holdfast.ports.vm_tasks import RestoreTest, to_target

LAST, HOST = "lastRestoreTestAt", "hostContainerId"  # of an item's properties


def submit_if_due(context: JobContext, connection: Connection, item: ItemRow) -> None:
    """Submit a test of an item's latest point. A point that leaves disks out cannot be started, and
    is not tested."""
    now = context.clock.now()
    tests = _wanted(connection, item)
    point = points.latest_point(connection, item.id)
    host = containers.get_container(connection, str(item.properties.get(HOST) or ""))
    if tests is None or point is None or host is None or not _whole(point):
        return
    if not is_due(tests, _last(item), now):
        return
    target = RestoreTest(script=tests.script, seconds=tests.seconds)
    spec = JobSpec(
        kind="restore",
        vault_id=item.vault_id,
        entity_name=item.friendly_name,
        item_id=item.id,
        container_id=host.id,
        parameters={
            "recoveryPointId": point.rp_id,
            "pointTime": point.time.isoformat(),
            "target": to_target(target),
        },
        scheduled=True,
    )
    context.ledger.create(connection, spec)
    properties = {**item.properties, LAST: now.isoformat()}
    items.change_item(connection, item.id, properties=properties)


def _wanted(connection: Connection, item: ItemRow) -> RestoreTests | None:
    if item.workload_type != WORKLOAD:
        return None
    policy = policies.get_policy(connection, item.policy_id or "")
    return read_restore_tests(policy.properties) if policy is not None else None


def _last(item: ItemRow) -> datetime | None:
    told = item.properties.get(LAST)
    return datetime.fromisoformat(told) if isinstance(told, str) else None


def _whole(point: PointRow) -> bool:
    disks = (point.details.get("machine") or {}).get("disks") or []
    return all(disk["included"] for disk in disks)
