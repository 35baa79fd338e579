"""Callers that write to a vault's log at once share a record; each has its own answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ConflictError, HoldfastError, StoreUnavailableError
from holdfast.ports.object_store import Buffer
from holdfast.testing.little_agent import BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import log
from holdfast.vaultstore.chain import Build
from holdfast.vaultstore.group import Append, Group, Member, composed
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.values import (
    PointFacts,
    RecoveryPointRecord,
    Unlock,
    VaultIds,
    VaultOptions,
)
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16, tenant_id=b"T" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
MANY = 5


class Gate(MemoryStore):
    """Before the next record of the log is created, ``before`` runs once; after it, ``after``."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], None] | None = None
        self.after: Callable[[], None] | None = None

    def create(self, key: str, data: Buffer) -> None:
        record = "/log/" in key
        if record and self.before is not None:
            run, self.before = self.before, None
            run()
        super().create(key, data)
        if record and self.after is not None:
            run, self.after = self.after, None
            run()


class Meeting(Group):
    """Nobody gets the lock before ``count`` steps wait for it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._all_here = threading.Barrier(count, timeout=60)

    def share(self, lock: AbstractContextManager[object], build: Build, append: Append) -> LogState:
        return super().share(self._met(lock), build, append)

    @contextmanager
    def _met(self, lock: AbstractContextManager[object]) -> Iterator[None]:
        self._all_here.wait()
        with lock:
            yield


class Yard:
    """A vault, and sessions of one item each that have sent all of it."""

    def __init__(self) -> None:
        self.store, self.clock = Gate(), MovableClock()
        self.vault = Vault.create(
            self.store, KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=SeededRandom(1)
        )
        self.runs = [self.sent(number) for number in range(MANY)]
        self.said: dict[int, RecoveryPointRecord | HoldfastError] = {}

    def sent(self, number: int) -> tuple[BackupRun, bytes]:
        agent = LittleAgent(self.vault, SeededRandom(10 + number), "Linux;a", f"item{number}")
        grant = self.vault.begin_session("backup", "Linux;a", agent.item_key, bytes([number]) * 16)
        run = BackupRun(agent, grant)
        root_id = run.send(files(number))
        self.vault.checkpoint(grant.session_id, run.receipts)
        run.receipts.clear()
        return run, root_id

    def commit(self, number: int) -> None:
        run, root_id = self.runs[number]
        try:
            self.said[number] = run.commit(root_id, PointFacts(time=self.clock.now()))
        except HoldfastError as error:
            self.said[number] = error

    def together(self, *others: Callable[[], object]) -> None:
        """All sessions commit at once, and others do what they do."""
        steps = [*(partial(self.commit, number) for number in range(MANY)), *others]
        self.vault._core._group = Meeting(len(steps))
        threads = [threading.Thread(target=step) for step in steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        self.vault._core._group = Group()

    def reopen(self, seed: int = 99) -> Vault:
        clock, rng, unlock = MovableClock(), SeededRandom(seed), Unlock(platform_key=KEY)
        return Vault.open(self.store, IDS.vault_id, unlock, clock=clock, rng=rng)

    def points(self) -> dict[int, RecoveryPointRecord]:
        return {n: said for n, said in self.said.items() if isinstance(said, RecoveryPointRecord)}

    def errors(self) -> dict[int, str]:
        return {n: said.code for n, said in self.said.items() if isinstance(said, HoldfastError)}

    def require_whole(self) -> None:
        """Each point that was told is in the store and restores; each has its own id."""
        told = self.points()
        vault = self.reopen()
        assert len({point.rp_id for point in told.values()}) == len(told)
        there = {point.rp_id for point in vault.recovery_points()}
        assert {point.rp_id for point in told.values()} <= there
        agent = LittleAgent(vault, SeededRandom(7), "Linux;a")
        for number, point in told.items():
            assert agent.restore(point.rp_id) == files(number)
        assert vault.verify().clean


def files(number: int) -> dict[bytes, bytes]:
    return {b"f": bytes([number]) * 3000, b"g": b"the same"}


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_who_commits_at_once_shares_a_record(yard: Yard) -> None:
    before = yard.vault.head[0]
    yard.together()
    assert yard.errors() == {}
    assert yard.vault.head[0] == before + 1, "one record for all"
    assert {point.sequence for point in yard.points().values()} == {before + 1}
    yard.require_whole()


def test_sessions_of_many_jobs_begin_and_end_together(yard: Yard) -> None:
    grants: list[bytes] = []

    def begin(number: int) -> None:
        job = bytes([100 + number]) * 16
        grants.append(yard.vault.begin_session("backup", "Linux;b", f"b/{number}", job).session_id)

    before = yard.vault.head[0]
    yard.together(*(partial(begin, number) for number in range(4)))
    assert yard.vault.head[0] == before + 1
    assert len(set(grants)) == 4
    open_now = {session.session_id for session in yard.reopen().open_sessions()}
    assert set(grants) <= open_now
    yard.require_whole()


def test_the_failure_of_one_is_its_own(yard: Yard) -> None:
    ended = yard.runs[3][0].grant.session_id
    other = yard.reopen()
    # another node ends a session and wins the record
    yard.store.before = partial(other.revoke_session, ended, "by another node")
    before = yard.vault.head[0]
    yard.together()
    assert yard.errors() == {3: "SessionEnded"}
    assert len(yard.points()) == MANY - 1
    assert {point.sequence for point in yard.points().values()} == {before + 2}, "the next record"
    yard.require_whole()


@pytest.mark.parametrize("effect", [False, True], ids=["not written", "written, no reply"])
def test_a_record_that_cannot_be_written_fails_one_caller(yard: Yard, effect: bool) -> None:
    def break_off() -> None:
        raise StoreUnavailableError("the disk does not answer")

    def deaf(key: str) -> bytes:
        yard.store.read = read  # type: ignore[method-assign]
        raise StoreUnavailableError(f"read {key}: the disk does not answer")

    def no_reply() -> None:
        yard.store.read = deaf  # type: ignore[method-assign]
        break_off()

    read, before = yard.store.read, yard.vault.head[0]
    if effect:
        yard.store.after = no_reply
    else:
        yard.store.before = break_off
    yard.together()
    assert list(yard.errors().values()) == ["StoreUnavailable"], "whoever wrote it"
    assert len(yard.points()) == MANY - 1
    assert {point.sequence for point in yard.points().values()} == {before + 1}
    failed = next(iter(yard.errors()))
    yard.commit(failed)
    assert yard.errors() == {}
    assert len(yard.reopen().recovery_points()) == MANY, "the one that failed was not made twice"
    yard.require_whole()


def test_a_session_does_not_begin_in_the_record_of_its_parent(yard: Yard) -> None:
    grants = []
    key = yard.runs[0][0].agent.item_key

    def begin() -> None:
        grants.append(yard.vault.begin_session("backup", "Linux;a", key, b"n" * 16))

    yard.together(begin)
    assert yard.errors() == {}
    run = BackupRun(yard.runs[0][0].agent, grants[0])
    root_id = run.send({b"f": b"next"})
    parent = grants[0].parent
    first = yard.points()[0].rp_id
    if parent is not None and parent.rp_id == first:
        assert run.commit(root_id, PointFacts(time=yard.clock.now())).rp_id != first
    else:  # it began before, so its parent is not the newest
        with pytest.raises(ConflictError) as stale:
            run.commit(root_id, PointFacts(time=yard.clock.now()))
        assert stale.value.code == "ParentStale"
    yard.require_whole()


def test_who_does_not_fit_waits_for_the_next_record(yard: Yard) -> None:
    state = yard.vault._core.state
    ended = yard.runs[0][0].grant.session_id
    end = log.SessionClosed(session_id=ended)

    def refuses(_state: LogState) -> tuple[log.Operation, ...]:
        raise ConflictError("no", code="SessionEnded")

    first, same, error = Member(lambda _s: (end,)), Member(lambda _s: (end,)), Member(refuses)
    quiet = Member(lambda _s: ())
    heard, operations = composed(state, [first, same, error, quiet])
    assert (heard, operations) == ([first, quiet], (end,))
    heard, operations = composed(state, [error, same, first])
    assert (heard, operations) == ([error, same], (end,)), "an error on what is true is told"
    assert isinstance(error.error, ConflictError)
    assert ended in state.sessions, "what is tried changes no state"
