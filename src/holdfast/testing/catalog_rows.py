"""Rows for tests: a vault with a policy, a machine, an agent and an item, ready to be used; and
many of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table

from holdfast.catalog import containers, items, places, policies, tables, vaults
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.places import ResourceGroup, Subscription
from holdfast.catalog.points import PointRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.rows import insert_many
from holdfast.catalog.vaults import VaultRow
from holdfast.ports.clock import Random

AT_ONE = ["2026-01-01T13:00:00Z"]
DAILY: dict[str, Any] = {
    "backupManagementType": "AzureIaasVM",
    "timeZone": "UTC",
    "schedulePolicy": {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": "Daily",
        "scheduleRunTimes": AT_ONE,
    },
    "retentionPolicy": {
        "retentionPolicyType": "LongTermRetentionPolicy",
        "dailySchedule": {
            "retentionTimes": AT_ONE,
            "retentionDuration": {"count": 7, "durationType": "Days"},
        },
        "weeklySchedule": {
            "daysOfTheWeek": ["Sunday"],
            "retentionTimes": AT_ONE,
            "retentionDuration": {"count": 4, "durationType": "Weeks"},
        },
    },
}


@dataclass(frozen=True, slots=True)
class Estate:
    """What ``furnish`` made."""

    vault: VaultRow
    policy: PolicyRow
    container: ContainerRow
    agent: AgentRow
    item: ItemRow


def furnish(
    connection: Connection,
    rng: Random,
    now: datetime,
    *,
    host: str = "web1",
    vault_id: str | None = None,
    include: list[str] | None = None,
) -> Estate:
    """Insert a vault with one protected item on one machine."""
    found = estate_rows(rng, now, host=host, vault_id=vault_id, include=include)
    subscription = found.vault.subscription_id
    places.add_subscription(connection, Subscription(subscription, "test", new_id(rng), now))
    places.add_group(connection, ResourceGroup(subscription, "rg1", "rg1", "local", {}, now))
    vaults.add_vault(connection, found.vault)
    policies.add_policy(connection, found.policy)
    containers.add_container(connection, found.container)
    containers.add_agent(connection, found.agent)
    containers.change_container(connection, found.container.id, agent_id=found.agent.id)
    items.add_item(connection, found.item)
    return found


def estate_rows(
    rng: Random,
    now: datetime,
    *,
    host: str = "web1",
    vault_id: str | None = None,
    include: list[str] | None = None,
) -> Estate:
    """The same rows, in no catalog."""
    vault = _vault(vault_id or new_id(rng), new_id(rng), now)
    policy = PolicyRow(
        new_id(rng), vault.id, "daily", "daily", "AzureIaasVM", DAILY, "e1", now, now
    )
    container = _container(new_id(rng), vault.id, host, now)
    agent = _agent(new_id(rng), new_id(rng), container, now)
    item = _item(new_id(rng), container, policy.id, include or ["/data"], now)
    return Estate(vault, policy, container, agent, item)


def _vault(vault_id: str, subscription: str, now: datetime) -> VaultRow:
    return VaultRow(
        id=vault_id,
        subscription_id=subscription,
        group_key="rg1",
        name_key="v1",
        name="v1",
        location="local",
        region="local",
        store_url="memory:",
        unlock_kind="platform",
        state="Active",
        tags={},
        properties={},
        etag="e1",
        head_sequence=0,
        head_hash="",
        key_exported_at=None,
        next_maintenance_at=None,
        created_at=now,
        updated_at=now,
    )


def _container(container_id: str, vault_id: str, host: str, now: datetime) -> ContainerRow:
    return ContainerRow(
        id=container_id,
        vault_id=vault_id,
        name_key=f"linux;{host}",
        name=f"Linux;{host}",
        friendly_name=host,
        management_type="MAB",
        platform="linux",
        registration_status="Registered",
        agent_id=None,
        properties={},
        registered_at=now,
        updated_at=now,
    )


def _agent(agent_id: str, client_id: str, container: ContainerRow, now: datetime) -> AgentRow:
    return AgentRow(
        id=agent_id,
        vault_id=container.vault_id,
        container_id=container.id,
        client_id=client_id,
        host=container.friendly_name,
        platform="linux",
        version="0",
        public_key="",
        properties={},
        enrolled_at=now,
        last_seen_at=now,
        revoked_at=None,
    )


def _item(
    item_id: str, container: ContainerRow, policy_id: str, include: list[str], now: datetime
) -> ItemRow:
    return ItemRow(
        id=item_id,
        vault_id=container.vault_id,
        container_id=container.id,
        policy_id=policy_id,
        name_key="filefolder;docs",
        name="FileFolder;docs",
        friendly_name="docs",
        item_key=f"{container.name}/FileFolder;docs",
        workload_type="FileFolder",
        protection_state="IRPending",
        include_paths=include,
        exclude_globs=[],
        properties={},
        missed_ranges=[],
        next_run_at=None,
        last_slot_at=None,
        last_backup_at=None,
        last_backup_status="",
        last_job_id=None,
        last_error_code="",
        latest_point_id="",
        latest_point_at=None,
        etag="e1",
        created_at=now,
        updated_at=now,
    )


def point_of(item: ItemRow, number: int, time: datetime) -> PointRow:
    """A recovery point of an item as a backup would note it; ``number`` tells points apart."""
    return PointRow(
        vault_id=item.vault_id,
        rp_id=f"{number:018d}",
        item_id=item.id,
        job_id=item.id,
        sequence=number,
        time=time,
        type="FileSystemConsistent",
        scheduled=True,
        tags=["daily"],
        retain_until=None,
        logical_bytes=1_000_000,
        transferred_bytes=1_000,
        stored_bytes=1_000,
        file_count=100,
        findings_count=0,
        consistency="FileSystemConsistent",
        consistency_reason="",
    )


def job_of(job_id: str, item: ItemRow, started: datetime) -> JobRow:
    """A backup of an item that has ended."""
    return JobRow(
        id=job_id,
        vault_id=item.vault_id,
        item_id=item.id,
        container_id=item.container_id,
        kind="backup",
        operation="Backup",
        entity_name=item.friendly_name,
        status="Completed",
        phase="",
        detail="",
        scheduled=True,
        slot_at=started,
        parameters={},
        progress={"doneBytes": 1_000_000, "transferredBytes": 1_000},
        result={"recoveryPointId": "1", "fileCount": 100},
        findings_count=0,
        attempt=1,
        turn=3,
        signals=0,
        wake_at=None,
        driver="",
        cancel_requested_at=None,
        error_code="",
        error_message="",
        error_hint="",
        created_by="schedule",
        started_at=started,
        updated_at=started,
        ended_at=started + timedelta(minutes=1),
    )


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many rows a vault gets. ``one_item``: points of its first item; ``points`` are spread
    over all items."""

    containers: int = 1
    items: int = 1
    points: int = 0
    one_item: int = 0
    jobs: int = 0
    policies: int = 0


