"""How the whole installation is doing, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import containers, items, policies, vaults
from holdfast.catalog.items import ItemRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import backups_run
from holdfast.domain.overdue import is_overdue
from holdfast.domain.policy import Policy, parse_policy
from holdfast.errors import HoldfastError, UsageError
from holdfast.jobs.probing import FAILED, last_probe
from holdfast.services.platform import Platform

SILENT_LEASES = 2


@dataclass(frozen=True, slots=True)
class VaultFigures:
    """``items``: number by health (Healthy, Overdue, Failed). ``store_sound``: the last test of the
    store passed."""

    name: str
    items: Mapping[str, int]
    stored_bytes: int
    recovery_points: int
    head: int
    store_sound: bool


@dataclass(frozen=True, slots=True)
class InstallationFigures:
    agents_connected: int
    agents_silent: int
    vaults: list[VaultFigures]


def item_health(row: ItemRow, policy: Policy | None, now: datetime) -> str:
    """Failed | Overdue | Healthy. What is stopped or deleted is neither failed nor overdue."""
    if not backups_run(row.life_state):
        return "Healthy"
    if row.last_backup_status == "Failed":
        return "Failed"
    state, since = row.protection_state, row.due_since
    if policy is not None and is_overdue(policy, state, row.latest_point_at, since, now):
        return "Overdue"
    return "Healthy"


def parsed_policies(connection: Connection, vault: VaultRow) -> dict[str, Policy]:
    """A vault's policies by id, without those that break a rule made since."""
    found: dict[str, Policy] = {}
    for row in policies.list_policies(connection, vault.id):
        with suppress(UsageError):
            found[row.id] = parse_policy(row.properties)
    return found


def installation_figures(platform: Platform) -> InstallationFigures:
    """Counted now, from the catalog and the vaults that open."""
    silence = timedelta(seconds=SILENT_LEASES * platform.settings.task_lease_seconds)
    heard = platform.now() - silence
    with platform.catalog.read() as connection:
        agents = containers.list_agents(connection)
        connected = sum(agent.last_seen_at >= heard for agent in agents)
        found = [
            (row, _health_counts(platform, connection, row), _store_sound(connection, row))
            for row in vaults.list_vaults(connection)
        ]
    figures = [_vault_figures(platform, *one) for one in found]
    return InstallationFigures(connected, len(agents) - connected, figures)


def _health_counts(platform: Platform, connection: Connection, vault: VaultRow) -> dict[str, int]:
    known, now = parsed_policies(connection, vault), platform.now()
    held = items.items_of_vault(connection, vault.id)
    rows = [row for row in held if row.deleted_at is None]
    counted = Counter(item_health(row, known.get(row.policy_id or ""), now) for row in rows)
    return {health: counted[health] for health in ("Healthy", "Overdue", "Failed")}


def _store_sound(connection: Connection, vault: VaultRow) -> bool:
    probe = last_probe(connection, vault.id)
    return probe is None or probe.status != FAILED


def _vault_figures(
    platform: Platform, row: VaultRow, counts: dict[str, int], sound: bool
) -> VaultFigures:
    name = f"{row.group_key}/{row.name}"
    try:
        found = platform.vaults.open(row.id).statistics()
    except HoldfastError:
        return VaultFigures(name, counts, 0, 0, 0, sound)
    return VaultFigures(name, counts, found.stored_bytes, found.recovery_points, found.head, sound)
