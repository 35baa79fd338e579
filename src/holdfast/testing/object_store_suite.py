"""The executable form of ``holdfast.ports.object_store``: what every store and stack must do.

    for name in check_names():
        ObjectStoreSuite(make_stand).run(name)

Each check gets a fresh, empty stand. What a store says of itself is compared with what a bypass
finds in the place where it keeps its objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import Protocol

from holdfast.errors import (
    HoldfastError,
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    UsageError,
)
from holdfast.ports.object_store import ObjectInfo, ObjectStore, Upload

RACERS = 6
BIG_BYTES = 12 * 1024 * 1024 + 17
BAD_KEYS = (
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "../a", "a b", "a\\b", "a\n",
    "é", "a%2Fb", "a\0", "x" * 513, "a/" + "x" * 256,
)  # fmt: skip
ODD_KEYS = ("a", "-", "_", "...", ".a", "a.", "0/1/2/3/4/5/6/7", "A/a", "a.b/c-d_e", "y" * 255)


class Bypass(Protocol):
    """Looks at and changes what a store keeps, not through the store."""

    def keys(self) -> list[str]: ...

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, data: bytes) -> None:
        """Create or overwrite."""
        ...

    def leftovers(self) -> list[str]:
        """Names of anything that is kept and is no object."""
        ...


@dataclass(frozen=True, slots=True)
class Stand:
    """An empty store, a second handle on the same place, and the way around both."""

    store: ObjectStore
    other: ObjectStore
    bypass: Bypass


class ObjectStoreSuite:
    """All checks. ``make_stand`` is called once per check."""

    def __init__(self, make_stand: Callable[[], Stand]) -> None:
        stand = make_stand()
        self.store, self.other, self.bypass = stand.store, stand.other, stand.bypass

    def run(self, name: str) -> None:
        """One check by name; AssertionError when the store breaks its promise."""
        getattr(self, f"check_{name}")()

    def check_a_created_object_is_whole_and_visible_at_once(self) -> None:
        data = bytes(range(256)) * 5
        self.store.create("a/b", data)
        for store in (self.store, self.other):
            assert store.read("a/b") == data
            assert store.size("a/b") == len(data)
            assert [(info.key, info.size) for info in store.list()] == [("a/b", len(data))]
        assert self.bypass.get("a/b") == data
        assert self.bypass.keys() == ["a/b"]
        assert self.bypass.leftovers() == []

    def check_any_buffer_is_taken_and_may_be_reused(self) -> None:
        buffer = bytearray(b"0123456789")
        self.store.create("array", buffer)
        self.store.create("view", memoryview(buffer)[2:5])
        upload = self.store.upload("parts")
        upload.write(buffer)
        buffer[:] = b"abcdefghij"
        upload.write(memoryview(buffer)[:3])
        upload.write(b"")
        upload.publish()
        assert self.store.read("array") == b"0123456789"
        assert self.store.read("view") == b"234"
        assert self.store.read("parts") == b"0123456789abc"

    def check_a_second_create_is_refused_and_changes_nothing(self) -> None:
        self.store.create("a", b"first")
        expect(ObjectExistsError, lambda: self.store.create("a", b"second"))
        expect(ObjectExistsError, lambda: self.other.create("a", b"first"))
        expect(ObjectExistsError, lambda: send(self.other, "a", b"third"))
        assert self.bypass.get("a") == b"first"
        assert self.bypass.leftovers() == []

    def check_what_others_put_there_is_not_overwritten(self) -> None:
        self.bypass.put("a/b", b"theirs")
        expect(ObjectExistsError, lambda: self.store.create("a/b", b"ours"))
        assert self.store.read("a/b") == b"theirs"

    def check_racing_creates_have_exactly_one_winner(self) -> None:
        for number in range(4):
            key = f"race/{number}"
            won = race(partial(self._create, key))
            assert won.count(True) == 1, won
            assert self.bypass.get(key) == body(won.index(True))

    def check_racing_publishes_have_exactly_one_winner(self) -> None:
        for number in range(3):
            key = f"race/{number}"
            uploads = [self._store(racer).upload(key) for racer in range(RACERS)]
            for racer, upload in enumerate(uploads):
                upload.write(body(racer))
            won = race(partial(_publish, uploads))
            for upload in uploads:
                upload.abort()
            assert won.count(True) == 1, won
            assert self.bypass.get(key) == body(won.index(True))
        assert self.bypass.leftovers() == []

    def _create(self, key: str, racer: int) -> None:
        self._store(racer).create(key, body(racer))

    def _store(self, racer: int) -> ObjectStore:
        return self.store if racer % 2 else self.other

    def check_creates_of_different_keys_do_not_disturb_each_other(self) -> None:
        won = race(lambda racer: self.store.create(f"deep/er/{racer}/x", body(racer)))
        assert won == [True] * RACERS
        assert [self.store.read(f"deep/er/{n}/x") for n in range(RACERS)] == [
            body(n) for n in range(RACERS)
        ]

    def check_an_upload_is_invisible_until_it_is_published(self) -> None:
        upload = self.store.upload("packs/p")
        upload.write(b"x" * 100_000)
        assert self.store.size("packs/p") is None
        assert self.other.size("packs/p") is None
        assert list(self.other.list()) == []
        assert self.bypass.keys() == []
        expect(ObjectMissingError, lambda: self.other.read("packs/p"))
        upload.write(b"y")
        upload.publish()
        assert self.other.read("packs/p") == b"x" * 100_000 + b"y"
        upload.abort()
        assert self.bypass.get("packs/p") == b"x" * 100_000 + b"y"

    def check_an_aborted_upload_leaves_nothing(self) -> None:
        for written in (b"", b"z" * 50_000):
            upload = self.store.upload("packs/p")
            upload.write(written)
            upload.abort()
            upload.abort()
        assert self.bypass.keys() == []
        assert self.bypass.leftovers() == []
        send(self.store, "packs/p", b"later")
        assert self.store.read("packs/p") == b"later"

    def check_no_object_is_empty(self) -> None:
        expect(UsageError, lambda: self.store.create("a", b""), "EmptyObject")
        expect(UsageError, lambda: send(self.store, "b", b""), "EmptyObject")
        assert self.bypass.keys() == []
        assert self.bypass.leftovers() == []

    def check_an_object_that_became_empty_shows_as_such(self) -> None:
        self.bypass.put("a", b"")
        assert self.store.size("a") == 0
        assert self.store.read("a") == b""
        expect(IntegrityError, lambda: self.store.read_range("a", 0, 1), "ObjectTruncated")
        expect(ObjectExistsError, lambda: self.store.create("a", b"full"))

    def check_bad_keys_are_refused_by_every_method(self) -> None:
        for key in BAD_KEYS:
            calls: list[Callable[[], object]] = [
                partial(self.store.create, key, b"x"),
                partial(self.store.upload, key),
                partial(self.store.read, key),
                partial(self.store.read_range, key, 0, 1),
                partial(self.store.size, key),
                partial(self.store.delete, key),
            ]
            for call in calls:
                expect(UsageError, call, "InvalidObjectKey")
        for prefix in ("/", "/a", "../", "a/../", "a//", "./", "a b"):
            expect(UsageError, partial(self._listed, prefix), "InvalidObjectKey")
        assert self.bypass.keys() == []

    def _listed(self, prefix: str) -> list[ObjectInfo]:
        return list(self.store.list(prefix))

    def check_odd_keys_are_kept(self) -> None:
        longest = "/".join(["k" * 127] * 4)
        assert len(longest) <= 512
        keys = sorted((*ODD_KEYS[1:], longest, "tmp/x"))
        for key in keys:
            self.store.create(key, key.encode())
        assert [info.key for info in self.store.list()] == keys
        assert [self.store.read(key) for key in keys] == [key.encode() for key in keys]
        assert self.bypass.keys() == keys

    def check_ranges_are_exact(self) -> None:
        data = bytes(range(256)) * 300
        self.store.create("a", data)
        for offset, length in ((0, 1), (0, len(data)), (len(data) - 1, 1), (70_000, 5000)):
            assert self.store.read_range("a", offset, length) == data[offset : offset + length]

    def check_a_range_beyond_the_end_is_damage(self) -> None:
        self.store.create("a", b"0123456789")
        for offset, length in ((0, 11), (9, 2), (10, 1), (500, 1)):
            expect(
                IntegrityError,
                partial(self.store.read_range, "a", offset, length),
                "ObjectTruncated",
            )
        for offset, length in ((-1, 2), (0, 0), (0, -1)):
            expect(
                UsageError,
                partial(self.store.read_range, "a", offset, length),
                "InvalidRange",
            )
        expect(ObjectMissingError, lambda: self.store.read_range("b", 0, 1))

    def check_what_is_absent_is_missing(self) -> None:
        self.store.create("a/b/c", b"x")
        for key in ("b", "a", "a/b", "a/b/d", "a/b/c/d"):
            assert self.store.size(key) is None
            expect(ObjectMissingError, partial(self.store.read, key))
            expect(ObjectMissingError, partial(self.store.read_range, key, 0, 1))
            self.store.delete(key)
        assert self.bypass.get("a/b/c") == b"x"

    def check_a_list_is_in_order_of_whole_keys(self) -> None:
        keys = sorted(
            ("a-1", "a.b", "a/0", "a/b", "a/b.c", "a0", "aa/z", "B/x", "b/1/2", "b/1-2", "b/1.2")
        )
        for key in reversed(keys):
            self.store.create(key, key.encode() * 2)
        assert [(i.key, i.size) for i in self.store.list()] == [(k, 2 * len(k)) for k in keys]
        for prefix in ("", "a", "a/", "a/b", "aa", "aa/z", "b/1", "b/1/", "B", "c", "..", "a/b/"):
            listed = [info.key for info in self.store.list(prefix)]
            assert listed == [key for key in keys if key.startswith(prefix)], prefix
            for after in (*keys, "a", "a/", "a/\x7f", "b/1", "~", "A"):
                listed = [info.key for info in self.store.list(prefix, after)]
                right = [key for key in keys if key.startswith(prefix) and key > after]
                assert listed == right, (prefix, after)

    def check_a_long_list_can_be_taken_in_pages(self) -> None:
        keys = [f"p/{number:04d}/{number % 7}" for number in range(120)]
        for key in keys:
            self.store.create(key, b"x")
        found: list[str] = []
        after = ""
        while page := [info.key for info, _ in zip(self.store.list("p/", after), range(50))]:  # noqa: B905
            found += page
            after = page[-1]
        assert found == keys

    def check_a_list_bears_changes_meanwhile(self) -> None:
        for number in range(20):
            self.store.create(f"n/{number:02d}", b"x")
        seen = []
        for info in self.store.list("n/"):
            seen.append(info.key)
            self.store.delete(info.key)
            self.store.create(f"o/{info.key[2:]}", b"x")
        assert seen == [f"n/{number:02d}" for number in range(20)]
        assert list(self.store.list("n/")) == []

    def check_delete_is_idempotent_and_frees_the_key(self) -> None:
        self.store.create("a/b", b"x")
        self.store.create("a/c", b"y")
        for _ in range(2):
            self.store.delete("a/b")
        self.other.delete("a/b")
        assert self.bypass.keys() == ["a/c"]
        expect(ObjectMissingError, lambda: self.other.read("a/b"))
        self.store.create("a/b", b"again")
        assert self.other.read("a/b") == b"again"
        self.store.delete("a/b")
        self.store.delete("a/c")
        self.store.create("a/d", b"z")
        assert [info.key for info in self.store.list()] == ["a/d"]

    def check_racing_deletes_all_succeed(self) -> None:
        self.store.create("a", b"x")
        assert race(lambda racer: self._store(racer).delete("a")) == [True] * RACERS
        assert self.bypass.keys() == []

    def check_a_key_that_is_a_folder_harms_nothing(self) -> None:
        self.store.create("a/b", b"inner")
        self.store.create("c", b"outer")
        for key in ("a", "c/d"):
            try:
                self.store.create(key, b"clash")
            except HoldfastError:
                continue
            assert self.store.read(key) == b"clash"
        assert self.store.read("a/b") == b"inner"
        assert self.store.read("c") == b"outer"
        assert self.bypass.leftovers() == []

    def check_big_objects(self) -> None:
        piece = bytes(range(251)) * 4000
        upload = self.store.upload("big")
        whole = bytearray()
        while len(whole) < BIG_BYTES:
            part = piece[: BIG_BYTES - len(whole)]
            upload.write(part)
            whole += part
        upload.publish()
        assert self.store.size("big") == BIG_BYTES
        assert self.other.read("big") == whole
        assert self.store.read_range("big", 8_388_600, 3_000_000) == whole[8_388_600:11_388_600]

    def check_damage_is_not_hidden(self) -> None:
        self.store.create("a", b"0123456789")
        self.bypass.put("a", b"01234")
        assert self.store.read("a") == b"01234"
        expect(IntegrityError, lambda: self.store.read_range("a", 2, 8), "ObjectTruncated")

    def check_traits_and_free_space_are_told(self) -> None:
        traits = self.store.traits
        assert traits.name
        assert traits.atomic_create
        free = self.store.free_bytes()
        assert free is None or free >= 0


def check_names() -> list[str]:
    """Names of all checks, in the order they are written."""
    return [name[6:] for name in vars(ObjectStoreSuite) if name.startswith("check_")]


def expect(error: type[HoldfastError], call: Callable[[], object], code: str = "") -> None:
    """``call`` must raise ``error`` (with this code)."""
    try:
        call()
    except error as raised:
        assert code in ("", raised.code), f"{raised.code} instead of {code}"
        return
    raise AssertionError(f"{error.__name__} {code} was not raised")


def send(store: ObjectStore, key: str, data: bytes) -> None:
    """Upload and publish; aborted on failure."""
    upload = store.upload(key)
    try:
        upload.write(data)
        upload.publish()
    finally:
        upload.abort()


def _publish(uploads: Sequence[Upload], racer: int) -> None:
    uploads[racer].publish()


def body(racer: int) -> bytes:
    """What one racer writes."""
    return bytes([racer + 1]) * 5000


def race(action: Callable[[int], object]) -> list[bool]:
    """``action`` of every racer at once; whether each succeeded (losers find the object there)."""
    gate = Barrier(RACERS)

    def run(racer: int) -> bool:
        gate.wait(60)
        try:
            action(racer)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(run, range(RACERS)))
