"""Vaults over several disks: what was committed is restored whatever one disk does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.object_store import open_store
from holdfast.adapters.object_store.copies.store import CopiesStore
from holdfast.errors import StoreUnavailableError
from holdfast.services import alert_watch, copies
from holdfast.testing.copied_disks import Disk, made, opened
from holdfast.testing.in_process import InProcess, in_process
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16, tenant_id=b"T" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
FIRST = {b"a": b"alpha" * 9000, b"b/c": b"gamma" * 20_000}
SECOND = {b"a": b"other" * 9000, b"b/d": b"delta" * 3000}


class Yard:
    """A vault over three disks; ``reopen`` is a new process."""

    def __init__(self) -> None:
        self.disks, self.rng = made(), SeededRandom(3)
        self.store = opened(self.disks)
        self.vault = Vault.create(
            self.store, KEY, ids=IDS, options=OPTIONS, clock=MovableClock(), rng=self.rng
        )

    def reopen(self) -> Vault:
        self.store = opened(self.disks)
        self.vault = Vault.open(
            self.store,
            IDS.vault_id,
            Unlock(platform_key=KEY),
            clock=MovableClock(),
            rng=self.rng,
            accept_damage=True,
        )
        return self.vault

    @property
    def agent(self) -> LittleAgent:
        return LittleAgent(self.vault, self.rng)


@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("late", [2, 3])
def test_a_point_is_restored_without_any_one_disk(lost: int, late: int) -> None:
    yard = Yard()
    yard.store.settle()
    yard.disks[late - 1].refuses = lambda method, _: method in ("create", "upload", "publish")
    rp_id = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    yard.disks[lost - 1].away = True
    yard.reopen()
    yard.disks[late - 1].refuses = lambda _method, _key: False
    if lost != 1:
        assert yard.agent.restore(rp_id) == FIRST
        return
    assert {name for name, _ in yard.vault.file_tree(rp_id).walk()} >= {b"b"}
    with pytest.raises(StoreUnavailableError):
        yard.agent.back_up(SECOND)
    yard.store.fail_over(2)
    second = yard.agent.back_up(SECOND).rp_id
    yard.disks[0].away = False
    yard.reopen()
    assert (yard.agent.restore(rp_id), yard.agent.restore(second)) == (FIRST, SECOND)
    assert yard.vault.doubt is None


@pytest.mark.parametrize("liar", [1, 2, 3])
def test_a_restore_from_disks_of_which_one_lies_is_right_and_names_it(liar: int) -> None:
    yard = Yard()
    rp_id = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    yard.disks[liar - 1].lies = True
    yard.reopen()
    assert all(yard.agent.restore(rp_id) == FIRST for _ in range(3))
    assert not yard.vault.verify().damages
    wrong = [member.wrong for member in yard.store.members()]
    assert wrong[liar - 1] == sum(wrong) > 0


@pytest.mark.parametrize("room", ["packs", "log", "tables", "refsets"])
def test_damage_on_one_disk_is_mended_from_the_others(room: str) -> None:
    yard = Yard()
    rp_id = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    held = yard.disks[1].memory.objects
    keys = [key for key in held if f"/{room}/" in key]
    sound = {key: held[key] for key in keys}
    for key in keys:
        held[key] = b"\x55" + held[key][1:-1] + b"\x55"
    yard.reopen()
    assert yard.agent.restore(rp_id) == FIRST
    assert not yard.vault.scrub().damages
    yard.store.catch_up(0, lambda: False)
    assert {key: held[key] for key in keys} == sound
    assert len(yard.disks[1].aside) == len(keys) > 0


def test_what_was_collected_while_a_disk_was_away_stays_away() -> None:
    yard = Yard()
    old = yard.agent.back_up(FIRST).rp_id
    yard.store.settle()
    yard.disks[2].away = True
    new = yard.agent.back_up(SECOND).rp_id
    packs = {key for key in yard.disks[2].objects if "/packs/" in key}
    yard.vault.expire(yard.vault.plan_expire({old: "a test"}))
    assert yard.vault.collect().freed_bytes > 0
    left = {key for key in yard.disks[0].objects if "/packs/" in key}
    assert packs - left, "nothing of the first point is left"
    yard.disks[2].away = False
    yard.reopen()
    yard.store.catch_up(0, lambda: False)
    assert yard.disks[2].objects == yard.disks[0].objects
    assert {key for key in yard.disks[2].objects if "/packs/" in key} == left
    assert yard.agent.restore(new) == SECOND
