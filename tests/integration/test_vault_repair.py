"""Each kind of object, damaged in each way: the exact diagnosis, who is affected, the repair."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import HoldfastError, IntegrityError
from holdfast.testing.little_agent import A_DAY, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore import layout
from holdfast.vaultstore.values import RepairStep, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
PREFIX = layout.vault_prefix(IDS.vault_id)
JOB = b"R" * 16
FILES = {b"etc/hosts": b"127.0.0.1 a\n", b"big": SeededRandom(9).token(150_000)}
OTHER = {**FILES, b"etc/hosts": b"127.0.0.1 b\n", b"more": SeededRandom(8).token(90_000)}
THEIRS = {b"mine": SeededRandom(7).token(40_000)}
WAYS = ("missing", "truncated", "empty", "flipped", "swapped")


class Room:
    """A vault with two points of one machine and one of another, in memory."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), MovableClock(A_DAY)
        vault = Vault.create(
            self.store, KEY, ids=IDS, options=OPTIONS, clock=self.clock, rng=SeededRandom(1)
        )
        agent = LittleAgent(vault, SeededRandom(2))
        self.first = agent.back_up(FILES).rp_id
        self.second = agent.back_up(OTHER, time=A_DAY + timedelta(days=1)).rp_id
        self.theirs = LittleAgent(vault, SeededRandom(3), "Linux;b").back_up(THEIRS).rp_id
        self.points = {self.first: FILES, self.second: OTHER, self.theirs: THEIRS}
        self.state = vault._core.state
        self.whole = dict(self.store.objects)

    def reopen(self) -> Vault:
        unlock, rng = Unlock(platform_key=KEY), SeededRandom(len(self.store.objects))
        return Vault.open(self.store, IDS.vault_id, unlock, clock=self.clock, rng=rng)

    def keys(self, room: str) -> list[str]:
        return sorted(key for key in self.whole if key.startswith(PREFIX + room))

    def pack_of(self, rp_id: str, pack_class: int) -> str:
        """The largest pack of a class that the session of a point sent. 1: pages, 2: files."""
        session = self.state.points[rp_id].op.session_id
        packs = [entry.pack for entry in self.state.packs.values()]
        own = [one for one in packs if (one.session_id, one.pack_class) == (session, pack_class)]
        return PREFIX + layout.pack_key(session, max(own, key=lambda one: one.size).pack_id)

    def damage(self, key: str, how: str) -> None:
        objects, data = self.store.objects, bytearray(self.store.objects[key])
        if how == "missing":
            del objects[key]
            return
        if how == "flipped":
            data[len(data) // 3] ^= 4
        elif how == "truncated":
            data = data[: len(data) // 2]
        elif how == "empty":
            data = bytearray()
        else:
            size = len(data)
            room = key.removeprefix(PREFIX).partition("/")[0]
            others = [self.whole[one] for one in self.keys(room) if self.whole[one] != data]
            data = bytearray(min(others, key=lambda one: abs(len(one) - size)))
        objects[key] = bytes(data)

    def restores(self, vault: Vault, rp_id: str) -> bool:
        """Whether a point restores bit for bit; False when it says that it cannot."""
        container = "Linux;b" if rp_id == self.theirs else "Linux;a"
        try:
            found = LittleAgent(vault, SeededRandom(4), container).restore(rp_id)
        except HoldfastError:
            return False
        assert found == self.points[rp_id]
        return True


@pytest.fixture(scope="module")
def shared() -> Room:
    return Room()


@pytest.fixture
def room(shared: Room) -> Iterator[Room]:
    """The same vault, whole again after each test."""
    shared.store.objects = dict(shared.whole)
    yield shared
    shared.store.objects = dict(shared.whole)


def steps_of(steps: tuple[RepairStep, ...]) -> list[tuple[str, str]]:
    return [(one.action, one.key) for one in steps]


def checked(vault: Vault, clock: MovableClock) -> list[tuple[str, str, tuple[str, ...]]]:
    """What a verify finds, written down as its job does."""
    report = vault.verify()
    vault.note_verified(report, clock.now())
    return [(one.key, one.problem, one.recovery_points) for one in report.damages]


def assert_only_added(before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """Repair deletes nothing and overwrites nothing."""
    gone = {key for key in before if key not in after and "/health/" not in key}
    assert gone == set()
    assert all(after[key] == data for key, data in before.items() if key in after)


PACK_PROBLEMS = {
    "missing": "missing",
    "truncated": "truncated",
    "empty": "empty",
    "flipped": "altered",
    "swapped": "misplaced",
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("pages", [False, True], ids=["content", "manifest pages"])
def test_a_damaged_pack_is_named_sent_again_and_older_points_are_healed(
    room: Room, how: str, pages: bool
) -> None:
    key = room.pack_of(room.first, 1 if pages else 2)
    room.damage(key, how)
    ((named, problem, points),) = checked(room.reopen(), room.clock)
    expected = PACK_PROBLEMS[how]
    if how == "swapped" and len(room.store.objects[key]) != len(room.whole[key]):
        longer = len(room.store.objects[key]) > len(room.whole[key])
        expected = "oversized" if longer else "truncated"
    assert (PREFIX + named, problem) == (key, expected)
    assert room.first in points
    assert room.theirs not in points
    vault = room.reopen()
    assert room.restores(vault, room.theirs)
    assert not room.restores(vault, room.first)
    told = [one for one in vault.plan_repair().steps if room.first in one.recovery_points]
    assert [one.action for one in told] == ["wait"]
    if pages:
        gone = ("nothing of it can be read", "1 pages of its list")
        assert told[0].detail.startswith(gone)
    else:
        assert set(told[0].files) <= set(FILES)
        assert told[0].file_count == len(told[0].files) > 0
    agent = LittleAgent(vault, SeededRandom(6))
    again = agent.back_up(FILES, time=A_DAY + timedelta(days=2)).rp_id
    before = dict(room.store.objects)
    result = vault.repair(JOB)
    assert_only_added(before, room.store.objects)
    assert {one.action for one in result.done} == {"use sound copies"}
    assert vault.open_sessions() == []
    assert room.restores(vault, room.first)
    assert room.restores(room.reopen(), room.first)
    vault = room.reopen()
    if not pages:
        assert checked(vault, room.clock) == []
        assert vault.scrub().damages == ()
        assert vault.health().found == ()
        assert all(room.restores(vault, rp_id) for rp_id in room.points)
    # what healed them stays although the point that brought it leaves
    drops = {again: "old"}
    vault.expire(vault.plan_expire(drops, explicit=True))
    vault.collect()
    assert room.restores(room.reopen(), room.first)


def test_lost_files_are_named_and_the_rest_of_the_point_restores(room: Room) -> None:
    """One frame is damaged, and what it held is on no machine any more."""
    key = room.pack_of(room.first, 2)
    room.damage(key, "flipped")
    vault = room.reopen()
    checked(vault, room.clock)
    result = vault.repair(JOB)
    assert result.done == ()
    assert [one.action for one in result.left] == ["wait", "wait"]
    assert {name for one in result.left for name in one.files} == {b"big"}
    tree = vault.file_tree(room.first)
    hosts = tree.lookup(b"etc/hosts")
    assert hosts is not None
    assert bytes(vault.fetch(room.first, [hosts.extents[0][0]])[0]).endswith(b"a\n")


@pytest.mark.parametrize("how", WAYS)
def test_a_damaged_table_is_rebuilt(room: Room, how: str) -> None:
    key = room.keys("tables")[0]
    room.damage(key, how)
    vault = room.reopen()
    ((named, problem, points),) = checked(vault, room.clock)
    assert (PREFIX + named, points) == (key, ())
    assert problem in (PACK_PROBLEMS[how], "truncated")
    assert all(room.restores(vault, rp_id) for rp_id in room.points)
    assert steps_of(vault.plan_repair().steps) == [("rebuild table", named)]
    before = dict(room.store.objects)
    result = vault.repair(JOB)
    assert_only_added(before, room.store.objects)
    assert steps_of(result.done) == [("rebuild table", named)]
    assert result.left == ()
    again = room.reopen()
    assert not again._core.damaged_tables, "it is read, not computed"
    assert checked(again, room.clock) == []
    assert again.scrub().damages == ()
    assert all(room.restores(again, rp_id) for rp_id in room.points)
    assert again.statistics().chunks == vault.statistics().chunks


@pytest.mark.parametrize("how", WAYS)
def test_a_damaged_refset_is_rebuilt_and_collect_goes_on(room: Room, how: str) -> None:
    named = room.state.points[room.first].op.refset.name
    key = layout.refset_key(named)
    room.damage(PREFIX + key, how)
    vault = room.reopen()
    ((found, problem, points),) = checked(vault, room.clock)
    assert (found, points) == (key, (room.first,))
    # its length is not in the log: one that was cut off is an altered one
    assert problem == {**PACK_PROBLEMS, "truncated": "altered"}[how]
    with pytest.raises(IntegrityError) as refused:
        vault.collect()
    assert refused.value.code == "RefsetDamaged"
    before = dict(room.store.objects)
    result = vault.repair(JOB)
    assert_only_added(before, room.store.objects)
    assert steps_of(result.done) == [("rebuild refset", key)]
    vault = room.reopen()
    assert checked(vault, room.clock) == []
    assert vault.scrub().damages == ()
    assert vault.collect().complete
    assert all(room.restores(vault, rp_id) for rp_id in room.points)


@pytest.mark.parametrize("how", WAYS[1:])
def test_a_damaged_key_ring_is_written_anew(
    room: Room, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.vaultstore import export

    monkeypatch.setattr(export.export_key, "__defaults__", (1024,))
    room.reopen().export_key("correct horse")
    rings = sorted(key for key in room.store.objects if "/keyring/" in key)
    room.whole, kept = dict(room.store.objects), room.whole
    room.damage(rings[-1], how)
    room.whole = kept
    vault = room.reopen()
    ((named, problem, points),) = checked(vault, room.clock)
    assert PREFIX + named == rings[-1]
    assert problem == {**PACK_PROBLEMS, "truncated": "altered"}[how]
    assert set(points) == set(room.points)
    assert steps_of(vault.repair(JOB).done) == [("rewrite key ring", named)]
    vault = room.reopen()
    assert checked(vault, room.clock) == []
    assert vault.scrub().damages == ()
    assert all(room.restores(vault, rp_id) for rp_id in room.points)


@pytest.mark.parametrize("how", WAYS)
def test_a_damaged_commit_record_is_named_and_earlier_points_restore(room: Room, how: str) -> None:
    """The log has no second copy here: it is put back from one of the store."""
    record = layout.log_key(room.state.points[room.second].sequence)
    vault = room.reopen()
    room.damage(PREFIX + record, how)
    ((named, problem, points),) = [
        one for one in checked(vault, room.clock) if one[0].startswith("log/")
    ]
    assert (named, problem) == (record, "missing" if how == "missing" else "altered")
    assert set(points) == {room.second, room.theirs}
    assert ("put back", record) in steps_of(vault.plan_repair().steps)
    with pytest.raises(IntegrityError) as refused:
        room.reopen()
    assert (refused.value.code, refused.value.target) == ("LogDamaged", record)
    room.store.objects[PREFIX + record] = room.whole[PREFIX + record]
    assert all(room.restores(room.reopen(), rp_id) for rp_id in room.points)
