"""Lock horizons of an immutable vault: nothing it promised to keep goes before its time, whoever
asks and whatever the clock says; then it goes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.adapters.object_store.layers.horizon import HorizonStore
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ConflictError, IntegrityError, ObjectLockedError
from holdfast.testing.little_agent import A_DAY, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import checkpoint, layout, locking, log
from holdfast.vaultstore.format import KNOWN_FEATURES, ObjectKind, decode_header
from holdfast.vaultstore.head import Head
from holdfast.vaultstore.liveness import liveness_of
from holdfast.vaultstore.rewriter import Limits
from holdfast.vaultstore.values import (
    CollectBudget,
    PointFacts,
    RecoveryPointRecord,
    Unlock,
    VaultIds,
    VaultOptions,
)
from holdfast.vaultstore.vault import Vault
from holdfast.vaultstore.vaultclock import to_ns

IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
UNLOCK = Unlock(platform_key=bytes(range(32)))
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
FILES = {b"d/%02d" % number: SeededRandom(number).token(4000) for number in range(20)}
OTHER = {b"d/%02d" % number: SeededRandom(100 + number).token(4000) for number in range(20)}
DAYS = timedelta(days=1)
GENERATION = timedelta(days=10)


class Yard:
    """An immutable vault in memory, over a store that holds; time is that of ``clock``."""

    def __init__(self, state: str = "Locked") -> None:
        self.memory = MemoryStore()
        self.store = HorizonStore(self.memory)
        self.clock = MovableClock(A_DAY)
        self.vault = Vault.create(
            self.store,
            bytes(range(32)),
            ids=IDS,
            options=OPTIONS,
            clock=self.clock,
            rng=SeededRandom(1),
        )
        self.vault.set_immutability(state)
        self.agent = LittleAgent(self.vault, SeededRandom(2))

    def reopen(self) -> Vault:
        return Vault.open(
            self.store, IDS.vault_id, UNLOCK, clock=self.clock, rng=SeededRandom(self.clock_seed)
        )

    @property
    def clock_seed(self) -> int:
        return len(self.memory.objects)

    def back_up(
        self, files: dict[bytes, bytes] | None = None, kept: timedelta | None = 3 * DAYS
    ) -> RecoveryPointRecord:
        now = self.clock.now()
        lock = None if kept is None else now + kept
        facts = PointFacts(time=now, lock_until=lock)
        return self.agent.back_up(FILES if files is None else files, facts=facts)

    def pass_time(self, by: timedelta) -> None:
        self.clock.pass_time(by)

    def expire(self, *points: RecoveryPointRecord, explicit: bool = False) -> list[str]:
        drops = {point.rp_id: "old" for point in points}
        return self.vault.expire(self.vault.plan_expire(drops, explicit=explicit))

    def keys(self, room: str) -> list[str]:
        prefix = layout.vault_prefix(IDS.vault_id)
        return [key for key in self.memory.objects if key.startswith(prefix + room)]


def refused_by_the_store(yard: Yard, room: str) -> bool:
    """Whether the store deletes nothing of a room, whoever asks."""
    held = 0
    for key in yard.keys(room):
        before = yard.memory.objects[key]
        try:
            yard.store.delete(key)
        except ObjectLockedError as error:
            assert error.code == "StoreObjectLocked" and error.hint
            held += 1
        yard.memory.objects[key] = before
    return bool(held) and held == len(yard.keys(room))


def test_a_locked_point_leaves_by_no_plan_before_its_time_and_its_packs_wait_longer() -> None:
    yard = Yard()
    first = yard.back_up()
    yard.pass_time(2 * DAYS)
    second = yard.back_up(OTHER)
    for explicit in (False, True):
        plan = yard.vault.plan_expire({first.rp_id: "asked"}, explicit=explicit)
        assert not plan.drops
        assert plan.refused[0].reason == "it is locked until 2026-03-04 12:00 UTC"
    yard.pass_time(2 * DAYS)
    assert yard.expire(first) == [first.rp_id]
    plan = yard.vault.plan_collect()
    assert (plan.condemn, plan.sweep) == ((), ())
    assert len(plan.locked) >= 2 and plan.locked_bytes > 80_000
    assert plan.locked_from_ns == plan.locked_until_ns
    before = yard.keys("packs/")
    assert yard.vault.collect().complete
    assert yard.keys("packs/") == before
    yard.pass_time(GENERATION)
    assert yard.vault.collect().swept_packs == len(plan.locked)
    assert len(yard.keys("packs/")) == len(before) - len(plan.locked)
    assert yard.agent.restore(second.rp_id) == OTHER


def test_the_store_refuses_whoever_asks_until_the_horizon_has_passed() -> None:
    yard = Yard()
    yard.back_up()
    for room in ("packs/", "tables/", "refsets/", "log/", "keyring/", "descriptor"):
        assert refused_by_the_store(yard, room), room
    yard.vault.close()
    assert refused_by_the_store(yard, "packs/"), "also when the vault is closed"
    yard.reopen()
    assert refused_by_the_store(yard, "packs/"), "and opened anew"
    yard.pass_time(2 * GENERATION)
    yard.vault.confirm_clock()  # nothing was seen of the time that passed
    for room in ("packs/", "tables/", "refsets/", "log/", "keyring/", "descriptor"):
        assert not refused_by_the_store(yard, room), room


def test_a_clock_set_far_ahead_unlocks_nothing() -> None:
    yard = Yard()
    first = yard.back_up()
    yard.back_up(OTHER)
    yard.clock.jump(timedelta(days=400))
    assert not yard.vault.clock_trusted()[0]
    assert refused_by_the_store(yard, "packs/")
    assert yard.expire(first, explicit=True) == []
    with pytest.raises(ConflictError) as caught:
        yard.vault.collect()
    assert caught.value.code == "ClockUntrusted"
    opened = yard.reopen()
    assert opened.locked_until() is not None
    assert opened.plan_expire({first.rp_id: "asked"}, explicit=True).refused


def test_longer_retention_locks_for_longer_and_a_shorter_one_changes_nothing() -> None:
    yard = Yard()
    point = yard.back_up(kept=3 * DAYS)
    ends = A_DAY + 40 * DAYS
    assert yard.vault.lock_points({point.rp_id: ends}) == 1
    head = yard.vault.head
    assert yard.vault.lock_points({point.rp_id: A_DAY + 5 * DAYS}) == 0
    assert yard.vault.head == head
    yard.back_up(OTHER)
    yard.pass_time(39 * DAYS)
    assert yard.vault.plan_expire({point.rp_id: "old"}).refused
    latest = yard.vault.locked_until()
    assert latest is not None and ends <= latest < ends + GENERATION
    assert yard.reopen().locked_until() == latest


def test_the_next_backup_locks_a_shared_pack_once_a_generation() -> None:
    yard = Yard()
    yard.back_up(kept=3 * DAYS)
    locks = _operations(yard, log.PacksLocked)
    yard.pass_time(timedelta(hours=1))
    second = yard.back_up(kept=3 * DAYS)
    assert _operations(yard, log.PacksLocked) == locks, "they are locked until the same day"
    yard.pass_time(GENERATION)
    third = yard.back_up(kept=3 * DAYS)
    yard.expire(second)
    yard.pass_time(2 * DAYS)
    assert yard.vault.collect().complete
    assert yard.agent.restore(third.rp_id) == FILES


def test_an_audit_tells_what_was_locked_and_when_immutability_was_set() -> None:
    yard = Yard("Unlocked")
    point = yard.back_up()
    yard.vault.set_immutability("Locked")
    changes = yard.vault.audit(Head(sequence=0, term=1, hash=b"")).changes
    told = {(one.what, one.reason) for one in changes if "lock" in one.what or "immut" in one.what}
    assert ("immutability set", "Unlocked") in told
    assert ("immutability set", "Locked") in told
    assert ("recovery point locked", "until 2026-03-04T12:00:00+00:00") in told
    (names,) = (one.names for one in changes if one.what == "packs locked")
    assert len(names) == len(yard.keys("packs/"))
    assert point.rp_id in {name for one in changes for name in one.names}


def test_points_that_were_there_are_locked_when_the_vault_is_made_immutable() -> None:
    yard = Yard("Unlocked")
    yard.vault.set_immutability("Disabled")
    points = [yard.back_up(kept=3 * DAYS) for _ in range(3)]
    assert yard.vault.locked_until() is None
    assert not refused_by_the_store(yard, "packs/")
    wanted = {point.rp_id: A_DAY + (number + 3) * DAYS for number, point in enumerate(points)}
    assert yard.vault.lock_points(wanted) == 0, "it is not immutable"
    yard.vault.set_immutability("Unlocked")
    assert yard.vault.lock_points(wanted) == 3
    assert refused_by_the_store(yard, "packs/")
    assert yard.vault.plan_expire(dict.fromkeys(wanted, "x"), explicit=True).drops == ()


def test_turning_it_off_takes_horizons_away_and_locked_never_turns_off() -> None:
    yard = Yard("Unlocked")
    first = yard.back_up()
    yard.back_up(OTHER)
    yard.vault.set_immutability("Disabled")
    assert yard.expire(first) == [first.rp_id]
    assert yard.vault.collect().swept_packs > 0
    yard.vault.set_immutability("Locked")
    for state in ("Disabled", "Unlocked"):
        yard.vault.set_immutability(state)
        assert yard.vault.immutability == yard.reopen().immutability == "Locked"
        with pytest.raises(IntegrityError) as caught:
            yard.vault._core.append(lambda _state, to=state: (log.ImmutabilitySet(state=to),))  # type: ignore[misc]
        assert caught.value.code == "LogRecordInvalid"


def test_the_log_itself_refuses_what_a_mistaken_process_wants() -> None:
    yard = Yard()
    point = yard.back_up()
    yard.back_up(OTHER)
    core = yard.vault._core
    pack = next(iter(core.state.packs))
    dropped = log.PointDropped(rp_id=point.rp_id, reason="a mistake")
    swept = log.PacksSwept(packs=(pack,), tables=())
    for wrong in (
        (log.PointsExpired(points=(dropped,), explicit=True),),
        (log.PacksCondemned(packs=(pack,)), swept),
        (log.PacksLocked(until_ns=1, packs=(pack,)),),
        (log.PointsLocked(points=(log.PointLock(rp_id=point.rp_id, until_ns=1),)),),
    ):
        head = yard.vault.head
        with pytest.raises(IntegrityError) as caught:
            core.append(lambda _state, ops=wrong: ops)  # type: ignore[misc]
        assert caught.value.code == "LogRecordInvalid"
        assert yard.reopen().head == head


def test_locked_packs_are_not_rewritten_and_what_lies_in_them_can_be_used_again() -> None:
    yard = Yard()
    first = yard.back_up(kept=DAYS)
    few = {name: FILES[name] for name in list(FILES)[:3]}
    yard.pass_time(timedelta(hours=1))
    second = yard.back_up(few, kept=DAYS)
    yard.pass_time(2 * DAYS)
    yard.expire(first)
    assert not yard.vault.plan_collect(rewrite_below=0.9).rewrite
    yard.agent.sent_bytes = 0
    third = yard.back_up(kept=None)
    assert third.stored_bytes < 30_000, "they are not sent again"
    yard.pass_time(2 * GENERATION)
    yard.vault.confirm_clock()
    yard.back_up(few, kept=None)
    yard.expire(second, third)
    assert yard.vault.collect(budget=CollectBudget(rewrite_below=0.9)).rewritten_packs > 0


def test_a_checkpoint_holds_horizons_and_older_versions_pass_it_over() -> None:
    yard = Yard()
    point = yard.back_up()
    core = yard.vault._core
    body = checkpoint.encode_state(core.state)
    assert checkpoint.state_of(checkpoint.decode_checkpoint(body)) == core.state
    data = core.seal.seal_checkpoint(core.state)
    header, _ = decode_header(data, ObjectKind.CHECKPOINT, IDS.vault_id, known=frozenset(range(64)))
    assert header.features[0] & ~1 & KNOWN_FEATURES[0] == 2
    assert core.state.points[point.rp_id].lock_until_ns


def test_a_table_another_took_the_place_of_stays_until_its_horizon() -> None:
    yard = Yard()
    points = [yard.back_up(kept=DAYS)]
    names = sorted(FILES)
    for name, kept in ((names[0], 25 * DAYS), (names[-1], None), (names[0], None)):
        yard.pass_time(timedelta(hours=1))
        points.append(yard.back_up({name: FILES[name]}, kept=kept))
    yard.pass_time(12 * DAYS)
    yard.vault.confirm_clock()
    yard.expire(points[0])
    (old,) = (key for key in yard.keys("tables/") if len(yard.memory.objects[key]) > 1000)
    assert yard.vault.collect(budget=CollectBudget(rewrite_below=0.5)).rewritten_packs == 1
    yard.vault.collect()
    assert old in yard.memory.objects
    with pytest.raises(ObjectLockedError):
        yard.store.delete(old)
    yard.pass_time(30 * DAYS)
    yard.vault.confirm_clock()
    yard.vault.collect()
    assert old not in yard.memory.objects
    assert yard.agent.restore(points[1].rp_id) == {names[0]: FILES[names[0]]}


def test_a_pack_of_moved_frames_is_locked_as_long_as_where_they_came_from() -> None:
    yard = Yard()
    yard.back_up(kept=None)
    few = {name: FILES[name] for name in list(FILES)[:2]}
    yard.pass_time(timedelta(hours=1))
    point = yard.back_up(few, kept=None)
    yard.expire(yard.vault.recovery_points()[0])
    plan = yard.vault.plan_collect(rewrite_below=0.5)
    assert plan.rewrite
    until = A_DAY + 5 * DAYS  # while the collect is under way
    assert yard.vault.lock_points({point.rp_id: until}) == 1
    rewriter = yard.vault._collector._rewriter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locking, "is_locked", lambda _until, _state: False)
        live = liveness_of(yard.vault._core, yard.vault._core.state)
        assert rewriter.run(plan.rewrite, live, Limits(lambda: True, lambda *_: None)).emptied
    made = [entry for entry in yard.vault._core.state.packs.values() if entry.births]
    assert made and all(entry.lock_until_ns >= to_ns(until) for entry in made)
    assert yard.agent.restore(point.rp_id) == few


def test_a_damaged_point_does_not_keep_others_from_being_locked() -> None:
    yard = Yard("Unlocked")
    first, second = yard.back_up(kept=None), yard.back_up(OTHER, kept=None)
    named = yard.vault._core.state.points[first.rp_id].op.refset.name
    for key in [*yard.keys("packs/"), *yard.keys(f"refsets/{named}")]:
        yard.memory.objects[key] = yard.memory.objects[key][:100]
    wanted = {point.rp_id: A_DAY + 5 * DAYS for point in (first, second)}
    assert yard.reopen().lock_points(wanted) == 1
    assert yard.reopen()._core.state.points[second.rp_id].lock_until_ns


def _operations(yard: Yard, kind: Any) -> list[Any]:
    chain = yard.vault._core.chain
    records = [chain.read(number) for number in range(1, yard.vault.head[0] + 1)]
    return [op for one in records if one for op in one.operations if isinstance(op, kind)]
