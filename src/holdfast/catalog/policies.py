"""Policy rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update
from holdfast.domain.virtual_machines import WORKLOAD


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """``properties`` is the ARM document of the policy."""

    id: str
    vault_id: str
    name_key: str
    name: str
    management_type: str
    properties: dict[str, Any]
    etag: str
    created_at: datetime
    updated_at: datetime


_C = t.policies.c
_ALL = selecting(t.policies, PolicyRow)


def add_policy(connection: Connection, row: PolicyRow) -> None:
    insert(connection, t.policies, row)


def get_policy(connection: Connection, policy_id: str) -> PolicyRow | None:
    return one(connection, PolicyRow, _ALL.where(_C.id == policy_id))


def find_policy(connection: Connection, vault_id: str, name: str) -> PolicyRow | None:
    """By name in any case."""
    query = _ALL.where(_C.vault_id == vault_id, _C.name_key == name.lower())
    return one(connection, PolicyRow, query)


def page_policies(
    connection: Connection, vault_id: str, *, kind: str = "", limit: int = 100, token: str = ""
) -> Page[PolicyRow]:
    """By name; with ``kind`` those of one management type, in any case."""
    query = _ALL.where(_C.vault_id == vault_id)
    if kind:
        query = query.where(func.lower(_C.management_type) == kind.lower())
    return page(connection, PolicyRow, query, keys=[_C.name_key], limit=limit, token=token)


def list_policies(connection: Connection, vault_id: str) -> list[PolicyRow]:
    return many(connection, PolicyRow, _ALL.where(_C.vault_id == vault_id).order_by(_C.name_key))


def change_policy(
    connection: Connection, policy_id: str, *, if_etag: str | None = None, **values: Any
) -> int:
    where = [_C.id == policy_id]
    if if_etag is not None:
        where.append(_C.etag == if_etag)
    return update(connection, t.policies, values, *where)


def remove_policy(connection: Connection, policy_id: str) -> int:
    return remove(connection, t.policies, _C.id == policy_id)


def count_policies(connection: Connection, vault_id: str) -> int:
    query = select(func.count()).select_from(t.policies).where(_C.vault_id == vault_id)
    return int(connection.execute(query).scalar_one())


def count_machines(connection: Connection, policy_id: str) -> int:
    """Virtual machines under this policy."""
    query = select(func.count()).select_from(t.items)
    query = query.where(t.items.c.policy_id == policy_id, t.items.c.workload_type == WORKLOAD)
    return int(connection.execute(query).scalar_one())


def count_items(connection: Connection, policy_id: str) -> int:
    """Items under this policy; a policy in use cannot be deleted."""
    query = select(func.count()).select_from(t.items).where(t.items.c.policy_id == policy_id)
    return int(connection.execute(query).scalar_one())
