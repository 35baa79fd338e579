"""Recovery point rows: a view of the vault's log that lists fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy import update as sql_update

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update
from holdfast.domain.point_life import PointLife


@dataclass(frozen=True, slots=True)
class PointRow:
    """A live recovery point. ``rp_id`` sorts by time as text within an item. ``promised_until``
    and ``purge_at``: its life as expiry sees it (domain.point_life). ``details``: what its workload
    says of it, beside the figures all have."""

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
    promised_until: datetime | None = None
    purge_at: datetime | None = None
    details: dict[str, Any] = field(default_factory=dict)


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


def lives_of(connection: Connection, vault_id: str) -> dict[str, PointLife]:
    """Of every point of a vault, by id."""
    query = select(_C.rp_id, _C.promised_until, _C.purge_at).where(_C.vault_id == vault_id)
    return {rp_id: PointLife(until, purge) for rp_id, until, purge in connection.execute(query)}


def change_lives(connection: Connection, vault_id: str, lives: Mapping[str, PointLife]) -> None:
    """Set the lives of points of a vault, by id."""
    if not lives:
        return
    changing = sql_update(t.recovery_points).where(
        _C.vault_id == vault_id, _C.rp_id == bindparam("of")
    )
    changing = changing.values(promised_until=bindparam("until"), purge_at=bindparam("purge"))
    rows = [
        {"of": rp_id, "until": life.promised_until, "purge": life.purge_at}
        for rp_id, life in sorted(lives.items())
    ]
    connection.execute(changing, rows)


def note_details(connection: Connection, vault_id: str, rp_id: str, details: dict[str, Any]) -> int:
    """Set what its workload says of a point."""
    values = {"details": details}
    return update(connection, t.recovery_points, values, _C.vault_id == vault_id, _C.rp_id == rp_id)


def remove_points(connection: Connection, vault_id: str, rp_ids: Sequence[str]) -> int:
    if not rp_ids:
        return 0
    where = (_C.vault_id == vault_id, _C.rp_id.in_(rp_ids))
    return remove(connection, t.recovery_points, *where)


def times_since(
    connection: Connection, item_ids: Sequence[str], since: datetime
) -> dict[str, list[datetime]]:
    """When recovery points of some items were made, ascending, by item."""
    query = select(_C.item_id, _C.time).where(_C.item_id.in_(item_ids), _C.time >= since)
    found: dict[str, list[datetime]] = {item_id: [] for item_id in item_ids}
    for item_id, time in connection.execute(query.order_by(_C.item_id, _C.time)):
        found[item_id].append(time)
    return found


def logical_sizes(
    connection: Connection, vault_id: str, rp_ids: Sequence[str], batch: int = 500
) -> dict[str, int]:
    """Bytes that recovery points of a vault show, by point."""
    found: dict[str, int] = {}
    for start in range(0, len(rp_ids), batch):
        some = rp_ids[start : start + batch]
        query = select(_C.rp_id, _C.logical_bytes)
        rows = connection.execute(query.where(_C.vault_id == vault_id, _C.rp_id.in_(some)))
        found.update((rp_id, int(size)) for rp_id, size in rows)
    return found
