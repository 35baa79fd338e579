"""The vault service end to end, in process: back up, restore, expire, collect, reopen."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.adapters.object_store.local import LocalStore
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import AccessError, ConflictError, HoldfastError, IntegrityError, NotFoundError
from holdfast.testing.little_agent import A_DAY, BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import export
from holdfast.vaultstore.layout import find_vaults
from holdfast.vaultstore.reader import VaultReader
from holdfast.vaultstore.values import PointFacts, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import PackReceiver, Vault

PLATFORM_KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16, tenant_id=b"T" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)


class Bench:
    """A store, a vault on it, and agents."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = MovableClock()
        self.rng = SeededRandom(1)
        self.vault = Vault.create(
            self.store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=self.rng
        )

    def reopen(self) -> Vault:
        self.vault = Vault.open(
            self.store,
            IDS.vault_id,
            Unlock(platform_key=PLATFORM_KEY),
            clock=self.clock,
            rng=self.rng,
        )
        return self.vault

    def agent(self, container: str = "Linux;a") -> LittleAgent:
        return LittleAgent(self.vault, self.rng, container)

    def keys(self, room: str) -> list[str]:
        return [key for key in self.store.objects if f"/{room}/" in key]


@pytest.fixture
def bench() -> Bench:
    return Bench()


FILES = {b"etc/hosts": b"127.0.0.1 a\n", b"big": SeededRandom(9).token(50_000), b"etc/empty": b""}
MORE = {**FILES, b"etc/hosts": b"127.0.0.1 b\n", b"new/deep/file": b"n" * 9000}


def test_what_was_backed_up_is_restored(bench: Bench) -> None:
    agent = bench.agent()
    first = agent.back_up(FILES)
    second = agent.back_up(MORE, time=A_DAY + timedelta(days=1))
    assert agent.restore(first.rp_id) == FILES
    assert agent.restore(second.rp_id) == MORE
    assert first.rp_id < second.rp_id
    assert second.stored_bytes < first.stored_bytes
    assert second.logical_bytes == sum(map(len, MORE.values()))
    again = LittleAgent(bench.reopen(), bench.rng)
    assert again.restore(first.rp_id) == FILES
    assert [p.rp_id for p in bench.vault.recovery_points(agent.item_key)] == [
        first.rp_id,
        second.rp_id,
    ]


def test_a_commit_is_made_once_whatever_is_repeated(bench: Bench) -> None:
    agent = bench.agent()
    job_id = b"J" * 16
    first = agent.back_up(FILES, job_id, close=False)
    assert agent.back_up(FILES, job_id) == first
    assert bench.vault.point_of_job(agent.item_key, job_id) == first
    assert len(bench.vault.recovery_points()) == 1
    assert bench.vault.recover_sessions(job_id).committed == first.rp_id
    assert bench.vault.open_sessions() == []


def test_a_zombie_cannot_commit_after_its_replacement(bench: Bench) -> None:
    agent = bench.agent()
    zombie = BackupRun(
        agent, bench.vault.begin_session("backup", agent.container, agent.item_key, b"Z" * 16)
    )
    root_id = zombie.send(FILES)
    agent.back_up(MORE)
    with pytest.raises(ConflictError) as stale:
        zombie.commit(root_id, PointFacts(time=A_DAY))
    assert stale.value.code == "ParentStale"
    bench.vault.revoke_session(zombie.grant.session_id, "replaced")
    with pytest.raises(ConflictError) as ended:
        zombie.commit(root_id, PointFacts(time=A_DAY))
    assert ended.value.code == "SessionEnded"


def test_a_retried_job_sends_nothing_again(bench: Bench) -> None:
    agent = bench.agent()
    job_id = b"J" * 16
    grant = bench.vault.begin_session("backup", agent.container, agent.item_key, job_id)
    BackupRun(agent, grant).send(FILES)
    sent = agent.sent_bytes
    bench.reopen()
    agent = bench.agent()
    new = bench.vault.begin_session("backup", agent.container, agent.item_key, job_id, attempt=2)
    recovered = bench.vault.recover_sessions(job_id, new.session_id)
    assert (recovered.sessions_revoked, recovered.bytes_kept) == (1, sent)
    run = BackupRun(agent, new)
    root_id = run.send(FILES)
    assert agent.sent_bytes == 0
    record = run.commit(root_id, PointFacts(time=A_DAY))
    assert record.stored_bytes == sent
    assert agent.restore(record.rp_id) == FILES
    with pytest.raises(ConflictError):
        bench.vault.lookup(grant.session_id, b"")


