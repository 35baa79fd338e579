"""Taking a vault over on an empty server: what its log tells of items, policies and points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from holdfast.ports.clock import Clock, Random
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import keys
from holdfast.vaultstore.core import Surroundings
from holdfast.vaultstore.opening import open_core
from holdfast.vaultstore.reader import vault_of
from holdfast.vaultstore.rings import following, opener_of, store_rings
from holdfast.vaultstore.values import RecoveryPointRecord, Unlock
from holdfast.vaultstore.vault import Vault


class FoundItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item as its newest recovery point describes it. ``document``: what the service stored in
    ``PointFacts.item_document``."""

    item_key: str
    container: str
    item: str
    document: dict[str, Any]
    recovery_points: tuple[RecoveryPointRecord, ...]


def adopt_vault(
    store: ObjectStore,
    unlock: Unlock,
    platform_key: bytes,
    *,
    clock: Clock,
    rng: Random,
    cache_dir: Path | None = None,
) -> Vault:
    """Open a vault by its exported key and wrap its rings to this server's platform key as well.

    The log, tables and packs stay as they are; sessions of the lost server are revoked, unless the
    log is in doubt. Keys that
    were exported before keep opening it. AccessError (WrongKey, WrongPassphrase), NotFoundError
    (VaultMissing), IntegrityError (LogDamaged).
    """
    vault_id = vault_of(store, unlock)
    surroundings = Surroundings(clock, rng)
    core, _ = open_core(store, vault_id, opener_of(unlock, vault_id), surroundings)
    rings = following(core.objects, core.rings, core.rings.recovery)
    store_rings(core.objects, vault_id, rings, platform_key, rng)
    ours = keys.Opener(platform_key=platform_key)
    core, descriptor = open_core(store, vault_id, ours, surroundings, cache_dir=cache_dir)
    vault = Vault(core, descriptor, platform_key)
    for session in vault.open_sessions() if vault.doubt is None else ():
        vault.revoke_session(session.session_id, "the vault was imported by another server")
    return vault


def found_items(vault: Vault) -> list[FoundItem]:
    """Every item that has recovery points, by key, with what is needed to make it again."""
    by_item: dict[str, list[RecoveryPointRecord]] = {}
    for point in vault.recovery_points():
        by_item.setdefault(point.item_key, []).append(point)
    found = []
    for item_key in sorted(by_item):
        points = by_item[item_key]
        container, _, item = item_key.rpartition("/")
        found.append(
            FoundItem(
                item_key=item_key,
                container=container,
                item=item,
                document=points[-1].item_document,
                recovery_points=tuple(points),
            )
        )
    return found
