"""Daily samples of what vaults and items hold, kept for the growth that reports show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, delete, func, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert_many, many, selecting

WHOLE = ""  # the item id of a sample of the whole vault


@dataclass(frozen=True, slots=True)
class UsageSample:
    """What a vault (``item_id`` "") or one of its items held on a day (UTC)."""

    vault_id: str
    day: date
    item_id: str
    logical_bytes: int
    stored_bytes: int
    recovery_points: int


_C = t.usage_samples.c


def put_samples(connection: Connection, rows: Iterable[UsageSample]) -> None:
    """Samples of one vault and day replace earlier ones of that day."""
    found = list(rows)
    for vault_id, day in {(row.vault_id, row.day) for row in found}:
        connection.execute(delete(t.usage_samples).where(_C.vault_id == vault_id, _C.day == day))
    names = UsageSample.__slots__
    values = [{name: getattr(row, name) for name in names} for row in found]
    insert_many(connection, t.usage_samples, values)


def has_sample(connection: Connection, vault_id: str, day: date) -> bool:
    query = select(_C.day).where(_C.vault_id == vault_id, _C.day == day).limit(1)
    return connection.execute(query).first() is not None


def samples_since(
    connection: Connection, vault_id: str, day: date, item_id: str = WHOLE
) -> list[UsageSample]:
    """Of the whole vault, or of one item; oldest first."""
    query = selecting(t.usage_samples, UsageSample)
    query = query.where(_C.vault_id == vault_id, _C.day >= day, _C.item_id == item_id)
    return many(connection, UsageSample, query.order_by(_C.day))


def oldest_since(connection: Connection, vault_id: str, day: date) -> dict[str, UsageSample]:
    """The oldest sample of each item, and of the vault, from ``day`` on."""
    where = (_C.vault_id == vault_id, _C.day >= day)
    first = select(_C.item_id, func.min(_C.day).label("day")).where(*where)
    each = first.group_by(_C.item_id).subquery()
    query = selecting(t.usage_samples, UsageSample).where(*where)
    query = query.join(each, (each.c.item_id == _C.item_id) & (each.c.day == _C.day))
    return {row.item_id: row for row in many(connection, UsageSample, query)}


def remove_samples_before(connection: Connection, day: date) -> int:
    return connection.execute(delete(t.usage_samples).where(_C.day < day)).rowcount


def sums_by_item(connection: Connection, vault_id: str) -> dict[str, tuple[int, int, str]]:
    """Item id -> (stored bytes of its recovery points, their number, the newest one's id)."""
    points = t.recovery_points.c
    newest = func.max(points.rp_id)
    query = select(points.item_id, func.sum(points.stored_bytes), func.count(), newest)
    rows = connection.execute(query.where(points.vault_id == vault_id).group_by(points.item_id))
    return {item: (int(stored), int(count), point) for item, stored, count, point in rows}
