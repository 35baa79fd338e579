"""A crash, or a lost reply, at every store call of create, backup, expire, collect, key export.

The process dies before the n-th call, or right after it took effect. The vault is opened again
from what the store holds: every committed point restores bit for bit, the work is retried and
succeeds, and what the crash left behind is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ConflictError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore, StoreTraits, Upload
from holdfast.testing.little_agent import A_DAY, BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import export, layout
from holdfast.vaultstore.values import CollectBudget, PointFacts, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=0, probe=True)
JOB = b"J" * 16

OLD = {b"a/old": SeededRandom(1).token(30_000), b"same": b"s" * 50}
KEPT = {b"a/kept": SeededRandom(2).token(20_000), b"same": b"s" * 50}
NEW = {**KEPT, b"a/new": SeededRandom(3).token(40_000), b"z": b""}


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Countdown:
    """Crashes at call ``at``; ``late``: after its effect. ``passing``: the call fails once, the
    process lives. ``calls`` names them in order."""

    at: int = -1
    late: bool = False
    passing: bool = False
    calls: list[str] = field(default_factory=list)
    dead: bool = False

    def step(self, name: str, action: Callable[[], object]) -> object:
        if self.dead:
            raise Crash
        number = len(self.calls)
        self.calls.append(name)
        if number == self.at and not self.late:
            self._die()
        try:
            return action()
        finally:
            if number == self.at:
                self._die()

    def _die(self) -> None:
        if self.passing:
            raise StoreUnavailableError("the store did not answer")
        self.dead = True
        raise Crash


class CrashingUpload:
    def __init__(self, inner: Upload, countdown: Countdown) -> None:
        self._inner, self._countdown = inner, countdown

    def write(self, data: Buffer) -> None:
        self._countdown.step("write", lambda: self._inner.write(data))

    def publish(self) -> None:
        self._countdown.step("publish", self._inner.publish)

    def abort(self) -> None:
        self._inner.abort()


class CrashingStore:
    """A store that ends the process at one chosen call."""

    def __init__(self, inner: ObjectStore, countdown: Countdown) -> None:
        self._inner, self._countdown = inner, countdown

    @property
    def traits(self) -> StoreTraits:
        return self._inner.traits

    def create(self, key: str, data: Buffer) -> None:
        self._countdown.step(f"create {key}", lambda: self._inner.create(key, data))

    def upload(self, key: str) -> Upload:
        return CrashingUpload(self._inner.upload(key), self._countdown)

    def read(self, key: str) -> bytes:
        return self._countdown.step(f"read {key}", lambda: self._inner.read(key))  # type: ignore

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self._countdown.step(  # type: ignore
            f"range {key}", lambda: self._inner.read_range(key, offset, length)
        )

    def size(self, key: str) -> int | None:
        return self._countdown.step(f"size {key}", lambda: self._inner.size(key))  # type: ignore

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        found = self._countdown.step(
            f"list {prefix}", lambda: list(self._inner.list(prefix, after))
        )
        return iter(found)  # type: ignore

    def delete(self, key: str) -> None:
        self._countdown.step(f"delete {key}", lambda: self._inner.delete(key))

    def free_bytes(self) -> int | None:
        return self._inner.free_bytes()


@dataclass
class World:
    """A store, and the points that were acknowledged with what they hold."""

    objects: dict[str, bytes]
    expected: dict[str, dict[bytes, bytes]]

    def copy(self) -> World:
        return World(dict(self.objects), dict(self.expected))

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = self.objects
        return store

    def open(self, countdown: Countdown | None = None, seed: int = 0) -> Vault:
        store = CrashingStore(self.store(), countdown or Countdown())
        clock = MovableClock(A_DAY + timedelta(days=3))
        rng = SeededRandom(seed)
        key = Unlock(platform_key=PLATFORM_KEY)
        return Vault.open(store, IDS.vault_id, key, clock=clock, rng=rng)


def create(store: ObjectStore, seed: int) -> Vault:
    clock = MovableClock(A_DAY)
    return Vault.create(
        store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=clock, rng=SeededRandom(seed)
    )


@pytest.fixture(scope="module")
def base() -> World:
    world = World({}, {})
    vault = create(world.store(), 1)
    agent = LittleAgent(vault, SeededRandom(2))
    old = agent.back_up(OLD)
    kept = agent.back_up(KEPT, time=A_DAY + timedelta(days=1))
    world.expected = {old.rp_id: OLD, kept.rp_id: KEPT}
    return world


def back_up(vault: Vault, seed: int) -> str:
    """What the server and an agent do for one attempt of job JOB."""
    vault.recover_sessions(JOB)
    agent = LittleAgent(vault, SeededRandom(seed))
    known = vault.point_of_job(agent.item_key, JOB)
    if known is not None:
        return known.rp_id
    grant = vault.begin_session("backup", agent.container, agent.item_key, JOB)
    run = BackupRun(agent, grant)
    root_id = run.send(NEW)
    vault.checkpoint(grant.session_id, run.receipts[:1])
    record = run.commit(root_id, PointFacts(time=A_DAY + timedelta(days=2)))
    vault.close_session(grant.session_id)
    return record.rp_id


def expire_and_collect(vault: Vault) -> None:
    oldest = min(point.rp_id for point in vault.recovery_points())
    if len(vault.recovery_points()) > 1:
        vault.expire(vault.plan_expire({oldest: "old"}))
    vault.collect()


def check(world: World, vault: Vault) -> None:
    """Every live point restores; nothing unnamed remains after a collect; verify is clean."""
    for session in vault.open_sessions():
        vault.revoke_session(session.session_id, "its process is gone")
    agent = LittleAgent(vault, SeededRandom(99))
    for point in vault.recovery_points():
        assert agent.restore(point.rp_id) == world.expected[point.rp_id]
    assert vault.collect().complete
    report = vault.verify()
    assert report.clean, report.damages
    assert_nothing_unnamed(world, vault)


def assert_nothing_unnamed(world: World, vault: Vault) -> None:
    state = vault._core.state
    named = {layout.pack_key(e.pack.session_id, p) for p, e in state.packs.items()}
    named |= {layout.table_key(table_id) for table_id in state.tables}
    named |= {layout.refset_key(p.op.refset.name) for p in state.points.values()}
    named |= {layout.log_key(n + 1) for n in range(state.sequence)} | {layout.DESCRIPTOR}
    prefix = layout.vault_prefix(IDS.vault_id)
    held = {key[len(prefix) :] for key in world.objects if not key.startswith(prefix + "keyring")}
    assert held == named


def packed_bytes(world: World) -> int:
    return sum(len(data) for key, data in world.objects.items() if "/packs/" in key)


def calls_of(world: World, work: Callable[[Vault], object]) -> int:
    """How many store calls the undisturbed work makes after opening."""
    countdown = Countdown()
    vault = world.copy().open(countdown)
    opened = len(countdown.calls)
    work(vault)
    return len(countdown.calls) - opened


def crash_at(world: World, number: int, late: bool, work: Callable[[Vault], object]) -> list[str]:
    """Run ``work`` on the world until it crashes at its n-th call; the calls it made."""
    countdown = Countdown()
    vault = world.open(countdown, seed=7)
    countdown.at, countdown.late = len(countdown.calls) + number, late
    with pytest.raises(Crash):
        work(vault)
    return countdown.calls


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_backup_survives_a_crash_at_every_call(base: World, late: bool) -> None:
    total = calls_of(base, lambda vault: back_up(vault, 5))
    assert total > 20
    for number in range(total):
        world = base.copy()
        crash_at(world, number, late, lambda vault: back_up(vault, 5))
        vault = world.open(seed=11)
        for rp_id, files in world.expected.items():
            assert LittleAgent(vault, SeededRandom(8)).restore(rp_id) == files
        rp_id = back_up(vault, 6)
        world.expected[rp_id] = NEW
        assert len(vault.recovery_points()) == 3
        assert back_up(world.open(seed=12), 6) == rp_id
        check(world, world.open(seed=13))


def test_a_retry_survives_a_second_crash_at_every_call(base: World) -> None:
    """Taking over the first attempt's packs is itself interrupted; they are never sent again."""
    interrupted = base.copy()
    uploaded = calls_of(base, lambda vault: back_up(vault, 5)) // 2
    calls = crash_at(interrupted, uploaded, True, lambda vault: back_up(vault, 5))
    assert calls.count("publish") >= 2
    undisturbed = base.copy()
    back_up(undisturbed.open(seed=7), 5)
    for number in range(calls_of(interrupted, lambda vault: back_up(vault, 6))):
        world = interrupted.copy()
        crash_at(world, number, number % 2 == 0, lambda vault: back_up(vault, 6))
        vault = world.open(seed=11)
        world.expected[back_up(vault, 9)] = NEW
        again = packed_bytes(world) - packed_bytes(undisturbed)
        assert again <= 16 * 1024, "more than pages and roots was sent again"
        check(world, world.open(seed=13))


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_expire_and_collect_survive_a_crash_at_every_call(base: World, late: bool) -> None:
    total = calls_of(base, expire_and_collect)
    assert total > 10
    survivors = dict([max(base.expected.items())])
    for number in range(total):
        world = base.copy()
        crash_at(world, number, late, expire_and_collect)
        vault = world.open(seed=11)
        for point in vault.recovery_points():
            agent = LittleAgent(vault, SeededRandom(8))
            assert agent.restore(point.rp_id) == world.expected[point.rp_id]
        expire_and_collect(vault)
        assert [point.rp_id for point in vault.recovery_points()] == list(survivors)
        world.expected[back_up(vault, 6)] = NEW
        check(world, world.open(seed=13))


