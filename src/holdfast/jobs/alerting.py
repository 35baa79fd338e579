"""Writing alerts down: raised once per cause, repeated, resolved by themselves, each with what is
to be sent. All in the caller's transaction, so that an alert and the news of it stand or fall
together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import alerts, outbox, vaults
from holdfast.catalog.alerts import AlertEvent, AlertRow
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.alerts import (
    FIRED,
    NEW,
    RESOLVED,
    RULES,
    Cause,
    EndedJob,
    causes_of_job,
    severity_name,
    step,
    wanted,
)
from holdfast.ports.clock import Clock, Random

SYSTEM = "System"


@dataclass(frozen=True, slots=True)
class Said:
    """An alert's words. ``subject``: the name of what it is about."""

    subject: str
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class AlertBook:
    """Alert rows, with the clock and randomness they need."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng

    def note(self, connection: Connection, vault_id: str, cause: Cause, said: Said) -> str:
        """Raise, repeat or resolve the alert of a cause; the step taken."""
        standing = alerts.fired(connection, vault_id, cause.rule, cause.about)
        taken = step(standing.state if standing else None, cause.verb)
        if standing is not None and taken == "repeat":
            self._repeat(connection, standing, said)
        if standing is not None and taken in ("resolve", "replace"):
            why = "raised anew" if taken == "replace" else said.message
            self.resolve(connection, standing, why, quiet=taken == "replace")
        if taken in ("raise", "replace"):
            vault = vaults.get_vault(connection, vault_id)
            if vault is None or not wanted(RULES[cause.rule], job_alerts_of(vault)):
                return "keep"
            self._raise(connection, vault, cause, said)
        return taken

    def job_ended(self, connection: Connection, job: JobRow) -> None:
        """What a job's end says, noted."""
        ended = EndedJob(job.kind, job.status, job.error_code, job.item_id or job.vault_id)
        if job.kind in ("backup", "restore") and job.item_id is None:
            return
        for cause in causes_of_job(ended):
            self.note(connection, job.vault_id, cause, _words(job, cause))

    def resolve(
        self, connection: Connection, row: AlertRow, why: str, *, quiet: bool = False
    ) -> None:
        """Its cause has ended. ``quiet``: nobody is told."""
        now = self._clock.now()
        alerts.change_alert(connection, row.id, condition=RESOLVED, resolved_at=now, changed_at=now)
        event = AlertEvent(row.id, now, "MonitorConditionChange", FIRED, RESOLVED, SYSTEM, why)
        alerts.add_event(connection, event)
        vault = vaults.get_vault(connection, row.vault_id)
        if vault is not None and not quiet:
            self._tell(connection, vault, row, "resolved", why)

    def _repeat(self, connection: Connection, row: AlertRow, said: Said) -> None:
        now = self._clock.now()
        alerts.change_alert(
            connection,
            row.id,
            occurrences=row.occurrences + 1,
            last_at=now,
            message=said.message,
            hint=said.hint,
            details={**row.details, **said.details},
        )

    def _raise(self, connection: Connection, vault: VaultRow, cause: Cause, said: Said) -> None:
        now = self._clock.now()
        row = AlertRow(
            id=new_id(self._rng),
            vault_id=vault.id,
            rule=cause.rule,
            about=cause.about,
            severity=RULES[cause.rule].severity,
            state=NEW,
            condition=FIRED,
            subject=said.subject[:300],
            message=said.message,
            hint=said.hint,
            details=dict(said.details),
            occurrences=1,
            fired_at=now,
            last_at=now,
            resolved_at=None,
            changed_at=now,
            changed_by=SYSTEM,
        )
        if alerts.add_alert(connection, row):
            made = AlertEvent(row.id, now, "AlertCreated", "", FIRED, SYSTEM, said.message)
            alerts.add_event(connection, made)
            self._tell(connection, vault, row, "fired", said.message)

    def _tell(
        self, connection: Connection, vault: VaultRow, row: AlertRow, event: str, text: str
    ) -> None:
        now = self._clock.now()
        message = {
            "alertId": row.id,
            "event": event,
            "rule": row.rule,
            "title": RULES[row.rule].title,
            "severity": severity_name(row.severity),
            "category": RULES[row.rule].category,
            "vault": vault.name,
            "resourceGroup": vault.group_key,
            "subject": row.subject,
            "message": text,
            "hint": row.hint if event == "fired" else "",
            "details": row.details,
            "firedAt": row.fired_at.isoformat(),
            "at": now.isoformat(),
        }
        outbox.add_message(
            connection, vault_id=vault.id, alert_id=row.id, event=event, message=message, now=now
        )


def job_alerts_of(vault: VaultRow) -> str:
    """The vault's ``monitoringSettings.azureMonitorAlertSettings.alertsForAllJobFailures``."""
    found: Any = vault.properties.get("properties")
    for name in ("monitoringSettings", "azureMonitorAlertSettings", "alertsForAllJobFailures"):
        found = found.get(name) if isinstance(found, dict) else None
    return str(found or "Enabled")


def _words(job: JobRow, cause: Cause) -> Said:
    details = {"jobId": job.id, "operation": job.operation}
    if job.error_code:
        details["errorCode"] = job.error_code
    if cause.verb == "over":
        return Said(job.entity_name, f"{job.operation} of {job.entity_name}: {job.status}")
    if job.status == "CompletedWithWarnings":
        message = f"{job.findings_count} findings: some of it is not in the recovery point"
        hint = f"see which: holdfast job show {job.id}"
        return Said(job.entity_name, message, hint, details)
    message = f"{job.error_message} [{job.error_code}]"
    return Said(job.entity_name, message, job.error_hint, details)
