"""A store that fails in every way a store may, decided by a seed, and processes that die in it.

Beneath is a store that keeps its promises: what is said to have happened has happened. Between it
and the process there is a network (``network.py``) that loses requests and replies, delivers
requests late or twice and damages what is read, and a process that may end at any call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from holdfast.adapters.object_store.rules import truncated
from holdfast.errors import (
    ObjectExistsError,
    ObjectMissingError,
    StoreFullError,
    StoreUnavailableError,
)
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits
from holdfast.testing.simulation.faults import LIST_EVENTS, READ_EVENTS, WRITE_EVENTS, Event
from holdfast.testing.simulation.life import Life
from holdfast.testing.simulation.network import Network

T = TypeVar("T")
Pages = tuple[Sequence[ObjectInfo], Sequence[ObjectInfo]]  # as it is, and as it is shown
PAGE = 4  # objects a listing brings between two points
UPLOAD_EVENTS: tuple[Event, ...] = ("refused", "freeze", "crash before")
LOOK_EVENTS: tuple[Event, ...] = ("refused", "lost", "freeze", "crash before")


class SimulatedStore:
    """The port as one incarnation of a process sees it."""

    def __init__(self, network: Network, life: Life) -> None:
        self._network = network
        self._life = life

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("simulated", atomic_create=True, durable=True)

    def look_call(
        self,
        verb: str,
        key: str,
        action: Callable[[Event | None], T],
        events: tuple[Event, ...] = LOOK_EVENTS,
    ) -> T:
        """A call that changes nothing; ``action`` is told what else goes wrong with it."""
        event = self._network.call(self._life, verb, key, events)
        if event in ("refused", "lost"):
            raise StoreUnavailableError(f"{verb} {key}: {event}")
        return action(event)

    def write_call(
        self, verb: str, key: str, action: Callable[[], None], data: bytes = b""
    ) -> None:
        """A call that changes the store whole or not at all, or that leaves a torn object and says
        that it failed. ``data``: of a create."""
        what = f"{verb} {key}"
        event = self._network.call(self._life, verb, key, WRITE_EVENTS)
        if event == "full":
            raise StoreFullError(f"{what}: no room")
        if event == "refused":
            raise StoreUnavailableError(f"{what}: refused")
        if event in ("torn", "empty"):
            self._network.tear(key, data[: len(data) // 2] if event == "torn" else b"", bool(data))
            raise StoreUnavailableError(f"{what}: broke off")
        if event in ("late", "crash late"):
            self._network.post(what, action)
        elif event in ("lost", "crash after"):
            with suppress(ObjectExistsError):
                self._network.write(self._life, action)
        else:
            self._network.write(self._life, action)
        self._after(verb, key, event, action)

    def _after(self, verb: str, key: str, event: Event | None, action: Callable[[], None]) -> None:
        what = f"{verb} {key}"
        if event == "twice":
            self._network.post(what, action)
        if event in ("crash after", "crash late"):
            self._network.crash(self._life, f"{self._network.place(verb, key)}, after")
        self._network.passed(self._life, f"{self._network.place(verb, key)}, after")
        if event in ("lost", "late"):
            raise StoreUnavailableError(f"{what}: no reply")

    def create(self, key: str, data: Buffer) -> None:
        whole = bytes(data)
        self.write_call("create", key, partial(self._network.create, key, whole), whole)

    def upload(self, key: str) -> SimulatedUpload:
        return SimulatedUpload(self, self._network, key)

    def read(self, key: str) -> bytes:
        view = partial(self._network.view, self._life, key)
        return self.look_call("read", key, view, READ_EVENTS)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        def part(event: Event | None) -> bytes:
            data = self._network.view(self._life, key, event)[offset : offset + length]
            if len(data) != length:
                raise truncated(key, offset + length)
            return data

        return self.look_call("range", key, part, READ_EVENTS)

    def size(self, key: str) -> int | None:
        def measured(_event: Event | None) -> int | None:
            with suppress(ObjectMissingError):
                return len(self._network.view(self._life, key, None))
            return None

        return self.look_call("size", key, measured)

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """In pages, between which the store changes."""
        while True:
            page, shown = self.look_call("list", prefix, self._pages(prefix, after), LIST_EVENTS)
            yield from shown
            if len(page) < PAGE:
                return
            after = page[-1].key

    def _pages(self, prefix: str, after: str) -> Callable[[Event | None], Pages]:
        def page(event: Event | None) -> Pages:
            found = self._network.listing(prefix, after, stale=event == "stale")[:PAGE]
            if event == "repeated":
                return found, [*found[:1], *found]
            return found, found[::-1] if event == "disordered" else found

        return page

    def delete(self, key: str) -> None:
        self.write_call("delete", key, partial(self._network.delete, key))

    def free_bytes(self) -> int | None:
        self._life.check()
        return None


class SimulatedUpload:
    """Bytes of a process on their way; they end with it. A write may break off in the middle, after
    which publish is refused: what arrived is not what was announced."""

    def __init__(self, store: SimulatedStore, network: Network, key: str) -> None:
        self._store = store
        self._network = network
        self._key = key
        self._data = bytearray()
        self._broken = False

    def write(self, data: Buffer) -> None:
        try:
            self._store.look_call("write", self._key, lambda _event: None, UPLOAD_EVENTS)
        except StoreUnavailableError:
            self._broken = True
            self._data += bytes(data)[: len(data) // 2]
            raise
        self._data += data

    def publish(self) -> None:
        if self._broken or not self._data:
            raise StoreUnavailableError(f"{self._key} did not arrive whole")
        whole = bytes(self._data)
        action = partial(self._network.create, self._key, whole)
        self._store.write_call("publish", self._key, action, whole)

    def abort(self) -> None:
        self._data = bytearray()
