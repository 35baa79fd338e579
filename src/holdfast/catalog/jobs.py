"""Job rows: what users see of every execution, its history and its findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    case,
    func,
    literal,
    select,
    text,
)

from holdfast.catalog import tables as t
from holdfast.catalog.columns import UtcDateTime
from holdfast.catalog.rows import (
    Page,
    insert,
    insert_many,
    many,
    one,
    page,
    remove,
    selecting,
    update,
)

MAX_FINDINGS = 10_000


@dataclass(frozen=True, slots=True)
class JobRow:
    """One execution.

    ``kind``: backup | restore | expire | collect | verify | import. ``operation``: Azure's word for
    it. ``status``: one of Azure's six. ``phase`` and ``detail`` say where it is. ``slot_at``: the
    scheduled moment it runs for. ``progress`` holds doneBytes, totalBytes, doneFiles, totalFiles,
    doneItems, totalItems, transferredBytes, bytesPerSecond. ``management_type``: of the item it is
    about; of a vault's own jobs MAB.

    The engine drives a job in turns: ``turn`` counts them, ``wake_at`` is when the next may begin,
    ``signals`` counts what happened to the job from outside, ``driver`` is the worker that began
    the last turn.
    """

    id: str
    vault_id: str
    item_id: str | None
    container_id: str | None
    kind: str
    operation: str
    entity_name: str
    status: str
    phase: str
    detail: str
    scheduled: bool
    slot_at: datetime | None
    parameters: dict[str, Any]
    progress: dict[str, Any]
    result: dict[str, Any]
    findings_count: int
    attempt: int
    turn: int
    signals: int
    wake_at: datetime | None
    driver: str
    cancel_requested_at: datetime | None
    error_code: str
    error_message: str
    error_hint: str
    created_by: str
    started_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    management_type: str = "MAB"

    @property
    def active(self) -> bool:
        return self.status in t.ACTIVE_STATUSES


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line of a job's history."""

    job_id: str
    at: datetime
    event: str
    message: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """Something a job could not do as asked. ``digest`` tells repeated reports apart."""

    job_id: str
    code: str
    path: str
    message: str
    digest: str


MOST_JOBS = ("Completed", "Backup", "MAB")  # words of most jobs there are

_C = t.jobs.c
_ALL = selecting(t.jobs, JobRow)
_IS_ACTIVE = cast("ColumnElement[bool]", text(t.ACTIVE_SQL))
_IS_BACKUP = cast("ColumnElement[bool]", text("kind = 'backup'"))


def add_job(connection: Connection, row: JobRow) -> None:
    """Insert. ConflictError (CatalogConflict) from the transaction when the item already has an
    active backup."""
    insert(connection, t.jobs, row)


def get_job(connection: Connection, job_id: str) -> JobRow | None:
    return one(connection, JobRow, _ALL.where(_C.id == job_id))


