"""What may go wrong in a simulation, how often, and what of it did."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Event = Literal[
    "refused", "lost", "late", "twice", "full", "torn", "empty", "freeze",
    "crash before", "crash after", "crash late",
    "flipped", "short", "nothing", "stale", "repeated", "disordered",
]  # fmt: skip

WRITE_EVENTS: tuple[Event, ...] = (
    "refused", "lost", "late", "twice", "full", "torn", "empty", "freeze",
    "crash before", "crash after", "crash late",
)  # fmt: skip
READ_EVENTS: tuple[Event, ...] = (
    "refused", "lost", "freeze", "crash before", "flipped", "short", "nothing"
)  # fmt: skip
LIST_EVENTS: tuple[Event, ...] = (
    "refused", "freeze", "crash before", "stale", "repeated", "disordered",
)  # fmt: skip
QUIET_EVENTS: tuple[Event, ...] = ("freeze", "crash before")  # of a clock, randomness, a sync
ALL_EVENTS: tuple[Event, ...] = tuple(
    dict.fromkeys((*WRITE_EVENTS, *READ_EVENTS, *LIST_EVENTS, *QUIET_EVENTS))
)

FAULTS = {
    "refused": "a call failed",
    "lost": "the reply was lost after success",
    "late": "a write took effect later, after others",
    "twice": "a write was delivered twice",
    "full": "the store was full",
    "torn": "a write left a part of the object and failed",
    "empty": "a write left an object of length zero and failed",
    "flipped": "a read gave bytes with a flipped bit",
    "short": "a read gave a part of the object",
    "nothing": "a read gave no bytes",
    "stale": "a listing was older than the store",
    "repeated": "a listing named an object twice",
    "disordered": "a listing was out of order",
    "rotten": "an object was damaged at rest, and put back later",
    "freeze": "a process stood still",
    "outlived": "a process woke up after its sessions were ended",
    "clock ahead": "a clock jumped forward",
    "clock back": "a clock jumped back",
    "crash before": "a process died before a call",
    "crash after": "a process died after a call took effect",
    "crash late": "a process died, and its write took effect later",
    "shared": "steps of several callers shared a record of the log",
    "power cut": "the machine lost power, and the disk what was not synced",
}

GENTLY = 5.0  # so many times fewer faults while a process only opens the vault
_ROOMS = ("log", "packs", "tables", "refsets", "sessions")
_AFTER = [
    *(f"create {room}" for room in ("log", "tables", "refsets", "sessions")),
    "publish packs",
    *(f"delete {room}" for room in ("packs", "tables", "refsets", "sessions")),
]
_BEFORE = [
    *(f"read {room}" for room in ("log", "packs", "tables", "refsets", "keyring", "descriptor")),
    *(f"list {room}" for room in (*_ROOMS, "keyring")),
    *("range packs", "size keyring", "size descriptor", "write packs"),
    *("clock", "random", "sync file", "name file", "sync folder"),
]
_RARE = [  # they are passed in few seeds
    *("list probe", "list reserve", "read sessions"),
    *("size packs", "delete tables"),
]
MOVING = " (moving)"  # by a collect that rewrites packs
_MOVING_WRITES = [f"publish packs{MOVING}", f"create tables{MOVING}"]
_MOVING = [f"range packs{MOVING}", f"write packs{MOVING}", *_MOVING_WRITES]
CRASH_PLACES: tuple[str, ...] = (
    *(f"{place}, before" for place in dict.fromkeys((*_BEFORE, *_AFTER, *_RARE, *_MOVING))),
    *(f"{place}, after" for place in (*_AFTER, *_MOVING_WRITES)),
)


@dataclass(frozen=True, slots=True)
class Weather:
    """How often, per call, each event happens."""

    rates: dict[Event, float]

    def draw(self, rng: random.Random, events: tuple[Event, ...], gently: bool) -> Event | None:
        """The event of one call, if any."""
        at = rng.random() * (GENTLY if gently else 1.0)
        for event in events:
            at -= self.rates.get(event, 0.0)
            if at < 0:
                return event
        return None


@dataclass
class Tally:
    """What happened: ``faults`` by kind, ``crashes`` by place, and ``places`` that were passed."""

    faults: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.faults.update(other.faults)
        self.crashes.update(other.crashes)
        self.places.update(other.places)

    def never(self) -> list[str]:
        """Kinds of faults and crash places of which nothing happened."""
        places = {*CRASH_PLACES, *self.places}
        return [kind for kind in FAULTS if not self.faults[kind]] + sorted(
            f"crash: {place}" for place in places if not self.crashes[place]
        )


@dataclass
class Doom:
    """Crashes a seed is bound for: at the nth time a place is passed. Each happens once."""

    at: dict[str, int]

    @classmethod
    def of(cls, seed: int, rng: random.Random) -> Doom:
        """Places take turns over the seeds, so that none is left out by chance."""
        count = len(CRASH_PLACES)
        places = [CRASH_PLACES[(3 * seed + number) % count] for number in range(3)]
        at = {f"{place}, before": 1 for place in _RARE if rng.random() < 0.4}
        at |= {f"{place}, before": 1 for place in _MOVING if rng.random() < 0.1}
        return cls(at | {place: rng.choice([1, 1, 2, 3, 5, 8]) for place in places})

    def strikes(self, place: str, passed: int) -> bool:
        """Whether the process dies at this passing."""
        if self.at.get(place) != passed:
            return False
        del self.at[place]
        return True
