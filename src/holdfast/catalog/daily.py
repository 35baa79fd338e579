"""How often something was done on a day (UTC) to one thing: for limits a day."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Connection, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert_many, remove, update

_C = t.daily_counts.c


def count_on(connection: Connection, subject_id: str, kind: str, day: date) -> int:
    query = select(_C.number).where(
        _C.subject_id == subject_id, _C.kind == kind, _C.day == day.isoformat()
    )
    return int(connection.execute(query).scalar_one_or_none() or 0)


def count_one(connection: Connection, subject_id: str, kind: str, day: date) -> None:
    """One more on ``day``; what was counted on earlier days goes."""
    here, today = (_C.subject_id == subject_id, _C.kind == kind), day.isoformat()
    if update(connection, t.daily_counts, {"number": _C.number + 1}, *here, _C.day == today):
        return
    remove(connection, t.daily_counts, *here, _C.day < today)
    row = {"subject_id": subject_id, "kind": kind, "day": today, "number": 1}
    insert_many(connection, t.daily_counts, [row])
