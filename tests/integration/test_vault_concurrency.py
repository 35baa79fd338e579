"""Several processes and threads on one vault: races are lost cleanly, nothing waits for collect."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ConflictError, StoreFullError
from holdfast.ports.object_store import Buffer
from holdfast.testing.little_agent import A_DAY, BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.importing import adopt_vault, found_items
from holdfast.vaultstore.values import (
    CollectBudget,
    PointFacts,
    Unlock,
    VaultIds,
    VaultOptions,
)
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=32 * 1024, reserve_bytes=0, probe=False)


class FullStore(MemoryStore):
    """Has room for ``capacity`` bytes."""

    capacity = 1 << 40

    def create(self, key: str, data: Buffer) -> None:
        if sum(map(len, self.objects.values())) + len(data) > self.capacity:
            raise StoreFullError("no space left")
        super().create(key, data)

    def free_bytes(self) -> int | None:
        return max(0, self.capacity - sum(map(len, self.objects.values())))


class HookedStore(MemoryStore):
    """Calls ``hook`` once, before the first create of a key that contains ``before``."""

    before = "?"

    def __init__(self) -> None:
        super().__init__()
        self.hook: Callable[[], None] | None = None

    def create(self, key: str, data: Buffer) -> None:
        if self.hook is not None and self.before in key:
            hook, self.hook = self.hook, None
            hook()
        super().create(key, data)


def create(store: MemoryStore, options: VaultOptions = OPTIONS, cache: Path | None = None) -> Vault:
    return Vault.create(
        store,
        PLATFORM_KEY,
        ids=IDS,
        options=options,
        clock=MovableClock(),
        rng=SeededRandom(1),
        cache_dir=cache,
    )


def reopen(store: MemoryStore, seed: int, cache: Path | None = None) -> Vault:
    return Vault.open(
        store,
        IDS.vault_id,
        Unlock(platform_key=PLATFORM_KEY),
        clock=MovableClock(),
        rng=SeededRandom(seed),
        cache_dir=cache,
    )


def content(seed: int, size: int = 20_000) -> dict[bytes, bytes]:
    return {b"file": SeededRandom(seed).token(size), b"d/shared": b"s" * 500}


def test_two_processes_interleave_and_lose_races_cleanly() -> None:
    store = MemoryStore()
    one = create(store)
    two = reopen(store, 2)
    a = LittleAgent(one, SeededRandom(3), "Linux;a")
    b = LittleAgent(two, SeededRandom(4), "Linux;b")
    run = BackupRun(a, one.begin_session("backup", a.container, a.item_key, b"A" * 16))
    root_id = run.send(content(1))
    second = b.back_up(content(2))
    first = run.commit(root_id, PointFacts(time=A_DAY))
    assert {point.rp_id for point in one.recovery_points()} == {first.rp_id, second.rp_id}
    two.lookup(run.grant.session_id, b"")
    assert LittleAgent(two, SeededRandom(5), "Linux;a").restore(first.rp_id) == content(1)
    assert one.recovery_point(second.rp_id) == second
    two.refresh()
    assert one.head == two.head or one.head[0] < two.head[0]
    third = a.back_up(content(3), time=A_DAY + timedelta(days=1))
    two.expire(two.plan_expire({first.rp_id: "old"}))
    two.revoke_session(run.grant.session_id, "gone")
    assert two.collect().complete
    assert a.restore(third.rp_id) == content(3)
    with pytest.raises(ConflictError):
        run.commit(root_id, PointFacts(time=A_DAY))


def test_a_stale_collector_spares_what_was_committed_since() -> None:
    store = MemoryStore()
    one = create(store)
    agent = LittleAgent(one, SeededRandom(3))
    first = agent.back_up(content(1))
    agent.back_up(content(2), time=A_DAY + timedelta(days=1))
    one.expire(one.plan_expire({first.rp_id: "old"}))
    plan = one.plan_collect()
    assert plan.condemn
    two = reopen(store, 2)
    again = LittleAgent(two, SeededRandom(6)).back_up(content(1), time=A_DAY + timedelta(days=2))
    one.collect(plan)
    assert LittleAgent(two, SeededRandom(7)).restore(again.rp_id) == content(1)
    assert two.verify().clean


@pytest.mark.parametrize("revoke", [False, True])
@pytest.mark.parametrize("following", [1, 2], ids=["table written", "refset written"])
def test_a_collect_just_before_a_record_spares_what_the_record_needs(
    following: int, revoke: bool
) -> None:
    """Tables and refsets without a record are spared while their session is open; if it is ended
    first, the record is refused."""
    store = HookedStore()
    one = create(store)
    agent = LittleAgent(one, SeededRandom(3))
    agent.back_up(content(9))
    two = reopen(store, 2)
    grant = one.begin_session("backup", agent.container, agent.item_key, b"H" * 16)
    run = BackupRun(agent, grant)
    root_id = run.send(content(1))

    def collect() -> None:
        if revoke:
            two.revoke_session(grant.session_id, "replaced")
        two.collect()

    store.before, store.hook = f"/log/{one.head[0] + following:016d}", collect
    if revoke:
        with pytest.raises(ConflictError) as ended:
            run.commit(root_id, PointFacts(time=A_DAY + timedelta(days=1)))
        assert ended.value.code == "SessionEnded"
    else:
        record = run.commit(root_id, PointFacts(time=A_DAY + timedelta(days=1)))
        assert agent.restore(record.rp_id) == content(1)
    assert store.hook is None
    assert reopen(store, 5).verify().clean


def test_a_collect_keeps_what_a_job_will_need_again() -> None:
    vault = create(MemoryStore())
    agent = LittleAgent(vault, SeededRandom(3))
    grant = vault.begin_session("backup", agent.container, agent.item_key, b"J" * 16)
    run = BackupRun(agent, grant)
    run.send(content(1))
    vault.checkpoint(grant.session_id, run.receipts)
    assert vault.collect().condemned_packs == 0
    vault.recover_sessions(b"J" * 16)
    assert vault.plan_collect([b"J" * 16]).condemn == ()
    sent = agent.sent_bytes
    agent.back_up(content(1), b"J" * 16, attempt=2)
    assert agent.sent_bytes == sent
    again = vault.begin_session("backup", agent.container, agent.item_key, b"K" * 16)
    run = BackupRun(agent, again)
    run.send(content(2))
    vault.recover_sessions(b"K" * 16)
    assert vault.collect().condemned_packs > 0


def test_a_budget_and_a_cancel_stop_a_collect_and_the_next_goes_on() -> None:
    vault = create(MemoryStore())
    agent = LittleAgent(vault, SeededRandom(3))
    for number in range(6):
        agent.back_up(content(number, 50_000), time=A_DAY + timedelta(days=number))
    drops = {point.rp_id: "old" for point in vault.recovery_points()[:-1]}
    vault.expire(vault.plan_expire(drops))
    assert vault.collect(cancelled=lambda: True).freed_bytes == 0
    seen: list[tuple[int, int]] = []
    part = vault.collect(
        budget=CollectBudget(deletes=3), progress=lambda done, total: seen.append((done, total))
    )
    assert not part.complete
    assert len(seen) == 3
    assert vault.verify().clean
    rest = vault.collect(budget=CollectBudget(freed_bytes=1 << 40))
    assert rest.complete
    assert vault.collect().freed_bytes == 0
    assert agent.restore(vault.recovery_points()[0].rp_id) == content(5, 50_000)


def test_backups_restores_and_collects_at_once() -> None:
    store = MemoryStore()
    vault = create(store)
    done = threading.Event()
    failures: list[BaseException] = []

    def maintain() -> None:
        try:
            while not done.is_set():
                for session in (a.item_key for a in agents):
                    points = vault.recovery_points(session)
                    if len(points) > 2:
                        vault.expire(vault.plan_expire({points[0].rp_id: "old"}))
                vault.collect()
        except BaseException as error:
            failures.append(error)

    def protect(agent: LittleAgent) -> None:
        seed = hash(agent.container) % 1000
        for number in range(5):
            files = content(seed + number)
            record = agent.back_up(files, time=A_DAY + timedelta(days=number))
            assert agent.restore(record.rp_id) == files

    agents = [LittleAgent(vault, SeededRandom(n), f"Linux;{n}") for n in range(10, 13)]
    keeper = threading.Thread(target=maintain)
    keeper.start()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(protect, agents))
    done.set()
    keeper.join()
    assert failures == []
    vault.collect()
    assert vault.collect().freed_bytes == 0
    assert vault.verify().clean


def test_a_full_store_stops_backups_and_collect_frees_it() -> None:
    store = FullStore()
    options = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=64 * 1024, probe=False)
    vault = create(store, options)
    agent = LittleAgent(vault, SeededRandom(3))
    first = agent.back_up(content(1, 1_000_000))
    second = agent.back_up(content(2, 1000), time=A_DAY + timedelta(days=1))
    store.capacity = sum(map(len, store.objects.values())) + 10
    with pytest.raises(StoreFullError):
        agent.back_up(content(3, 1000), time=A_DAY + timedelta(days=2))
    store.capacity += 16 * 1024 * 3
    with pytest.raises(StoreFullError):
        agent.back_up(content(3, 100_000), time=A_DAY + timedelta(days=2), job_id=b"F" * 16)
    store.capacity = sum(map(len, store.objects.values())) + 10
    for session in vault.open_sessions():
        vault.revoke_session(session.session_id, "failed")
    vault.expire(vault.plan_expire({first.rp_id: "old"}))
    result = vault.collect()
    assert result.complete
    assert result.freed_bytes > 1_000_000
    assert agent.restore(second.rp_id) == content(2, 1000)
    held = sum(len(data) for key, data in store.objects.items() if "/reserve/" in key)
    assert held == 64 * 1024


def test_the_cache_is_used_grown_and_never_trusted(tmp_path: Path) -> None:
    store = MemoryStore()
    vault = create(store, cache=tmp_path)
    agent = LittleAgent(vault, SeededRandom(3))
    first = agent.back_up(content(1))
    vault.close()
    opened = reopen(store, 4, tmp_path)
    agent = LittleAgent(opened, SeededRandom(5))
    second = agent.back_up({b"many": SeededRandom(8).token(5_000_000)})
    assert agent.restore(first.rp_id) == content(1)
    opened.close()
    for name in ("rows", "tables"):
        path = tmp_path / name
        whole = path.read_bytes()
        for bad in (b"", whole[: len(whole) // 2], bytes(len(whole)), whole + whole):
            path.write_bytes(bad)
            again = LittleAgent(reopen(store, 6, tmp_path), SeededRandom(7))
            assert again.restore(first.rp_id) == content(1)
            assert len(again.restore(second.rp_id)[b"many"]) == 5_000_000
            again.vault.close()


def test_another_server_imports_the_vault_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from holdfast.vaultstore import export

    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))
    store = MemoryStore()
    vault = create(store)
    agent = LittleAgent(vault, SeededRandom(3))
    document = {"policy": {"name": "gfs"}, "includePaths": ["/srv"]}
    facts = PointFacts(time=A_DAY, item_document=document, tags=("weekly",))
    record = agent.back_up(content(1), facts=facts)
    key = Unlock(key_file=vault.export_key("correct horse"), passphrase="correct horse")
    lost = vault.begin_session("backup", agent.container, agent.item_key, b"L" * 16)
    new_key = b"n" * 32
    imported = adopt_vault(store, key, new_key, clock=MovableClock(), rng=SeededRandom(9))
    items = found_items(imported)
    assert [(item.container, item.item) for item in items] == [("Linux;a", "FileFolder;docs")]
    assert items[0].document == document
    assert items[0].recovery_points == (record,)
    assert imported.open_sessions() == []
    with pytest.raises(ConflictError):
        imported.lookup(lost.session_id, b"")
    agent = LittleAgent(imported, SeededRandom(4))
    later = agent.back_up(content(2), time=A_DAY + timedelta(days=1))
    again = Vault.open(
        store,
        IDS.vault_id,
        Unlock(platform_key=new_key),
        clock=MovableClock(),
        rng=SeededRandom(10),
    )
    assert LittleAgent(again, SeededRandom(5)).restore(later.rp_id) == content(2)
    third = adopt_vault(store, key, b"m" * 32, clock=MovableClock(), rng=SeededRandom(11))
    assert [point.rp_id for point in third.recovery_points()] == [record.rp_id, later.rp_id]
