"""Every store and every stack of layers keeps the promises of the port."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from holdfast.adapters.object_store import open_store
from holdfast.adapters.object_store.copies.changing import make_set
from holdfast.adapters.object_store.copies.member import Member
from holdfast.adapters.object_store.copies.store import CopiesStore
from holdfast.adapters.object_store.layers.base import StoreLayer
from holdfast.adapters.object_store.layers.fault import (
    Fault,
    FaultStore,
    PlannedFaults,
    SeededFaults,
)
from holdfast.adapters.object_store.layers.horizon import HorizonStore
from holdfast.adapters.object_store.layers.retry import Patience, RetryStore
from holdfast.adapters.object_store.layers.throttle import ThrottleStore
from holdfast.adapters.object_store.local import LocalStore
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import (
    HoldfastError,
    InternalError,
    ObjectExistsError,
    ObjectMissingError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.object_store_suite import Bypass, ObjectStoreSuite, Stand, check_names, send

T = TypeVar("T")


class MemoryBypass:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def keys(self) -> list[str]:
        return sorted(self.store.objects)

    def get(self, key: str) -> bytes | None:
        return self.store.objects.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.store.objects[key] = data

    def leftovers(self) -> list[str]:
        return []


class FolderBypass:
    def __init__(self, root: Path) -> None:
        self.root = root

    def _files(self) -> list[str]:
        found = (path for path in self.root.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.root)) for path in found)

    def keys(self) -> list[str]:
        return [name for name in self._files() if not name.startswith("+")]

    def get(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.is_file() else None

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def leftovers(self) -> list[str]:
        return [name for name in self._files() if name.startswith("+")]


Wrap = Callable[[ObjectStore], ObjectStore]


def retrying(inner: ObjectStore) -> RetryStore:
    return RetryStore(inner, Patience(attempts=30), sleep=lambda _seconds: None)


STACKS: dict[str, Wrap] = {
    "bare": lambda store: store,
    "layer": StoreLayer,
    "retry": retrying,
    "horizon": HorizonStore,
    "throttle": lambda store: ThrottleStore(store, 1e12),
    "retry over faults": lambda store: retrying(
        FaultStore(
            store,
            SeededFaults(
                7, 0.2, {"create", "publish", "read", "read_range", "size", "list", "delete"}
            ),
        )
    ),
    "all": lambda store: ThrottleStore(
        retrying(FaultStore(store, SeededFaults(3, 0.1, {"create", "publish", "read"}))), 1e12
    ),
}


@pytest.mark.parametrize("name", check_names())
@pytest.mark.parametrize("stack", STACKS)
def test_memory(stack: str, name: str) -> None:
    def stand() -> Stand:
        store = MemoryStore()
        return Stand(STACKS[stack](store), STACKS[stack](store), MemoryBypass(store))

    ObjectStoreSuite(stand).run(name)


@pytest.mark.parametrize("name", check_names())
@pytest.mark.parametrize("stack", ["bare", "retry over faults"])
def test_local(stack: str, name: str, tmp_path: Path) -> None:
    def stand() -> Stand:
        wrap = STACKS[stack]
        stores = wrap(LocalStore(tmp_path)), wrap(LocalStore(tmp_path))
        return Stand(*stores, FolderBypass(tmp_path))

    ObjectStoreSuite(stand).run(name)


class CopiesBypass:
    """Around a set of copies of which all third copies are written: all members must agree."""

    def __init__(self, sets: Sequence[CopiesStore], members: Sequence[Bypass]) -> None:
        self.sets = sets
        self.members = members

    def _same(self, ask: Callable[[Bypass], T]) -> T:
        for one in self.sets:
            one.settle()
        found = [ask(member) for member in self.members]
        assert found.count(found[0]) == len(found), found
        return found[0]

    def keys(self) -> list[str]:
        return self._same(lambda one: [key for key in one.keys() if key[:8] != ".copies/"])  # noqa: SIM118

    def get(self, key: str) -> bytes | None:
        return self._same(lambda one: one.get(key))

    def put(self, key: str, data: bytes) -> None:
        for member in self.members:
            member.put(key, data)

    def leftovers(self) -> list[str]:
        return self._same(lambda one: one.leftovers())


def copies_stand(members: Sequence[tuple[ObjectStore, Bypass]]) -> Stand:
    make_set([(f"member{number}", store) for number, (store, _) in enumerate(members)])
    sets = [
        CopiesStore(
            [
                Member(number, f"member{number}", lambda one=store: one, lambda one=store: one)  # type: ignore[misc]
                for number, (store, _) in enumerate(members, 1)
            ]
        )
        for _ in range(2)
    ]
    return Stand(sets[0], sets[1], CopiesBypass(sets, [bypass for _, bypass in members]))


@pytest.mark.parametrize("name", check_names())
def test_copies(name: str) -> None:
    def stand() -> Stand:
        stores = [MemoryStore() for _ in range(3)]
        return copies_stand([(store, MemoryBypass(store)) for store in stores])

    ObjectStoreSuite(stand).run(name)


@pytest.mark.parametrize(
    "name", [name for name in check_names() if "racing" in name or "publish" in name]
)
def test_copies_on_folders(name: str, tmp_path: Path) -> None:
    def stand() -> Stand:
        roots = [tmp_path / f"disk{number}" for number in range(3)]
        return copies_stand([(LocalStore(root), FolderBypass(root)) for root in roots])

    ObjectStoreSuite(stand).run(name)


class ForgetfulStore(MemoryStore):
    """Breaks promises one by one: the suite must notice."""

    def create(self, key: str, data: object) -> None:
        self.objects[key] = bytes(data)  # type: ignore[call-overload]


def test_the_suite_notices_a_store_that_overwrites() -> None:
    def stand() -> Stand:
        store = ForgetfulStore()
        return Stand(store, store, MemoryBypass(store))

    caught = set()
    for name in check_names():
        try:
            ObjectStoreSuite(stand).run(name)
        except AssertionError:
            caught.add(name)
    assert {
        "a_second_create_is_refused_and_changes_nothing",
        "racing_creates_have_exactly_one_winner",
        "racing_publishes_have_exactly_one_winner",
        "no_object_is_empty",
        "bad_keys_are_refused_by_every_method",
    } <= caught


class Sleeps(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["create", "publish"])
def test_a_lost_reply_is_found_out(method: str, when: str) -> None:
    inner = MemoryStore()
    faults = PlannedFaults([Fault(method, when=when), Fault("size"), Fault("read")])  # type: ignore[arg-type]
    sleeps = Sleeps()
    store = RetryStore(FaultStore(inner, faults), sleep=sleeps)
    if method == "create":
        store.create("a", b"data")
        store.size("a")
    else:
        send(store, "a", b"data")
        store.read("a")
    assert inner.objects == {"a": b"data"}
    faults.require_all_fired()
    assert len(sleeps) == (2 if when == "after" else 3)


@pytest.mark.parametrize("method", ["create", "publish"])
def test_a_lost_reply_does_not_make_a_loser_win(method: str) -> None:
    """The fault strikes, and before the second attempt somebody else creates the object."""
    inner = MemoryStore()
    faults = PlannedFaults([Fault(method)])
    store = RetryStore(FaultStore(inner, faults), sleep=lambda _: inner.objects.update(a=b"theirs"))
    with pytest.raises(ObjectExistsError):
        store.create("a", b"ours..") if method == "create" else send(store, "a", b"ours..")
    assert inner.objects == {"a": b"theirs"}
    faults.require_all_fired()


def test_patience_ends() -> None:
    sleeps = Sleeps()
    faults = PlannedFaults([Fault("read", nth=n) for n in range(1, 10)])
    store = RetryStore(FaultStore(MemoryStore(), faults), Patience(4, 1.0, 3.0), sleeps)
    with pytest.raises(StoreUnavailableError):
        store.read("a")
    assert sleeps == [1.0, 2.0, 3.0]


def test_what_cannot_pass_is_not_repeated() -> None:
    sleeps = Sleeps()
    faults = PlannedFaults([Fault("create", kind="full")])
    store = RetryStore(FaultStore(MemoryStore(), faults), sleep=sleeps)
    with pytest.raises(StoreFullError):
        store.create("a", b"x")
    with pytest.raises(ObjectMissingError):
        store.read("a")
    assert sleeps == []


def test_a_broken_list_goes_on_where_it_was() -> None:
    inner = MemoryStore()
    for number in range(20):
        inner.create(f"n/{number:02d}", b"x")
    faults = PlannedFaults([Fault("list", nth=n, when="after") for n in (1, 2, 3)])
    store = RetryStore(FaultStore(inner, faults), sleep=Sleeps())
    assert [info.key for info in store.list("n/")] == sorted(inner.objects)
    faults.require_all_fired()


def test_a_planned_fault_that_never_happens_is_told() -> None:
    faults = PlannedFaults([Fault("read", prefix="b"), Fault("create", nth=3)])
    store = FaultStore(MemoryStore(), faults)
    store.create("a", b"x")
    store.read("a")
    with pytest.raises(InternalError, match="never happened"):
        faults.require_all_fired()
    for bad in (
        {"method": "rread"},
        {"method": "read", "nth": 0},
        {"method": "read", "kind": "full"},
        {"method": "size", "kind": "flip"},
        {"method": "create", "kind": "short", "when": "after"},
        {"method": "read", "kind": "flip", "place": 1.0},
    ):
        with pytest.raises(InternalError):
            Fault(**bad)  # type: ignore[arg-type]


def test_a_store_lies_as_planned() -> None:
    inner = MemoryStore()
    plan = [
        Fault("read", kind="flip"),
        Fault("read", nth=2, kind="short"),
        Fault("read", nth=3, kind="short", place=0.0),
        Fault("read_range", kind="short"),
        Fault("create", nth=2, kind="flip", place=0.25),
        Fault("create", nth=3, kind="short", place=0.0),
        Fault("write", nth=2, kind="short"),
        Fault("list", nth=2, kind="stale"),
    ]
    faults = PlannedFaults(plan)
    store = FaultStore(inner, faults)
    store.create("a", bytes(8))
    assert [store.read("a") for _ in range(4)] == [
        b"\0\0\0\0\1\0\0\0",
        bytes(4),
        b"",
        bytes(8),
    ]
    assert store.read_range("a", 2, 4) == bytes(2)
    store.create("b", bytes(8))
    store.create("c", bytes(8))
    upload = store.upload("d")
    upload.write(b"1234")
    upload.write(b"5678")
    upload.publish()
    assert inner.objects == {
        "a": bytes(8),
        "b": b"\0\0\1\0\0\0\0\0",
        "c": b"\0",
        "d": b"123456",
    }
    assert [info.key for info in store.list()] == ["a", "b", "c", "d"]
    assert [info.key for info in store.list()] == ["a"]
    faults.require_all_fired()


def test_seeded_faults_repeat() -> None:
    def outcomes(seed: int) -> list[bool]:
        store = FaultStore(MemoryStore(), SeededFaults(seed, 0.3))
        found = []
        for _ in range(50):
            try:
                store.delete("a")
                found.append(True)
            except StoreUnavailableError:
                found.append(False)
        return found

    assert outcomes(1) == outcomes(1) != outcomes(2)
    assert 5 < outcomes(1).count(False) < 30


def test_the_throttle_keeps_to_its_rate() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    store = ThrottleStore(MemoryStore(), 1000.0, monotonic=lambda: now[0], sleep=sleep)
    store.create("a", b"x" * 3000)
    assert now[0] == pytest.approx(3.0)
    store.read("a")
    store.read_range("a", 0, 1000)
    send(store, "b", b"y" * 500)
    assert now[0] == pytest.approx(7.5)
    now[0] = 100.0
    store.create("c", b"x" * 1000)
    assert now[0] == pytest.approx(101.0), "an idle time buys no burst"
    with pytest.raises(UsageError):
        ThrottleStore(MemoryStore(), 0)


def test_a_local_store_whose_disk_is_gone_misses_nothing(tmp_path: Path) -> None:
    """An unmounted disk must look like a failed store, not like one that lost its objects."""
    store = LocalStore(tmp_path / "disk")
    store.create("a/b", b"x")
    (tmp_path / "disk").rename(tmp_path / "elsewhere")
    for call in (
        lambda: store.read("a/b"),
        lambda: store.size("a/b"),
        lambda: list(store.list()),
        lambda: store.create("a/c", b"y"),
        lambda: store.delete("a/b"),
    ):
        with pytest.raises(StoreUnavailableError):
            call()
    (tmp_path / "elsewhere").rename(tmp_path / "disk")
    assert store.read("a/b") == b"x"


@pytest.mark.parametrize(
    "url",
    [
        "", "file://host/x", "file:relative", "s3:", "s3://", "http://x/y", "x", "s3://[x/y",
        "file:///a?b", "s3://bucket/a#b", "s3://key:hidden@bucket/x", "file:///a%00b",
        "s3://bucket/a//b", "s3://bucket/a/../b", "s3://b!/x", "s3://x/y",
    ],
)  # fmt: skip
def test_bad_addresses_are_refused(url: str) -> None:
    with pytest.raises(HoldfastError) as caught:
        open_store(url, {"access_key_id": "a", "secret_access_key": "b"})
    assert caught.value.code in ("InvalidStoreUrl", "InvalidObjectKey")
    assert caught.value.hint
    assert "hidden" not in str(caught.value)