def test_recovering_before_the_new_session_counts_and_sends_alike(bench: Bench) -> None:
    agent = bench.agent()
    grant = bench.vault.begin_session("backup", agent.container, agent.item_key, b"J" * 16)
    BackupRun(agent, grant).send(FILES)
    sent, agent.sent_bytes = agent.sent_bytes, 0
    assert bench.vault.recover_sessions(b"J" * 16).bytes_kept == sent
    record = agent.back_up(FILES, b"J" * 16, attempt=2)
    assert agent.sent_bytes == 0
    assert record.stored_bytes == sent


def test_expire_and_collect_free_what_only_the_expired_point_needed(bench: Bench) -> None:
    agent = bench.agent()
    first = agent.back_up({b"old": SeededRandom(3).token(300_000), b"kept": b"k" * 100})
    second = agent.back_up(FILES, time=A_DAY + timedelta(days=1))
    plan = bench.vault.plan_expire({first.rp_id: "older than 1 day", second.rp_id: "no"})
    assert [drop.rp_id for drop in plan.drops] == [first.rp_id]
    assert [drop.rp_id for drop in plan.refused] == [second.rp_id]
    before = sum(map(len, bench.store.objects.values()))
    assert bench.vault.expire(plan) == [first.rp_id]
    assert bench.vault.expire(plan) == []
    planned = bench.vault.plan_collect()
    assert planned.condemn_bytes >= 300_000
    result = bench.vault.collect(planned)
    assert result.complete
    assert result.freed_bytes >= 300_000
    assert sum(map(len, bench.store.objects.values())) < before - 300_000
    assert agent.restore(second.rp_id) == FILES
    assert bench.vault.verify().clean
    with pytest.raises(NotFoundError):
        bench.vault.file_tree(first.rp_id)
    bench.reopen()
    assert bench.vault.verify().clean
    assert bench.vault.plan_collect().condemn == ()


def test_sessions_pin_and_fence(bench: Bench) -> None:
    agent = bench.agent()
    old = {b"old": SeededRandom(3).token(200_000)}
    first = agent.back_up(old)
    agent.back_up(FILES, time=A_DAY + timedelta(days=1))
    reading = bench.vault.begin_session(
        "restore", agent.container, agent.item_key, b"R" * 16, pins=[first.rp_id]
    )
    bench.vault.expire(bench.vault.plan_expire({first.rp_id: "old"}))
    assert bench.vault.collect().freed_bytes < 100_000
    located = bench.vault.locate(reading.session_id, bench.vault.recovery_points()[0].root_id[:0])
    assert located == []
    bench.vault.close_session(reading.session_id)
    late = bench.vault.begin_session("backup", agent.container, agent.item_key, b"L" * 16)
    plan = bench.vault.plan_collect()
    assert plan.condemn_bytes >= 200_000
    fenced = bench.vault.collect(plan)
    assert not fenced.complete
    assert fenced.fenced_packs == len(plan.condemn)
    assert bench.vault.plan_collect().waiting_for == (late.session_id,)
    bench.vault.close_session(late.session_id)
    assert bench.vault.collect().freed_bytes >= 200_000
    assert bench.vault.collect().freed_bytes == 0


def test_condemned_chunks_are_sent_again(bench: Bench) -> None:
    agent = bench.agent()
    old = {b"old": SeededRandom(3).token(200_000)}
    first = agent.back_up(old)
    agent.back_up(FILES, time=A_DAY + timedelta(days=1))
    grant = bench.vault.begin_session("backup", agent.container, agent.item_key, b"W" * 16)
    run = BackupRun(agent, grant)
    root_id = run.send(old)
    small = agent.sent_bytes
    bench.vault.expire(bench.vault.plan_expire({first.rp_id: "old"}))
    assert bench.vault.collect().condemned_packs > 0
    record = run.commit(root_id, PointFacts(time=A_DAY))
    assert agent.sent_bytes >= small + 200_000
    bench.vault.close_session(grant.session_id)
    bench.vault.collect()
    assert agent.restore(record.rp_id) == old
    assert bench.vault.verify().clean


