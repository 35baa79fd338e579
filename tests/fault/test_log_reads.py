"""Readings of log records that come badly: passing ones cost a reading, lasting ones are damage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import IntegrityError, StoreUnavailableError
from holdfast.ports.object_store import Buffer
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.records import READS
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16, tenant_id=b"T" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
ONE, TWO = {b"f": b"one" * 2000}, {b"f": b"two" * 2000}
HARM: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: data[:90] + bytes([data[90] ^ 4]) + data[91:],
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda _data: b"",
}


class BadReads(MemoryStore):
    """The first ``times`` readings of each log record in a row come badly, and the next is right.
    ``opened``: seeds of vaults. ``silent``: creates of log records that take effect and give no
    reply."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0
        self.harm = HARM["flipped"]
        self.silent = 0
        self.opened = 10
        self._read: dict[str, int] = {}

    def read(self, key: str) -> bytes:
        data = super().read(key)
        if "/log/" not in key or not self.times:
            return data
        count = self._read[key] = self._read.get(key, 0) + 1
        return data if count % (self.times + 1) == 0 else self.harm(data)

    def create(self, key: str, data: Buffer) -> None:
        super().create(key, data)
        if "/log/" in key and self.silent:
            self.silent -= 1
            raise StoreUnavailableError(f"create {key}: no reply")


@pytest.fixture
def store() -> BadReads:
    return BadReads()


def make(store: BadReads) -> Vault:
    clock, rng = MovableClock(), SeededRandom(1)
    return Vault.create(store, KEY, ids=IDS, options=OPTIONS, clock=clock, rng=rng)


def reopen(store: BadReads) -> Vault:
    store.opened += 1
    clock, rng, unlock = MovableClock(), SeededRandom(store.opened), Unlock(platform_key=KEY)
    vault_id = IDS.vault_id
    return Vault.open(store, vault_id, unlock, clock=clock, rng=rng, accept_damage=True)


def agent(vault: Vault, seed: int = 3) -> LittleAgent:
    return LittleAgent(vault, SeededRandom(seed), "Linux;a")


@pytest.mark.parametrize("harm", HARM)
def test_a_record_that_reads_badly_for_a_moment_costs_nothing(store: BadReads, harm: str) -> None:
    vault = make(store)
    agent(vault).back_up(ONE)
    other = reopen(store)
    store.times, store.harm = READS - 1, HARM[harm]
    assert reopen(store).doubt is None, "while a vault is opened"
    second = agent(other, 4).back_up(TWO)
    assert other.doubt is None, "before a record is appended"
    third = agent(vault).back_up(ONE)
    assert vault.doubt is None, "when it is another's record"
    assert vault.witness(other.log_head, "the test") is None
    assert agent(reopen(store)).restore(second.rp_id) == TWO
    assert agent(reopen(store)).restore(third.rp_id) == ONE


def test_a_record_whose_reply_was_lost_and_reads_badly_is_found(store: BadReads) -> None:
    vault = make(store)
    point = agent(vault).back_up(ONE)
    store.times = READS - 1
    for number in range(4):
        store.silent = 1
        job = bytes([number]) * 16
        grant = vault.begin_session("restore", "Linux;a", "item", job, pins=[point.rp_id])
        assert [one.session_id for one in vault.open_sessions()] == [grant.session_id]
        store.silent = 1
        vault.close_session(grant.session_id)
        assert vault.open_sessions() == []
    assert reopen(store).log_head == vault.log_head


def test_lasting_damage_is_named_and_the_vault_is_writable_when_it_is_mended(
    store: BadReads,
) -> None:
    vault = make(store)
    kept = agent(vault).back_up(ONE)
    before = set(store.objects)
    agent(reopen(store), 4).back_up(TWO)
    key = min(key for key in set(store.objects) - before if "/log/" in key)
    whole = store.objects[key]
    store.objects[key] = HARM["flipped"](whole)
    with pytest.raises(IntegrityError) as found:
        vault.begin_session("backup", "Linux;a", "item", b"j" * 16)
    assert (found.value.code, found.value.target) == ("LogDamaged", key.partition("/")[2])
    opened = reopen(store)
    assert opened.doubt is not None
    assert agent(opened).restore(kept.rp_id) == ONE
    assert not opened.is_mended(), "it is damaged still"
    assert not vault.is_mended()
    store.objects[key] = whole
    assert vault.is_mended(), "by the process that met the damage"
    assert opened.is_mended(), "by one that was opened with it"
    mended = reopen(store)
    assert mended.doubt is None
    assert agent(mended, 5).restore(agent(mended, 6).back_up(ONE).rp_id) == ONE
