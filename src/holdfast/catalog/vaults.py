"""Vault rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update


@dataclass(frozen=True, slots=True)
class VaultRow:
    """A vault as the catalog knows it. ``id`` is the GUID its objects lie under in the store.

    ``unlock_kind``: how its keys are opened ("platform"). ``head_sequence`` and ``head_hash``
    (hex): the log head last witnessed. ``next_maintenance_at``: when the daily expire and collect
    are due.
    """

    id: str
    subscription_id: str
    group_key: str
    name_key: str
    name: str
    location: str
    region: str
    store_url: str
    unlock_kind: str
    state: str
    tags: dict[str, str]
    properties: dict[str, Any]
    etag: str
    head_sequence: int
    head_hash: str
    key_exported_at: datetime | None
    next_maintenance_at: datetime | None
    created_at: datetime
    updated_at: datetime


_C = t.vaults.c
_ALL = selecting(t.vaults, VaultRow)


def add_vault(connection: Connection, row: VaultRow) -> None:
    insert(connection, t.vaults, row)


def get_vault(connection: Connection, vault_id: str) -> VaultRow | None:
    return one(connection, VaultRow, _ALL.where(_C.id == vault_id))


def find_vault(
    connection: Connection, subscription_id: str, group: str, name: str
) -> VaultRow | None:
    """By names in any case."""
    query = _ALL.where(
        _C.subscription_id == subscription_id,
        _C.group_key == group.lower(),
        _C.name_key == name.lower(),
    )
    return one(connection, VaultRow, query)


def page_vaults(
    connection: Connection,
    subscription_id: str,
    group: str | None = None,
    *,
    limit: int = 100,
    token: str = "",
) -> Page[VaultRow]:
    """Of one group or of a whole subscription, by group and name."""
    query = _ALL.where(_C.subscription_id == subscription_id)
    if group is not None:
        query = query.where(_C.group_key == group.lower())
    keys = [_C.group_key, _C.name_key]
    return page(connection, VaultRow, query, keys=keys, limit=limit, token=token)


def list_vaults(connection: Connection) -> list[VaultRow]:
    """Every vault, by id."""
    return many(connection, VaultRow, _ALL.order_by(_C.id))


def vaults_due(connection: Connection, now: datetime, limit: int = 100) -> list[VaultRow]:
    """Vaults whose daily maintenance is due, longest due first."""
    query = _ALL.where(_C.next_maintenance_at <= now).order_by(_C.next_maintenance_at)
    return many(connection, VaultRow, query.limit(limit))


def change_vault(
    connection: Connection, vault_id: str, *, if_etag: str | None = None, **values: Any
) -> int:
    """Set columns; 0 when there is no such vault, or its etag is not ``if_etag``."""
    where = [_C.id == vault_id]
    if if_etag is not None:
        where.append(_C.etag == if_etag)
    return update(connection, t.vaults, values, *where)


def remove_vault(connection: Connection, vault_id: str) -> int:
    """Delete the row with its credentials and maintenance record; jobs, containers, items and
    policies must be gone."""
    remove(connection, t.vault_credentials, t.vault_credentials.c.vault_id == vault_id)
    remove(connection, t.maintenance_runs, t.maintenance_runs.c.vault_id == vault_id)
    return remove(connection, t.vaults, _C.id == vault_id)


def pull_maintenance(connection: Connection, beyond: datetime, to: datetime) -> int:
    """Move maintenance planned after ``beyond`` to ``to``."""
    return update(
        connection, t.vaults, {"next_maintenance_at": to}, _C.next_maintenance_at > beyond
    )


def lock_vault(connection: Connection, vault_id: str) -> None:
    """Hold a vault's row until the transaction ends; on SQLite writers wait anyway."""
    connection.execute(select(_C.id).where(_C.id == vault_id).with_for_update())
