"""The store's side of a simulation: objects, requests under way, and damage.

``created`` and ``deleted`` are told of every change right after it took effect. ``mirror`` holds
the objects as they are, for whoever must not be lied to; it is the store itself unless that is a
disk.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import ObjectExistsError, ObjectMissingError
from holdfast.ports.object_store import ObjectInfo, ObjectStore
from holdfast.testing.simulation.faults import (
    CRASH_PLACES,
    MOVING,
    QUIET_EVENTS,
    Doom,
    Event,
    Tally,
    Weather,
)
from holdfast.testing.simulation.life import CrashError, Life
from holdfast.testing.simulation.scheduler import Scheduler
from holdfast.vaultstore.records import READS

LATEST_STEPS = 600  # a request may still arrive so many points after it was sent
DAMAGE_STEPS = 250  # so long an object at rest, or a torn record of the log, stays damaged at most
FREEZE_STEPS = 1500
STALE_STEPS = 300
FLIPPED_MOVES = 0.4
GUID = 36
LOG = "log"
ROTTING_ROOMS = ("packs", "tables", "refsets", LOG)


def room_of(key: str) -> str:
    """The folder of a key below the vault's."""
    return key[GUID + 1 :].partition("/")[0]


class Network:
    """Everything between the processes and the objects."""

    def __init__(self, seed: int, weather: Weather, scheduler: Scheduler) -> None:
        self.mirror = MemoryStore()
        self.store: ObjectStore = self.mirror
        self.opens: Callable[[], ObjectStore] | None = None  # a process's own store over the disk
        self.scheduler = scheduler
        self.weather = weather
        self.calm = False
        self.calls = 0
        self.tally = Tally()
        self.created: Callable[[str], None] = lambda _key: None
        self.deleted: Callable[[str], None] = lambda _key: None
        self.froze: Callable[[], None] = lambda: None
        self.damaged: dict[str, tuple[int, bytes]] = {}  # key to the step it heals, and what it is
        self._random = random.Random(f"network {seed}")
        self._doom = Doom.of(seed, self._random)
        self._late: list[tuple[int, int, str, Callable[[], None]]] = []
        self._sent = 0
        self._changes: deque[tuple[int, ObjectInfo, bool]] = deque(maxlen=100)
        self._writing: dict[str, Life] = {}  # by actor
        self._stores: dict[str, ObjectStore] = {}  # by the name of the life that opened it
        self._delivering = False

    # calls

    def call(self, life: Life, verb: str, key: str, kinds: tuple[Event, ...]) -> Event | None:
        """A process calls the store; what happens to the call besides its effect."""
        self.calls += 1
        place = self.place(verb, key)
        event = self._point(life, f"{place}, before", f"{verb} {key}", kinds)
        if event is None and place == f"range packs{MOVING}" and self._harms_what_moves():
            self.fault("flipped", f"{verb} {key}")
            return "flipped"
        return event

    def _harms_what_moves(self) -> bool:
        """Where reads go wrong at all they do so more often here: a copy of damage is for ever."""
        flips = self.weather.rates.get("flipped", 0.0) > 0 and not self.calm
        return flips and self._random.random() < FLIPPED_MOVES

    def place(self, verb: str, key: str) -> str:
        """What a call is counted as. Whoever keeps a vault writes chunks only by moving them."""
        name = f"{verb} {room_of(key)}"
        moving = f"{name}{MOVING}"
        keeps = self.scheduler.current().endswith("keeper")
        return moving if keeps and f"{moving}, before" in CRASH_PLACES else name

    def moment(self, life: Life, place: str) -> None:
        """A point at which a process only waits."""
        self._point(life, f"{place}, before", place, QUIET_EVENTS)

    def disk_moment(self, place: str) -> None:
        """A point within a write; none for a request that arrives late."""
        life = self._writer()
        if life is not None:
            self.moment(life, place)

    def write(self, life: Life, action: Callable[[], None]) -> None:
        """Let a write of a process take effect."""
        actor = self.scheduler.current()
        self._writing[actor] = life
        try:
            action()
        finally:
            del self._writing[actor]

    def _point(self, life: Life, place: str, what: str, kinds: tuple[Event, ...]) -> Event | None:
        life.check()
        self.scheduler.point(what)
        life.check()
        self.passed(life, place)
        event = None if self.calm else self.weather.draw(self._random, kinds, life.opening)
        if event is None:
            return None
        self.fault(event, what)
        if event == "crash before":
            self.crash(life, place)
        if event == "freeze":
            self._freeze(life)
            life.check()
            return None
        return event

    def passed(self, life: Life, place: str) -> None:
        """Count a place where a process may die, and let it die if the seed wants it here."""
        count = self.tally.places[place] = self.tally.places[place] + 1
        if not self.calm and self._doom.strikes(place, count):
            self.fault("crash after" if place.endswith("after") else "crash before", place)
            self.crash(life, place)

    def fault(self, kind: str, what: str) -> None:
        self.tally.faults[kind] += 1
        self.scheduler.note(f"{kind}: {what}")

    def crash(self, life: Life, place: str) -> None:
        """End the process: whoever else runs in it ends at its next point."""
        self.scheduler.note(f"{life.name} crashes")
        self.tally.crashes[place] += 1
        life.dead = True
        raise CrashError

    def _freeze(self, life: Life) -> None:
        self.scheduler.freeze(life.process, self._random.randint(100, FREEZE_STEPS))
        self.froze()
        self.scheduler.point(f"{life.name} stood still")

    # requests under way

    def post(self, what: str, action: Callable[[], None]) -> None:
        """Let ``action`` take effect some points later."""
        self._sent += 1
        due = self.scheduler.steps + self._random.randint(1, LATEST_STEPS)
        heapq.heappush(self._late, (due, self._sent, what, action))

    def deliver(self, everything: bool = False) -> None:
        """Let late requests that are due take effect, and damage that is over heal."""
        while self._late and (everything or self._late[0][0] <= self.scheduler.steps):
            _, _, what, action = heapq.heappop(self._late)
            self.scheduler.note(f"arrives late: {what}")
            self._delivering = True
            with suppress(ObjectExistsError):
                action()
            self._delivering = False
        if self.damaged:
            now = self.scheduler.steps
            for key in [key for key, (until, _) in self.damaged.items() if until <= now]:
                self.scheduler.note(f"whole again: {key}")
                del self.damaged[key]

    # objects

    def create(self, key: str, data: bytes) -> None:
        if key in self.damaged:
            raise ObjectExistsError(f"object {key} exists")
        self._store_of(self._writer()).create(key, data)
        if self.store is self.mirror:
            self.appeared(key, data)

    def _writer(self) -> Life | None:
        """Whose write takes effect now; None for a request that arrives late."""
        return None if self._delivering else self._writing.get(self.scheduler.current())

    def _store_of(self, life: Life | None) -> ObjectStore:
        """The store as a process has opened it: what it knows of the disk is its own."""
        if life is None or self.opens is None:
            return self.store
        if life.name not in self._stores:
            self._stores[life.name] = self.opens()
        return self._stores[life.name]

    def appeared(self, key: str, data: bytes) -> None:
        """An object has become visible."""
        self.mirror.objects[key] = data
        self._changed(key, len(data), there=True)
        self.created(key)

    def delete(self, key: str) -> None:
        size = self.mirror.size(key)
        self._store_of(self._writer()).delete(key)
        self.damaged.pop(key, None)
        if size is not None:
            self.mirror.delete(key)
            self._changed(key, size, there=False)
            self.deleted(key)

    def lose_power(self, store: ObjectStore, left: dict[str, bytes]) -> None:
        """Only what is ``left`` is there any more, in this store, and nothing is under way."""
        self.store = store
        self._stores.clear()
        self.mirror.objects.clear()
        self.mirror.objects.update(left)
        self._late.clear()
        self._changes.clear()
        self.damaged.clear()

    def _changed(self, key: str, size: int, *, there: bool) -> None:
        self._changes.append((self.scheduler.steps, ObjectInfo(key, size), there))

    def listing(self, prefix: str, after: str, *, stale: bool) -> list[ObjectInfo]:
        """What a listing shows; a stale one as it was up to STALE_STEPS ago."""
        found = {info.key: info for info in self.mirror.list(prefix, after)}
        for key, (_, data) in self.damaged.items():
            if key.startswith(prefix) and key > after:
                found[key] = ObjectInfo(key, len(data))
        if stale:
            since = self.scheduler.steps - self._random.randint(1, STALE_STEPS)
            for step, info, there in reversed(self._changes):
                if step > since and info.key.startswith(prefix) and info.key > after:
                    found.pop(info.key, None)
                    if not there:
                        found[info.key] = info
        return [found[key] for key in sorted(found)]

    # damage

    def view(self, life: Life, key: str, event: Event | None) -> bytes:
        """The bytes of an object as a process sees them. ObjectMissingError."""
        damaged = self.damaged.get(key)
        true = self._store_of(life).read(key) if damaged is None else damaged[1]
        seen = self._harmed(true, event) if event is not None else true
        patience = READS if room_of(key) == LOG else 1
        rotten = damaged is not None
        life.shown(key, rotten=rotten, wrong=seen != true, patience=patience)
        return seen

    def _harmed(self, data: bytes, event: Event) -> bytes:
        if event == "flipped" and data:
            place = self._random.randrange(len(data))
            bit = bytes([data[place] ^ 1 << self._random.randrange(8)])
            return data[:place] + bit + data[place + 1 :]
        if event == "short":
            return data[: self._random.randrange(max(1, len(data)))]
        return b"" if event == "nothing" else data

    def tear(self, key: str, part: bytes, creates: bool) -> None:
        """A create leaves a part of its object. A torn record of the log is taken away after a
        while, as an operator or the store's own recovery would; another torn object stays."""
        if not creates or self.mirror.size(key) is not None or key in self.damaged:
            return
        if room_of(key) == LOG:
            self.damaged[key] = (self._healing(), part)
        elif self.store is self.mirror:
            self.mirror.objects[key] = part
            self._changed(key, len(part), there=True)

    def rot(self, rng: random.Random) -> None:
        """Damage an object at rest; it is put back from a copy later."""
        rooms = [info for info in self.mirror.list() if room_of(info.key) in ROTTING_ROOMS]
        if self.calm or not rooms:
            return
        key = rng.choice(rooms).key
        if key not in self.damaged:
            kind: Event = rng.choice(("flipped", "flipped", "short", "nothing"))
            with suppress(ObjectMissingError):
                self.damaged[key] = (self._healing(), self._harmed(self.mirror.read(key), kind))
                self.fault("rotten", key)

    def _healing(self) -> int:
        return self.scheduler.steps + self._random.randint(20, DAMAGE_STEPS)

    def settle(self) -> None:
        """No more faults; whatever is under way arrives, and all damage heals."""
        self.calm = True
        self.deliver(everything=True)
        self.damaged.clear()