def test_an_exported_key_opens_the_vault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))
    agent = bench.agent()
    record = agent.back_up(FILES)
    assert not bench.vault.statistics().key_exported
    data = bench.vault.export_key("correct horse")
    assert bench.vault.statistics().key_exported
    later = agent.back_up(MORE, time=A_DAY + timedelta(days=1))
    reader = VaultReader.open(bench.store, Unlock(key_file=data, passphrase="correct horse"))
    assert [point.rp_id for point in reader.recovery_points()] == [record.rp_id, later.rp_id]
    entry = reader.file_tree(later.rp_id).lookup(b"etc/hosts")
    assert entry is not None
    chunk = bytes(reader.fetch(later.rp_id, [entry.extents[0][0]])[0])
    assert chunk == MORE[b"etc/hosts"]
    with pytest.raises(AccessError):
        VaultReader.open(bench.store, Unlock(key_file=data, passphrase="wrong horse"))
    with pytest.raises(AccessError):
        Vault.open(
            bench.store,
            IDS.vault_id,
            Unlock(platform_key=b"x" * 32),
            clock=bench.clock,
            rng=bench.rng,
        )


def test_the_clock_stops_expiry_and_not_backups(bench: Bench) -> None:
    agent = bench.agent()
    first = agent.back_up(FILES)
    second = agent.back_up(MORE)
    plan = bench.vault.plan_expire({first.rp_id: "old"})
    for jump in (timedelta(days=-30), timedelta(days=60)):
        bench.clock.jump(jump)
        assert not bench.vault.clock_trusted()[0]
        for forbidden in (lambda: bench.vault.expire(plan), bench.vault.collect):
            with pytest.raises(ConflictError) as refused:
                forbidden()
            assert refused.value.code == "ClockUntrusted"
        third = agent.back_up(FILES)
        assert third.time > second.time
        assert not bench.vault.clock_trusted()[0]
    bench.vault.confirm_clock()
    assert bench.vault.expire(plan) == [first.rp_id]
    bench.clock.pass_time(timedelta(days=400))
    assert bench.vault.clock_trusted()[0]
    bench.clock.jump(timedelta(days=-800))
    bench.vault.confirm_clock()
    assert bench.vault.clock_trusted()[0]
    bench.reopen()
    assert bench.vault.clock_trusted()[0]
    assert bench.vault.collect().complete


