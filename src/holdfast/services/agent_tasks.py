"""What an agent does about its tasks: take the next, report progress, complete.

A task belongs to an agent under a lease; every hand-out raises its fence, and a call with an older
fence is refused, so that an agent that was given up on cannot act any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, jobs, tasks
from holdfast.catalog.containers import AgentRow
from holdfast.catalog.database import Catalog
from holdfast.catalog.jobs import FindingRow, JobRow
from holdfast.catalog.tasks import TaskRow
from holdfast.domain.virtual_machines import MANAGEMENT
from holdfast.errors import ConflictError, NotFoundError
from holdfast.jobs.engine import JobEngine
from holdfast.jobs.ledger import SNAPSHOT_AT
from holdfast.jobs.machine_work import runs_machine
from holdfast.ports.vm_tasks import SERVE_PHASE, SILENT, UPLOAD_PHASE

SEEN_EVERY = timedelta(seconds=10)
MAX_FINDING_CHARS = 4000
LIMITS = ("throttleBytesPerSecond", "workHours")
READY_SECONDS = "guestReadySeconds"  # of the progress of a job that runs a machine
KEPT = (SNAPSHOT_AT, READY_SECONDS)
OUTCOMES = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Handed:
    """A task to work on now (or None), and tasks to stop at once."""

    task: TaskRow | None
    cancel: list[str]


@dataclass(frozen=True, slots=True)
class Report:
    """Progress of a task. Counts are totals so far; ``findings``: new ones {code, path, message}.
    ``total_*`` may be None when unknown. ``disks``: of a virtual machine, {lun, doneBytes,
    totalBytes} each."""

    phase: str
    done_bytes: int
    total_bytes: int | None
    done_files: int
    total_files: int | None
    transferred_bytes: int
    findings: Sequence[Mapping[str, Any]]
    detail: str
    disks: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """How a task ended. ``error``: {code, message, hint} when it failed."""

    outcome: str
    error: Mapping[str, Any]
    result: Mapping[str, Any]
    findings: Sequence[Mapping[str, Any]]


class AgentTasks:
    """The task half of the agent API. All methods are synchronous and thread safe."""

    def __init__(self, catalog: Catalog, engine: JobEngine) -> None:
        self._catalog = catalog
        self._engine = engine
        self._clock = engine.ledger.clock

    def next(self, agent: AgentRow, running: Mapping[str, int]) -> Handed:
        """Hand out one task: a new one, or one this agent had and does not run any more (it was
        restarted); a cancelled one only when there may be a machine of it to be removed.
        ``running``: task ids with the fences the agent works under."""
        now = self._clock.now()
        with self._catalog.read() as connection:
            mine = tasks.open_tasks_of(connection, agent.id)
        current = {task.id: task for task in mine if running.get(task.id) == task.fence}
        cancel = [task_id for task_id in running if task_id not in current]
        cancel += [task.id for task in current.values() if task.cancel_requested]
        offered = [
            task
            for task in mine
            if task.id not in running and (not task.cancel_requested or runs_machine(task))
        ]
        stale = abs(now - agent.last_seen_at) >= SEEN_EVERY
        if not (offered or current or stale):
            return Handed(None, cancel)
        with self._catalog.write() as connection:
            if stale:
                containers.change_agent(connection, agent.id, last_seen_at=now)
            for task in current.values():
                self._renew(connection, task, now)
            for task in offered:
                if taken := self._lease(connection, task, now):
                    return Handed(taken, cancel)
        return Handed(None, cancel)

    def _lease(self, connection: Connection, task: TaskRow, now: datetime) -> TaskRow | None:
        if not tasks.lease_task(connection, task.id, task.fence, self._lease_end(now), now):
            return None
        again = task.state != tasks.QUEUED
        message = "the agent had let go of it; handed out again" if again else "the agent took it"
        event = "handed-out-again" if again else "taken"
        self._engine.ledger.note(connection, task.job_id, event, message)
        jobs.signal_job(connection, task.job_id, now)
        self._engine.wake()
        return tasks.get_task(connection, task.id)

    def _lease_end(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self._engine.settings.lease_seconds)

    def _renew(self, connection: Connection, task: TaskRow, now: datetime) -> None:
        """Extend the lease; an agent that had been given up on is back."""
        if task.state == tasks.LAPSED:
            self._engine.ledger.note(
                connection, task.job_id, "agent-back", "the agent is back and goes on"
            )
            jobs.signal_job(connection, task.job_id, now)
            self._engine.wake()
        elif task.lease_until and abs(self._lease_end(now) - task.lease_until) < SEEN_EVERY:
            return
        tasks.change_task(
            connection,
            task.id,
            fence=task.fence,
            state=tasks.LEASED,
            lease_until=self._lease_end(now),
        )

    def progress(self, agent: AgentRow, task_id: str, fence: int, report: Report) -> bool:
        """Write progress down; whether the agent is to stop. ConflictError (TaskFenced)."""
        now = self._clock.now()
        with self._catalog.write() as connection:
            task = held_task(connection, agent, task_id, fence)
            self._renew(connection, task, now)
            if abs(now - agent.last_seen_at) >= SEEN_EVERY:
                containers.change_agent(connection, agent.id, last_seen_at=now)
            job = jobs.get_job(connection, task.job_id)
            if job is not None:
                self._write_progress(connection, job, report, now)
        return task.cancel_requested or job is None or not job.active

    def undone(self, task_id: str) -> bool:
        """Whether somebody cancelled the task's job, so that what it made is to be removed."""
        with self._catalog.read() as connection:
            task = tasks.get_task(connection, task_id)
        return task is not None and task.cancel_requested

    def limits(self, task_id: str) -> dict[str, Any] | None:
        """How fast a backup may send by its item's settings as they are now."""
        with self._catalog.read() as connection:
            task = tasks.get_task(connection, task_id)
            job = jobs.get_job(connection, task.job_id) if task is not None else None
            item = items.get_item(connection, job.item_id or "") if job is not None else None
        if item is None or job is None or job.kind != "backup":
            return None
        return {name: item.properties.get(name) for name in LIMITS}

    def _write_progress(
        self, connection: Connection, job: JobRow, report: Report, now: datetime
    ) -> None:
        values: dict[str, Any] = {
            "progress": _progress_of(job, report, now),
            "updated_at": now,
        }
        if job.status == "InProgress":
            values["phase"] = report.phase[:50]
            if report.detail:
                values["detail"] = report.detail[:MAX_FINDING_CHARS]
            if self._took_snapshot(connection, job, report, now):
                values["progress"][SNAPSHOT_AT] = now.isoformat()
            if _is_ready(job, report):
                values["progress"][READY_SECONDS] = (now - job.started_at).total_seconds()
        values |= _add_findings(connection, job, report.findings)
        jobs.change_job(connection, job.id, **values)

    def _took_snapshot(
        self, connection: Connection, job: JobRow, report: Report, now: datetime
    ) -> bool:
        """Whether a virtual machine's snapshot is taken and its transfer begins with this report;
        from then on the backup is not cancelled any more."""
        machine = job.management_type == MANAGEMENT and job.kind == "backup"
        if not machine or report.phase != UPLOAD_PHASE or SNAPSHOT_AT in job.progress:
            return False
        text = report.detail or "the snapshot is taken"
        self._engine.ledger.note(connection, job.id, "snapshot-taken", text[:MAX_FINDING_CHARS])
        return True

    def complete(self, agent: AgentRow, task_id: str, fence: int, completion: Completion) -> None:
        """End a task once; the same call again is harmless. ConflictError (TaskFenced)."""
        now = self._clock.now()
        with self._catalog.write() as connection:
            task = tasks.get_task(connection, task_id)
            if task is not None and _is_repeat(task, agent, fence, completion):
                return
            task = held_task(connection, agent, task_id, fence)
            tasks.change_task(
                connection,
                task_id,
                fence=fence,
                state=tasks.DONE,
                outcome=completion.outcome,
                error=dict(completion.error),
                result=dict(completion.result),
                updated_at=now,
                ended_at=now,
            )
            job = jobs.get_job(connection, task.job_id)
            if job is not None:
                found = _add_findings(connection, job, completion.findings)
                message = f"the agent reports: {completion.outcome}"
                self._engine.ledger.note(connection, job.id, "agent-done", message)
                jobs.signal_job(connection, job.id, now, **found)
        self._engine.wake()


