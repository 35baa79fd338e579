"""Time and randomness of simulated processes; asking for either is a scheduling point."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from holdfast.testing.simulation.life import Life
from holdfast.testing.simulation.network import Network

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Time:
    """True time, which passes at every point."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"time {seed}")
        self.seconds = 0.0

    def pass_some(self) -> None:
        """Mostly milliseconds, now and then minutes."""
        rare = self._random.random() < 0.002
        self.seconds += self._random.uniform(60, 7200) if rare else self._random.uniform(0, 0.05)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class SimulatedClock:
    """A machine's clock: ``offset`` [s] is what an administrator set it wrong by."""

    def __init__(self, time: Time, network: Network, life: Life, offset: float) -> None:
        self._time = time
        self._network = network
        self._life = life
        self._boot = time.seconds
        self.offset = offset

    def now(self) -> datetime:
        self._network.moment(self._life, "clock")
        return START + timedelta(seconds=self._time.seconds + self.offset)

    def monotonic(self) -> float:
        self._network.moment(self._life, "clock")
        return 1000.0 + self._time.seconds - self._boot


class SimulatedRandom:
    """Random bytes of one incarnation of a process."""

    def __init__(self, seed: str, network: Network, life: Life) -> None:
        self._random = random.Random(seed)
        self._network = network
        self._life = life

    def token(self, count: int) -> bytes:
        self._network.moment(self._life, "random")
        return self._random.randbytes(count)
