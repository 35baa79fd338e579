"""One turn of a job: its steps in order until it must wait or ends, each through a durable step.

The steps' answers are stored by the engine, so a turn that is run again after a crash replays what
was finished and repeats only the step that was cut off. Every step is idempotent, and the turn's
end is one catalog transaction guarded by the turn's number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import jobs as rows
from holdfast.catalog.jobs import JobRow
from holdfast.crashpoint import reach
from holdfast.errors import CancelledError, HoldfastError
from holdfast.jobs import outcome as outcomes
from holdfast.jobs.agent_work import RETRYING
from holdfast.jobs.backup import BackupProcedure
from holdfast.jobs.checks import RepairProcedure, ScrubProcedure, VerifyProcedure
from holdfast.jobs.context import JobContext, Procedure, Step
from holdfast.jobs.erase import EraseProcedure
from holdfast.jobs.expire import ExpireProcedure
from holdfast.jobs.importing import ImportProcedure
from holdfast.jobs.outcome import Outcome
from holdfast.jobs.purge import PurgeProcedure
from holdfast.jobs.restore import RestoreProcedure
from holdfast.jobs.upkeep import CollectProcedure

log = logging.getLogger(__name__)

RunStep = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
ENDING = {"done": "Completed", "fail": "Failed", "cancelled": "Cancelled"}


class Turns:
    """Runs turns. ``driver`` names this worker in the rows."""

    def __init__(self, context: JobContext, driver: str) -> None:
        self._context = context
        self._driver = driver
        self._procedures: dict[str, Procedure] = {
            "backup": BackupProcedure(context),
            "restore": RestoreProcedure(context),
            "browse": RestoreProcedure(context),
            "expire": ExpireProcedure(context),
            "collect": CollectProcedure(context),
            "verify": VerifyProcedure(context),
            "scrub": ScrubProcedure(context),
            "repair": RepairProcedure(context),
            "import": ImportProcedure(context),
            "purge": PurgeProcedure(context),
            "erase": EraseProcedure(context),
        }

    def run(self, job_id: str, turn: int, run_step: RunStep) -> str:
        """Run one turn; what came of it, in a word."""
        begun = run_step("begin", lambda: self._begin(job_id, turn))
        if not begun["go"]:
            return "past"
        procedure = self._procedures[begun["kind"]]
        memory: dict[str, Any] = {}
        said: Outcome = outcomes.done()
        for name, step in procedure.steps:
            said = self._step(job_id, begun["kind"], name, step, memory, run_step)
            memory |= said.get("keep") or {}
            if said["do"] != "go":
                break
        if said["do"] == "retry" and begun["attempt"] > len(self._context.settings.retry_seconds):
            said = {**said, "do": "fail"}
        if said["do"] in ENDING:
            run_step("release", lambda: self._release(procedure, job_id))
        signals = begun["signals"]
        run_step("settle", lambda: self._settle(procedure, job_id, turn, signals, said))
        return said["do"]

    def _step(
        self,
        job_id: str,
        kind: str,
        name: str,
        step: Step,
        memory: Mapping[str, Any],
        run_step: RunStep,
    ) -> Outcome:
        def body() -> dict[str, Any]:
            reach(f"job.{kind}.{name}.before")
            said = self._guarded(job_id, step, memory)
            reach(f"job.{kind}.{name}.after")
            return dict(said)

        return run_step(name, body)  # type: ignore[return-value]

    def _guarded(self, job_id: str, step: Step, memory: Mapping[str, Any]) -> Outcome:
        """A step's answer; its errors become answers too, so that none is stored as a failure."""
        try:
            with self._context.catalog.read() as connection:
                job = self._context.ledger.get(connection, job_id)
            return step(job, memory)
        except CancelledError as error:
            return outcomes.cancelled(error.message)
        except HoldfastError as error:
            log.warning("job %s: %s (%s)", job_id, error.message, error.code)
            return outcomes.of_error(error)
        except Exception as error:
            log.exception("job %s: an unexpected failure", job_id)
            return outcomes.retry("InternalError", f"unexpected failure: {type(error).__name__}")

    def _begin(self, job_id: str, turn: int) -> dict[str, Any]:
        with self._context.catalog.write() as connection:
            taken = rows.begin_turn(connection, job_id, turn, self._driver)
            job = rows.get_job(connection, job_id)
            if not taken or job is None:
                return {"go": False}
            if turn == 0:
                self._context.ledger.note(connection, job_id, "started", "the engine took the job")
        reach("job.begin.after")
        return {"go": True, "signals": job.signals, "kind": job.kind, "attempt": job.attempt}

    def _release(self, procedure: Procedure, job_id: str) -> dict[str, Any]:
        try:
            with self._context.catalog.read() as connection:
                job = self._context.ledger.get(connection, job_id)
            procedure.release(job)
        except HoldfastError as error:
            log.warning("job %s: release: %s", job_id, error.message)
        reach("job.release.after")
        return {}

    def _settle(
        self, procedure: Procedure, job_id: str, turn: int, signals: int, said: Outcome
    ) -> dict[str, Any]:
        """Write the turn's result: ended, parked, or to be tried again."""
        context = self._context
        with context.catalog.write() as connection:
            job = rows.get_job(connection, job_id)
            if job is None or job.turn != turn or not job.active:
                return {}
            if note := said.get("note"):
                context.ledger.note(connection, job_id, note[0], note[1])
            if said["do"] in ENDING:
                self._end(connection, procedure, job, said)
            else:
                self._park(connection, job, signals, said)
            reach("job.settle.before")
        reach("job.settle.after")
        return {}

    def _end(
        self, connection: Connection, procedure: Procedure, job: JobRow, said: Outcome
    ) -> None:
        now = self._context.clock.now()
        status = ENDING[said["do"]]
        if status == "Completed" and _warned(job, said):
            status = "CompletedWithWarnings"
        rows.end_turn(
            connection,
            job.id,
            job.turn,
            seen_signals=job.signals,
            wake_at=None,
            now=now,
            status=status,
            phase="Ended",
            detail=str(said.get("message", "")),
            result=said.get("result") or {},
            findings_count=max(job.findings_count, _said_findings(said)),
            error_code=str(said.get("code", "")),
            error_message=str(said.get("message", "")) if status != "Completed" else "",
            error_hint=str(said.get("hint", "")),
            ended_at=now,
        )
        self._context.ledger.note(connection, job.id, "ended", _ending(status, said))
        ended = rows.get_job(connection, job.id) or job
        procedure.ended(connection, ended, status, said)
        self._context.ledger.alerts.job_ended(connection, ended)

    def _park(self, connection: Connection, job: JobRow, signals: int, said: Outcome) -> None:
        now = self._context.clock.now()
        if said["do"] == "retry":
            pause = self._context.settings.retry_seconds[job.attempt - 1]
            why = f"{said['message']} ({said['code']})"
            self._context.ledger.note(connection, job.id, "retried", f"in {pause:.0f} s: {why}")
            values: dict[str, Any] = {
                "attempt": job.attempt + 1,
                "phase": RETRYING,
                "detail": f"retrying in {pause:.0f} s: {why}",
                **_told(said),
            }
            until: datetime | None = now + timedelta(seconds=pause)
        else:
            shaped = said.get("until")
            until = datetime.fromisoformat(shaped) if shaped else None
            values = {"phase": said["phase"], "detail": said["detail"], **_told({})}
            if job.status == "Cancelling":
                values = {"detail": said["detail"], **_told({})}
        rows.end_turn(
            connection,
            job.id,
            job.turn,
            seen_signals=signals,
            wake_at=until,
            now=now,
            **values,
        )

    def skip(self, job: JobRow, why: str) -> None:
        """Leave a turn whose execution was lost, and let the next begin."""
        now = self._context.clock.now()
        with self._context.catalog.write() as connection:
            signals = job.signals
            if rows.end_turn(
                connection, job.id, job.turn, seen_signals=signals, wake_at=now, now=now
            ):
                self._context.ledger.note(connection, job.id, "resumed", why)


def _told(said: Outcome) -> dict[str, str]:
    """What a job that goes on says of why it does not work now; nothing when it works."""
    named = (("error_code", "code"), ("error_message", "message"), ("error_hint", "hint"))
    return {column: str(said.get(key, "")) for column, key in named}


def _said_findings(said: Outcome) -> int:
    return int((said.get("result") or {}).get("findingsCount") or 0)


def _warned(job: JobRow, said: Outcome) -> bool:
    return job.findings_count > 0 or _said_findings(said) > 0


def _ending(status: str, said: Outcome) -> str:
    message = said.get("message", "")
    return f"{status}: {message}" if message else status
