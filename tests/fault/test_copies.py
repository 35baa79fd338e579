"""A set of copies whose disks vanish, lie, come back old, or are new; and killed processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from holdfast.adapters.object_store import make_store, open_store
from holdfast.adapters.object_store.copies.changing import make_set
from holdfast.adapters.object_store.copies.store import CopiesStore
from holdfast.adapters.object_store.layers.fault import FaultStore, SeededFaults
from holdfast.errors import (
    ConflictError,
    HoldfastError,
    ObjectExistsError,
    ObjectMissingError,
    StoreUnavailableError,
)
from holdfast.ports.copied_store import copied
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.copied_disks import Disk, made, opened
from holdfast.testing.object_store_suite import send


def caught_up(store: CopiesStore) -> int:
    """Copies written until there is nothing left to do."""
    store.settle()
    return store.catch_up(0, lambda: False).copies


def same(disks: Sequence[Disk]) -> dict[str, bytes]:
    """What all disks hold."""
    assert all(disk.objects == disks[0].objects for disk in disks)
    return disks[0].objects


def expect_code(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(HoldfastError) as caught:
        call()
    assert caught.value.code == code, caught.value
    assert caught.value.hint


@pytest.mark.parametrize("late", [2, 3])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_any_disk_may_be_lost_from_the_acknowledgement_on(late: int, lost: int) -> None:
    """``late`` has written nothing yet when the process and the disk ``lost`` are gone."""
    disks = made()
    store = opened(disks)
    store.size("x")
    disks[late - 1].refuses = lambda method, _key: method in ("create", "upload", "publish")
    store.create("log/1", b"one")
    send(store, "packs/p", b"pack" * 100)
    store.settle()
    disks[late - 1].refuses = lambda _method, _key: False
    disks[lost - 1].away = True
    after = opened(disks)
    assert after.read("log/1") == b"one"
    assert after.read_range("packs/p", 4, 8) == b"packpack"
    assert [info.key for info in after.list()] == ["log/1", "packs/p"]
    assert after.shortage().objects == 2
    disks[lost - 1].away = False
    assert caught_up(after) <= 2
    assert set(same(disks)) == {"log/1", "packs/p"}
    assert after.shortage().objects == 0


@pytest.mark.parametrize("left", [1, 2, 3])
def test_any_two_disks_may_be_lost_once_the_third_copy_is_written(left: int) -> None:
    disks = made()
    store = opened(disks)
    store.create("log/1", b"one")
    send(store, "packs/p", b"pack")
    store.settle()
    for number, disk in enumerate(disks, 1):
        disk.away = number != left
    after = opened(disks)
    assert (after.read("log/1"), after.read("packs/p")) == (b"one", b"pack")
    code = "CopiesTooFew" if left == 1 else "CopiesHomeMissing"
    expect_code(code, lambda: after.create("log/2", b"two"))
    expect_code(code, lambda: after.delete("log/1"))
    for disk in disks:
        disk.away = False
    after.create("log/2", b"two")
    after.settle()
    assert same(disks) == {"log/1": b"one", "log/2": b"two", "packs/p": b"pack"}


def test_a_write_that_reaches_one_disk_only_is_not_acknowledged() -> None:
    disks = made()
    store = opened(disks)
    store.size("x")
    for disk in disks[1:]:
        disk.refuses = lambda method, _key: method in ("create", "upload", "publish")
    with pytest.raises(StoreUnavailableError):
        store.create("log/1", b"one")
    assert disks[1].objects == {}
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            store.read("log/1")  # its own bytes would mean that it was acknowledged
    disks[2].refuses = lambda _method, _key: False
    assert store.read("log/1") == b"one"
    assert disks[2].objects == {"log/1": b"one"}


def test_what_one_disk_holds_is_doubled_before_it_is_told() -> None:
    """A process died between the home and the others. Whoever reads it may build on it."""
    disks = made()
    disks[0].memory.create("log/1", b"one")
    store = opened(disks)
    assert store.read("log/1") == b"one"
    assert sum("log/1" in disk.objects for disk in disks) >= 2


def test_what_was_told_while_alone_is_doubled_before_anything_is_written() -> None:
    disks = made()
    disks[0].memory.create("log/1", b"one")
    disks[1].away = disks[2].away = True
    store = opened(disks)
    assert store.read("log/1") == b"one"
    disks[1].away = False
    store.create("log/2", b"two")
    disks[0].away = True
    assert opened(disks).read("log/1") == b"one"


def test_an_object_the_home_has_lost_is_not_made_again() -> None:
    disks = made()
    store = opened(disks)
    store.create("log/1", b"one")
    store.settle()
    del disks[0].memory.objects["log/1"]
    del disks[2].memory.objects["log/1"]
    other = opened(disks)
    with pytest.raises(ObjectExistsError):
        other.create("log/1", b"another")
    assert disks[0].objects == {"log/1": b"one"}
    assert caught_up(other) == 1
    assert same(disks) == {"log/1": b"one"}


def test_a_disk_that_was_away_brings_nothing_back() -> None:
    disks = made()
    store = opened(disks)
    for key in ("packs/a", "packs/b", "log/7"):
        store.create(key, b"old")
    store.settle()
    disks[2].away = True
    store.delete("packs/a")
    store.delete("log/7")
    store.create("log/7", b"new")
    store.create("packs/c", b"c")
    disks[2].away = False
    after = opened(disks)
    with pytest.raises(ObjectMissingError):
        after.read("packs/a")
    assert after.read("log/7") == b"new"
    caught_up(after)
    assert same(disks) == {"log/7": b"new", "packs/b": b"old", "packs/c": b"c"}
    assert not [key for key in disks[0].memory.objects if "/gone/" in key]


def test_another_disk_decides_when_the_home_is_lost_and_the_old_one_comes_back() -> None:
    disks = made()
    store = opened(disks)
    store.create("log/1", b"one")
    store.settle()
    disks[0].memory.create("log/2", b"told to nobody")
    disks[0].memory.create("log/3", b"told to nobody either")
    disks[0].away = True
    with pytest.raises(StoreUnavailableError):
        store.create("log/2", b"two")
    expect_code("CopiesHomeMissing", lambda: store.create("log/2", b"two"))
    expect_code("CopyIsHome", lambda: store.fail_over(1))
    store.fail_over(2)
    store.create("log/2", b"two")
    store.settle()
    disks[0].away = False
    after = opened(disks)
    assert after.read("log/2") == b"two"
    assert [info.key for info in after.list()] == ["log/1", "log/2"]
    caught_up(after)
    assert same(disks) == {"log/1": b"one", "log/2": b"two"}
    assert sorted(disks[0].aside) == [b"told to nobody", b"told to nobody either"]
    assert [member.is_home for member in after.members()] == [False, True, False]


def test_a_process_that_missed_the_fail_over_acknowledges_nothing() -> None:
    disks = made()
    late, quick = opened(disks), opened(disks)
    late.create("log/1", b"one")
    late.settle()
    quick.fail_over(3)
    quick.create("log/2", b"of the new home")
    quick.settle()
    with pytest.raises(HoldfastError):
        late.create("log/2", b"of the old home")
    assert late.read("log/2") == b"of the new home"
    late.create("log/3", b"three")
    late.settle()
    caught_up(late)
    assert same(disks) == {
        "log/1": b"one",
        "log/2": b"of the new home",
        "log/3": b"three",
    }


def test_a_fail_over_that_was_cut_off_goes_on() -> None:
    disks = made()
    store = opened(disks)
    store.size("x")
    disks[1].refuses = lambda method, _key: method in ("create", "upload")
    store.create("log/1", b"one")
    store.settle()
    disks[1].refuses = lambda method, key: method == "upload" and key == "log/1"
    disks[0].away = True
    with pytest.raises(StoreUnavailableError):
        opened(disks).fail_over(2)
    disks[1].refuses = lambda _method, _key: False
    again = opened(disks)
    expect_code("CopiesHomeMissing", lambda: again.create("log/1", b"two"))
    again.fail_over(2)
    with pytest.raises(ObjectExistsError):
        again.create("log/1", b"two")


def test_a_fail_over_needs_all_who_may_hold_what_was_acknowledged() -> None:
    disks = made()
    store = opened(disks)
    store.create("log/1", b"one")
    store.settle()
    disks[0].away = disks[2].away = True
    expect_code("CopiesMissing", lambda: store.fail_over(2))
    store.fail_over(2, accept_loss=True)
    expect_code("CopiesTooFew", lambda: store.create("log/2", b"two"))
    disks[0] = Disk()
    replaced = opened(disks)
    expect_code("CopiesTooFew", lambda: replaced.create("log/2", b"two"))
    replaced.adopt(1)
    replaced.create("log/2", b"two")
    assert replaced.read("log/1") == b"one"


@pytest.mark.parametrize("liar", [1, 2, 3])
def test_one_disk_that_reads_wrongly_changes_nothing_and_is_named(liar: int) -> None:
    disks = made()
    store = opened(disks)
    packs = {f"packs/{number}": bytes([number]) * 1000 for number in range(1, 30)}
    for key, data in packs.items():
        store.create(key, data)
    store.settle()
    disks[liar - 1].lies = True
    reader = opened(disks)
    for _ in range(3):
        assert {key: reader.read(key) for key in packs} == packs
        assert all(reader.read_range(key, 10, 50) == packs[key][10:60] for key in packs)
    wrong = [member.wrong for member in reader.members()]
    assert wrong[liar - 1] > 20
    assert sum(wrong) == wrong[liar - 1]


@pytest.mark.parametrize("damage", [b"flip", b"", b"dat"])
def test_a_damaged_copy_is_put_aside_and_written_anew(damage: bytes) -> None:
    for number in range(3):
        disks = made()
        store = opened(disks)
        store.create("packs/a", b"data")
        store.settle()
        disks[number].memory.objects["packs/a"] = damage
        reader = opened(disks)
        for _ in range(2):
            assert reader.read("packs/a") == b"data"
        assert reader.catch_up(0, lambda: False).mended == 1
        assert same(disks) == {"packs/a": b"data"}
        assert disks[number].aside == ([damage] if damage else [])


def test_an_empty_mount_point_is_no_new_disk() -> None:
    disks = made()
    store = opened(disks)
    send(store, "packs/a", b"a" * 5000)
    store.settle()
    disks[2] = Disk()
    after = opened(disks)
    assert "mounted, or is new" in after.members()[2].missing
    assert after.shortage().size == 5000
    after.create("packs/b", b"b")
    after.catch_up(0, lambda: False)
    assert disks[2].memory.objects == {}
    disks[2].memory.create("something", b"else")
    expect_code("CopyNotEmpty", lambda: after.adopt(3))
    del disks[2].memory.objects["something"]
    after.adopt(3)
    assert caught_up(after) == 2
    assert same(disks) == {"packs/a": b"a" * 5000, "packs/b": b"b"}
    expect_code("CopyPresent", lambda: after.adopt(3))


def test_disks_of_another_set_or_in_other_places_are_refused() -> None:
    disks, others = made(), made()
    found = opened([disks[1], disks[0], others[2]])
    assert all(member.missing for member in found.members())
    mixed = opened([disks[0], disks[1], others[2]])
    assert [bool(member.missing) for member in mixed.members()] == [False, False, True]
    with pytest.raises(ConflictError):
        make_set([(str(n), one.open()) for n, one in enumerate((disks[0], others[1]), 1)])


def test_replication_keeps_to_its_rate_and_stops_when_told() -> None:
    disks = made()
    store = opened(disks)
    for number in range(20):
        store.create(f"packs/{number:02d}", b"x" * 100)
    store.settle()
    disks[2] = Disk()
    after = opened(disks)
    after.adopt(3)
    asked: list[int] = []

    def is_over() -> bool:
        asked.append(1)
        return len(disks[2].objects) >= 5

    stopped = after.catch_up(1e6, is_over)
    assert (stopped.copies, stopped.left > 0) == (5, True)
    assert after.shortage().objects == 15
    assert caught_up(opened(disks)) == 15, "another process goes on"
    same(disks)


def test_a_copy_of_what_is_deleted_meanwhile_is_not_left_behind() -> None:
    disks = made()
    first, second = opened(disks), opened(disks)
    for store in (first, second):
        store.size("x")
    disks[2].refuses = lambda method, key: method == "create" and key == "packs/a"
    first.create("packs/a", b"a")
    first.settle()

    def racing(method: str, _key: str) -> bool:
        if method == "publish":
            disks[2].refuses = lambda _method, _key: False
            second.delete("packs/a")
        return False

    disks[2].refuses = racing
    caught_up(first)
    assert same(disks) == {}


def steps(draw: random.Random) -> Iterator[str]:
    weights = {"create": 8, "delete": 3, "read": 6, "toggle": 3, "restart": 1, "catch up": 1}
    while True:
        yield draw.choices(list(weights), list(weights.values()))[0]


@pytest.mark.parametrize("seed", range(12))
def test_what_was_acknowledged_stays_whatever_disk_comes_and_goes(seed: int) -> None:
    """One disk at a time is away; a third copy may be late. No acknowledged object is ever gone or
    other, no deleted one comes back."""
    draw = random.Random(seed)
    disks = made()
    stores = [opened(disks), opened(disks)]
    there: dict[str, bytes] = {}
    unclear: set[str] = set()
    names = [f"packs/{number}" for number in range(12)]
    for _, step in zip(range(400), steps(draw), strict=False):
        store, key = draw.choice(stores), draw.choice(names)
        try:
            if step == "create":
                data = draw.randbytes(8)
                store.create(key, data)
                assert key not in there
                there[key] = data
                unclear.discard(key)
            elif step == "delete" and key not in unclear:
                unclear.add(key)
                before = there.pop(key, None)
                store.delete(key)
                unclear.discard(key)
                assert store.size(key) is None, before
            elif step == "read":
                _check(store, key, there, unclear)
        except ObjectExistsError:
            assert key in there or key in unclear
        except StoreUnavailableError:
            if step == "create" and key not in there:
                unclear.add(key)
        if step == "toggle":
            lost = draw.randrange(3)
            for one in stores:
                one.settle()
                if not any(disk.away for disk in disks):
                    one.catch_up(0, lambda: False)
            for number, disk in enumerate(disks):
                disk.away = number == lost and not disk.away
        elif step == "restart":
            stores[draw.randrange(2)] = opened(disks)
        elif step == "catch up":
            store.catch_up(0, lambda: False)
    for disk in disks:
        disk.away = False
    for one in stores:
        one.settle()
    final = opened(disks)
    caught_up(final)
    held = same(disks)
    assert {key: held.get(key) for key in there} == there
    assert set(held) <= set(there) | unclear


def _check(store: ObjectStore, key: str, there: dict[str, bytes], unclear: set[str]) -> None:
    try:
        found = store.read(key)
    except ObjectMissingError:
        assert key not in there
        return
    assert key in unclear or found == there[key]


WRITER = """
import sys
import threading
from holdfast import crashpoint
from holdfast.adapters.object_store import open_store
crashpoint.arm({"HOLDFAST_TEST_CRASH": sys.argv[2]})
store = open_store(sys.argv[1])
for number in range(4):
    store.create(f"log/{number}", bytes([number + 1]) * 300)
    print(f"log/{number}", flush=True)
