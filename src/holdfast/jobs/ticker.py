"""Due work: schedules, daily maintenance, scrubs, old history. Decided by pure schedule code."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import date, datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import (
    access,
    items,
    jobs,
    operations,
    people,
    policies,
    recoveries,
    upkeep,
    vaults,
)
from holdfast.catalog.items import ItemRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import backups_run
from holdfast.domain.policy import Policy, parse_policy
from holdfast.domain.retention import missed_ranges
from holdfast.domain.schedule import days_due, latest_slot, next_slot, slots_of_day
from holdfast.domain.soft_delete import is_over
from holdfast.errors import HoldfastError
from holdfast.jobs.context import JobContext
from holdfast.jobs.point_limit import note_point_limit
from holdfast.jobs.scrub_schedule import ScrubSchedule
from holdfast.ports.jobs import JobSpec

log = logging.getLogger(__name__)

BACKING_UP = ("IRPending", "Protected", "ProtectionError")
FAR_AHEAD = timedelta(days=8)  # due times beyond are planned anew, whether right or not
AGAIN_AFTER_ERROR = timedelta(hours=1)
MOST_MISSED = 1000
MOST_OF_A_DAY = 0.75  # that must have passed on the monotonic clock for another day to be counted


class Ticker:
    """Creates the jobs that are due. Any number of servers may tick on one PostgreSQL."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._scrubs = ScrubSchedule(context)
        self._counted: dict[str, float] = {}  # vaults whose deleted days were counted here, when

    def tick(self) -> int:
        """Create the jobs due now; how many."""
        now = self._context.clock.now()
        scrubs = self._scrubs.look(now)
        with self._context.catalog.read() as connection:
            busy = (
                items.items_due(connection, now, limit=1)
                or items.items_without_due_time(connection, BACKING_UP)
                or vaults.vaults_due(connection, now, limit=1)
            )
        if not busy:
            return scrubs
        with self._context.catalog.write() as connection:
            for item in items.items_without_due_time(connection, BACKING_UP):
                self._plan_next(connection, item, now)
            created = sum(self._run_item(connection, item, now) for item in _due(connection, now))
        return scrubs + created + self._maintain(now)

    def settle_clock(self) -> None:
        """Plan anew what lies so far ahead that the clock may have been ahead once."""
        now = self._context.clock.now()
        with self._context.catalog.write() as connection:
            items.forget_due_times_after(connection, now + FAR_AHEAD)
            vaults.pull_maintenance(connection, now + 2 * self._day(), now + self._day())
            patience = timedelta(seconds=self._context.settings.agent_wait_seconds)
            jobs.pull_wakes(connection, now + patience + AGAIN_AFTER_ERROR, now)

    def _day(self) -> timedelta:
        return timedelta(hours=self._context.settings.maintenance_hours)

    def _plan_next(self, connection: Connection, item: ItemRow, now: datetime) -> None:
        policy = self._policy(connection, item)
        due = now + AGAIN_AFTER_ERROR
        if policy is not None and policy.schedule is not None:
            due = next_slot(policy.schedule, policy.zone, now)
        items.change_item(connection, item.id, next_run_at=due)

    def _policy(self, connection: Connection, item: ItemRow) -> Policy | None:
        row = policies.get_policy(connection, item.policy_id) if item.policy_id else None
        try:
            return parse_policy(row.properties) if row is not None else None
        except HoldfastError as error:
            log.warning("the policy of %s cannot be followed: %s", item.item_key, error.message)
            return None

    def _run_item(self, connection: Connection, item: ItemRow, now: datetime) -> int:
        """Create the backup for an item's latest due slot, once however many were missed."""
        policy = self._policy(connection, item)
        if policy is None or policy.schedule is None or not backups_run(item.protection_state):
            items.change_item(connection, item.id, next_run_at=None)
            if backups_run(item.protection_state):
                self._plan_next(connection, item, now)
            return 0
        slot = latest_slot(policy.schedule, policy.zone, now)
        following = next_slot(policy.schedule, policy.zone, now)
        items.change_item(connection, item.id, next_run_at=following, last_slot_at=slot)
        planned = item.next_run_at or slot
        if slot < planned or slot == item.last_slot_at:
            return 0
        running = jobs.active_backup_of(connection, item.id)
        _pass_on(connection, item, policy, days_due(policy.schedule, policy.zone, planned, slot))
        if running is not None:
            this = days_due(policy.schedule, policy.zone, slot, slot + timedelta(seconds=1))
            _pass_on(connection, item, policy, this)
            self._context.ledger.note(
                connection, running.id, "skipped", f"the run due at {slot:%F %H:%M} UTC: still busy"
            )
            return 0
        self._create(connection, item, slot, count_missed(policy, planned, slot))
        return 1

    def _create(self, connection: Connection, item: ItemRow, slot: datetime, missed: int) -> None:
        spec = JobSpec(
            kind="backup",
            vault_id=item.vault_id,
            entity_name=item.friendly_name,
            item_id=item.id,
            container_id=item.container_id,
            parameters={"missedSlots": missed},
            scheduled=True,
            slot_at=slot,
        )
        job = self._context.ledger.create(connection, spec)
        late = self._context.clock.now() - slot
        if missed or late > timedelta(minutes=10):
            times = f"{missed} earlier runs were" if missed else "the run was"
            self._context.ledger.note(
                connection,
                job.id,
                "missed",
                f"{times} missed while the server did not run; this one stands for them "
                f"(due {slot:%F %H:%M} UTC)",
            )

        note_point_limit(self._context, connection, item, job.id)

    def _maintain(self, now: datetime) -> int:
        """Start the daily work of vaults that are due."""
        with self._context.catalog.read() as connection:
            due = vaults.vaults_due(connection, now)
        return sum(self._maintain_one(vault.id, now) for vault in due)

    def _maintain_one(self, vault_id: str, now: datetime) -> int:
        """Once a day, however many servers see that it is due."""
        with self._context.catalog.write() as connection:
            if not vaults.take_maintenance(connection, vault_id, now, now + self._day()):
                return 0
            if self._is_another_day(vault_id):
                items.count_deleted_day(connection, vault_id)
                vaults.count_deleted_day(connection, vault_id)
            current = vaults.get_vault(connection, vault_id)
            if current is None:
                return 0
            work = self._expire if current.deleted_at is None else self._erase
            return work(connection, current, now)

    def _is_another_day(self, vault_id: str) -> bool:
        """Whether a day has passed since the last one was counted, and not just a leap of the
        clock, which brings a maintenance as well."""
        now, last = self._context.clock.monotonic(), self._counted.get(vault_id)
        if last is not None and now - last < MOST_OF_A_DAY * self._day().total_seconds():
            return False
        self._counted[vault_id] = now
        return True

    def _expire(self, connection: Connection, vault: VaultRow, now: datetime) -> int:
        """The expire, which the collect follows, and the end of deleted items. Their days are
        counted as well, so that a clock that leaps ends nothing before its time."""
        created = 0
        for item in items.items_to_purge(connection, vault.id, now):
            over = is_over(item.deleted_at, item.purge_at, item.days_deleted, now)
            if over and not jobs.active_jobs_of(connection, vault.id, item_id=item.id):
                parameters = {"thenCollect": True}
                spec = JobSpec(
                    "purge", vault.id, item.friendly_name, item.id, parameters=parameters
                )
                self._context.ledger.create(connection, replace(spec, scheduled=True))
                created += 1
        if jobs.active_jobs_of(connection, vault.id, kind="expire"):
            return created
        spec = JobSpec("expire", vault.id, vault.name, parameters={"thenCollect": True})
        self._context.ledger.create(connection, replace(spec, scheduled=True))
        return created + 1

    def _erase(self, connection: Connection, vault: VaultRow, now: datetime) -> int:
        """The end of a deleted vault, in the same way; until then nothing touches it."""
        if not is_over(vault.deleted_at, vault.purge_at, vault.days_deleted, now):
            return 0
        if jobs.active_jobs_of(connection, vault.id):
            return 0
        spec = JobSpec("erase", vault.id, vault.name, scheduled=True)
        self._context.ledger.create(connection, spec)
        return 1

    def purge(self) -> int:
        """Drop old jobs, operations and spent tokens; how many jobs."""
        now = self._context.clock.now()
        before = now - timedelta(days=self._context.settings.history_days)
        with self._context.catalog.write() as connection:
            operations.forget_operations(connection, now - timedelta(days=30))
            recoveries.forget_recoveries(connection, now - timedelta(days=30))
            access.forget_spent_tokens(connection, now)
            people.forget_expired(connection, now)
            upkeep.forget_runs(connection, before)
            return jobs.remove_jobs_before(connection, before)


def _pass_on(connection: Connection, item: ItemRow, policy: Policy, days: list[date]) -> None:
    """Let the next success take over the ranges that backups of ``days`` would have filled."""
    if not days:
        return
    row = items.get_item(connection, item.id)
    pending = row.missed_ranges if row is not None else item.missed_ranges
    missed = missed_ranges(policy.rules, days, pending)
    items.change_item(connection, item.id, missed_ranges=sorted(missed))


def _due(connection: Connection, now: datetime) -> list[ItemRow]:
    return items.items_due(connection, now)


def count_missed(policy: Policy, planned: datetime, slot: datetime) -> int:
    """Slots from ``planned`` up to but not including ``slot``; counting stops at a thousand."""
    if policy.schedule is None:
        return 0
    missed, day = 0, planned.astimezone(policy.zone).date()
    while missed < MOST_MISSED and day <= slot.astimezone(policy.zone).date():
        missed += sum(
            planned <= at < slot for at in slots_of_day(policy.schedule, day, policy.zone)
        )
        day += timedelta(days=1)
    return missed
