"""Recovery points that are open for reading files out of them, until their time or an end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert, one, remove, selecting, update


@dataclass(frozen=True, slots=True)
class RecoveryRow:
    """``ended_at``: when somebody ended it before its time."""

    id: str
    vault_id: str
    item_id: str
    rp_id: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None


_C = t.item_recoveries.c
_ALL = selecting(t.item_recoveries, RecoveryRow)


def add_recovery(connection: Connection, row: RecoveryRow) -> None:
    insert(connection, t.item_recoveries, row)


def get_recovery(connection: Connection, recovery_id: str) -> RecoveryRow | None:
    return one(connection, RecoveryRow, _ALL.where(_C.id == recovery_id))


def open_points(connection: Connection, item_id: str, now: datetime) -> set[str]:
    """Recovery points of an item that are open now."""
    query = select(_C.rp_id).where(_C.item_id == item_id, _C.ended_at.is_(None))
    return set(connection.execute(query.where(_C.expires_at > now)).scalars())


def end_recoveries(connection: Connection, item_id: str, rp_id: str, now: datetime) -> int:
    """End all of one point; how many were open."""
    where = (_C.item_id == item_id, _C.rp_id == rp_id, _C.ended_at.is_(None))
    return update(connection, t.item_recoveries, {"ended_at": now}, *where)


def forget_recoveries(connection: Connection, before: datetime) -> int:
    """Drop those whose time ended before."""
    return remove(connection, t.item_recoveries, _C.expires_at < before)
