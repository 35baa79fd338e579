"""A store that fails in every way a store may, decided by a seed, and processes that die in it.

Beneath is a ``MemoryStore`` that keeps its promises: what is said to have happened has happened.
Between it and the process there is a network that loses requests and replies, delivers requests
late or twice, and a process that may end before, during or after any call.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ObjectExistsError, StoreFullError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits
from holdfast.testing.simulation.scheduler import Scheduler

T = TypeVar("T")
Event = Literal[
    "refused", "lost", "late", "twice", "full", "crash before", "crash after", "crash late"
]
WRITE_EVENTS: tuple[Event, ...] = (
    "refused", "lost", "late", "twice", "full", "crash before", "crash after", "crash late",
)  # fmt: skip
READ_EVENTS: tuple[Event, ...] = ("refused", "lost", "crash before", "crash after")
LATEST_STEPS = 600  # a request may still arrive so many points after it was sent
PAGE = 4  # objects a listing brings between two points


class CrashError(BaseException):
    """The process is gone. No handler of errors may see it."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How often, per store call, each event happens."""

    rates: dict[Event, float]

    def draw(self, rng: random.Random, events: tuple[Event, ...]) -> Event | None:
        """The event of one call, if any."""
        at = rng.random()
        for event in events:
            at -= self.rates.get(event, 0.0)
            if at < 0:
                return event
        return None


class Life:
    """One incarnation of a process; ``dead`` once it crashed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False

    def check(self) -> None:
        if self.dead:
            raise CrashError


class Network:
    """The store's side: the objects, late requests under way, and what watches them.

    ``created`` and ``deleted`` are told of every change right after it took effect."""

    def __init__(self, seed: int, weather: Weather, scheduler: Scheduler) -> None:
        self.store = MemoryStore()
        self.scheduler = scheduler
        self.weather = weather
        self.calm = False
        self.events: dict[str, int] = {}
        self.created: Callable[[str], None] = lambda _key: None
        self.deleted: Callable[[str], None] = lambda _key: None
        self._random = random.Random(f"network {seed}")
        self._late: list[tuple[int, int, str, Callable[[], None]]] = []
        self._sent = 0

    def event(self, kinds: tuple[Event, ...], what: str) -> Event | None:
        """What happens to one call."""
        found = None if self.calm else self.weather.draw(self._random, kinds)
        if found is not None:
            self.events[found] = self.events.get(found, 0) + 1
            self.scheduler.note(f"{found}: {what}")
        return found

    def post(self, what: str, action: Callable[[], None]) -> None:
        """Let ``action`` take effect some points later."""
        self._sent += 1
        due = self.scheduler.steps + self._random.randint(1, LATEST_STEPS)
        heapq.heappush(self._late, (due, self._sent, what, action))

    def deliver(self, everything: bool = False) -> None:
        """Let late requests that are due take effect."""
        while self._late and (everything or self._late[0][0] <= self.scheduler.steps):
            _, _, what, action = heapq.heappop(self._late)
            self.scheduler.note(f"arrives late: {what}")
            with suppress(ObjectExistsError):
                action()

    def create(self, key: str, data: bytes) -> None:
        self.store.create(key, data)
        self.created(key)

    def delete(self, key: str) -> None:
        there = self.store.size(key) is not None
        self.store.delete(key)
        if there:
            self.deleted(key)


class SimulatedStore:
    """The port as one incarnation of a process sees it."""

    def __init__(self, network: Network, life: Life) -> None:
        self._network = network
        self._life = life

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("simulated", atomic_create=True, durable=True)

    def read_call(self, what: str, action: Callable[[], T]) -> T:
        """A call that changes nothing."""
        event = self._begin(what, READ_EVENTS)
        if event in ("crash before", "crash after"):
            self.die()
        if event is not None:
            raise StoreUnavailableError(f"{what}: {event}")
        return action()

    def write_call(self, what: str, action: Callable[[], None]) -> None:
        """A call that changes the store whole or not at all."""
        event = self._begin(what, WRITE_EVENTS)
        if event == "crash before":
            self.die()
        if event == "full":
            raise StoreFullError(f"{what}: no room")
        if event == "refused":
            raise StoreUnavailableError(f"{what}: refused")
        if event in ("late", "crash late"):
            self._network.post(what, action)
        elif event in ("lost", "crash after"):
            with suppress(ObjectExistsError):
                action()
        else:
            action()
        if event == "twice":
            self._network.post(what, action)
        if event in ("crash after", "crash late"):
            self.die()
        if event in ("lost", "late"):
            raise StoreUnavailableError(f"{what}: no reply")

    def _begin(self, what: str, kinds: tuple[Event, ...]) -> Event | None:
        self._life.check()
        self._network.scheduler.point(what)
        self._life.check()
        return self._network.event(kinds, what)

    def die(self) -> None:
        """End the process: whoever else runs in it ends at its next point."""
        self._network.scheduler.note(f"{self._life.name} crashes")
        self._life.dead = True
        raise CrashError

    def create(self, key: str, data: Buffer) -> None:
        self.write_call(f"create {key}", partial(self._network.create, key, bytes(data)))

    def upload(self, key: str) -> SimulatedUpload:
        return SimulatedUpload(self, self._network, key)

    def read(self, key: str) -> bytes:
        return self.read_call(f"read {key}", lambda: self._network.store.read(key))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.read_call(
            f"range {key}", lambda: self._network.store.read_range(key, offset, length)
        )

    def size(self, key: str) -> int | None:
        return self.read_call(f"size {key}", lambda: self._network.store.size(key))

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """In pages, between which the store changes."""
        while True:
            page = self.read_call(f"list {prefix}", partial(self._page, prefix, after))
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].key

    def _page(self, prefix: str, after: str) -> Sequence[ObjectInfo]:
        found = self._network.store.list(prefix, after)
        return [info for info, _ in zip(found, range(PAGE), strict=False)]

    def delete(self, key: str) -> None:
        self.write_call(f"delete {key}", partial(self._network.delete, key))

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
            self._store.read_call(f"write {self._key}", lambda: None)
        except StoreUnavailableError:
            self._broken = True
            self._data += bytes(data)[: len(data) // 2]
            raise
        self._data += data

    def publish(self) -> None:
        if self._broken or not self._data:
            raise StoreUnavailableError(f"{self._key} did not arrive whole")
        whole = bytes(self._data)
        self._store.write_call(
            f"publish {self._key}", partial(self._network.create, self._key, whole)
        )

    def abort(self) -> None:
        self._data = bytearray()
