"""Tables and refsets that a write left torn: nobody can tell whose they are, and they go too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.adapters.object_store.layers.base import StoreLayer
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.testing.little_agent import BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import layout
from holdfast.vaultstore.values import CollectPlan, PointFacts, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=0, probe=False)
PREFIX = layout.vault_prefix(IDS.vault_id)
JOB = b"J" * 16
FILES = {b"d/one": SeededRandom(1).token(20_000), b"d/two": SeededRandom(2).token(20_000)}


class TearingStore(StoreLayer):
    """The next object of ``tears`` is left torn by a call that fails; reads of keys with ``flips``
    have a wrong bit. ``hook`` is called once, before the first create of a key with ``before``."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.objects = inner.objects
        self.tears = self.flips = self.before = "?"
        self.hook: Callable[[], None] | None = None

    def create(self, key: str, data: Buffer) -> None:
        if self.hook is not None and self.before in key:
            hook, self.hook = self.hook, None
            hook()
        if self.tears in key:
            self.tears = "?"
            self.objects[key] = bytes(data)[: len(data) // 2]
            raise StoreUnavailableError(f"{key}: broke off")
        super().create(key, data)

    def read(self, key: str) -> bytes:
        data = super().read(key)
        return data[:-1] + bytes([data[-1] ^ 1]) if self.flips in key else data


def create(store: ObjectStore) -> Vault:
    clock, rng = MovableClock(), SeededRandom(1)
    return Vault.create(store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=clock, rng=rng)


def reopen(store: ObjectStore) -> Vault:
    clock, rng = MovableClock(), SeededRandom(2)
    return Vault.open(store, IDS.vault_id, Unlock(platform_key=PLATFORM_KEY), clock=clock, rng=rng)


def torn_backup(store: TearingStore, vault: Vault, room: str) -> bytes:
    """A backup that fails because its table or refset is left torn; its open session."""
    agent = LittleAgent(vault, SeededRandom(5))
    grant = vault.begin_session("backup", agent.container, agent.item_key, JOB)
    run = BackupRun(agent, grant)
    root_id = run.send(FILES)
    store.tears = f"/{room}"
    with pytest.raises(StoreUnavailableError):
        run.commit(root_id, PointFacts(time=MovableClock().now()))
    return grant.session_id


def torn_in(store: TearingStore, plan: CollectPlan) -> list[str]:
    assert all(PREFIX + key in store.objects for key in plan.torn)
    return list(plan.torn)


@pytest.mark.parametrize("room", [layout.TABLES, layout.REFSETS])
def test_it_waits_for_those_who_may_have_written_it_and_for_nobody_else(room: str) -> None:
    store = TearingStore(MemoryStore())
    vault = create(store)
    writer = torn_backup(store, vault, room)
    plan = vault.plan_collect()
    (key,) = torn_in(store, plan)
    assert key.startswith(room)
    assert plan.waiting_for == (writer,)
    result = vault.collect()
    assert (PREFIX + key in store.objects, result.complete) == (True, False)
    later = vault.begin_session("backup", "Linux;b", "Linux;b/FileFolder;x", b"L" * 16)
    vault.revoke_session(writer, "its agent is gone")
    plan = vault.plan_collect()
    assert key in plan.orphans
    assert plan.torn == ()
    vault.collect()
    assert PREFIX + key not in store.objects
    vault.close_session(later.session_id)
    assert vault.collect().complete


def test_a_process_that_starts_anew_waits_anew_and_then_frees_it() -> None:
    store = TearingStore(MemoryStore())
    vault = create(store)
    writer = torn_backup(store, vault, layout.TABLES)
    (key,) = torn_in(store, vault.plan_collect())
    later = vault.begin_session("backup", "Linux;b", "Linux;b/FileFolder;x", b"L" * 16)
    vault.revoke_session(writer, "its agent is gone")
    fresh = reopen(store)
    assert fresh.plan_collect().waiting_for == (later.session_id,)
    fresh.collect()
    assert PREFIX + key in store.objects
    fresh.close_session(later.session_id)
    assert fresh.collect().complete
    assert PREFIX + key not in store.objects


def test_a_restore_does_not_hold_it() -> None:
    store = TearingStore(MemoryStore())
    vault = create(store)
    agent = LittleAgent(vault, SeededRandom(4), item="other")
    point = agent.back_up({b"other": b"o" * 5000})
    writer = torn_backup(store, vault, layout.TABLES)
    vault.begin_session("restore", agent.container, agent.item_key, b"R" * 16, pins=[point.rp_id])
    vault.revoke_session(writer, "its agent is gone")
    plan = vault.plan_collect()
    assert plan.torn == ()
    assert any(key.startswith(layout.TABLES) for key in plan.orphans)


def test_what_reads_badly_once_is_not_taken_from_an_open_session() -> None:
    store = TearingStore(MemoryStore())
    vault = create(store)
    agent = LittleAgent(vault, SeededRandom(5))
    grant = vault.begin_session("backup", agent.container, agent.item_key, JOB)
    run = BackupRun(agent, grant)
    root_id = run.send(FILES)
    other = reopen(store)
    seen: list[str] = []

    def collect() -> None:
        """Its table is written, and the record that names it is not."""
        store.flips = "/tables/"
        seen.extend(torn_in(store, other.plan_collect()))
        other.collect()
        store.flips = "?"

    store.hook, store.before = collect, f"/log/{vault.head[0] + 1:016d}"
    made = run.commit(root_id, PointFacts(time=MovableClock().now()))
    assert [key.startswith(layout.TABLES) for key in seen] == [True]
    vault.close_session(grant.session_id)
    assert agent.restore(made.rp_id) == FILES
    assert other.collect().complete
    assert reopen(store).verify().clean


def test_what_a_repair_put_aside_stays() -> None:
    store = TearingStore(MemoryStore())
    vault = create(store)
    agent = LittleAgent(vault, SeededRandom(4))
    agent.back_up(FILES)
    (key,) = [key for key in store.objects if "/tables/" in key]
    store.objects[key] = store.objects[key][:-5]
    vault = reopen(store)
    vault.verify()
    assert [step.action for step in vault.repair(b"R" * 16).done] == ["rebuild table"]
    vault.collect()
    reopen(store).collect()
    assert key in store.objects