def held_task(connection: Connection, agent: AgentRow, task_id: str, fence: int) -> TaskRow:
    """The task, if this agent holds it under this fence. NotFoundError, ConflictError
    (TaskFenced)."""
    task = tasks.get_task(connection, task_id)
    if task is None or task.agent_id != agent.id:
        raise NotFoundError(f"agent {agent.host} has no task {task_id}", code="TaskNotFound")
    if task.fence != fence or task.state == tasks.DONE:
        raise fenced(task_id)
    return task


def fenced(task_id: str) -> ConflictError:
    return ConflictError(
        f"task {task_id} was handed on or has ended",
        code="TaskFenced",
        hint="Stop working on it at once; ask for the next task.",
    )


def _is_repeat(task: TaskRow, agent: AgentRow, fence: int, completion: Completion) -> bool:
    same = task.agent_id == agent.id and task.fence == fence
    return same and task.state == tasks.DONE and task.outcome == completion.outcome


def _progress_of(job: JobRow, report: Report, now: datetime) -> dict[str, Any]:
    before = int(job.progress.get("doneBytes") or 0)
    seconds = (now - job.updated_at).total_seconds()
    moved = report.done_bytes - before
    rate = int(job.progress.get("bytesPerSecond") or 0)
    if moved >= 0 and seconds > 0.05:
        rate = int(moved / seconds)
    return {
        "phase": report.phase[:50],
        "doneBytes": report.done_bytes,
        "totalBytes": report.total_bytes,
        "doneFiles": report.done_files,
        "totalFiles": report.total_files,
        "transferredBytes": report.transferred_bytes,
        "bytesPerSecond": rate,
        **({"disks": list(report.disks)} if report.disks else {}),
        **{name: job.progress[name] for name in KEPT if name in job.progress},
    }


def _is_ready(job: JobRow, report: Report) -> bool:
    """Whether the guest of a machine that runs from the vault is first told to have answered."""
    silent = job.findings_count or any(one.get("code") == SILENT for one in report.findings)
    return report.phase == SERVE_PHASE and not silent and READY_SECONDS not in job.progress


def _add_findings(
    connection: Connection, job: JobRow, found: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Store new findings; the column values to set with them."""
    rows = [_finding(job.id, one) for one in found[: jobs.MAX_FINDINGS]]
    if not rows:
        return {}
    jobs.add_findings(connection, job.id, rows)
    return {"findings_count": jobs.count_findings(connection, job.id)}


def _finding(job_id: str, given: Mapping[str, Any]) -> FindingRow:
    code = str(given.get("code") or "Finding")[:100]
    path = str(given.get("path") or "").replace("\0", "")
    digest = hashlib.sha256(f"{code}\0{path}".encode(errors="backslashreplace")).hexdigest()
    message = str(given.get("message") or "")[:MAX_FINDING_CHARS]
    return FindingRow(job_id, code, path[:MAX_FINDING_CHARS], message, digest)
