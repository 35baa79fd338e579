"""The collect job: it pauses with the server and can be cancelled."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import jobs
from holdfast.catalog.identifiers import id_text
from holdfast.catalog.jobs import JobRow
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext, Step
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.progress import ServerProgress
from holdfast.vaultstore.pace import Pace
from holdfast.vaultstore.values import CollectBudget
from holdfast.vaultstore.vault import Vault

log = logging.getLogger(__name__)


class CollectProcedure:
    """Frees what no recovery point needs; first ends sessions whose job has ended."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        return (("sessions", self._end_sessions), ("collect", self._collect))

    def _end_sessions(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        vault = self._context.open_vault(job.vault_id)
        vault.refresh()
        return outcome.go(ended=end_stale_sessions(self._context, vault))

    def _collect(self, job: JobRow, memory: Mapping[str, Any]) -> Outcome:
        progress = ServerProgress(self._context, job, "Collect")
        vault = self._context.open_vault(job.vault_id)
        settings, clock = self._context.settings, self._context.clock
        done = vault.collect(
            budget=CollectBudget(rewrite_below=settings.collect_rewrite_below),
            progress=progress.report,
            cancelled=progress.cancelled,
            pace=Pace(
                settings.collect_bytes, settings.collect_requests, clock.monotonic, time.sleep
            ),
        )
        if not done.complete and (paused := progress.paused()):
            return paused
        result = {
            "condemnedPacks": done.condemned_packs,
            "sweptPacks": done.swept_packs,
            "deletedOrphans": done.deleted_orphans,
            "freedBytes": done.freed_bytes,
            "fencedPacks": done.fenced_packs,
            "rewrittenPacks": done.rewritten_packs,
            "writtenBytes": done.written_bytes,
            "endedSessions": memory.get("ended", 0),
        }
        note = f"{done.freed_bytes} bytes freed"
        if done.full:
            note += "; no room to rewrite more packs, which more collects or a larger store give"
        return outcome.done(result, ["collected", note])

    def release(self, job: JobRow) -> None:
        """Nothing is held."""

    def ended(self, connection: Connection, job: JobRow, status: str, outcome: Outcome) -> None:
        self._context.ledger.note_maintenance(connection, job, status)


def end_stale_sessions(context: JobContext, vault: Vault) -> int:
    """End open sessions whose job has ended or is unknown, keeping what they uploaded; how many.
    Sessions of a live job's earlier attempts are left: its next attempt takes them over."""
    ended = 0
    for session in vault.open_sessions():
        job_id = id_text(session.job_id)
        with context.catalog.read() as connection:
            job = jobs.get_job(connection, job_id)
        if job is not None and job.active:
            continue
        log.info("ending session %s of ended job %s", session.session_id.hex(), job_id)
        ended += vault.recover_sessions(session.job_id).sessions_revoked
    return ended
