"""Agent tasks: work handed to an agent under a lease, with a fence that grows at every hand-out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, or_, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert, many, one, selecting, update

QUEUED, LEASED, LAPSED, DONE = "queued", "leased", "lapsed", "done"
OPEN = (QUEUED, LEASED, LAPSED)


@dataclass(frozen=True, slots=True)
class TaskRow:
    """``state``: queued | leased | lapsed (no sign of the agent; ``lease_until`` is since when) |
    done. ``outcome``: "" until done, then succeeded | failed |
    cancelled. ``fence``: number of times it was handed out."""

    id: str
    job_id: str
    agent_id: str
    vault_id: str
    kind: str
    item_key: str
    payload: dict[str, Any]
    state: str
    fence: int
    lease_until: datetime | None
    cancel_requested: bool
    progress: dict[str, Any]
    outcome: str
    error: dict[str, Any]
    result: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


_C = t.agent_tasks.c
_ALL = selecting(t.agent_tasks, TaskRow)


def add_task(connection: Connection, row: TaskRow) -> None:
    insert(connection, t.agent_tasks, row)


def get_task(connection: Connection, task_id: str) -> TaskRow | None:
    return one(connection, TaskRow, _ALL.where(_C.id == task_id))


def task_of_job(connection: Connection, job_id: str) -> TaskRow | None:
    return one(connection, TaskRow, _ALL.where(_C.job_id == job_id))


def open_tasks_of(connection: Connection, agent_id: str) -> list[TaskRow]:
    """Tasks not done, oldest first."""
    query = _ALL.where(_C.agent_id == agent_id, _C.state.in_(OPEN))
    return many(connection, TaskRow, query.order_by(_C.created_at, _C.id))


def open_tasks(connection: Connection, limit: int = 100_000) -> list[TaskRow]:
    """Tasks not done, of all agents."""
    query = _ALL.where(_C.state.in_(OPEN)).order_by(_C.created_at, _C.id)
    return many(connection, TaskRow, query.limit(limit))


def lease_task(
    connection: Connection, task_id: str, fence: int, lease_until: datetime, now: datetime
) -> bool:
    """Hand the task out under ``fence`` + 1; False when it moved on meanwhile."""
    values = {
        "state": LEASED,
        "fence": fence + 1,
        "lease_until": lease_until,
        "updated_at": now,
    }
    where = (_C.id == task_id, _C.fence == fence, _C.state != DONE)
    return update(connection, t.agent_tasks, values, *where) == 1


def change_task(
    connection: Connection, task_id: str, *, fence: int | None = None, **values: Any
) -> bool:
    """Set columns of a task not done, under its current ``fence`` when given."""
    where = [_C.id == task_id, _C.state != DONE]
    if fence is not None:
        where.append(_C.fence == fence)
    return update(connection, t.agent_tasks, values, *where) == 1


def move_tasks(connection: Connection, from_agents: list[str], to_agent: str, now: datetime) -> int:
    """Give open tasks of replaced agents to their successor, under a higher fence."""
    if not from_agents:
        return 0
    values = {
        "agent_id": to_agent,
        "state": QUEUED,
        "lease_until": None,
        "fence": _C.fence + 1,
        "updated_at": now,
    }
    return update(connection, t.agent_tasks, values, _C.agent_id.in_(from_agents), _C.state != DONE)


def lapsing_tasks(connection: Connection, now: datetime, longest: timedelta) -> list[TaskRow]:
    """Leased tasks whose lease ended, or ends later than any lease does (the clock was set
    back)."""
    over = or_(_C.lease_until < now, _C.lease_until > now + longest)
    query = _ALL.where(_C.state == LEASED, over)
    return many(connection, TaskRow, query.order_by(_C.lease_until))


def mark_lapsed(connection: Connection, task: TaskRow, now: datetime) -> bool:
    """Note that the agent gave no sign in time; False when it did meanwhile."""
    values = {"state": LAPSED, "lease_until": now, "updated_at": now}
    where = (
        _C.id == task.id,
        _C.fence == task.fence,
        _C.state == LEASED,
        _C.lease_until == task.lease_until,
    )
    return update(connection, t.agent_tasks, values, *where) == 1


def extend_leases(connection: Connection, until: datetime) -> int:
    """After a pause of the server itself: give every lease at least until then."""
    where = (_C.state == LEASED, _C.lease_until < until)
    return update(connection, t.agent_tasks, {"lease_until": until}, *where)


def requeue_task(connection: Connection, task_id: str, now: datetime) -> None:
    """Make a task, done or not, ready to be handed out again."""
    values: dict[str, Any] = {
        "state": QUEUED,
        "lease_until": None,
        "fence": _C.fence + 1,
        "outcome": "",
        "error": {},
        "result": {},
        "updated_at": now,
        "ended_at": None,
    }
    update(connection, t.agent_tasks, values, _C.id == task_id)


def agents_with_news(connection: Connection) -> set[str]:
    """Agents with a task to take, or one to stop."""
    news = or_(_C.state == QUEUED, _C.cancel_requested.is_(True))
    query = select(_C.agent_id).where(_C.state.in_(OPEN), news).distinct()
    return set(connection.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class AgentSession:
    """Which task and fence a vault session was opened for. ``id``: 32 hex digits.
    ``received_bytes`` and ``received_packs``: what was received whole. ``asked_ids``: chunk ids
    whose presence was asked, ``present_ids``: those answered present."""

    id: str
    vault_id: str
    agent_id: str
    task_id: str
    fence: int
    kind: str
    received_bytes: int
    received_packs: int
    asked_ids: int
    present_ids: int
    opened_at: datetime
    closed_at: datetime | None


_SESSIONS = t.agent_sessions.c


def add_session(connection: Connection, row: AgentSession) -> None:
    insert(connection, t.agent_sessions, row)


def get_session(connection: Connection, session_id: str) -> AgentSession | None:
    query = selecting(t.agent_sessions, AgentSession).where(_SESSIONS.id == session_id)
    return one(connection, AgentSession, query)


def sessions_of_task(connection: Connection, task_id: str) -> list[AgentSession]:
    """Oldest first."""
    query = selecting(t.agent_sessions, AgentSession).where(_SESSIONS.task_id == task_id)
    return many(connection, AgentSession, query.order_by(_SESSIONS.opened_at, _SESSIONS.id))


def close_session(connection: Connection, session_id: str, now: datetime) -> int:
    where = (_SESSIONS.id == session_id, _SESSIONS.closed_at.is_(None))
    return update(connection, t.agent_sessions, {"closed_at": now}, *where)


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """What is to be added to a session's figures."""

    received_bytes: int = 0
    received_packs: int = 0
    asked_ids: int = 0
    present_ids: int = 0


def add_counts(connection: Connection, session_id: str, counts: SessionCounts) -> None:
    values = {
        name: _SESSIONS[name] + getattr(counts, name)
        for name in SessionCounts.__slots__
        if getattr(counts, name)
    }
    update(connection, t.agent_sessions, values, _SESSIONS.id == session_id)
