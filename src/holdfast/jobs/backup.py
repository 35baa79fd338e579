"""The backup job: dispatch to the agent, wait, publish what the vault holds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import items, points, policies
from holdfast.catalog.identifiers import id_bytes
from holdfast.catalog.items import ItemRow
from holdfast.catalog.jobs import JobRow
from holdfast.domain.lifecycle import soft_deleted
from holdfast.domain.policy import parse_policy, slot_tags
from holdfast.domain.virtual_machines import MANAGEMENT, WORKLOAD
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.jobs import outcome
from holdfast.jobs.agent_work import AgentWork
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.facts import point_row
from holdfast.jobs.machine_work import backup_payload, left_out, measured_of
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.probing import require_atomic
from holdfast.jobs.restore_tests import submit_if_due
from holdfast.jobs.safety import tell_waiting
from holdfast.ports.vm_tasks import BACKUP as VM_BACKUP

log = logging.getLogger(__name__)

LOCAL = "localOnly"  # of a job's result: its point is beside the disks and nowhere else


class BackupProcedure:
    """One recovery point per job, whatever dies on the way: the vault commits by (item, job), and
    publishing reads back what it committed."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._work = AgentWork(context, self._payload)

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (
            ("dispatch", self._work.dispatch),
            ("assess", self._assess),
            ("publish", self._publish),
        )

    def _payload(self, connection: Connection, job: JobRow) -> tuple[str, str, dict[str, Any]]:
        item = items.get_item(connection, job.item_id or "")
        if item is None:
            raise NotFoundError("the protected item was removed", code="ItemNotFound")
        if item.deleted_at is not None:
            raise soft_deleted(item.friendly_name)
        require_atomic(connection, job.vault_id)
        if item.workload_type == WORKLOAD:
            return VM_BACKUP, item.item_key, self._machine(connection, job, item)
        payload = {
            "includePaths": item.include_paths,
            "excludeGlobs": item.exclude_globs,
            "throttleBytesPerSecond": item.properties.get("throttleBytesPerSecond"),
            "workHours": item.properties.get("workHours"),
            "retainUntil": job.parameters.get("retainUntil"),
            "parentHint": item.latest_point_id or None,
        }
        return "files-backup", item.item_key, payload

    def _machine(self, connection: Connection, job: JobRow, item: ItemRow) -> dict[str, Any]:
        every_run = self._context.settings.vault_every_run
        return backup_payload(connection, job, item, every_run=every_run)

    def _assess(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        """As the agent says; but a point that was committed counts even if the agent failed after
        it, or was not heard again."""
        judged = self._work.assess(job, memory)
        if judged["do"] in ("fail", "retry", "cancelled") and self._record(job) is not None:
            return outcome.go(late=True)
        return judged

    def _record(self, job: JobRow) -> Any:
        with self._context.catalog.read() as connection:
            item = items.get_item(connection, job.item_id or "")
        if item is None:
            return None
        vault = self._context.open_vault(job.vault_id)
        vault.refresh()
        return vault.point_of_job(item.item_key, id_bytes(job.id))

    def _publish(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        """Write the committed point into the catalog."""
        record = self._record(job)
        if record is None and (stands := _beside_the_disks(memory)):
            return outcome.done(stands, ["kept", "the disks as they were stay on their host"])
        if record is None:
            return outcome.fail(
                "RecoveryPointNotCommitted",
                "the agent reported success, but the vault holds no recovery point of this job",
                "Run the backup again; if this repeats, look into the agent's log.",
            )
        self._heal(job, record.rp_id)
        row = point_row(record, job.vault_id, job.item_id or "")
        said = dict(memory.get("result") or {}) if job.management_type == MANAGEMENT else {}
        with self._context.catalog.write() as connection:
            points.put_point(connection, row)
            if said:
                details = {**row.details, "measured": measured_of(said)}
                points.note_details(connection, row.vault_id, row.rp_id, details)
        result = {
            "recoveryPointId": record.rp_id,
            "logicalBytes": record.logical_bytes,
            "transferredBytes": record.transferred_bytes,
            "storedBytes": record.stored_bytes,
            "fileCount": record.file_count,
            "findingsCount": record.findings_count,
            "consistency": record.consistency,
        }
        if record.retain_until is not None:
            result["retainUntil"] = record.retain_until.isoformat()
        if said:
            result |= {"consistencyReason": record.consistency_reason, **measured_of(said)}
            result["excludedDisks"] = left_out(row.details)
            del result["fileCount"]
        return outcome.done(result, ["published", f"recovery point {record.rp_id} is in the vault"])

    def _heal(self, job: JobRow, rp_id: str) -> None:
        """What was known to be damaged may have come again: older points take it over."""
        vault = self._context.open_vault(job.vault_id)
        try:
            healed = vault.heal(rp_id)
        except HoldfastError as error:  # the backup is good; a repair can do it later
            log.warning("job %s: healing older points: %s", job.id, error.message)
            return
        if healed:
            log.info("job %s: %d older recovery points were healed", job.id, healed)

    def release(self, job: JobRow) -> None:
        self._work.release(job)

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        self._work.close(connection, job)
        tell_waiting(connection, job, self._context)
        item = items.lock_item(connection, job.item_id or "")
        if item is None:
            return
        good = status in ("Completed", "CompletedWithWarnings")
        values: dict[str, Any] = {
            "last_backup_at": self._context.clock.now(),
            "last_backup_status": status,
            "last_job_id": job.id,
            "last_error_code": "" if good else str(outcome.get("code", "")),
        }
        if good:
            values |= _after_success(connection, job, item, outcome.get("result") or {})
        elif job.scheduled:
            values["missed_ranges"] = _missed(connection, job, item)
        items.change_item(connection, item.id, **values)
        if good:
            submit_if_due(self._context, connection, item)


def _beside_the_disks(memory: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a point that was to stay on its host, and does; nothing of others."""
    said = dict(memory.get("result") or {})
    measured = measured_of(said)
    if said.get("recoveryPointId") != "" or not (measured.get("instant") or {}).get("kept"):
        return {}
    level, reason = said.get("consistency"), said.get("consistencyReason")
    return {LOCAL: True, "consistency": level, "consistencyReason": reason, **measured}


def _after_success(
    connection: Connection, job: JobRow, item: ItemRow, result: Mapping[str, Any]
) -> dict[str, Any]:
    latest, local = points.latest_point(connection, item.id), LOCAL in result
    values: dict[str, Any] = {}
    if latest is not None:
        at = max(latest.time, job.started_at) if local else latest.time
        values |= {"latest_point_id": latest.rp_id, "latest_point_at": at}
    if job.scheduled and not local:
        values["missed_ranges"] = []
    if item.protection_state in ("IRPending", "ProtectionError"):
        values["protection_state"] = "Protected"
    return values


def _missed(connection: Connection, job: JobRow, item: ItemRow) -> list[str]:
    """Ranges that the failed backup would have filled; the next success takes them over."""
    policy = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    if policy is None:
        return item.missed_ranges
    parsed = parse_policy(policy.properties)
    tags = slot_tags(parsed, job.slot_at or job.started_at, item.missed_ranges)
    return sorted(tags - {"daily"})