def fill(
    connection: Connection, rng: Random, policy: PolicyRow, now: datetime, amounts: Amounts
) -> list[ItemRow]:
    """Put many rows into the vault of ``policy``, in bulk; the items."""
    more = [f"policy-{number:05d}" for number in range(amounts.policies)]
    copies = [replace(policy, id=new_id(rng), name=name, name_key=name) for name in more]
    hosts = [
        _container(new_id(rng), policy.vault_id, f"host{number:05d}", now)
        for number in range(amounts.containers)
    ]
    agents = [_agent(new_id(rng), new_id(rng), host, now) for host in hosts]
    hosts = [replace(host, agent_id=agent.id) for host, agent in zip(hosts, agents, strict=True)]
    made = [_numbered(rng, hosts, number, policy, now) for number in range(amounts.items)]
    _add(connection, tables.policies, copies)
    _add(connection, tables.containers, hosts)
    _add(connection, tables.agents, agents)
    _add(connection, tables.items, made)
    _add(connection, tables.recovery_points, _points(made, amounts, now))
    _add(
        connection,
        tables.jobs,
        (
            job_of(new_id(rng), made[number % len(made)], now - timedelta(seconds=number))
            for number in range(amounts.jobs)
        ),
    )
    return made


def _numbered(
    rng: Random, hosts: list[ContainerRow], number: int, policy: PolicyRow, now: datetime
) -> ItemRow:
    host = hosts[number % len(hosts)]
    name = f"FileFolder;folder {number:05d}"
    plain = _item(new_id(rng), host, policy.id, [f"/srv/{number}"], now)
    return replace(
        plain,
        name=name,
        name_key=name.lower(),
        friendly_name=name.partition(";")[2],
        item_key=f"{host.name}/{name}",
        protection_state="Protected",
    )


def _points(made: list[ItemRow], amounts: Amounts, now: datetime) -> Iterator[PointRow]:
    count = amounts.one_item + amounts.points
    for number in range(count):
        spread = number - amounts.one_item
        item = made[max(0, spread) % len(made)]
        yield point_of(item, number, now - timedelta(minutes=count - number))


def _add(connection: Connection, table: Table, rows: Iterable[Any], batch: int = 5_000) -> None:
    rows = iter(rows)
    while some := list(islice(rows, batch)):
        names = [field.name for field in fields(some[0])]
        insert_many(
            connection, table, [{name: getattr(row, name) for name in names} for row in some]
        )
