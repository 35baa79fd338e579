"""Storage accounts: folders of hosts that recovery points are restored into."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update


@dataclass(frozen=True, slots=True)
class AccountRow:
    """``path``: an absolute folder, as ``encode_path`` writes it, of the host ``container_id``."""

    id: str
    subscription_id: str
    group_key: str
    name_key: str
    name: str
    container_id: str
    path: str
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime


_C = t.storage_accounts.c
_ALL = selecting(t.storage_accounts, AccountRow)


def add_account(connection: Connection, row: AccountRow) -> None:
    insert(connection, t.storage_accounts, row)


def find_account(
    connection: Connection, subscription: str, group: str, name: str
) -> AccountRow | None:
    """By name, in any case."""
    query = _ALL.where(
        _C.subscription_id == subscription,
        _C.group_key == group.lower(),
        _C.name_key == name.lower(),
    )
    return one(connection, AccountRow, query)


def page_accounts(
    connection: Connection,
    subscription: str,
    *,
    group: str | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[AccountRow]:
    query = _ALL.where(_C.subscription_id == subscription)
    if group is not None:
        query = query.where(_C.group_key == group.lower())
    keys = [_C.group_key, _C.name_key]
    return page(connection, AccountRow, query, keys=keys, limit=limit, token=token)


def accounts_in(connection: Connection, subscription: str, group: str) -> list[AccountRow]:
    query = _ALL.where(_C.subscription_id == subscription, _C.group_key == group.lower())
    return many(connection, AccountRow, query.order_by(_C.name_key))


def change_account(
    connection: Connection, account_id: str, path: str, tags: dict[str, str], now: datetime
) -> int:
    values = {"path": path, "tags": tags, "updated_at": now}
    return update(connection, t.storage_accounts, values, _C.id == account_id)


def remove_account(connection: Connection, account_id: str) -> int:
    return remove(connection, t.storage_accounts, _C.id == account_id)


def remove_accounts_on(connection: Connection, container_id: str) -> int:
    """Those of one host."""
    return remove(connection, t.storage_accounts, _C.container_id == container_id)
