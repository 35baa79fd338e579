"""Scrubbing without a key: what it names, that it goes on, and that what it found is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.testing.little_agent import A_DAY, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.scrub import scrub_store
from holdfast.vaultstore.values import Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=5000, probe=False)
FILES = {b"etc/hosts": b"127.0.0.1 a\n", b"big": SeededRandom(9).token(150_000)}
OTHER = {**FILES, b"etc/hosts": b"127.0.0.1 b\n", b"more": SeededRandom(8).token(90_000)}
PREFIX = "56565656-5656-5656-5656-565656565656/"


class Room:
    """A vault with two points in memory."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), MovableClock(A_DAY)
        self.vault = Vault.create(
            self.store, KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=SeededRandom(1)
        )
        agent = LittleAgent(self.vault, SeededRandom(2))
        self.first = agent.back_up(FILES)
        self.second = agent.back_up(OTHER, time=A_DAY + timedelta(days=1))
        self.whole = dict(self.store.objects)

    def reopen(self) -> Vault:
        unlock = Unlock(platform_key=KEY)
        rng = SeededRandom(3)
        return Vault.open(self.store, IDS.vault_id, unlock, clock=self.clock, rng=rng)

    def keys(self, room: str) -> list[str]:
        return sorted(key for key in self.whole if key.startswith(PREFIX + room))

    def damage(self, key: str, how: str) -> None:
        objects = self.store.objects
        data = bytearray(objects[key])
        if how == "missing":
            del objects[key]
            return
        if how == "flipped":
            data[len(data) // 2] ^= 4
        elif how == "truncated":
            data = data[: len(data) // 2]
        elif how == "empty":
            data = bytearray()
        else:
            room = key.removeprefix(PREFIX).partition("/")[0]
            data = bytearray(next(self.whole[one] for one in self.keys(room) if one != key))
        objects[key] = bytes(data)


@pytest.fixture(scope="module")
def shared() -> Room:
    return Room()


@pytest.fixture
def room(shared: Room) -> Iterator[Room]:
    """The same vault, whole again after each test."""
    shared.store.objects = dict(shared.whole)
    yield shared
    shared.store.objects = dict(shared.whole)


def keyless(room: Room) -> list[tuple[str, str]]:
    ((_, result),) = scrub_store(room.store)
    return [(one.key, one.problem) for one in result.damages]


def test_a_whole_vault_is_whole_with_and_without_the_log(room: Room) -> None:
    assert keyless(room) == []
    report = room.reopen().scrub()
    assert report.damages == ()
    assert report.complete
    assert report.objects == len(room.whole)
    assert report.stored_bytes == sum(map(len, room.whole.values()))


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("flipped", "altered"),
        ("truncated", "truncated"),
        ("empty", "empty"),
        ("swapped", "misplaced"),
    ],
)
@pytest.mark.parametrize("kind", ["packs", "log"])
def test_damage_is_named_without_any_key(room: Room, kind: str, how: str, problem: str) -> None:
    key = room.keys(kind)[1]
    room.damage(key, how)
    named = keyless(room)
    blamed = [key.removeprefix(PREFIX)]
    if kind == "log":  # the chain tells that one of two neighbours was altered
        problem = "altered" if how == "truncated" else problem
        blamed.append(room.keys(kind)[2].removeprefix(PREFIX))
    assert named
    assert {one for one, _ in named} <= set(blamed)
    assert named[0][1] == problem


def test_a_missing_record_and_descriptor_are_named_without_any_key(room: Room) -> None:
    gone = [room.keys("log")[2], PREFIX + "descriptor"]
    for key in gone:
        room.damage(key, "missing")
    (result,) = [found for _, found in scrub_store(room.store, PREFIX.rstrip("/"))]
    assert [(PREFIX + one.key, one.problem) for one in result.damages] == [
        (gone[1], "missing"),
        (gone[0], "missing"),
    ]


@pytest.mark.parametrize("kind", ["packs", "tables", "refsets"])
def test_with_the_log_a_missing_object_is_named_with_its_points(room: Room, kind: str) -> None:
    key = room.keys(kind)[-1]
    room.damage(key, "missing")
    (damage,) = room.reopen().scrub().damages
    assert (PREFIX + damage.key, damage.problem) == (key, "missing")
    assert bool(damage.recovery_points) == (kind != "tables")


def stopping_after(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is None


def test_a_stopped_scrub_goes_on_in_another_process_and_forgets_nothing(room: Room) -> None:
    early, late = room.keys("keyring")[0], room.keys("tables")[-1]
    room.damage(late, "flipped")
    room.damage(room.keys("packs")[0], "flipped")
    first = room.reopen().scrub(cancelled=stopping_after(len(room.keys("log")) + 8))
    assert not first.complete
    assert early < room.keys("packs")[0]
    known = room.reopen().health()
    assert not known.checks["scrub"].complete
    assert known.checks["scrub"].cursor
    second = room.reopen().scrub()
    assert second.complete
    assert second.resumed
    expected = {late.removeprefix(PREFIX), room.keys("packs")[0].removeprefix(PREFIX)}
    assert {damage.key for damage in second.damages} == expected
    known = room.reopen().health()
    assert {one.damage.key for one in known.found} == expected
    assert known.checks["scrub"].objects >= len(room.whole) - 3
    room.store.objects.update(room.whole)
    assert room.reopen().scrub().damages == ()
    assert room.reopen().health().found == ()


def test_what_was_put_back_is_not_told_by_a_run_that_goes_on(room: Room) -> None:
    key = room.keys("packs")[0]
    room.damage(key, "flipped")
    assert room.reopen().scrub().damages
    room.store.objects[key] = room.whole[key]
    room.clock.pass_time(timedelta(hours=1))
    stopped = room.reopen().scrub(cancelled=stopping_after(len(room.whole) - 2))
    assert not stopped.complete
    assert room.reopen().scrub().damages == ()


def test_known_damage_is_sent_again_after_a_restart(room: Room) -> None:
    """What a scrub found answers absent in the next process too."""
    key = max(room.keys("packs"), key=lambda one: len(room.whole[one]))
    room.damage(key, "flipped")
    assert room.reopen().scrub().damages
    agent = LittleAgent(room.reopen(), SeededRandom(5))
    healed = agent.back_up(OTHER, time=A_DAY + timedelta(days=2))
    assert agent.restore(healed.rp_id) == OTHER
