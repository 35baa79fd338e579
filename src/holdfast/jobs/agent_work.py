"""What backups and restores share: a task for an agent, and judging how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection

from holdfast.catalog import audit, containers, jobs, tasks
from holdfast.catalog.containers import AgentRow
from holdfast.catalog.identifiers import id_bytes, new_id
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.tasks import AgentSession, TaskRow
from holdfast.domain.virtual_machines import MANAGEMENT
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext
from holdfast.jobs.machine_work import doer_of, runs_machine
from holdfast.jobs.outcome import Outcome
from holdfast.ports.vm_tasks import (
    CREATE_PHASE,
    DOWNLOAD_PHASE,
    MOVE_PHASE,
    SERVE_PHASE,
    SNAPSHOT_PHASE,
    START_PHASE,
    TEST_PHASE,
    UPLOAD_PHASE,
)

WAITING, RUNNING, RETRYING = "Waiting", "Transfer data to vault", "Retrying"
VM_PHASES = (
    *(SNAPSHOT_PHASE, UPLOAD_PHASE, DOWNLOAD_PHASE, CREATE_PHASE),
    *(START_PHASE, SERVE_PHASE, MOVE_PHASE, TEST_PHASE),
)
PASSING_CODES = frozenset(
    {
        "StoreUnavailable",
        "StoreAccessDenied",
        "StoreBucketMissing",
        "StoreFailed",
        "StoreFull",
        "CatalogUnavailable",
        "ServerUnavailable",
        "ServerUnreachable",
        "SessionRevoked",
        "SessionClosed",
        "SessionUnknown",
        "ParentStale",
        "AgentStopped",
        "SpoolFull",
        "TargetBusy",
    }
)


class PayloadMaker(Protocol):
    """Builds (task kind, item key, payload) of a job's task; HoldfastError when it cannot."""

    def __call__(self, connection: Connection, job: JobRow) -> tuple[str, str, dict[str, Any]]: ...


