"""Writing jobs down: creating, noting, ending. The rows are the truth users see."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, policies, upkeep
from holdfast.catalog import jobs as rows
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.jobs import JobEvent, JobRow
from holdfast.domain.lifecycle import may_cancel
from holdfast.domain.virtual_machines import MANAGEMENT, WORKLOAD
from holdfast.errors import ConflictError, NotFoundError
from holdfast.jobs.alerting import AlertBook
from holdfast.ports.clock import Clock, Random
from holdfast.ports.jobs import JobSpec

OPERATIONS = {
    "backup": "Backup",
    "restore": "Restore",
    "browse": "BrowseFiles",
    "expire": "Expire",
    "collect": "Collect",
    "verify": "Verify",
    "scrub": "Scrub",
    "repair": "Repair",
    "import": "Import",
    "purge": "Purge",
    "erase": "PurgeVault",
    "configure": "ConfigureBackup",
    "disable": "DisableBackup",
    "undelete": "Undelete",
    "delete": "DeleteBackupData",
    "register": "Register",
    "unregister": "UnRegister",
}
log = logging.getLogger(__name__)
QUEUED, ENDED_PHASE = "Queued", "Ended"
SNAPSHOT_AT = "snapshotTakenAt"  # of a job's progress
MAINTENANCE = ("expire", "collect", "verify", "scrub", "repair")


class Ledger:
    """Job rows, with the clock and randomness they need."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self.clock = clock
        self.rng = rng
        self.alerts = AlertBook(clock, rng)

    def create(self, connection: Connection, spec: JobSpec) -> JobRow:
        """Insert a job that is ready to be driven.

        ConflictError (UserErrorBackupOperationInProgress) when the item's backup runs already."""
        now = self.clock.now()
        if spec.kind == "backup" and spec.item_id is not None:
            running = rows.active_backup_of(connection, spec.item_id)
            if running is not None:
                raise backup_running(spec.entity_name, running.id)
        if spec.kind == "backup":
            spec = replace(spec, parameters={**spec.parameters, **_policy_name(connection, spec)})
        job = _new_row(new_id(self.rng), spec, now, _management(connection, spec))
        rows.add_job(connection, job)
        by = "the schedule" if spec.scheduled else spec.created_by or "the server"
        self.note(connection, job.id, "created", f"requested by {by}")
        return job

    def record(self, connection: Connection, spec: JobSpec, result: Mapping[str, Any]) -> JobRow:
        """Insert a job that has ended: its work is part of this transaction."""
        now = self.clock.now()
        begun = _new_row(new_id(self.rng), spec, now, _management(connection, spec))
        job = replace(
            begun,
            status="Completed",
            phase=ENDED_PHASE,
            detail="",
            result=dict(result),
            wake_at=None,
            ended_at=now,
        )
        rows.add_job(connection, job)
        self.note(connection, job.id, "created", f"requested by {spec.created_by or 'the server'}")
        self.note(connection, job.id, "ended", job.status)
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
        """Write an ended job of a vault's upkeep into its maintenance record."""
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
    return OPERATIONS["delete" if spec.parameters.get("immediate") else spec.kind]


def _management(connection: Connection, spec: JobSpec) -> str:
    """The management type of what the job is about."""
    item = items.get_item(connection, spec.item_id) if spec.item_id else None
    return MANAGEMENT if item is not None and item.workload_type == WORKLOAD else "MAB"


def _policy_name(connection: Connection, spec: JobSpec) -> dict[str, str]:
    """What the item's policy is called now; a job tells it even when it is another's later."""
    item = items.get_item(connection, spec.item_id) if spec.item_id else None
    held = policies.get_policy(connection, item.policy_id) if item and item.policy_id else None
    return {"policyName": held.name} if held else {}


def _new_row(job_id: str, spec: JobSpec, now: datetime, management_type: str) -> JobRow:
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
        management_type=management_type,
    )


def may_cancel_job(job: JobRow) -> bool:
    """As Azure: a virtual machine's backup can be cancelled until its snapshot is taken, what it
    copies after that is a recovery point's."""
    if job.management_type == MANAGEMENT and job.kind == "backup" and SNAPSHOT_AT in job.progress:
        return False
    return may_cancel(job.operation, job.status)
