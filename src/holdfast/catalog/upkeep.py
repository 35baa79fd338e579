"""Maintenance runs per vault, and the leases of worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert_many, many, one, remove, selecting, update


@dataclass(frozen=True, slots=True)
class MaintenanceRun:
    """One expire, collect or verify of a vault and what it did."""

    id: int
    vault_id: str
    kind: str
    job_id: str | None
    status: str
    detail: str
    result: dict[str, Any]
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A process that runs jobs; after ``lease_until`` others take its jobs over."""

    executor_id: str
    lease_until: datetime
    started_at: datetime


_RUNS = t.maintenance_runs.c
_WORKERS = t.workers.c


def note_run(
    connection: Connection,
    *,
    vault_id: str,
    kind: str,
    job_id: str,
    status: str,
    detail: str,
    result: dict[str, Any],
    started_at: datetime,
    ended_at: datetime | None,
) -> None:
    """Write down one run; a second note of the same job replaces the first."""
    values = {
        "vault_id": vault_id,
        "kind": kind,
        "job_id": job_id,
        "status": status,
        "detail": detail,
        "result": result,
        "started_at": started_at,
        "ended_at": ended_at,
    }
    if not update(connection, t.maintenance_runs, values, _RUNS.job_id == job_id):
        insert_many(connection, t.maintenance_runs, [values])


@dataclass(frozen=True, slots=True)
class Finding:
    """What the server noticed about a vault by itself, outside of a job's own record."""

    vault_id: str
    kind: str
    status: str
    detail: str
    result: dict[str, Any]
    at: datetime


def add_finding(connection: Connection, found: Finding) -> None:
    values = {name: getattr(found, name) for name in ("vault_id", "kind", "status", "detail")}
    values |= {"result": found.result, "job_id": None}
    values |= {"started_at": found.at, "ended_at": found.at}
    insert_many(connection, t.maintenance_runs, [values])


def findings_since(
    connection: Connection, vault_id: str, kind: str, since: datetime
) -> list[MaintenanceRun]:
    """Oldest first."""
    query = selecting(t.maintenance_runs, MaintenanceRun).where(
        _RUNS.vault_id == vault_id, _RUNS.kind == kind, _RUNS.ended_at >= since
    )
    return many(connection, MaintenanceRun, query.order_by(_RUNS.id))


def last_run(connection: Connection, vault_id: str, kind: str) -> MaintenanceRun | None:
    query = selecting(t.maintenance_runs, MaintenanceRun).where(
        _RUNS.vault_id == vault_id, _RUNS.kind == kind
    )
    return one(connection, MaintenanceRun, query.order_by(_RUNS.id.desc()))


def forget_runs(connection: Connection, before: datetime) -> int:
    return remove(connection, t.maintenance_runs, _RUNS.ended_at < before)


def renew_worker(
    connection: Connection, executor_id: str, lease_until: datetime, now: datetime
) -> None:
    """Extend or take a worker's lease."""
    values = {"lease_until": lease_until}
    if not update(connection, t.workers, values, _WORKERS.executor_id == executor_id):
        row = {"executor_id": executor_id, "lease_until": lease_until, "started_at": now}
        insert_many(connection, t.workers, [row])


def live_workers(connection: Connection, now: datetime) -> set[str]:
    query = select(_WORKERS.executor_id).where(_WORKERS.lease_until >= now)
    return set(connection.execute(query).scalars())


def dead_workers(connection: Connection, now: datetime) -> list[str]:
    query = selecting(t.workers, WorkerRow).where(_WORKERS.lease_until < now)
    return [row.executor_id for row in many(connection, WorkerRow, query)]


def remove_worker(connection: Connection, executor_id: str) -> int:
    return remove(connection, t.workers, _WORKERS.executor_id == executor_id)
