"""Rows for tests: a vault with a policy, a machine, an agent and an item, ready to be used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, places, policies, vaults
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.items import ItemRow
from holdfast.catalog.places import ResourceGroup, Subscription
from holdfast.catalog.policies import PolicyRow
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
    subscription = new_id(rng)
    places.add_subscription(connection, Subscription(subscription, "test", new_id(rng), now))
    places.add_group(connection, ResourceGroup(subscription, "rg1", "rg1", "local", {}, now))
    vault = _vault(vault_id or new_id(rng), subscription, now)
    vaults.add_vault(connection, vault)
    policy = PolicyRow(
        new_id(rng), vault.id, "daily", "daily", "AzureIaasVM", DAILY, "e1", now, now
    )
    policies.add_policy(connection, policy)
    container = _container(new_id(rng), vault.id, host, now)
    containers.add_container(connection, container)
    agent = _agent(new_id(rng), new_id(rng), container, now)
    containers.add_agent(connection, agent)
    containers.change_container(connection, container.id, agent_id=agent.id)
    item = _item(new_id(rng), container, policy.id, include or ["/data"], now)
    items.add_item(connection, item)
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