@pytest.fixture(scope="module")
def sparse(base: World) -> World:
    """A vault most of whose packs are mostly dead."""
    world = base.copy()
    agent = LittleAgent(vault := world.open(seed=3), SeededRandom(4), item="sparse")
    many = {b"%02d" % number: SeededRandom(number).token(4000) for number in range(8)}
    few = {name: many[name] for name in list(many)[::4]}
    agent.back_up(many)
    last = agent.back_up(few, time=A_DAY + timedelta(days=1))
    world.expected[last.rp_id] = few
    gone = {point.rp_id: "old" for point in vault.recovery_points() if point.rp_id != last.rp_id}
    vault.expire(vault.plan_expire(gone, explicit=True))
    vault.collect()
    vault.collect()
    return world


def rewrite(vault: Vault) -> None:
    vault.collect(budget=CollectBudget(rewrite_below=0.7))


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_rewriting_survives_a_crash_at_every_write(sparse: World, late: bool) -> None:
    done, countdown = sparse.copy(), Countdown()
    vault = done.open(countdown, seed=7)
    opened = len(countdown.calls)
    rewrite(vault)
    assert packed_bytes(done) < 0.8 * packed_bytes(sparse)
    made = enumerate(countdown.calls[opened:])
    changes = ("create", "write", "publish", "delete")
    for number in [number for number, call in made if call.startswith(changes)]:
        world = sparse.copy()
        calls = crash_at(world, number, late, rewrite)
        vault = world.open(seed=11)
        for point in vault.recovery_points():
            agent = LittleAgent(vault, SeededRandom(8))
            assert agent.restore(point.rp_id) == world.expected[point.rp_id], calls[-1]
        for session in vault.open_sessions():
            vault.revoke_session(session.session_id, "its process is gone")
        rewrite(vault)
        assert vault.plan_collect(rewrite_below=0.7).rewrite == ()
        check(world, world.open(seed=13))
        assert packed_bytes(world) <= packed_bytes(done)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_creation_and_export_survive_a_crash_at_every_call(
    late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))

    def work(store: ObjectStore, seed: int) -> Vault:
        try:
            vault = create(store, seed)
        except ConflictError:
            key = Unlock(platform_key=PLATFORM_KEY)
            clock, rng = MovableClock(A_DAY), SeededRandom(seed + 100)
            vault = Vault.open(store, IDS.vault_id, key, clock=clock, rng=rng)
        vault.export_key("correct horse")
        return vault

    countdown = Countdown()
    work(CrashingStore(MemoryStore(), countdown), 1)
    for number in range(len(countdown.calls)):
        world = World({}, {})
        with pytest.raises(Crash):
            work(CrashingStore(world.store(), Countdown(number, late)), 1)
        vault = work(world.store(), 2)
        record = LittleAgent(vault, SeededRandom(3)).back_up(NEW)
        world.expected = {record.rp_id: NEW}
        check(world, world.open(seed=4))


@pytest.mark.parametrize("late", [False, True], ids=["refused", "reply lost"])
def test_a_passing_fault_at_any_call_is_retried_in_the_same_process(
    base: World, late: bool
) -> None:
    def work(vault: Vault) -> None:
        back_up(vault, 5)
        expire_and_collect(vault)

    failed = 0
    for number in range(calls_of(base, work)):
        world = base.copy()
        countdown = Countdown(late=late, passing=True)
        vault = world.open(countdown, seed=7)
        countdown.at = len(countdown.calls) + number
        try:
            work(vault)
        except StoreUnavailableError:
            failed += 1
            call = countdown.calls[countdown.at]
            assert not (late and call.startswith(("create", "publish"))), "must be resolved"
            rp_id = back_up(vault, 6)
            assert vault.point_of_job("Linux;a/FileFolder;docs", JOB) is not None
            assert rp_id == max(point.rp_id for point in vault.recovery_points())
            expire_and_collect(vault)
        rp_id = vault.recovery_points()[-1].rp_id
        world.expected[rp_id] = NEW
        assert vault.head[:2] == world.open(seed=12).head[:2]
        check(world, vault)
    assert failed > 20
