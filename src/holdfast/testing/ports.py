"""Ports for tests: a clock that is moved by hand, randomness that repeats by seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta


class MovableClock:
    """Stands still until it is moved. ``jump`` changes the wall clock only, as an administrator
    would; ``pass_time`` moves both."""

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def jump(self, by: timedelta) -> None:
        self._now += by

    def pass_time(self, by: timedelta) -> None:
        self._now += by
        self._monotonic += by.total_seconds()


class SeededRandom:
    """Repeats for one seed. Not for keys that protect anything."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def token(self, count: int) -> bytes:
        return self._random.randbytes(count)
