"""The expire job: retention's plan for every item, computed, stored, then applied once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, jobs, points, policies
from holdfast.catalog.database import Catalog
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.domain.policy import parse_policy
from holdfast.domain.retention import Decision, PointFacts, RetentionRule, plan_retention
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.lost_points import note_lost, refresh_latest
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.probing import probe_if_due
from holdfast.ports.jobs import JobSpec
from holdfast.vaultstore.values import RecoveryPointRecord
from holdfast.vaultstore.vault import Vault


@dataclass(frozen=True, slots=True)
class PlannedPoint:
    """One recovery point with retention's decision about it."""

    item_key: str
    item_name: str
    decision: Decision
    stored_bytes: int


def retention_facts(record: RecoveryPointRecord) -> PointFacts:
    return PointFacts(
        id=record.rp_id,
        time=record.time,
        tags=frozenset(record.tags),
        retain_until=record.retain_until,
        on_demand=not record.scheduled,
    )


def plan_vault(catalog: Catalog, vault: Vault, vault_id: str, now: datetime) -> list[PlannedPoint]:
    """Retention's decision for every live point of a vault, newest first per item. Points of items
    the catalog does not know are left out, so nothing drops them."""
    vault.refresh()
    by_item: dict[str, list[RecoveryPointRecord]] = {}
    for record in vault.recovery_points():
        by_item.setdefault(record.item_key, []).append(record)
    planned: list[PlannedPoint] = []
    with catalog.read() as connection:
        for item in items.items_of_vault(connection, vault_id):
            records = {record.rp_id: record for record in by_item.get(item.item_key, ())}
            rules = _rules(connection, item)
            facts = [retention_facts(record) for record in records.values()]
            plan = plan_retention(facts, rules, _state(item), now)
            planned += [
                PlannedPoint(
                    item.item_key,
                    item.friendly_name,
                    decision,
                    records[decision.point.id].stored_bytes,
                )
                for decision in plan.decisions
            ]
    return planned


def _rules(connection: Connection, item: ItemRow) -> tuple[RetentionRule, ...]:
    policy = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    return parse_policy(policy.properties).rules if policy is not None else ()


def _state(item: ItemRow) -> str:
    """An item without a policy keeps everything."""
    return item.protection_state if item.policy_id else "ProtectionStopped"


def drops_of(planned: list[PlannedPoint]) -> dict[str, str]:
    return {row.decision.point.id: row.decision.reason for row in planned if not row.decision.keep}


class ExpireProcedure:
    """Plans (or takes a person's plan), applies it to the vault, then mirrors the catalog."""

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
        planned = plan_vault(context.catalog, vault, job.vault_id, context.clock.now())
        return outcome.go(drops=drops_of(planned))

    def _apply(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        vault = self._context.open_vault(job.vault_id)
        explicit = bool(job.parameters.get("explicit"))
        plan = vault.plan_expire(memory["drops"], explicit=explicit)
        dropped = vault.expire(plan) if plan.drops else []
        return outcome.go(dropped=len(dropped), refused=len(plan.refused))

    def _mirror(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        """Drop the rows of points the vault no longer has, and of an item to remove that has none
        left."""
        vault = self._context.open_vault(job.vault_id)
        note_lost(self._context.catalog, vault, job.vault_id, self._context.clock.now())
        with self._context.catalog.read() as connection:
            kept = points.point_ids(connection, job.vault_id)
        vault.refresh()  # after: a row is written after its record
        records = vault.recovery_points()
        with self._context.catalog.write() as connection:
            gone = sorted(kept - {record.rp_id for record in records})
            points.remove_points(connection, job.vault_id, gone)
            refresh_latest(connection, job.vault_id)
            item = items.get_item(connection, str(job.parameters.get("removeItem") or ""))
            if item is not None and item.item_key not in {one.item_key for one in records}:
                items.remove_item(connection, item.id)
        count = memory["dropped"]
        result = {"droppedPoints": count, "refusedPoints": memory["refused"]}
        return outcome.done(result, ["expired", f"{count} recovery points dropped"])

    def release(self, job: JobRow) -> None:
        """Nothing is held."""

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        ledger = self._context.ledger
        ledger.note_maintenance(connection, job, status)
        if not job.parameters.get("thenCollect"):
            return
        if not jobs.active_jobs_of(connection, job.vault_id, kind="collect"):
            ledger.create(
                connection,
                JobSpec("collect", job.vault_id, job.entity_name, created_by=job.created_by),
            )
