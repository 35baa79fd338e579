"""What no event tells: agents that fall silent, items without a point in time, stores that fail,
deleted data that goes for good soon.

Looked at again and again; what lasts has an alert, what is over has it resolved.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import alerts, containers, items, points, policies, vaults
from holdfast.catalog.containers import AgentRow
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.domain.alerts import Cause, Verb, agent_is_lost
from holdfast.domain.lifecycle import RUNNING
from holdfast.domain.overdue import OVERDUE_GRACE, is_overdue
from holdfast.domain.policy import Policy, parse_policy
from holdfast.domain.soft_delete import UPCOMING, is_upcoming
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import HoldfastError
from holdfast.jobs.alerting import Said
from holdfast.jobs.lost_points import lost_lately
from holdfast.jobs.probing import FAILED, last_probe
from holdfast.services.alerts import book_of
from holdfast.services.copies import missing_disks
from holdfast.services.platform import Platform

LASTING = (
    *("AgentLost", "RpoMissed", "StoreUnsound", "RecoveryPointsLost", "UpcomingPurge"),
    "CopiesMissing",
)
OF_ITEMS = (
    *("BackupFailure", "BackupWarnings", "RestoreFailure", "ProtectionStopped"),
    "RecoveryPointLimit",
)
Seen = dict[tuple[str, str, str], Said]  # by vault, rule, what it is about


def look(platform: Platform, listening_since: datetime) -> int:
    """Raise and resolve what lasts and what is over; how many alerts were moved."""
    now = platform.now()
    with platform.catalog.read() as connection:
        seen = dict(_observed(platform, connection, listening_since, now))
        standing = {
            (row.vault_id, row.rule, row.about): row for row in alerts.fired_of(connection, LASTING)
        }
        orphans = list(_without_item(connection))
    book, moved = book_of(platform), 0
    changes: list[tuple[str, Cause, Said]] = [
        (vault, Cause(rule, about, "lasts"), said)
        for (vault, rule, about), said in seen.items()
        if (vault, rule, about) not in standing
    ]
    over: Verb = "over"
    changes += [
        (vault, Cause(rule, about, over), Said(row.subject, "it is over"))
        for (vault, rule, about), row in standing.items()
        if (vault, rule, about) not in seen
    ]
    for vault, cause, said in [*changes, *orphans]:
        with platform.catalog.write() as connection:
            moved += book.note(connection, vault, cause, said) in ("raise", "resolve")
    return moved


def _observed(
    platform: Platform, connection: Connection, since: datetime, now: datetime
) -> Iterator[tuple[tuple[str, str, str], Said]]:
    yield from _lost_agents(platform, connection, since, now)
    yield from _overdue_items(connection, now)
    yield from _going_items(connection, now)
    yield from _going_vaults(connection, now)
    for vault in vaults.list_vaults(connection):
        probe = last_probe(connection, vault.id)
        if probe is not None and probe.status == FAILED:
            hint = "mend the store; it is tested again daily, and by holdfast vault expire"
            said = Said(vault.name, probe.detail, hint, {"errorCode": probe.result.get("code")})
            yield (vault.id, "StoreUnsound", vault.id), said
        disks = missing_disks(platform, vault)
        if disks:
            hint = "bring it back, or replace it: holdfast region adopt-disk"
            said = Said(vault.name, "; ".join(disks), hint, {})
            yield (vault.id, "CopiesMissing", vault.id), said
        lost = lost_lately(connection, vault.id, now)
        if lost:
            text = f"{len(lost)} recovery points that were made are not in the vault"
            hint = "see which: holdfast vault show; put the newest copy of its folder back"
            named = {"recoveryPoints": [one["id"] for one in lost[:20]]}
            yield (vault.id, "RecoveryPointsLost", vault.id), Said(vault.name, text, hint, named)


def _lost_agents(
    platform: Platform, connection: Connection, since: datetime, now: datetime
) -> Iterator[tuple[tuple[str, str, str], Said]]:
    after = timedelta(hours=platform.settings.agent_lost_hours)
    for agent in containers.list_agents(connection):
        if not agent_is_lost(agent.last_seen_at, since, now, after):
            continue
        if not _is_needed(connection, agent):
            continue
        text = f"the agent on {agent.host} was heard last at {agent.last_seen_at:%F %H:%M} UTC"
        hint = "start it, or look into its log; stop protection of what is gone for good"
        details = {"lastSeenAt": agent.last_seen_at.isoformat(), "host": agent.host}
        yield (
            (agent.vault_id, "AgentLost", agent.container_id),
            Said(agent.host, text, hint, details),
        )


def _is_needed(connection: Connection, agent: AgentRow) -> bool:
    """Whether something that is backed up is on its machine: folders, or a virtual machine."""
    if items.count_on_in(connection, agent.container_id, RUNNING):
        return True
    guests = items.items_of_workload(connection, agent.vault_id, WORKLOAD)
    own = (one for one in guests if one.properties.get("hostContainerId") == agent.container_id)
    return any(one.protection_state in RUNNING for one in own)


def _overdue_items(
    connection: Connection, now: datetime
) -> Iterator[tuple[tuple[str, str, str], Said]]:
    known: dict[str, Policy | None] = {}
    for item in items.items_without_point_since(connection, RUNNING, now - OVERDUE_GRACE):
        policy_id = item.policy_id or ""
        if policy_id not in known:
            known[policy_id] = _parsed(policies.get_policy(connection, policy_id))
        policy = known[policy_id]
        if policy is not None and _is_overdue(policy, item, now):
            yield (item.vault_id, "RpoMissed", item.id), _overdue_words(item)


def _parsed(row: PolicyRow | None) -> Policy | None:
    try:
        return parse_policy(row.properties) if row is not None else None
    except HoldfastError:
        return None  # the schedule says so in the log


def _is_overdue(policy: Policy, item: ItemRow, now: datetime) -> bool:
    since = item.due_since
    return is_overdue(policy, item.protection_state, item.latest_point_at, since, now)


def _overdue_words(item: ItemRow) -> Said:
    at = item.latest_point_at
    newest = f"its newest is of {at:%F %H:%M} UTC" if at else "it has none yet"
    text = f"{item.friendly_name} has no recovery point of its last schedule: {newest}"
    hint = "see why: holdfast job list; is the machine on and its agent running?"
    details = {"itemName": item.friendly_name, "newestPoint": at.isoformat() if at else None}
    return Said(item.friendly_name, text, hint, details)


def _going_items(
    connection: Connection, now: datetime
) -> Iterator[tuple[tuple[str, str, str], Said]]:
    """Deleted items that go within two days. Those in a deleted vault go with the vault."""
    for item in items.items_purged_before(connection, now + UPCOMING):
        count, at = points.count_points(connection, item.id), item.purge_at
        text = (
            f"the deleted data of {item.friendly_name} ({count} recovery points) goes for good "
            f"at the maintenance after {at:%F %H:%M} UTC"
        )
        hint = "if it is needed, undelete it before: holdfast item undelete NAME"
        details = {"itemName": item.friendly_name, "recoveryPoints": count}
        details["purgeAt"] = at.isoformat() if at else None
        yield (
            (item.vault_id, "UpcomingPurge", item.id),
            Said(item.friendly_name, text, hint, details),
        )


def _going_vaults(
    connection: Connection, now: datetime
) -> Iterator[tuple[tuple[str, str, str], Said]]:
    """Deleted vaults that go within two days, with all that is in them."""
    for vault in vaults.deleted_vaults(connection):
        at = vault.purge_at
        if at is None or not is_upcoming(at, now):
            continue
        text = (
            f"the deleted vault {vault.name} goes for good with all its recovery points at the "
            f"maintenance after {at:%F %H:%M} UTC"
        )
        hint = "if it is needed, undelete it before: holdfast vault undelete NAME"
        details = {"vaultName": vault.name, "purgeAt": at.isoformat()}
        yield (vault.id, "UpcomingPurge", vault.id), Said(vault.name, text, hint, details)


def _without_item(connection: Connection) -> Iterator[tuple[str, Cause, Said]]:
    """Alerts about items that are gone, and about backups that are not wanted any more."""
    for row in alerts.fired_of(connection, OF_ITEMS):
        item = items.get_item(connection, row.about)
        if item is None:
            why = "the item was removed"
        elif row.rule.startswith("Backup") and item.protection_state not in RUNNING:
            why = "protection was stopped"
        else:
            continue
        yield row.vault_id, Cause(row.rule, row.about, "over"), Said(row.subject, why)
