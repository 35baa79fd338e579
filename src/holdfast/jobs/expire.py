"""The expire job: retention's plan for every item, computed, stored, then applied once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, jobs, points, policies, vaults
from holdfast.catalog.database import Catalog
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.domain.point_life import Judge, PointLife
from holdfast.domain.policy import parse_policy
from holdfast.domain.retention import (
    NO_RULE,
    Decision,
    PointFacts,
    RetentionRule,
    expiry_of,
    plan_retention,
)
from holdfast.domain.soft_delete import SoftDelete, settings_of
from holdfast.errors import CancelledError, HoldfastError
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.locks import lock_promised
from holdfast.jobs.lost_points import note_lost, refresh_latest
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.probing import probe_if_due
from holdfast.jobs.progress import ServerProgress
from holdfast.ports.jobs import JobSpec
from holdfast.vaultstore.values import RecoveryPointRecord
from holdfast.vaultstore.vault import Vault

Tell = Callable[[int, int], None]


def _tell_nobody(_done: int, _total: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """One recovery point with retention's decision about it. ``life``: what an expiry makes of its
    life in the catalog, None when that stays as it is."""

    item_key: str
    item_name: str
    decision: Decision
    stored_bytes: int
    life: PointLife | None = None


def retention_facts(record: RecoveryPointRecord) -> PointFacts:
    return PointFacts(
        id=record.rp_id,
        time=record.time,
        tags=frozenset(record.tags),
        retain_until=record.retain_until,
        on_demand=not record.scheduled,
    )


def plan_vault(
    catalog: Catalog, vault: Vault, vault_id: str, now: datetime, tell: Tell = _tell_nobody
) -> list[PlannedPoint]:
    """Retention's decision for every live point of a vault, newest first per item. Points of items
    the catalog does not know are left out, so nothing drops them. ``tell`` hears how many items of
    how many are planned, and may raise. NotFoundError (VaultStoreMissing) when the vault is not
    where it was."""
    vault.require_present()
    vault.refresh()
    by_item: dict[str, list[RecoveryPointRecord]] = {}
    for record in vault.recovery_points():
        by_item.setdefault(record.item_key, []).append(record)
    planned: list[PlannedPoint] = []
    with catalog.read() as connection:
        row = vaults.get_vault(connection, vault_id)
        setting = settings_of(row.properties) if row is not None else SoftDelete()
        lives = points.lives_of(connection, vault_id)
        known = items.items_of_vault(connection, vault_id)
        for number, item in enumerate(known):
            tell(number, len(known))
            records = {record.rp_id: record for record in by_item.get(item.item_key, ())}
            rules = _rules(connection, item)
            facts = [retention_facts(record) for record in records.values()]
            plan = plan_retention(facts, rules, _state(item), now)
            expiring = rules if _state(item) != "ProtectionStopped" else ()
            judge = Judge(expiring, setting, now, partial(_first_promise, records))
            planned += [
                _planned(item, records[one.point.id], one, judge, lives) for one in plan.decisions
            ]
    tell(len(known), len(known))
    return planned


def _planned(
    item: ItemRow,
    record: RecoveryPointRecord,
    decision: Decision,
    judge: Judge,
    lives: Mapping[str, PointLife],
) -> PlannedPoint:
    key, name, size = item.item_key, item.friendly_name, record.stored_bytes
    if item.purge_at is not None:
        return PlannedPoint(key, name, _deleted(decision, item.purge_at), size)
    before = lives.get(record.rp_id, PointLife())
    judged, life = judge.judge(decision, before)
    return PlannedPoint(key, name, judged, size, life if life != before else None)


def _first_promise(
    records: Mapping[str, RecoveryPointRecord], point: PointFacts
) -> datetime | None:
    """By the policy that the item had when the point was made: no expiry has seen it since."""
    policy = records[point.id].item_document.get("policy")
    try:
        rules = parse_policy(policy["properties"]).rules if policy else ()
    except (HoldfastError, KeyError, TypeError):
        return None
    end, rule = expiry_of(point, rules)
    return None if rule == NO_RULE else end


def _rules(connection: Connection, item: ItemRow) -> tuple[RetentionRule, ...]:
    policy = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    return parse_policy(policy.properties).rules if policy is not None else ()


def _state(item: ItemRow) -> str:
    """An item without a policy keeps everything."""
    return item.protection_state if item.policy_id else "ProtectionStopped"


def _deleted(decision: Decision, purge_at: datetime) -> Decision:
    """Retention keeps what was deleted; it goes as a whole, by a job of its own."""
    when = f"{purge_at:%Y-%m-%d %H:%M} UTC"
    reason = f"its item's data was deleted; all of it goes at the maintenance after {when}"
    return replace(decision, keep=True, expires_at=purge_at, reason=reason)


def drops_of(planned: list[PlannedPoint]) -> dict[str, str]:
    return {row.decision.point.id: row.decision.reason for row in planned if not row.decision.keep}


class ExpireProcedure:
    """Plans (or takes a person's plan), applies it to the vault, then mirrors the catalog. It can
    be cancelled while it plans."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("plan", self._plan), ("apply", self._apply), ("mirror", self._mirror))

    def _plan(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        given = job.parameters.get("drops")
        if given is not None:
            return outcome.go(drops=dict(given))
        context = self._context
        vault = context.open_vault(job.vault_id)
        probe_if_due(context.catalog, vault, job.vault_id, context.clock.now())
        progress = ServerProgress(context, job, "Expire", "Items")
        now = context.clock.now()
        try:
            lock_promised(context.catalog, vault, job.vault_id, progress.heed)
            planned = plan_vault(context.catalog, vault, job.vault_id, now, progress.heed)
        except CancelledError as error:
            return self._stopped(job, progress.paused() or outcome.cancelled(error.message))
        lives = {row.decision.point.id: row.life for row in planned if row.life is not None}
        with context.catalog.write() as connection:
            points.change_lives(connection, job.vault_id, lives)
        return outcome.go(drops=drops_of(planned))

    def _stopped(self, job: JobRow, paused: Outcome) -> Outcome:
        """Nothing was dropped, unless by an attempt whose end could not be written."""
        if paused["do"] == "cancelled" and job.attempt > 1:
            with suppress(HoldfastError):  # the next expire does it
                mirror_points(self._context, job.vault_id)
        return paused

    def _apply(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        """What was planned and still holds: somebody may have stopped an item, or given it a longer
        retention, since a server died over the plan."""
        context, drops = self._context, dict(memory["drops"])
        vault = context.open_vault(job.vault_id)
        explicit = bool(job.parameters.get("explicit"))
        if drops and job.parameters.get("drops") is None:
            planned = plan_vault(context.catalog, vault, job.vault_id, context.clock.now())
            still = drops_of(planned).keys()
            drops = {rp_id: why for rp_id, why in drops.items() if rp_id in still}
        plan = vault.plan_expire(drops, explicit=explicit)
        dropped = vault.expire(plan) if plan.drops else []
        return outcome.go(dropped=len(dropped), refused=len(plan.refused))

    def _mirror(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        """Drop the rows of points the vault no longer has."""
        mirror_points(self._context, job.vault_id)
        count = memory["dropped"]
        result = {"droppedPoints": count, "refusedPoints": memory["refused"]}
        return outcome.done(result, ["expired", f"{count} recovery points dropped"])

    def release(self, job: JobRow) -> None:
        """Nothing is held."""

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        self._context.ledger.note_maintenance(connection, job, status)
        if job.parameters.get("thenCollect"):
            collect_next(self._context, connection, job)


def mirror_points(context: JobContext, vault_id: str) -> list[RecoveryPointRecord]:
    """Drop the catalog's rows of points the vault no longer has; the records it has."""
    vault = context.open_vault(vault_id)
    note_lost(context.catalog, vault, vault_id, context.clock.now())
    with context.catalog.read() as connection:
        kept = points.point_ids(connection, vault_id)
    vault.refresh()  # after: a row is written after its record
    records = vault.recovery_points()
    with context.catalog.write() as connection:
        gone = sorted(kept - {record.rp_id for record in records})
        points.remove_points(connection, vault_id, gone)
        refresh_latest(connection, vault_id)
    return records


def collect_next(context: JobContext, connection: Connection, job: JobRow) -> None:
    """Let a collect follow, unless one runs already."""
    if not jobs.active_jobs_of(connection, job.vault_id, kind="collect"):
        vault = vaults.get_vault(connection, job.vault_id)
        name = vault.name if vault is not None else job.entity_name
        spec = JobSpec("collect", job.vault_id, name, created_by=job.created_by)
        context.ledger.create(connection, spec)
