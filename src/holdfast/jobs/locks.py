"""Letting an immutable vault lock what its policies promise to keep.

A backup's point is locked in the record that makes it. What was there before the vault was made
immutable, and what is kept for longer since, is locked by the daily expire, before it drops
anything. Deleted items are left out: they go when their period ends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from holdfast.catalog import items, points, policies, vaults
from holdfast.catalog.database import Catalog
from holdfast.catalog.items import ItemRow
from holdfast.domain.immutability import FOREVER, Rules, is_immutable, locked_until
from holdfast.domain.point_life import PointLife
from holdfast.domain.policy import parse_policy
from holdfast.domain.retention import PointFacts
from holdfast.vaultstore.values import RecoveryPointRecord
from holdfast.vaultstore.vault import Vault


def tell_immutability(catalog: Catalog, vault: Vault, vault_id: str) -> None:
    """Let the vault's log say what the catalog says. While an import has not read what is there,
    the catalog says nothing."""
    with catalog.read() as connection:
        row = vaults.get_vault(connection, vault_id)
    if row is not None and row.life_written != vaults.NOT_READ:
        vault.set_immutability(row.immutability)


def lock_promised(
    catalog: Catalog, vault: Vault, vault_id: str, tell: Callable[[int, int], None]
) -> int:
    """Lock what an immutable vault's policies promise to keep; how many points have a later horizon
    now. ``tell`` hears how many of how many are done, and may raise."""
    with catalog.read() as connection:
        row = vaults.get_vault(connection, vault_id)
    if row is None or not is_immutable(row.immutability):
        return 0
    vault.set_immutability(row.immutability)
    with catalog.read() as connection:
        lives = points.lives_of(connection, vault_id)
        known = {item.item_key: item for item in items.items_of_vault(connection, vault_id)}
        rules = {key: _rules(connection, item) for key, item in known.items()}
    wanted: dict[str, datetime] = {}
    for record in vault.recovery_points():
        item = known.get(record.item_key)
        if item is not None and item.deleted_at is None:
            promised = lives.get(record.rp_id, PointLife()).promised_until
            end = _end_of(record, rules[record.item_key], promised)
            if end is not None:
                wanted[record.rp_id] = end
    return vault.lock_points(wanted, tell)


def _end_of(
    record: RecoveryPointRecord, rules: Rules | None, promised: datetime | None
) -> datetime | None:
    if rules is None:
        return None if promised == FOREVER else promised
    facts = PointFacts(
        record.rp_id, record.time, frozenset(record.tags), record.retain_until, not record.scheduled
    )
    return locked_until(facts, rules)


def _rules(connection: Connection, item: ItemRow) -> Rules | None:
    """What decides about an item's points; None for a stopped one, whose points keep the promises
    they had."""
    held = policies.get_policy(connection, item.policy_id) if item.policy_id else None
    return parse_policy(held.properties).rules if held is not None else None
