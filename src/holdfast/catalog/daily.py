"""How often something was done on a day (UTC) to one thing: for limits a day."""

from __future__ import annotations

from datetime import date

from sqlalchemy import Connection

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert_new, remove, update

_C = t.daily_counts.c


def take_one(connection: Connection, subject_id: str, kind: str, day: date, most: int) -> bool:
    """Count one more on ``day``, unless ``most`` are counted: then False. Of two who ask at once
    for the last one, one gets it. What was counted on earlier days goes."""
    here, today = (_C.subject_id == subject_id, _C.kind == kind), day.isoformat()
    room = (*here, _C.day == today, _C.number < most)
    one_more = {"number": _C.number + 1}
    if update(connection, t.daily_counts, one_more, *room):
        return True
    remove(connection, t.daily_counts, *here, _C.day < today)
    first = {"subject_id": subject_id, "kind": kind, "day": today, "number": 0}
    insert_new(connection, t.daily_counts, first)
    return bool(update(connection, t.daily_counts, one_more, *room))


def give_back(connection: Connection, subject_id: str, kind: str, day: date) -> None:
    """Count one less on ``day``."""
    here = (_C.subject_id == subject_id, _C.kind == kind, _C.day == day.isoformat())
    update(connection, t.daily_counts, {"number": _C.number - 1}, *here, _C.number > 0)