def page_jobs(
    connection: Connection,
    vault_id: str,
    *,
    status: str | None = None,
    operation: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    item_id: str | None = None,
    job_id: str | None = None,
    management_type: str | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[JobRow]:
    """Newest first; ``since`` and ``until`` bound the start time inclusively. Words as stored."""
    words = {"status": status, "operation": operation, "management_type": management_type}
    query = _ALL.where(_C.vault_id == vault_id, *_chosen(connection, words))
    if since is not None:
        query = query.where(_C.started_at >= since)
    if until is not None:
        query = query.where(_C.started_at <= until)
    if item_id is not None:
        query = query.where(_C.item_id == item_id)
    if job_id is not None:
        query = query.where(_C.id == job_id.lower())
    keys = [_C.started_at, _C.id]
    return page(connection, JobRow, query, keys=keys, descending=True, limit=limit, token=token)


def _chosen(connection: Connection, words: Mapping[str, str | None]) -> list[ColumnElement[bool]]:
    """Conditions for the words that are given, by column. SQLite takes any of their indexes, for
    it does not know what is rare, so all but one are written such that it cannot: what most jobs
    have comes last."""
    given = [(name, word) for name, word in words.items() if word is not None]
    given.sort(key=lambda one: one[1] in MOST_JOBS)
    free = len(given) if connection.dialect.name != "sqlite" else 1
    return [
        (_C[name] if number < free else _C[name].concat("")) == word
        for number, (name, word) in enumerate(given)
    ]


def active_jobs(connection: Connection, limit: int = 100_000) -> list[JobRow]:
    """Jobs not ended, oldest first."""
    query = _ALL.where(_IS_ACTIVE).order_by(_C.started_at, _C.id).limit(limit)
    return many(connection, JobRow, query)


def active_backup_of(connection: Connection, item_id: str) -> JobRow | None:
    query = _ALL.where(_C.item_id == item_id, _IS_BACKUP, _IS_ACTIVE)
    return one(connection, JobRow, query)


def active_jobs_of(
    connection: Connection, vault_id: str, *, item_id: str | None = None, kind: str | None = None
) -> list[JobRow]:
    """Active jobs of a vault, or of one of its items, or of one kind."""
    query = _ALL.where(_C.vault_id == vault_id, _IS_ACTIVE)
    if item_id is not None:
        query = query.where(_C.item_id == item_id)
    if kind is not None:
        query = query.where(_C.kind == kind)
    return many(connection, JobRow, query.order_by(_C.started_at, _C.id))


def is_active_anywhere(connection: Connection, kind: str) -> bool:
    """Whether a job of this kind has not ended, of whichever vault."""
    return one(connection, JobRow, _ALL.where(_C.kind == kind, _IS_ACTIVE).limit(1)) is not None


def change_job(
    connection: Connection, job_id: str, *, only_active: bool = True, **values: Any
) -> int:
    """Set columns. An ended job is left as it is (0 rows) unless ``only_active`` is False."""
    where = [_C.id == job_id]
    if only_active:
        where.append(_IS_ACTIVE)
    return update(connection, t.jobs, values, *where)


def remove_jobs_before(connection: Connection, before: datetime, limit: int = 1000) -> int:
    """Drop up to ``limit`` jobs that ended before a time, with their history, findings, tasks."""
    old = select(_C.id).where(_C.ended_at < before).order_by(_C.ended_at).limit(limit)
    ids = list(connection.execute(old).scalars())
    if ids:
        remove(connection, t.agent_tasks, t.agent_tasks.c.job_id.in_(ids))
        remove(connection, t.job_history, t.job_history.c.job_id.in_(ids))
        remove(connection, t.job_findings, t.job_findings.c.job_id.in_(ids))
        remove(connection, t.jobs, _C.id.in_(ids))
    return len(ids)


def remove_jobs_of_vault(connection: Connection, vault_id: str) -> int:
    """Drop a vault's jobs with all that hangs on them."""
    ids = select(_C.id).where(_C.vault_id == vault_id)
    remove(connection, t.agent_tasks, t.agent_tasks.c.job_id.in_(ids))
    remove(connection, t.job_history, t.job_history.c.job_id.in_(ids))
    remove(connection, t.job_findings, t.job_findings.c.job_id.in_(ids))
    return remove(connection, t.jobs, _C.vault_id == vault_id)


def add_event(connection: Connection, event: JobEvent) -> None:
    insert(connection, t.job_history, event)


def history_of(connection: Connection, job_id: str) -> list[JobEvent]:
    """Oldest first."""
    history = t.job_history.c
    query = selecting(t.job_history, JobEvent).where(history.job_id == job_id)
    return many(connection, JobEvent, query.order_by(history.id))


def add_findings(connection: Connection, job_id: str, found: Sequence[FindingRow]) -> int:
    """Add those not reported before, up to the cap a job may keep; how many were added."""
    if not found:
        return 0
    rows = {row.digest: row for row in found}
    findings = t.job_findings.c
    known = select(findings.digest).where(
        findings.job_id == job_id, findings.digest.in_(list(rows))
    )
    for digest in connection.execute(known).scalars():
        rows.pop(digest, None)
    room = MAX_FINDINGS - count_findings(connection, job_id)
    kept = list(rows.values())[: max(0, room)]
    names = FindingRow.__slots__
    insert_many(
        connection, t.job_findings, [{name: getattr(row, name) for name in names} for row in kept]
    )
    return len(kept)


def count_findings(connection: Connection, job_id: str) -> int:
    findings = t.job_findings
    query = select(func.count()).select_from(findings).where(findings.c.job_id == job_id)
    return int(connection.execute(query).scalar_one())


def findings_of(connection: Connection, job_id: str, limit: int = 1000) -> list[FindingRow]:
    """In the order they were reported."""
    findings = t.job_findings.c
    query = selecting(t.job_findings, FindingRow).where(findings.job_id == job_id)
    return many(connection, FindingRow, query.order_by(findings.id).limit(limit))


def counts_by_kind(connection: Connection) -> list[tuple[str, str, int]]:
    """(kind, status, number) of all jobs kept."""
    query = select(_C.kind, _C.status, func.count()).group_by(_C.kind, _C.status)
    return [(kind, status, int(count)) for kind, status, count in connection.execute(query)]


def jobs_to_drive(connection: Connection, now: datetime, limit: int = 1000) -> list[JobRow]:
    """Active jobs whose next turn may begin, longest waiting first."""
    query = _ALL.where(_IS_ACTIVE, _C.wake_at <= now).order_by(_C.wake_at, _C.id)
    return many(connection, JobRow, query.limit(limit))


def signal_job(connection: Connection, job_id: str, now: datetime, **values: Any) -> int:
    """Tell the engine that something happened to an active job; other columns may be set too."""
    values = {**values, "signals": _C.signals + 1, "wake_at": now}
    return update(connection, t.jobs, values, _C.id == job_id, _IS_ACTIVE)


def begin_turn(connection: Connection, job_id: str, turn: int, driver: str) -> int:
    """Note who drives the turn; 0 when the job has ended or is past this turn."""
    where = (_C.id == job_id, _C.turn == turn, _IS_ACTIVE)
    return update(connection, t.jobs, {"driver": driver}, *where)


def end_turn(
    connection: Connection,
    job_id: str,
    turn: int,
    *,
    seen_signals: int,
    wake_at: datetime | None,
    now: datetime,
    **values: Any,
) -> int:
    """Finish a turn once: the next may begin at ``wake_at``, or at once when a signal came in
    meanwhile. 0 when it was finished before."""
    wake = case(
        (_C.signals == seen_signals, literal(wake_at, UtcDateTime())),
        else_=literal(now, UtcDateTime()),
    )
    values = {**values, "turn": turn + 1, "wake_at": wake, "updated_at": now}
    return update(connection, t.jobs, values, _C.id == job_id, _C.turn == turn, _IS_ACTIVE)


def pull_wakes(connection: Connection, beyond: datetime, to: datetime) -> int:
    """Wake jobs at ``to`` that would sleep beyond ``beyond``."""
    return update(connection, t.jobs, {"wake_at": to}, _IS_ACTIVE, _C.wake_at > beyond)


def backups_since(
    connection: Connection, vault_id: str, since: datetime
) -> list[tuple[datetime, str]]:
    """(start, status) of a vault's backups that began since then and have ended."""
    query = select(_C.started_at, _C.status).where(
        _C.vault_id == vault_id, _IS_BACKUP, _C.started_at >= since, _C.ended_at.is_not(None)
    )
    return [(started, status) for started, status in connection.execute(query)]


def ended_runs(connection: Connection, since: datetime) -> list[JobRow]:
    """Backups and restores of items that ended since then, in that order."""
    query = _ALL.where(
        _C.kind.in_(("backup", "restore")), _C.item_id.is_not(None), _C.ended_at >= since
    )
    return many(connection, JobRow, query.order_by(_C.ended_at, _C.id))