store.delete("log/0")
"""


@pytest.mark.parametrize(
    "where", ["copies.home.after@3", "copies.acknowledged@3", "copies.delete.others@1"]
)
def test_a_killed_writer_leaves_what_replication_completes(tmp_path: Path, where: str) -> None:
    roots = [tmp_path / f"disk{number}" for number in (1, 2, 3)]
    url = " ".join(root.as_uri() for root in roots)
    make_store(url)
    done = subprocess.run(
        [sys.executable, "-c", WRITER, url, where],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    told = done.stdout.split()[int("delete" in where) :]
    roots[0].rename(tmp_path / "gone")
    left = copied(open_store(url))
    assert left is not None
    expected = {f"log/{number}": bytes([number + 1]) * 300 for number in range(4)}
    assert {key: left.read(key) for key in told} == {key: expected[key] for key in told}
    (tmp_path / "gone").rename(roots[0])
    after = copied(open_store(url))
    assert after is not None
    after.catch_up(0, lambda: False)
    kept = [{p.name: p.read_bytes() for p in (root / "log").iterdir()} for root in roots]
    assert kept[0] == kept[1] == kept[2]
    assert set(told) <= {f"log/{name}" for name in kept[0]}


def test_one_disk_of_a_set_is_read_alone_and_takes_nothing(tmp_path: Path) -> None:
    roots = [tmp_path / f"disk{number}" for number in (1, 2)]
    url = " ".join(root.as_uri() for root in roots)
    make_store(url)
    open_store(url).create("a", b"data")
    alone = open_store(roots[1].as_uri())
    assert alone.read("a") == b"data"
    expect_code("CopyAlone", lambda: alone.create("b", b"data"))
    expect_code("CopyAlone", lambda: alone.delete("a"))


def test_a_disk_behind_the_term_is_read_from_until_the_home_is_there() -> None:
    """Nothing is put aside by holding it against a disk that lacks things itself."""
    disks = made()
    store = opened(disks)
    store.size("x")
    disks[2].refuses = lambda method, _key: method in ("create", "upload")
    store.create("log/1", b"one")
    store.settle()
    disks[1].away = True
    disks[2] = Disk()
    late = opened(disks)
    late.adopt(3)
    disks[0].away, disks[1].away = True, False
    for _ in range(2):
        alone = opened(disks)
        assert alone.read("log/1") == b"one"
        assert disks[1].aside == []
    disks[1].memory.create("log/2", b"stray")
    disks[0].away = False
    caught_up(alone)
    assert same(disks) == {"log/1": b"one"}
    assert disks[1].aside == [b"stray"]


def test_a_full_disk_lets_the_others_take_what_is_written() -> None:
    disks = made()
    store = opened(disks)
    store.size("x")
    full = FaultStore(disks[2].memory, SeededFaults(1, 1.0, ("create", "publish"), kinds=("full",)))
    store.group.members[2].store = full
    store.create("log/1", b"one")
    send(store, "packs/p", b"pack")
    store.settle()
    assert store.shortage().objects == 2
    store.group.members[2].store = disks[2].open()
    assert caught_up(store) == 2
    same(disks)


def test_the_third_copy_is_waited_for_when_it_has_to_decide() -> None:
    disks = made()
    store = opened(disks)
    store.size("x")
    gate = threading.Event()

    def late(method: str, key: str) -> bool:
        if (method, key) == ("create", "log/1"):
            gate.wait(30)
        return False

    disks[2].refuses = late
    store.create("log/1", b"one")
    disks[0].memory.objects["log/1"] = b"two"
    threading.Timer(0.05, gate.set).start()
    assert [store.read("log/1") for _ in range(4)] == [b"one"] * 4
