"""Protected items: their rows, their due times, and what their last backup did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update


@dataclass(frozen=True, slots=True)
class ItemRow:
    """``item_key`` names the item inside the vault store ("{container}/{item}").

    ``next_run_at``: when the schedule is due next; None while nothing is scheduled.
    ``last_slot_at``: the slot the last scheduled run was for. ``missed_ranges``: retention ranges
    whose designated backup failed since the last success. ``latest_point_id``: "" without points.
    """

    id: str
    vault_id: str
    container_id: str
    policy_id: str | None
    name_key: str
    name: str
    friendly_name: str
    item_key: str
    workload_type: str
    protection_state: str
    include_paths: list[str]
    exclude_globs: list[str]
    properties: dict[str, Any]
    missed_ranges: list[str]
    next_run_at: datetime | None
    last_slot_at: datetime | None
    last_backup_at: datetime | None
    last_backup_status: str
    last_job_id: str | None
    last_error_code: str
    latest_point_id: str
    latest_point_at: datetime | None
    etag: str
    created_at: datetime
    updated_at: datetime


_C = t.items.c
_ALL = selecting(t.items, ItemRow)


def add_item(connection: Connection, row: ItemRow) -> None:
    insert(connection, t.items, row)


def get_item(connection: Connection, item_id: str) -> ItemRow | None:
    return one(connection, ItemRow, _ALL.where(_C.id == item_id))


def find_item(connection: Connection, container_id: str, name: str) -> ItemRow | None:
    """By full name in any case."""
    query = _ALL.where(_C.container_id == container_id, _C.name_key == name.lower())
    return one(connection, ItemRow, query)


def find_item_by_key(connection: Connection, vault_id: str, item_key: str) -> ItemRow | None:
    query = _ALL.where(_C.vault_id == vault_id, _C.item_key == item_key)
    return one(connection, ItemRow, query)


def page_items(
    connection: Connection,
    vault_id: str,
    *,
    container_id: str | None = None,
    policy_id: str | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[ItemRow]:
    query = _ALL.where(_C.vault_id == vault_id)
    if container_id is not None:
        query = query.where(_C.container_id == container_id)
    if policy_id is not None:
        query = query.where(_C.policy_id == policy_id)
    return page(connection, ItemRow, query, keys=[_C.item_key], limit=limit, token=token)


def items_of_vault(connection: Connection, vault_id: str) -> list[ItemRow]:
    return many(connection, ItemRow, _ALL.where(_C.vault_id == vault_id).order_by(_C.item_key))


def items_of_policy(connection: Connection, policy_id: str) -> list[ItemRow]:
    return many(connection, ItemRow, _ALL.where(_C.policy_id == policy_id).order_by(_C.item_key))


def items_due(connection: Connection, now: datetime, limit: int = 500) -> list[ItemRow]:
    """Items whose schedule is due, longest due first. On PostgreSQL rows another ticker holds are
    passed over; the rows returned stay locked until the transaction ends."""
    query = _ALL.where(_C.next_run_at <= now).order_by(_C.next_run_at, _C.id).limit(limit)
    return many(connection, ItemRow, query.with_for_update(skip_locked=True))


def items_without_due_time(connection: Connection, states: Sequence[str]) -> list[ItemRow]:
    """Items under a policy in one of ``states`` for which no next run was set."""
    query = _ALL.where(
        _C.next_run_at.is_(None), _C.policy_id.is_not(None), _C.protection_state.in_(states)
    )
    return many(connection, ItemRow, query.order_by(_C.id))


def earliest_due(connection: Connection) -> datetime | None:
    """When the next item is due."""
    due: datetime | None = connection.execute(select(func.min(_C.next_run_at))).scalar_one()
    return due


def change_item(
    connection: Connection, item_id: str, *, if_etag: str | None = None, **values: Any
) -> int:
    where = [_C.id == item_id]
    if if_etag is not None:
        where.append(_C.etag == if_etag)
    return update(connection, t.items, values, *where)


def remove_item(connection: Connection, item_id: str) -> int:
    """Delete an item with its recovery point rows (the vault decides about the points)."""
    remove(connection, t.recovery_points, t.recovery_points.c.item_id == item_id)
    return remove(connection, t.items, _C.id == item_id)


def count_items(connection: Connection, vault_id: str) -> int:
    query = select(func.count()).select_from(t.items).where(_C.vault_id == vault_id)
    return int(connection.execute(query).scalar_one())


def count_items_on(connection: Connection, container_id: str) -> int:
    """Items of one container."""
    query = select(func.count()).select_from(t.items).where(_C.container_id == container_id)
    return int(connection.execute(query).scalar_one())


def forget_due_times_after(connection: Connection, moment: datetime) -> int:
    """Have runs planned beyond any schedule's reach planned anew."""
    return update(connection, t.items, {"next_run_at": None}, _C.next_run_at > moment)