def test_a_damaged_log_is_named_and_nothing_is_written(bench: Bench) -> None:
    agent = bench.agent()
    first = agent.back_up(FILES)
    agent.back_up(MORE, time=A_DAY + timedelta(days=1))
    whole = dict(bench.store.objects)
    logs = bench.keys("log")
    middle = next(k for k in logs if int(k[-16:]) == first.sequence + 2)
    for damage in ("gone", "empty", "flipped", "swapped"):
        bench.store.objects = dict(whole)
        if damage == "gone":
            del bench.store.objects[middle]
        elif damage == "empty":
            bench.store.objects[middle] = b""
        elif damage == "flipped":
            data = bytearray(whole[middle])
            data[len(data) // 2] ^= 4
            bench.store.objects[middle] = bytes(data)
        else:
            bench.store.objects[middle] = whole[logs[2]]
        before = dict(bench.store.objects)
        with pytest.raises(IntegrityError) as damaged:
            bench.reopen()
        assert damaged.value.code == "LogDamaged"
        assert middle[-16:] in damaged.value.message
        assert bench.store.objects == before
        reader = VaultReader.open(
            bench.store, Unlock(platform_key=PLATFORM_KEY), vault_id=IDS.vault_id
        )
        assert reader.damage is not None
        assert [point.rp_id for point in reader.recovery_points()] == [first.rp_id]
        tree = reader.file_tree(first.rp_id)
        assert tree.lookup(b"etc/empty") is not None


@pytest.mark.parametrize("problem", ["missing", "empty", "truncated", "altered"])
def test_verify_names_the_damage_and_the_points(bench: Bench, problem: str) -> None:
    agent = bench.agent()
    first = agent.back_up({b"one": SeededRandom(5).token(30_000)})
    second = agent.back_up({b"two": SeededRandom(6).token(30_000)}, time=A_DAY + timedelta(days=1))
    other = bench.agent("Linux;b").back_up({b"three": SeededRandom(7).token(30_000)})
    report = bench.vault.verify()
    assert report.clean
    assert report.recovery_points == 3
    packs = sorted(bench.keys("packs"), key=lambda key: len(bench.store.objects[key]))
    key = next(k for k in packs[::-1] if len(bench.store.objects[k]) > 30_000)
    data = bytearray(bench.store.objects[key])
    if problem == "missing":
        del bench.store.objects[key]
    else:
        if problem == "altered":
            data[len(data) // 3] ^= 1
        bench.store.objects[key] = bytes(
            {"empty": b"", "truncated": data[:9000], "altered": data}[problem]
        )
    damages = bench.vault.verify().damages
    assert len(damages) == 1
    assert damages[0].problem == problem
    assert key.endswith(damages[0].key)
    assert len(damages[0].recovery_points) == 1
    affected = damages[0].recovery_points[0]
    assert affected in {first.rp_id, second.rp_id, other.rp_id}
    for rp_id in {first.rp_id, second.rp_id} - {affected}:
        agent.restore(rp_id)
    only = bench.vault.verify(items=[agent.item_key])
    assert only.clean == (affected == other.rp_id)


@pytest.mark.parametrize("room", ["tables", "refsets"])
def test_lost_tables_and_refsets_are_named_and_do_not_stop_restores(
    bench: Bench, room: str
) -> None:
    agent = bench.agent()
    record = agent.back_up(FILES)
    key = bench.keys(room)[0]
    bench.store.objects[key] = bench.store.objects[key][:-1] + b"x"
    vault = bench.reopen()
    damages = vault.verify().damages
    assert [key.endswith(damage.key) for damage in damages] == [True]
    assert bench.agent().restore(record.rp_id) == FILES
    assert bytes(vault.fetch(record.rp_id, [record.root_id])[0])


def test_a_vault_on_a_local_disk_is_probed_used_and_found(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "region")
    options = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=1 << 20)
    clock, rng = MovableClock(), SeededRandom(1)
    vault = Vault.create(store, PLATFORM_KEY, ids=IDS, options=options, clock=clock, rng=rng)
    assert "create-if-absent" in vault.descriptor.probe
    agent = LittleAgent(vault, rng)
    first = agent.back_up(FILES)
    second = agent.back_up(MORE, time=A_DAY + timedelta(days=1))
    vault.expire(vault.plan_expire({first.rp_id: "old"}))
    assert vault.collect().complete
    reader = VaultReader.open(store, Unlock(platform_key=PLATFORM_KEY))
    assert reader.recovery_point("latest", agent.item_key) == second
    assert reader.items() == [agent.item_key]
    assert agent.restore(second.rp_id) == MORE
    assert find_vaults(store) == [IDS.vault_id]
    (tmp_path / "region").rename(tmp_path / "moved")
    with pytest.raises(NotFoundError) as missing:
        VaultReader.open(LocalStore(tmp_path / "region"), Unlock(platform_key=PLATFORM_KEY))
    assert missing.value.code == "VaultMissing"


def test_restores_of_points_read_through_the_service(bench: Bench) -> None:
    agent = bench.agent()
    records = [
        agent.back_up({b"n": str(number).encode()}, time=A_DAY + timedelta(days=number))
        for number in range(12)
    ]
    for number, record in enumerate(records):
        entry = bench.vault.file_tree(record.rp_id).lookup(b"n")
        assert entry is not None
        assert bytes(bench.vault.fetch(record.rp_id, [entry.extents[0][0]])[0]) == (
            str(number).encode()
        )
    assert bench.vault.root(records[0].rp_id).file_tree.entries == 1


def test_damaged_chunks_are_sent_again_by_the_next_backup(bench: Bench) -> None:
    agent = bench.agent()
    agent.back_up(FILES)
    key = max(bench.keys("packs"), key=lambda key: len(bench.store.objects[key]))
    del bench.store.objects[key]
    assert not bench.vault.verify().clean
    healed = agent.back_up(FILES, time=A_DAY + timedelta(days=1))
    assert agent.restore(healed.rp_id) == FILES
    damages = bench.vault.verify().damages
    assert [healed.rp_id in damage.recovery_points for damage in damages] == [False]
    assert len(bench.vault.recovery_points()) == 2


def test_a_damaged_newest_key_ring_locks_nobody_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))
    record = bench.agent().back_up(FILES)
    bench.vault.export_key("correct horse")
    for key in bench.keys("service") + bench.keys(f"domain-{IDS.domain_id.hex()}"):
        if key.endswith("2"):
            bench.store.objects[key] = b""
    bench.reopen()
    assert bench.agent().restore(record.rp_id) == FILES
    damages = bench.vault.verify().damages
    assert [damage.problem for damage in damages] == ["empty", "empty"]
    data = bench.vault.export_key("battery staple")
    key = Unlock(key_file=data, passphrase="battery staple")
    assert VaultReader.open(bench.store, key).recovery_points() == [record]


