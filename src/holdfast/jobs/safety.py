"""The recovery point that is made of a machine before its disks are replaced: a backup job of its
own, which the restore waits for and names."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, jobs
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.points import PointRow
from holdfast.errors import ConflictError, NotFoundError
from holdfast.jobs import outcome
from holdfast.jobs.agent_work import WAITING
from holdfast.jobs.context import JobContext
from holdfast.jobs.outcome import Outcome
from holdfast.ports.jobs import JobSpec

WANTED, MADE_BY, BEFORE = "safetyPoint", "safetyJob", "before"  # parameters of the two jobs
ONLY_FOR = "safetyFor"  # of a backup that was made for a restore alone
PATIENCE = timedelta(minutes=1)  # the end of a backup is told at once


class SafetyPoint:
    def __init__(self, context: JobContext) -> None:
        self._context = context

    def take(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        """Go on when the point is there, or none is wanted; its id is kept as ``safety``."""
        if not job.parameters.get(WANTED):
            return outcome.go()
        if job.status == "Cancelling":
            return outcome.cancelled("cancelled before any disk was replaced")
        now = self._context.clock.now()
        backup = None
        with suppress(ConflictError), self._context.catalog.write() as connection:
            backup = self._backup(connection, job)  # or one begins in this moment
        if backup is None:
            return outcome.wait(
                now + PATIENCE, WAITING, "waiting for the end of a backup that runs"
            )
        if backup.status in ("Completed", "CompletedWithWarnings"):
            return outcome.go(safety=backup.result.get("recoveryPointId"))
        if backup.ended_at is None:
            detail = f"job {backup.id} makes a recovery point of the disks as they are"
            return outcome.wait(now + PATIENCE, WAITING, detail)
        return outcome.fail(
            "SafetyPointFailed",
            f"no disk was replaced: the recovery point of {job.entity_name} as it is, which is "
            f"made before, failed (job {backup.id}: {backup.error_code or backup.status})",
            "See that job; when the disks as they are need not be kept, restore without a safety "
            "point: holdfast vm restore NAME --replace --no-safety-point",
        )

    def _backup(self, connection: Connection, job: JobRow) -> JobRow | None:
        """The job of its own, made unless it is there. None while another runs, whose picture of
        the disks may be older than what is to be replaced."""
        found = jobs.get_job(connection, str(job.parameters.get(MADE_BY) or ""))
        if found is not None:
            return found
        item = items.get_item(connection, job.item_id or "")
        if item is None:
            raise NotFoundError("the protected item was removed", code="ItemNotFound")
        running = jobs.active_backup_of(connection, item.id)
        if running is not None:
            told = {**running.parameters, BEFORE: job.id}  # one before may have been cancelled
            jobs.change_job(connection, running.id, parameters=told)
            return None
        spec = JobSpec(
            kind="backup",
            vault_id=job.vault_id,
            entity_name=job.entity_name,
            item_id=item.id,
            container_id=item.container_id,
            parameters={"retainUntil": None, BEFORE: job.id, ONLY_FOR: job.id},
            created_by=job.created_by,
        )
        made = self._context.ledger.create(connection, spec)
        jobs.change_job(connection, job.id, parameters={**job.parameters, MADE_BY: made.id})
        message = f"job {made.id} makes a recovery point of the disks as they are first"
        self._context.ledger.note(connection, job.id, "safety-point", message)
        return made


def is_safety_point(connection: Connection, point: PointRow) -> bool:
    """Whether it was made of disks that were to be replaced, and for that alone."""
    made_by = jobs.get_job(connection, point.job_id)
    return made_by is not None and bool(made_by.parameters.get(ONLY_FOR))


def tell_waiting(connection: Connection, job: JobRow, context: JobContext) -> None:
    """A backup has ended: a restore may wait for it."""
    waiting = job.parameters.get(BEFORE)
    if waiting:
        jobs.signal_job(connection, str(waiting), context.clock.now())
