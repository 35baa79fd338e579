"""Writing jobs down: creating, noting, ending. The rows are the truth users see."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import jobs as rows
from holdfast.catalog import upkeep
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.jobs import JobEvent, JobRow
from holdfast.errors import ConflictError, NotFoundError
from holdfast.ports.clock import Clock, Random
from holdfast.ports.jobs import JobSpec

OPERATIONS = {
    "backup": "Backup",
    "restore": "Restore",
    "expire": "Expire",
    "collect": "Collect",
    "verify": "Verify",
    "import": "Import",
}
log = logging.getLogger(__name__)
QUEUED = "Queued"
MAINTENANCE = ("expire", "collect", "verify")


class Ledger:
    """Job rows, with the clock and randomness they need."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self.clock = clock
        self.rng = rng

    def create(self, connection: Connection, spec: JobSpec) -> JobRow:
        """Insert a job that is ready to be driven.

        ConflictError (UserErrorBackupOperationInProgress) when the item's backup runs already."""
        now = self.clock.now()
        if spec.kind == "backup" and spec.item_id is not None:
            running = rows.active_backup_of(connection, spec.item_id)
            if running is not None:
                raise backup_running(spec.entity_name, running.id)
        job = _new_row(new_id(self.rng), spec, now)
        rows.add_job(connection, job)
        by = "the schedule" if spec.scheduled else spec.created_by or "the server"
        self.note(connection, job.id, "created", f"requested by {by}")
        return job

    def note(self, connection: Connection, job_id: str, event: str, message: str) -> None:
        """Add a line to the job's history."""
        rows.add_event(connection, JobEvent(job_id, self.clock.now(), event, message))
        log.info("job: %s", message, extra={"job_id": job_id, "job_event": event})

    def get(self, connection: Connection, job_id: str) -> JobRow:
        """The job. NotFoundError (JobNotFound)."""
        job = rows.get_job(connection, job_id)
        if job is None:
            raise NotFoundError(
                f"there is no job {job_id}",
                code="JobNotFound",
                hint="List the vault's jobs; old ones are removed after a while.",
            )
        return job

    def note_maintenance(self, connection: Connection, job: JobRow, status: str) -> None:
        """Write an ended expire, collect or verify into the vault's maintenance record."""
        if job.kind in MAINTENANCE:
            upkeep.note_run(
                connection,
                vault_id=job.vault_id,
                kind=job.kind,
                job_id=job.id,
                status=status,
                detail=job.detail,
                result=job.result,
                started_at=job.started_at,
                ended_at=self.clock.now(),
            )


def backup_running(entity: str, job_id: str) -> ConflictError:
    return ConflictError(
        f"a backup of {entity} is running already (job {job_id})",
        code="UserErrorBackupOperationInProgress",
        hint="Wait for that job or cancel it, then try again.",
        target=job_id,
    )


def _operation(spec: JobSpec) -> str:
    """Azure's word for the job."""
    return "DeleteBackupData" if "removeItem" in spec.parameters else OPERATIONS[spec.kind]


def _new_row(job_id: str, spec: JobSpec, now: datetime) -> JobRow:
    nothing: dict[str, Any] = {}
    return JobRow(
        id=job_id,
        vault_id=spec.vault_id,
        item_id=spec.item_id,
        container_id=spec.container_id,
        kind=spec.kind,
        operation=_operation(spec),
        entity_name=spec.entity_name,
        status="InProgress",
        phase=QUEUED,
        detail="waiting to start",
        scheduled=spec.scheduled,
        slot_at=spec.slot_at,
        parameters=dict(spec.parameters),
        progress=nothing,
        result=nothing,
        findings_count=0,
        attempt=1,
        turn=0,
        signals=0,
        wake_at=now,
        driver="",
        cancel_requested_at=None,
        error_code="",
        error_message="",
        error_hint="",
        created_by=spec.created_by,
        started_at=now,
        updated_at=now,
        ended_at=None,
    )
