"""Long-running operations: what an Azure-AsyncOperation address answers from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert, many, one, remove, selecting, update


@dataclass(frozen=True, slots=True)
class OperationRow:
    """``state``: InProgress | Succeeded | Failed | Canceled. An operation with a ``job_id`` whose
    kind follows its job ends when the job does; others end by ``end_operation``."""

    id: str
    scope: str
    kind: str
    state: str
    job_id: str | None
    result: dict[str, Any]
    error: dict[str, Any]
    created_by: str
    created_at: datetime
    ended_at: datetime | None


_C = t.operations.c
_ALL = selecting(t.operations, OperationRow)


def add_operation(connection: Connection, row: OperationRow) -> None:
    insert(connection, t.operations, row)


def get_operation(connection: Connection, operation_id: str) -> OperationRow | None:
    return one(connection, OperationRow, _ALL.where(_C.id == operation_id))


def operations_of_job(connection: Connection, job_id: str) -> list[OperationRow]:
    return many(connection, OperationRow, _ALL.where(_C.job_id == job_id))


def end_operation(
    connection: Connection,
    operation_id: str,
    state: str,
    now: datetime,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> int:
    """End it once; 0 when it has ended before."""
    values: dict[str, Any] = {"state": state, "ended_at": now}
    if result is not None:
        values["result"] = result
    if error is not None:
        values["error"] = error
    return update(connection, t.operations, values, _C.id == operation_id, _C.state == "InProgress")


def forget_operations(connection: Connection, before: datetime) -> int:
    """Drop operations that ended before a time."""
    return remove(connection, t.operations, _C.ended_at < before)