def test_a_lost_table_with_lost_packs_costs_only_its_points(bench: Bench) -> None:
    """Nothing depending on it is collected, other points restore, and its own are named."""
    agent = bench.agent()
    first = agent.back_up(FILES)
    last = bench.agent("Linux;b").back_up({b"b": b"b" * 5000})
    state = bench.vault._core.state
    entry = list(state.tables.values())[-1]
    names = [entry.table.table_id.hex(), *(pack_id.hex() for pack_id in entry.packs)]
    for key in list(bench.store.objects):
        if key.rpartition("/")[2] in names:
            del bench.store.objects[key]
    bench.reopen()
    table = [d for d in bench.vault.verify().damages if d.key.startswith("tables/")]
    assert [damage.recovery_points for damage in table] == [(last.rp_id,)]
    assert bench.vault.plan_collect().condemn == ()
    assert bench.agent().restore(first.rp_id) == FILES
    with pytest.raises(HoldfastError):
        bench.agent("Linux;b").restore(last.rp_id)
    healed = bench.agent("Linux;b").back_up({b"b": b"b" * 5000}, time=A_DAY + timedelta(days=1))
    assert bench.agent("Linux;b").restore(healed.rp_id) == {b"b": b"b" * 5000}


def test_a_server_restart_within_a_session_loses_nothing(bench: Bench) -> None:
    agent = bench.agent()
    grant = bench.vault.begin_session("backup", agent.container, agent.item_key, b"J" * 16)
    run = BackupRun(agent, grant)
    root_id = run.send(FILES)
    agent.vault = bench.reopen()
    record = run.commit(root_id, PointFacts(time=A_DAY))
    assert agent.restore(record.rp_id) == FILES
    assert bench.vault.open_sessions()[0].committed == record.rp_id
    other = bench.agent("Linux;b")
    grant = bench.vault.begin_session("backup", other.container, other.item_key, b"K" * 16)
    run = BackupRun(other, grant)
    root_id = run.send(FILES)
    key = next(key for key in bench.keys("packs") if grant.session_id.hex() in key)
    bench.store.objects[key] = bench.store.objects[key][:-100]
    other.vault = bench.reopen()
    with pytest.raises(IntegrityError):
        run.commit(root_id, PointFacts(time=A_DAY))
    assert bench.vault.recover_sessions(b"K" * 16).packs_refused == 1


def test_an_upload_that_ends_after_its_session_is_refused_and_collected(bench: Bench) -> None:
    agent = bench.agent()
    record = agent.back_up(FILES)
    grant = bench.vault.begin_session("backup", agent.container, agent.item_key, b"J" * 16)
    run = BackupRun(agent, grant)
    started = bench.vault.start_pack

    def revoked_meanwhile(session_id: bytes, pack_id: bytes, size: int) -> PackReceiver:
        receiver = started(session_id, pack_id, size)
        bench.vault.revoke_session(session_id, "another attempt")
        return receiver

    bench.vault.start_pack = revoked_meanwhile  # type: ignore[method-assign]
    with pytest.raises(ConflictError) as ended:
        run.send(MORE)
    assert ended.value.code == "SessionEnded"
    assert any(grant.session_id.hex() in key for key in bench.keys("packs"))
    assert bench.vault.collect().deleted_orphans > 0
    assert not any(grant.session_id.hex() in key for key in bench.keys("packs"))
    assert agent.restore(record.rp_id) == FILES


def test_a_vault_that_is_not_where_it_was_takes_nothing(bench: Bench) -> None:
    """As on S3: no folder is missing there, only the objects are."""
    agent = bench.agent()
    agent.back_up(FILES)
    run = BackupRun(
        agent, bench.vault.begin_session("backup", agent.container, agent.item_key, b"J" * 16)
    )
    session_id = run.grant.session_id
    kept = dict(bench.store.objects)
    bench.store.objects.clear()
    for write in (
        lambda: agent.back_up(MORE),
        lambda: run.send(MORE),
        lambda: bench.vault.close_session(session_id),
        bench.vault.collect,
        bench.vault.verify,
    ):
        with pytest.raises(NotFoundError) as missing:
            write()
        assert missing.value.code == "VaultStoreMissing"
    assert bench.store.objects == {}
    bench.store.objects.update(kept)
    second = agent.back_up(MORE)
    assert agent.restore(second.rp_id) == MORE


def test_a_log_that_ends_before_what_was_read_of_it_is_not_gone_on_with(bench: Bench) -> None:
    agent = bench.agent()
    agent.back_up(FILES)
    older = dict(bench.store.objects)
    agent.back_up(MORE)
    bench.store.objects = dict(older)
    with pytest.raises(IntegrityError) as cut:
        agent.back_up(MORE)
    assert cut.value.code == "LogCut"
    added = set(bench.store.objects) - set(older)
    assert all("/sessions/" in key for key in added), added
