"""Protected items: their rows, their due times, and what their last backup did."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, or_, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update
from holdfast.domain.lifecycle import SOFT_DELETED


@dataclass(frozen=True, slots=True)
class ItemRow:
    """``item_key`` names the item inside the vault store ("{container}/{item}").

    ``next_run_at``: when the schedule is due next; None while nothing is scheduled.
    ``last_slot_at``: the slot the last scheduled run was for. ``missed_ranges``: retention ranges
    whose designated backup failed since the last success. ``latest_point_id``: "" without points.
    ``deleted_at``: when its data was deleted, softly; ``purge_at``: when it goes for good, after
    ``soft_delete_days``. ``days_deleted``: how many daily maintenances saw it deleted.
    ``scheduled_since``: when its present schedule began; None: with the item.
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
    deleted_at: datetime | None = None
    purge_at: datetime | None = None
    days_deleted: int = 0
    soft_delete_days: int | None = None
    scheduled_since: datetime | None = None

    @property
    def due_since(self) -> datetime:
        """From when on its policy's schedule promises recovery points."""
        return self.scheduled_since or self.created_at

    @property
    def life_state(self) -> str:
        """The protection state, or SoftDeleted."""
        return self.protection_state if self.deleted_at is None else SOFT_DELETED


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
    workload_type: str | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[ItemRow]:
    query = _ALL.where(_C.vault_id == vault_id)
    if workload_type is not None:
        query = query.where(_C.workload_type == workload_type)
    if container_id is not None:
        query = query.where(_C.container_id == container_id)
    if policy_id is not None:
        query = query.where(_C.policy_id == policy_id)
    return page(connection, ItemRow, query, keys=[_C.item_key], limit=limit, token=token)


def items_of_containers(
    connection: Connection, container_ids: Collection[str]
) -> dict[str, ItemRow]:
    """Container id to its item, for containers that have one."""
    if not container_ids:
        return {}
    query = _ALL.where(_C.container_id.in_(sorted(container_ids)))
    return {row.container_id: row for row in many(connection, ItemRow, query)}


def items_of_workload(connection: Connection, vault_id: str, workload_type: str) -> list[ItemRow]:
    query = _ALL.where(_C.vault_id == vault_id, _C.workload_type == workload_type)
    return many(connection, ItemRow, query.order_by(_C.item_key))


def count_workload(connection: Connection, vault_id: str, workload_type: str) -> int:
    query = select(func.count()).select_from(t.items)
    query = query.where(_C.vault_id == vault_id, _C.workload_type == workload_type)
    return int(connection.execute(query).scalar_one())


def counts_by_workload(connection: Connection, vault_id: str) -> dict[str, int]:
    """Workload type to the number of its items; types without any are left out."""
    query = select(_C.workload_type, func.count()).where(_C.vault_id == vault_id)
    rows = connection.execute(query.group_by(_C.workload_type))
    return {workload: int(count) for workload, count in rows}


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


def items_to_purge(connection: Connection, vault_id: str, now: datetime) -> list[ItemRow]:
    """Items whose deleted data goes for good now. On PostgreSQL rows somebody else holds, such as
    an undeletion, are passed over; the rows returned stay locked until the transaction ends."""
    query = _ALL.where(_C.vault_id == vault_id, _C.deleted_at.is_not(None), _C.purge_at <= now)
    query = query.order_by(_C.id).with_for_update(skip_locked=True)
    return many(connection, ItemRow, query)


def items_purged_before(connection: Connection, moment: datetime) -> list[ItemRow]:
    """Items whose deleted data goes for good before a time, of vaults that are not deleted."""
    held = select(t.vaults.c.id).where(t.vaults.c.deleted_at.is_(None))
    query = _ALL.where(_C.deleted_at.is_not(None), _C.purge_at <= moment, _C.vault_id.in_(held))
    return many(connection, ItemRow, query.order_by(_C.id))


def count_deleted_day(connection: Connection, vault_id: str) -> int:
    """Count a day for each item of a vault whose data is deleted."""
    where = (_C.vault_id == vault_id, _C.deleted_at.is_not(None))
    return update(connection, t.items, {"days_deleted": _C.days_deleted + 1}, *where)


def lock_item(connection: Connection, item_id: str) -> ItemRow | None:
    """The row as it is now, held until the transaction ends; on SQLite writers wait anyway."""
    return one(connection, ItemRow, _ALL.where(_C.id == item_id).with_for_update())


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


def count_live_items(connection: Connection, vault_id: str, container_id: str | None = None) -> int:
    """Items whose data is not deleted, of a vault or of one of its containers."""
    query = select(func.count()).select_from(t.items)
    query = query.where(_C.vault_id == vault_id, _C.deleted_at.is_(None))
    if container_id is not None:
        query = query.where(_C.container_id == container_id)
    return int(connection.execute(query).scalar_one())


def count_items_on(connection: Connection, container_id: str) -> int:
    """Items of one container."""
    query = select(func.count()).select_from(t.items).where(_C.container_id == container_id)
    return int(connection.execute(query).scalar_one())


def forget_due_times_after(connection: Connection, moment: datetime) -> int:
    """Have runs planned beyond any schedule's reach planned anew."""
    return update(connection, t.items, {"next_run_at": None}, _C.next_run_at > moment)


def count_on_in(connection: Connection, container_id: str, states: Collection[str]) -> int:
    """Items of one container in one of ``states``."""
    query = select(func.count()).select_from(t.items)
    query = query.where(_C.container_id == container_id, _C.protection_state.in_(states))
    return int(connection.execute(query).scalar_one())


def items_without_point_since(
    connection: Connection, states: Collection[str], moment: datetime
) -> list[ItemRow]:
    """Items under a policy in one of ``states``, protected before a time, that have no recovery
    point from then on."""
    late = or_(_C.latest_point_at.is_(None), _C.latest_point_at < moment)
    query = _ALL.where(_C.policy_id.is_not(None), _C.protection_state.in_(states))
    return many(connection, ItemRow, query.where(_C.created_at < moment, late).order_by(_C.id))
