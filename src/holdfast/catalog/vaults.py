"""Vault rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import tables as t
from holdfast.catalog.alerts import remove_alerts_of_vault
from holdfast.catalog.rows import Page, insert, many, one, page, remove, selecting, update
from holdfast.domain.immutability import State


@dataclass(frozen=True, slots=True)
class VaultRow:
    """A vault as the catalog knows it. ``id`` is the GUID its objects lie under in the store.

    ``unlock_kind``: how its keys are opened ("platform"). ``head_sequence`` and ``head_hash``
    (hex), with ``head_term`` (0: none yet): the newest log head this server saw.
    ``next_maintenance_at``: when the daily expire and collect are due. ``deleted_at``: when it was
    deleted, softly; ``purge_at``: when it goes for good. A deleted vault gives its name up: its
    ``name_key`` is one no vault can have. ``days_deleted``: how many daily maintenances saw it
    deleted. ``life_version`` counts changes of how its items stand; ``life_written``: up to which
    of them the vault itself knows. ``immutability``: Disabled, Unlocked or Locked, whatever
    ``properties`` say.
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
    deleted_at: datetime | None = None
    purge_at: datetime | None = None
    days_deleted: int = 0
    life_version: int = 0
    life_written: int = 0
    head_term: int = 0
    immutability: State = "Disabled"


NOT_READ = 2**62  # as ``life_written``: nothing is written before an import has read what is there
READ = -1  # as ``life_written``: it holds a version that is none of this catalog's
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
    query = _ALL.where(_C.subscription_id == subscription_id, _C.deleted_at.is_(None))
    if group is not None:
        query = query.where(_C.group_key == group.lower())
    keys = [_C.group_key, _C.name_key]
    return page(connection, VaultRow, query, keys=keys, limit=limit, token=token)


def list_vaults(connection: Connection) -> list[VaultRow]:
    """Every vault that is not deleted, by id."""
    return many(connection, VaultRow, _ALL.where(_C.deleted_at.is_(None)).order_by(_C.id))


def deleted_key(vault_id: str) -> str:
    """The ``name_key`` of a deleted vault."""
    return f"~{vault_id}"


def deleted_vaults(connection: Connection) -> list[VaultRow]:
    """Deleted vaults, the one that goes next first."""
    query = _ALL.where(_C.deleted_at.is_not(None)).order_by(_C.purge_at, _C.id)
    return many(connection, VaultRow, query)


def vaults_due(connection: Connection, now: datetime, limit: int = 100) -> list[VaultRow]:
    """Vaults whose daily maintenance is due, longest due first."""
    query = _ALL.where(_C.next_maintenance_at <= now).order_by(_C.next_maintenance_at)
    return many(connection, VaultRow, query.limit(limit))


def take_maintenance(connection: Connection, vault_id: str, now: datetime, then: datetime) -> int:
    """Plan the next maintenance of a vault that is due; 0 when another server did so just now. The
    row is held until the transaction ends."""
    where = (_C.id == vault_id, _C.next_maintenance_at <= now)
    return update(connection, t.vaults, {"next_maintenance_at": then}, *where)


def count_deleted_day(connection: Connection, vault_id: str) -> int:
    """Count a day for a vault that is deleted."""
    where = (_C.id == vault_id, _C.deleted_at.is_not(None))
    return update(connection, t.vaults, {"days_deleted": _C.days_deleted + 1}, *where)


def change_vault(
    connection: Connection, vault_id: str, *, if_etag: str | None = None, **values: Any
) -> int:
    """Set columns; 0 when there is no such vault, or its etag is not ``if_etag``."""
    where = [_C.id == vault_id]
    if if_etag is not None:
        where.append(_C.etag == if_etag)
    return update(connection, t.vaults, values, *where)


def remove_vault(connection: Connection, vault_id: str) -> int:
    """Delete the row with its credentials, maintenance record, alerts and samples; jobs,
    containers, items and policies must be gone."""
    remove(connection, t.vault_credentials, t.vault_credentials.c.vault_id == vault_id)
    remove(connection, t.maintenance_runs, t.maintenance_runs.c.vault_id == vault_id)
    remove_alerts_of_vault(connection, vault_id)
    remove(connection, t.head_witnesses, t.head_witnesses.c.vault_id == vault_id)
    remove(connection, t.usage_samples, t.usage_samples.c.vault_id == vault_id)
    return remove(connection, t.vaults, _C.id == vault_id)


def pull_maintenance(connection: Connection, beyond: datetime, to: datetime) -> int:
    """Move maintenance planned after ``beyond`` to ``to``."""
    return update(
        connection, t.vaults, {"next_maintenance_at": to}, _C.next_maintenance_at > beyond
    )


def lock_vault(connection: Connection, vault_id: str) -> VaultRow | None:
    """Hold a vault's row until the transaction ends, and what it is now. Whoever changes how items
    of a vault stand, or whether the vault does, takes it first, so that one waits for the other.
    Rows that only refer to the vault may still be written; on SQLite writers wait anyway."""
    query = _ALL.where(_C.id == vault_id).with_for_update(key_share=True)
    return one(connection, VaultRow, query)


def note_life(connection: Connection, vault_id: str) -> None:
    """How items of the vault stand has changed: the vault itself is to know it."""
    update(connection, t.vaults, {"life_version": _C.life_version + 1}, _C.id == vault_id)


def vaults_to_write(connection: Connection) -> list[VaultRow]:
    """Vaults that do not know yet how their items stand; a deleted one is not touched."""
    query = _ALL.where(_C.life_version > _C.life_written, _C.deleted_at.is_(None))
    return many(connection, VaultRow, query.order_by(_C.id))


def life_was_read(connection: Connection, vault_id: str, version: int) -> None:
    """What stands in the catalog comes after the version that the vault holds: the vault was
    imported, or the catalog is an older copy."""
    found = get_vault(connection, vault_id)
    if found is not None:
        values = {"life_version": max(version, found.life_version) + 1, "life_written": READ}
        update(connection, t.vaults, values, _C.id == vault_id)


def life_is_written(connection: Connection, vault_id: str, version: int) -> None:
    """The vault holds a version now."""
    row = lock_vault(connection, vault_id)
    if row is not None and version > row.life_version:
        life_was_read(connection, vault_id, version)
    elif row is not None and version > row.life_written:
        update(connection, t.vaults, {"life_written": version}, _C.id == vault_id)
