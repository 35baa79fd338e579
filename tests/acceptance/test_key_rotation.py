"""An exported key also opens what is written after a rotation of the keys (protocol rule 6)."""

from __future__ import annotations

import os

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.object_store import open_store
from holdfast.testing.program_kills import make_tree, restored_like
from holdfast.testing.world import GROUP, ITEM, VAULT, World
from holdfast.vaultstore import keys
from holdfast.vaultstore.descriptor import read_descriptor
from holdfast.vaultstore.layout import VaultObjects, find_vaults
from holdfast.vaultstore.rings import Rings, following, load_rings, store_rings
from holdfast.vaultstore.values import Unlock
from holdfast.vaultstore.vault import Vault


def rotate(world: World) -> None:
    """What the service will do to begin a new epoch; there is no command for it yet."""
    key = (world.server_data / "keys" / "platform.key").read_bytes()
    store = open_store(f"file://{world.server_data / 'vaults'}", {})
    (vault_id,) = find_vaults(store)
    objects, rng = VaultObjects(store, vault_id), SystemRandom()
    domain_id = read_descriptor(objects, vault_id).ids.domain_id
    old = load_rings(objects, vault_id, domain_id, keys.Opener(platform_key=key))
    new = Rings(old.service, keys.rotate_epoch(old.domain, rng), old.recovery)
    store_rings(objects, vault_id, following(objects, new, new.recovery), key, rng)


def epochs(world: World) -> set[int]:
    """The key epochs of the packs in the vault."""
    key = (world.server_data / "keys" / "platform.key").read_bytes()
    store = open_store(f"file://{world.server_data / 'vaults'}", {})
    (vault_id,) = find_vaults(store)
    unlock = Unlock(platform_key=key)
    vault = Vault.open(store, vault_id, unlock, clock=SystemClock(), rng=SystemRandom())
    found = {one.epoch for one in vault._core.state.sealing_keys.values()}
    vault.close()
    return found


def test_a_key_exported_before_a_rotation_restores_what_came_after_it(bare: World) -> None:
    tree = make_tree(bare, "tree", 1)
    bare.set_up(tree)
    bare.back_up()
    key = bare.folder / "vault.key"
    bare.ok("vault", "export-key", VAULT, "-g", GROUP, "-o", key)
    before = epochs(bare)
    bare.stop_agent()
    bare.stop_server()
    rotate(bare)
    bare.start_server()
    bare.start_agent()
    old = tree.rename(bare.folder / "as-it-was")
    make_tree(bare, "tree", 2)
    bare.back_up()
    assert len(before) == 1
    assert len(epochs(bare)) == 2, "the second backup was sealed under the new epoch"
    newer, older = (str(point["name"]) for point in bare.points())
    bare.stop_agent()
    bare.stop_server()
    words = ("store", "restore", "--path", bare.vault_folder(), "--key", key, "--item", ITEM)
    for point in (newer, older):
        bare.ok(*words, "--recovery-point", point, "--to", bare.folder / point)
    owners = os.geteuid() == 0
    found = restored_like(tree, bare.folder / newer, owners=owners)
    assert found.lines == []
    assert found.compared > 60
    tree.rename(bare.folder / "as-it-became")
    old.rename(tree)
    assert restored_like(tree, bare.folder / older, owners=owners).lines == []
