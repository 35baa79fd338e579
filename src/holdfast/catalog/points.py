"""Recovery point rows: a view of the vault's log that lists fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update


@dataclass(frozen=True, slots=True)
class PointRow:
    """A live recovery point. ``rp_id`` sorts by time as text within an item."""

    vault_id: str
    rp_id: str
    item_id: str
    job_id: str
    sequence: int
    time: datetime
    type: str
    scheduled: bool
    tags: list[str]
    retain_until: datetime | None
    logical_bytes: int
    transferred_bytes: int
    stored_bytes: int
    file_count: int
    findings_count: int
    consistency: str
    consistency_reason: str


_C = t.recovery_points.c
_ALL = selecting(t.recovery_points, PointRow)


def put_point(connection: Connection, row: PointRow) -> bool:
    """Insert unless it is there; whether it was inserted."""
    if get_point(connection, row.vault_id, row.rp_id) is not None:
        return False
    insert(connection, t.recovery_points, row)
    return True


def get_point(connection: Connection, vault_id: str, rp_id: str) -> PointRow | None:
    return one(connection, PointRow, _ALL.where(_C.vault_id == vault_id, _C.rp_id == rp_id))


def point_of_job(connection: Connection, job_id: str) -> PointRow | None:
    return one(connection, PointRow, _ALL.where(_C.job_id == job_id))


def page_points(
    connection: Connection,
    item_id: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[PointRow]:
    """Newest first; ``since`` and ``until`` bound the point's time inclusively."""
    query = _ALL.where(_C.item_id == item_id)
    if since is not None:
        query = query.where(_C.time >= since)
    if until is not None:
        query = query.where(_C.time <= until)
    return page(
        connection, PointRow, query, keys=[_C.rp_id], descending=True, limit=limit, token=token
    )


def points_of_item(connection: Connection, item_id: str) -> list[PointRow]:
    """All, newest first."""
    query = _ALL.where(_C.item_id == item_id).order_by(_C.rp_id.desc())
    return many(connection, PointRow, query)


def latest_point(connection: Connection, item_id: str) -> PointRow | None:
    query = _ALL.where(_C.item_id == item_id).order_by(_C.rp_id.desc())
    return one(connection, PointRow, query)


def oldest_point(connection: Connection, item_id: str) -> PointRow | None:
    query = _ALL.where(_C.item_id == item_id).order_by(_C.rp_id)
    return one(connection, PointRow, query)


def point_ids(connection: Connection, vault_id: str) -> set[str]:
    return set(connection.execute(select(_C.rp_id).where(_C.vault_id == vault_id)).scalars())


def count_points(connection: Connection, item_id: str) -> int:
    query = select(func.count()).select_from(t.recovery_points).where(_C.item_id == item_id)
    return int(connection.execute(query).scalar_one())


def change_point(
    connection: Connection, vault_id: str, rp_id: str, retain_until: datetime | None
) -> int:
    values = {"retain_until": retain_until}
    return update(connection, t.recovery_points, values, _C.vault_id == vault_id, _C.rp_id == rp_id)


def remove_points(connection: Connection, vault_id: str, rp_ids: Sequence[str]) -> int:
    if not rp_ids:
        return 0
    where = (_C.vault_id == vault_id, _C.rp_id.in_(rp_ids))
    return remove(connection, t.recovery_points, *where)