class AgentWork:
    """Hands a job to the agent of its container and says what its task's state means."""

    def __init__(self, context: JobContext, payload: PayloadMaker) -> None:
        self._context = context
        self._payload = payload

    def dispatch(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        """Create the job's task unless it has one, and wake the agent."""
        context = self._context
        with context.catalog.write() as connection:
            task = tasks.task_of_job(connection, job.id)
            if task is not None:
                self._reopen(connection, job, task)
                return outcome.go()
            agent = _agent_of(connection, job)
            if agent is None:
                return outcome.fail(
                    "AgentNotEnrolled",
                    f"no agent is enrolled for the container of {job.entity_name}",
                    "Enrol the machine (holdfast agent enroll --replace takes a lost one over).",
                )
            kind, item_key, payload = self._payload(connection, job)
            now = context.clock.now()
            task = _new_task(new_id(context.ledger.rng), job, agent.id, now)
            tasks.add_task(connection, _with_work(task, kind, item_key, payload))
            context.ledger.note(
                connection, job.id, "dispatched", f"handed to the agent on {agent.host}"
            )
        context.bell.ring(agent.id)
        return outcome.go()

    def assess(self, job: JobRow, _memory: Mapping[str, Any]) -> Outcome:
        """Go on when the agent has finished; otherwise wait, give up, or end a cancelled job."""
        with self._context.catalog.read() as connection:
            task = tasks.task_of_job(connection, job.id)
            agent = containers.get_agent(connection, task.agent_id) if task else None
        if task is None or agent is None:
            return outcome.fail("InternalError", f"the task of job {job.id} is gone")
        now = self._context.clock.now()
        if task.state == tasks.DONE:
            return self._finished(job, task)
        if job.status == "Cancelling":
            if runs_machine(task):
                told = f"cancelling; the agent on {agent.host} is to remove the machine"
                return outcome.wait(None, WAITING, told)
            return _cancelling(task, now)
        return self._waiting(job, task, agent, now)

    def _finished(self, job: JobRow, task: TaskRow) -> Outcome:
        if task.outcome == "succeeded":
            return outcome.go(result=task.result)
        if job.status == "Cancelling" or task.outcome == "cancelled":
            return outcome.cancelled("the agent stopped as asked")
        code = str(task.error.get("code") or "AgentFailed")
        message = str(task.error.get("message") or "the agent failed without saying why")
        hint = str(task.error.get("hint") or "")
        make = outcome.retry if code in PASSING_CODES else outcome.fail
        return make(code, message, hint)

    def _waiting(self, job: JobRow, task: TaskRow, agent: AgentRow, now: datetime) -> Outcome:
        patience = timedelta(seconds=self._context.settings.agent_wait_seconds)
        if task.state == tasks.LEASED:
            phase = job.phase if job.phase in VM_PHASES else RUNNING
            if job.management_type == MANAGEMENT and job.phase not in VM_PHASES:
                phase = SNAPSHOT_PHASE if job.kind == "backup" else DOWNLOAD_PHASE
            return outcome.wait(None, phase, f"the agent on {agent.host} works on it")
        if runs_machine(task):
            return outcome.wait(None, WAITING, f"no sign of the agent on {agent.host}; waiting")
        lost = task.state == tasks.LAPSED
        since = self._silent_since(task, agent, now)
        if now >= since + patience:
            return outcome.fail(
                "AgentOffline",
                f"the agent on {agent.host} was last heard at {agent.last_seen_at:%F %T} UTC",
                "Start the agent there (holdfast agent start); the next schedule runs by itself.",
            )
        detail = f"waiting for the agent on {agent.host}"
        if lost:
            detail = f"no sign of the agent on {agent.host}; waiting for it to come back"
        return outcome.wait(since + patience, WAITING, detail)

    def _silent_since(self, task: TaskRow, agent: AgentRow, now: datetime) -> datetime:
        """Since when the task waits without a sign of its agent. Times ahead of the clock (it was
        set back) do not count; a task changed in the future counts from now."""
        if task.updated_at > now:
            with self._context.catalog.write() as connection:
                tasks.change_task(connection, task.id, updated_at=now)
            return now
        return max(at for at in (task.updated_at, agent.last_seen_at) if at <= now)

    def _reopen(self, connection: Connection, job: JobRow, task: TaskRow) -> None:
        """Queue a failed task again when the job makes a further attempt."""
        failed = task.state == tasks.DONE and task.outcome != "succeeded"
        if not failed or job.phase != RETRYING or job.status != "InProgress":
            return
        now = self._context.clock.now()
        tasks.requeue_task(connection, task.id, now)
        jobs.change_job(connection, job.id, phase=WAITING)
        self._context.ledger.note(connection, job.id, "dispatched", f"attempt {job.attempt}")
        self._context.bell.ring(task.agent_id)

    def release(self, job: JobRow) -> None:
        """End the vault sessions the job left open, keeping what they uploaded for the next."""
        context = self._context
        with context.catalog.read() as connection:
            task = tasks.task_of_job(connection, job.id)
            sessions = tasks.sessions_of_task(connection, task.id) if task else []
        left = [session for session in sessions if session.closed_at is None]
        if not left:
            return
        context.open_vault(job.vault_id).recover_sessions(id_bytes(job.id))
        with context.catalog.write() as connection:
            for session in left:
                end_session(connection, session, context.clock.now())

    def close(self, connection: Connection, job: JobRow) -> None:
        """End the task with its job, so that an agent still at it is told to stop."""
        task = tasks.task_of_job(connection, job.id)
        if task is None or task.state == tasks.DONE:
            return
        now = self._context.clock.now()
        values: dict[str, Any] = {"state": tasks.DONE, "outcome": "cancelled"}
        values |= {"updated_at": now, "ended_at": now}
        tasks.change_task(connection, task.id, **values)
        self._context.bell.ring(task.agent_id)


def session_sums(session: AgentSession) -> dict[str, int]:
    """What a session sent and asked, for the audit record."""
    return {
        "packs": session.received_packs,
        "bytes": session.received_bytes,
        "ids_asked": session.asked_ids,
        "ids_present": session.present_ids,
    }


def end_session(connection: Connection, session: AgentSession, now: datetime) -> None:
    """Close an agent's session in its stead, and record what came of it. Once."""
    if tasks.close_session(connection, session.id, now):
        audit.append(
            connection,
            audit.by_server(
                now,
                "Holdfast.Backup/agents/sessions/end",
                f"/providers/Holdfast.Backup/agents/{session.agent_id}/sessions/{session.id}",
                session_sums(session),
            ),
        )


def _cancelling(task: TaskRow, now: datetime) -> Outcome:
    if task.state == tasks.QUEUED:
        return outcome.cancelled("cancelled before the agent took it")
    if task.state == tasks.LAPSED or task.lease_until is None or task.lease_until < now:
        return outcome.cancelled("cancelled; the agent did not answer any more")
    return outcome.wait(task.lease_until, RUNNING, "cancelling; the agent was told to stop")


def _agent_of(connection: Connection, job: JobRow) -> AgentRow | None:
    found = doer_of(connection, job)
    if found is None or found.agent_id is None:
        return None
    agent = containers.get_agent(connection, found.agent_id)
    return agent if agent is not None and agent.revoked_at is None else None


def _new_task(task_id: str, job: JobRow, agent_id: str, now: datetime) -> TaskRow:
    return TaskRow(
        id=task_id,
        job_id=job.id,
        agent_id=agent_id,
        vault_id=job.vault_id,
        kind="",
        item_key="",
        payload={},
        state=tasks.QUEUED,
        fence=0,
        lease_until=None,
        cancel_requested=job.status == "Cancelling",
        progress={},
        outcome="",
        error={},
        result={},
        created_at=now,
        updated_at=now,
        ended_at=None,
    )


def _with_work(task: TaskRow, kind: str, item_key: str, payload: dict[str, Any]) -> TaskRow:

    return replace(task, kind=kind, item_key=item_key, payload=payload)
