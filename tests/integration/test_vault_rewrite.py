"""Rewriting of sparsely needed packs: what is needed moves, nothing is lost, room comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.adapters.object_store.local import LocalStore
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import HoldfastError, StoreFullError
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.testing.little_agent import A_DAY, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import export, layout
from holdfast.vaultstore.checkpoint import decode_checkpoint, encode_state, state_of
from holdfast.vaultstore.format import MOVED_FRAMES, ObjectKind, decode_header
from holdfast.vaultstore.pace import Pace
from holdfast.vaultstore.reader import VaultReader
from holdfast.vaultstore.values import (
    CollectBudget,
    RecoveryPointRecord,
    Unlock,
    VaultIds,
    VaultOptions,
)
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
UNLOCK = Unlock(platform_key=PLATFORM_KEY)
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"
PASSPHRASE = "correct horse"
REWRITE = CollectBudget(rewrite_below=0.5)
FILES = {b"d/%02d" % number: SeededRandom(number).token(4000) for number in range(60)}
KEPT = {name: FILES[name] for number, name in enumerate(FILES) if number % 5 == 0}


class RiggedStore(MemoryStore):
    """A store of ``capacity`` bytes, whose ranged reads of ``flipped`` keys have a wrong bit. A
    ``hook`` is called once, before the first create of a key that contains ``before``."""

    def __init__(self) -> None:
        super().__init__()
        self.capacity = 1 << 40
        self.flipped = ""
        self.before = "?"
        self.hook: Callable[[], None] | None = None

    def create(self, key: str, data: Buffer) -> None:
        if self.hook is not None and self.before in key:
            hook, self.hook = self.hook, None
            hook()
        if self.free_bytes() < len(data):
            raise StoreFullError("no space left")
        super().create(key, data)

    def free_bytes(self) -> int:
        return self.capacity - sum(map(len, self.objects.values()))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        data = super().read_range(key, offset, length)
        return bytes([data[0] ^ 1]) + data[1:] if key == self.flipped else data


def create(store: ObjectStore, cache: Path | None = None) -> Vault:
    clock, rng = MovableClock(), SeededRandom(1)
    return Vault.create(
        store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=clock, rng=rng, cache_dir=cache
    )


def reopen(store: ObjectStore, seed: int, cache: Path | None = None) -> Vault:
    clock, rng = MovableClock(), SeededRandom(seed)
    return Vault.open(store, IDS.vault_id, UNLOCK, clock=clock, rng=rng, cache_dir=cache)


def thin_out(vault: Vault, container: str = "Linux;a") -> RecoveryPointRecord:
    """Back everything up, then a fifth of it, and let the first point go; the second."""
    agent = LittleAgent(vault, SeededRandom(3), container)
    first = agent.back_up(FILES)
    second = agent.back_up(KEPT, time=A_DAY + timedelta(days=1))
    vault.expire(vault.plan_expire({first.rp_id: "old"}))
    return second


def packed(store: MemoryStore) -> int:
    return sum(len(data) for key, data in store.objects.items() if "/packs/" in key)


def restored(vault: Vault, point: RecoveryPointRecord) -> dict[bytes, bytes]:
    return LittleAgent(vault, SeededRandom(98)).restore(point.rp_id)


def test_a_plan_tells_and_a_collect_frees_what_dead_chunks_hold(tmp_path: Path) -> None:
    store = MemoryStore()
    vault = create(store, tmp_path / "one")
    point = thin_out(vault)
    assert vault.collect().rewritten_packs == 0
    before = packed(store)
    plan = vault.plan_collect(rewrite_below=0.5)
    assert 0 < plan.rewrite_copy_bytes < 0.5 * plan.rewrite_bytes
    assert len(plan.rewrite) == plan.sparse_packs >= 4
    result = vault.collect(plan)
    assert result.complete
    assert result.rewritten_packs == len(plan.rewrite)
    assert result.written_bytes == pytest.approx(plan.rewrite_copy_bytes, rel=0.2)
    assert before - packed(store) == pytest.approx(plan.rewrite_freed_bytes, rel=0.2)
    assert not vault.plan_collect(rewrite_below=0.5).rewrite
    for one in (vault, reopen(store, 2), reopen(store, 3, tmp_path / "one")):
        assert restored(one, point) == KEPT
        assert one.verify().clean
        assert one.scrub().damages == ()
    reader = VaultReader.open(store, UNLOCK)
    assert [len(page) for _, page in reader.file_tree(point.rp_id).walk()] == [1, len(KEPT)]
    assert vault.collect().complete
    assert vault.plan_collect().orphans == ()
    assert len([key for key in store.objects if "/tables/" in key]) == 2


def test_what_was_moved_moves_again_and_its_keys_stay() -> None:
    store = MemoryStore()
    vault = create(store)
    point = thin_out(vault)
    vault.collect(budget=REWRITE)
    agent = LittleAgent(vault, SeededRandom(4))
    few = dict(list(KEPT.items())[:3])
    last = agent.back_up(few, time=A_DAY + timedelta(days=2))
    vault.expire(vault.plan_expire({point.rp_id: "old"}))
    assert vault.collect(budget=REWRITE).rewritten_packs > 0
    state = vault._core.state
    assert {len(entry.births) for entry in state.packs.values()} > {0}
    vault = reopen(store, 5)
    assert restored(vault, last) == few
    assert vault.verify().clean
    agent = LittleAgent(vault, SeededRandom(6))
    sent = agent.back_up(few, time=A_DAY + timedelta(days=3))
    assert agent.sent_bytes == 0, "what was moved was not found again"
    points = {one.rp_id: "old" for one in (last, sent)}
    vault.expire(vault.plan_expire(points, explicit=True))
    assert vault.collect().complete
    assert vault._core.state.sealing_keys == {}


def test_containers_are_not_mixed() -> None:
    vault = create(MemoryStore())
    points = [thin_out(vault, container) for container in ("Linux;a", "Linux;b")]
    vault.collect(budget=REWRITE)
    state = vault._core.state
    for entry in state.packs.values():
        owners = {state.sealing_keys[one].container for one in entry.sealers}
        assert len(owners) == 1
    assert [restored(vault, point) for point in points] == [KEPT, KEPT]


def test_a_restore_goes_on_with_places_from_before_and_gets_those_of_now() -> None:
    store = MemoryStore()
    vault = create(store)
    point = thin_out(vault)
    agent = LittleAgent(vault, SeededRandom(7))
    grant = vault.begin_session(
        "restore", agent.container, agent.item_key, b"R" * 16, pins=[point.rp_id]
    )
    ids = b"".join(
        extent[0]
        for _, entries in vault.file_tree(point.rp_id).walk()
        for entry in entries
        for extent in entry.extents
    )
    before = vault.locate(grant.session_id, ids)
    result = vault.collect(budget=REWRITE)
    assert (result.rewritten_packs > 0, result.fenced_packs > 0) == (True, True)
    after = vault.locate(grant.session_id, ids)
    assert {one.pack for one in before}.isdisjoint(one.pack for one in after)
    for old, new in zip(before, after, strict=True):
        assert agent.open_chunk(grant, old) == agent.open_chunk(grant, new)
    assert vault.collect().swept_packs == 0
    vault.close_session(grant.session_id)
    assert vault.collect().swept_packs == result.fenced_packs
    assert restored(vault, point) == KEPT


def test_another_process_finds_what_was_moved_while_it_looked() -> None:
    store = MemoryStore()
    vault = create(store)
    point = thin_out(vault)
    other = reopen(store, 2)
    tree = other.file_tree(point.rp_id)
    walking = tree.walk()
    next(walking)
    vault.collect(budget=REWRITE)
    assert len(list(walking)) == 1
    assert restored(other, point) == KEPT
    reader = VaultReader.open(store, UNLOCK)
    assert reader.verify().clean


def test_a_backup_that_needs_a_dead_chunk_meanwhile_keeps_its_pack() -> None:
    """The point is committed right before the record that moves the rest."""
    store = RiggedStore()
    vault = create(store)
    point = thin_out(vault)
    vault.collect()
    other = reopen(store, 2)
    agent = LittleAgent(other, SeededRandom(8))
    made: list[RecoveryPointRecord] = []

    def back_up() -> None:
        made.append(agent.back_up(FILES, time=A_DAY + timedelta(days=2)))

    store.hook, store.before = back_up, f"/log/{vault.head[0] + 2:016d}"
    result = vault.collect(vault.plan_collect(rewrite_below=0.5))
    assert made, "nothing happened meanwhile"
    assert result.swept_packs == 0
    assert agent.sent_bytes < 20_000, "the dead chunks were sent again"
    for one in (vault, reopen(store, 9)):
        assert restored(one, point) == KEPT
        assert restored(one, made[0]) == FILES
        assert one.verify().clean


def test_two_rewriters_do_the_work_once() -> None:
    store = RiggedStore()
    vault = create(store)
    point = thin_out(vault)
    other = reopen(store, 2)

    def rewrite() -> None:
        other.collect(budget=REWRITE)

    store.hook, store.before = rewrite, "/tables/"
    plan = vault.plan_collect(rewrite_below=0.5)
    assert vault.collect(plan).rewritten_packs < len(plan.rewrite)
    vault.collect(budget=REWRITE)
    vault.collect()
    assert restored(vault, point) == KEPT
    assert vault.verify().clean
    assert vault.plan_collect(rewrite_below=0.5).rewrite == ()
    assert packed(store) < 2 * sum(map(len, KEPT.values()))


def test_a_rewriter_whose_session_was_ended_changes_nothing() -> None:
    store = RiggedStore()
    vault = create(store)
    point = thin_out(vault)
    other = reopen(store, 2)

    def end() -> None:
        other.refresh()
        for session in other.open_sessions():
            other.revoke_session(session.session_id, "ended by a person")

    store.hook, store.before = end, "/tables/"
    result = vault.collect(budget=REWRITE)
    assert (result.rewritten_packs, result.complete) == (0, False)
    assert restored(vault, point) == KEPT
    vault.collect()
    assert vault.collect(budget=REWRITE).rewritten_packs > 0
    assert restored(vault, point) == KEPT


def test_a_pack_that_reads_badly_stays_and_the_others_move() -> None:
    store = RiggedStore()
    vault = create(store)
    point = thin_out(vault)
    plan = vault.plan_collect(rewrite_below=0.5)
    entry = vault._core.state.packs[plan.rewrite[0]].pack
    prefix = layout.vault_prefix(IDS.vault_id)
    store.flipped = prefix + layout.pack_key(entry.session_id, entry.pack_id)
    assert vault.collect(plan).rewritten_packs == len(plan.rewrite) - 1
    assert entry.pack_id in vault._core.state.packs
    store.flipped = ""
    assert restored(vault, point) == KEPT
    assert vault.verify().clean


def test_freeing_needs_no_room_and_rewriting_takes_none_that_backups_need() -> None:
    store = RiggedStore()
    vault = create(store)
    point = thin_out(vault)
    agent = LittleAgent(vault, SeededRandom(3), item="gone")
    gone = agent.back_up({b"x": SeededRandom(77).token(60_000)})
    vault.expire(vault.plan_expire({gone.rp_id: "asked"}, explicit=True))
    store.capacity = sum(map(len, store.objects.values())) + 6000
    plan = vault.plan_collect(rewrite_below=0.5)
    assert plan.condemn
    result = vault.collect(plan)
    assert (result.full, result.complete, result.rewritten_packs) == (True, False, 0)
    assert result.swept_packs == len(plan.condemn)
    assert restored(vault, point) == KEPT
    store.capacity += 1 << 20
    assert vault.collect(budget=REWRITE).rewritten_packs == len(plan.rewrite)
    assert restored(vault, point) == KEPT


def test_a_cancel_and_a_pace_stop_a_rewriting_and_the_next_goes_on() -> None:
    store = MemoryStore()
    vault = create(store)
    point = thin_out(vault)
    vault.collect()
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(10_000, 0, lambda: now[0], sleep)
    seen: list[tuple[int, int]] = []
    part = vault.collect(
        budget=REWRITE,
        progress=lambda done, total: seen.append((done, total)),
        cancelled=lambda: sum(slept) > 2,
        pace=pace,
    )
    assert (part.complete, part.rewritten_packs) == (False, 0)
    assert 0 < seen[-1][0] < seen[-1][1]
    assert 2 < sum(slept) < 4
    assert vault.open_sessions() == []
    assert restored(vault, point) == KEPT
    whole = vault.collect(budget=REWRITE, pace=pace)
    assert whole.complete
    moved = sum(len(content) for content in KEPT.values())
    assert sum(slept) > 2 * moved / 10_000 - 10
    assert restored(vault, point) == KEPT


def test_a_checkpoint_knows_what_was_moved_and_older_versions_pass_it_over() -> None:
    store = MemoryStore()
    vault = create(store)
    thin_out(vault)
    seal, state = vault._core.seal, vault._core.state
    header, _ = decode_header(
        seal.seal_checkpoint(state), ObjectKind.CHECKPOINT, None, known=frozenset(range(99))
    )
    assert header.features == (0, 0, 0, 0)
    vault.collect(budget=REWRITE)
    state = vault._core.state
    data = seal.seal_checkpoint(state)
    header, _ = decode_header(data, ObjectKind.CHECKPOINT, None, known=frozenset(range(99)))
    assert header.features == (MOVED_FRAMES, 0, 0, 0)
    assert state_of(seal.open_checkpoint(data)) == state
    assert state_of(decode_checkpoint(encode_state(state))) == state


def test_a_lost_table_of_moved_chunks_is_named_and_mended_from_the_cache(tmp_path: Path) -> None:
    store = MemoryStore()
    vault = create(store, tmp_path / "cache")
    point = thin_out(vault)
    vault.collect(budget=REWRITE)
    name = next(one for one, entry in vault._core.state.tables.items() if entry.moved)
    key = layout.vault_prefix(IDS.vault_id) + layout.table_key(name)
    del store.objects[key]
    blind = reopen(store, 2)
    assert name in blind._core.lost_tables
    found = {damage.key: damage.problem for damage in blind.verify().damages}
    assert found[layout.table_key(name)] == "missing"
    assert blind.plan_collect(rewrite_below=0.5).condemn == ()
    with pytest.raises(HoldfastError):
        restored(blind, point)
    knowing = reopen(store, 3, tmp_path / "cache")
    knowing.verify()
    assert [step.action for step in knowing.repair(b"R" * 16).done] == ["rebuild table"]
    assert restored(reopen(store, 4), point) == KEPT


def test_the_decoder_restores_what_was_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))
    vault = create(LocalStore(tmp_path / "store"))
    point = thin_out(vault)
    assert vault.collect(budget=REWRITE).rewritten_packs > 0
    (tmp_path / "key").write_bytes(vault.export_key(PASSPHRASE))
    checked = decode(tmp_path, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    target = tmp_path / "restored"
    done = decode(tmp_path, "restore", "--recovery-point", point.rp_id, "--to", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    files = {str(p.relative_to(target)).encode(): p for p in target.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == KEPT


def decode(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folder = place / "store" / layout.vault_prefix(IDS.vault_id).rstrip("/")
    call = [sys.executable, "-I", str(DECODER), words[0], "--path", str(folder)]
    return subprocess.run(
        [*call, "--key", str(place / "key"), *words[1:]],
        env={"HOLDFAST_PASSPHRASE": PASSPHRASE},
        capture_output=True,
        text=True,
        check=False,
    )
