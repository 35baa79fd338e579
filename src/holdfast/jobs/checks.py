"""The scrub, verify and repair jobs. They pause with the server and can be cancelled. What they
find is written down with the vault as well, for the next process and the next server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import jobs
from holdfast.catalog.identifiers import id_bytes
from holdfast.catalog.jobs import FindingRow, JobRow
from holdfast.domain.path_text import encode_path
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.progress import ServerProgress
from holdfast.jobs.scrub_schedule import DAMAGED
from holdfast.vaultstore.values import Damage, RepairStep

NAMED_IN_MESSAGE = 5


class _Check:
    """What both have in common: damage fails the job and is named finding by finding."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    def _damaged(self, job: JobRow, damages: Sequence[Damage]) -> Outcome:
        write_damages(self._context, job, damages)
        return {**_failed(damages), "result": {DAMAGED: len(damages)}}

    def release(self, job: JobRow) -> None:
        """Nothing is held."""

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        self._context.ledger.note_maintenance(connection, job, status)


class VerifyProcedure(_Check):
    """Reads everything back with keys."""

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("verify", self._verify),)

    def _verify(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        progress = ServerProgress(self._context, job, "Verify")
        vault = self._context.open_vault(job.vault_id)
        vault.refresh()
        started, items = self._context.clock.now(), job.parameters.get("items")
        report = vault.verify(items, progress=progress.report, cancelled=progress.cancelled)
        if items is None:
            vault.note_verified(report, started)
        if not report.complete and (paused := progress.paused()):
            return paused
        if report.damages:
            return self._damaged(job, report.damages)
        result = {
            "packs": report.packs,
            "frames": report.frames,
            "storedBytes": report.stored_bytes,
            "plainBytes": report.plain_bytes,
            "recoveryPoints": report.recovery_points,
        }
        return outcome.done(result, ["verified", f"{report.packs} packs are whole"])


class ScrubProcedure(_Check):
    """Reads every object and checks what needs no key; goes on where a run was stopped."""

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("scrub", self._scrub),)

    def _scrub(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        progress = ServerProgress(self._context, job, "Scrub")
        vault = self._context.open_vault(job.vault_id)
        report = vault.scrub(progress=progress.report, cancelled=progress.cancelled)
        if not report.complete and (paused := progress.paused()):
            return paused
        if report.damages:
            return self._damaged(job, report.damages)
        result = {
            "objects": report.objects,
            "storedBytes": report.stored_bytes,
            "resumed": report.resumed,
        }
        return outcome.done(result, ["scrubbed", f"{report.objects} objects are whole"])


class RepairProcedure(_Check):
    """Carries out what can be done about known damage; names what cannot."""

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("repair", self._repair),)

    def _repair(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        progress = ServerProgress(self._context, job, "Repair")
        vault = self._context.open_vault(job.vault_id)
        vault.refresh()
        done = vault.repair(id_bytes(job.id), progress.cancelled)
        if not done.complete and (paused := progress.paused()):
            return paused
        _write(self._context, job, [_left(job, step) for step in done.left])
        result = {"repaired": len(done.done), "left": len(done.left)}
        return outcome.done(result, ["repaired", f"{len(done.done)} steps, {len(done.left)} left"])


def _left(job: JobRow, step: RepairStep) -> FindingRow:
    """A finding about what a repair could not do."""
    return _row(job, "ObjectLost", step.key, describe_step(step))


def describe_step(step: RepairStep) -> str:
    """A step in a sentence: the point, what is lost of it, and the first files."""
    points = ", ".join(step.recovery_points[:NAMED_IN_MESSAGE])
    files = ", ".join(encode_path(name) for name in step.files[:NAMED_IN_MESSAGE])
    more = "" if len(step.files) <= NAMED_IN_MESSAGE else ", ..."
    about = f" (recovery point {points})" if points else ""
    return f"{step.detail}{about}{': ' if files else ''}{files}{more}"


def write_damages(context: JobContext, job: JobRow, damages: Sequence[Damage]) -> None:
    """A finding for each damaged object."""
    rows = [
        _row(job, f"Object{damage.problem.capitalize()}", damage.key, _describe(damage))
        for damage in damages
    ]
    _write(context, job, rows)


def _row(job: JobRow, code: str, key: str, message: str) -> FindingRow:
    digest = hashlib.sha256(f"{key}|{code}|{message}".encode()).hexdigest()
    return FindingRow(job_id=job.id, code=code, path=key, message=message, digest=digest)


def _write(context: JobContext, job: JobRow, rows: Sequence[FindingRow]) -> None:
    with context.catalog.write() as connection:
        jobs.add_findings(connection, job.id, rows)
        count = jobs.count_findings(connection, job.id)
        jobs.change_job(connection, job.id, findings_count=count)


def _describe(damage: Damage) -> str:
    points = ", ".join(damage.recovery_points[:NAMED_IN_MESSAGE]) or "none"
    return f"{damage.detail}; needed by {len(damage.recovery_points)} recovery points ({points})"


def _failed(damages: Sequence[Damage]) -> Outcome:
    named = ", ".join(damage.key for damage in damages[:NAMED_IN_MESSAGE])
    points = {rp_id for damage in damages for rp_id in damage.recovery_points}
    return outcome.fail(
        "VaultDamaged",
        f"{len(damages)} objects are damaged ({named}); {len(points)} recovery points need them",
        "See the job's findings. Restore from points not named there; put the objects back from a "
        "copy of the store, or back up again: what is still on the machines is sent anew. Then run "
        "`holdfast vault repair`.",
    )
