"""Letting the vaults know how their items stand, so that an import brings them back so.

What people decide is a change of the catalog and counts at once; the vault is told right after it,
again and again until it took it.
"""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import Connection

from holdfast.catalog import items, policies, vaults
from holdfast.catalog.database import Catalog
from holdfast.catalog.items import ItemRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.immutability import is_immutable
from holdfast.domain.lifecycle import SOFT_DELETED, STOPPED
from holdfast.domain.soft_delete import SoftDelete, settings_of, written
from holdfast.errors import HoldfastError
from holdfast.jobs.context import JobContext
from holdfast.jobs.locks import tell_immutability
from holdfast.vaultstore.life import ItemLife, VaultLife
from holdfast.vaultstore.locking import LOCKED
from holdfast.vaultstore.vault import Vault
from holdfast.vaultstore.vaultclock import to_ns

log = logging.getLogger(__name__)
AGAIN_AFTER = 60.0  # [s] a vault that could not be told is left alone


class LifeWriter:
    """Tells the vaults what changed. Any number of servers may do so at once."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._later: dict[str, float] = {}  # vaults that could not be told, until when

    def write(self) -> int:
        """Tell the vaults that do not know it yet; how many were told."""
        now = self._context.clock.monotonic()
        with self._context.catalog.read() as connection:
            waiting = vaults.vaults_to_write(connection)
        return sum(self._write(row) for row in waiting if self._later.get(row.id, now) <= now)

    def _write(self, row: VaultRow) -> int:
        with self._context.catalog.read() as connection:
            current = vaults.get_vault(connection, row.id)
            if current is None or current.deleted_at is not None:
                return 0
            life = life_of(connection, current)
        try:
            there = current.life_version
            if life.items or life.soft_delete or life.immutability or current.life_written:
                vault = self._context.open_vault(current.id)
                there = vault.write_life(life)
                tell_immutability(self._context.catalog, vault, current.id)
        except HoldfastError as error:
            self._later[row.id] = self._context.clock.monotonic() + AGAIN_AFTER
            log.warning("vault %s: how its items stand: %s", row.name, error.message)
            return 0
        with self._context.catalog.write() as connection:
            vaults.life_is_written(connection, current.id, there)
        self._later.pop(row.id, None)
        return 1


def take_up_lock(catalog: Catalog, vault: Vault, row: VaultRow) -> None:
    """A lock that the vault knows of counts, also where the catalog, an older copy, does not."""
    if row.immutability == LOCKED:
        return
    if vault.immutability == LOCKED:
        _lock(catalog, row)
        return
    try:
        life = vault.read_life()
    except HoldfastError as error:
        log.warning("vault %s: whether it is locked cannot be read: %s", row.name, error.message)
        return
    if life is not None and life.immutability == LOCKED:
        _lock(catalog, row)


def _lock(catalog: Catalog, row: VaultRow) -> None:
    log.warning("vault %s is locked, as it says itself; the catalog did not know", row.name)
    with catalog.write() as connection:
        vaults.change_vault(connection, row.id, immutability=LOCKED)


def life_of(connection: Connection, vault: VaultRow) -> VaultLife:
    """How a vault's items stand, as the catalog has it."""
    settings = settings_of(vault.properties)  # the vault was read before its items: none is older
    known = {row.id: row for row in policies.list_policies(connection, vault.id)}
    return VaultLife(
        version=vault.life_version,
        items={
            item.item_key: _life_of_item(item, known.get(item.policy_id or ""))
            for item in items.items_of_vault(connection, vault.id)
            if item.life_state in STOPPED or item.life_state == SOFT_DELETED
        },
        soft_delete={} if settings == SoftDelete() else written(settings),
        immutability=vault.immutability if is_immutable(vault.immutability) else "",
    )


def _life_of_item(item: ItemRow, policy: PolicyRow | None) -> ItemLife:
    described = None
    if policy is not None:
        kind, properties = policy.management_type, policy.properties
        described = {"name": policy.name, "managementType": kind, "properties": properties}
    return ItemLife(
        state=item.protection_state,
        policy=described,
        deleted_at_ns=_ns(item.deleted_at),
        purge_at_ns=_ns(item.purge_at),
        soft_delete_days=item.soft_delete_days,
    )


def _ns(moment: datetime | None) -> int | None:
    return None if moment is None else to_ns(moment)
