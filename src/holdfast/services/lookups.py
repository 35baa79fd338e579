"""Presence lookups of agents: held to a rate, and counted for the audit record.

Whoever holds an agent's key could try guesses of what the machine once had. An honest agent asks
once per chunk it reads, so the default rate is above what reading a machine's disks can need; and
what was asked and answered stands in the record of its session.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from holdfast.catalog.tasks import SessionCounts
from holdfast.errors import LimitError

BURST_SECONDS = 10.0  # an agent that asked nothing for a while may ask so many seconds' ids at once
WRITE_EVERY = 5.0  # [s] how long counts of a session wait in memory
DEFAULT_RATE = 50_000  # [ids/s] 12 GB/s of the smallest chunks


class TooManyLookupsError(LimitError):
    """An agent asks faster than it may; ``wait_seconds``: when it may ask again."""

    code = "TooManyLookups"

    def __init__(self, wait_seconds: int, rate: float) -> None:
        super().__init__(
            f"this agent asks for the presence of more than {rate:g} chunks per second",
            hint="The agent goes on by itself after the pause it is told. If it is what you want, "
            "raise lookup_ids_per_second in the server's settings.",
        )
        self.wait_seconds = wait_seconds


class LookupRate:
    """A bucket per agent: a call may overdraw it, the next waits until it is filled again."""

    def __init__(self, rate: float, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, agent_id: str, count: int) -> None:
        """Pay for ``count`` ids. TooManyLookupsError."""
        now = self._monotonic()
        most = self._rate * BURST_SECONDS
        with self._lock:
            left, at = self._buckets.get(agent_id, (most, now))
            left = min(most, left + (now - at) * self._rate)
            self._buckets[agent_id] = (left if left < 0 else left - count, now)
        if left < 0:
            raise TooManyLookupsError(max(1, math.ceil(-left / self._rate)), self._rate)


class LookupCounts:
    """What sessions asked and were answered, since it was written into the catalog last."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[int, int]] = {}
        self._written: dict[str, float] = {}

    def add(self, session_hex: str, asked: int, present: int) -> bool:
        """Count a lookup; whether it is time to write."""
        now = self._monotonic()
        with self._lock:
            before = self._pending.get(session_hex, (0, 0))
            self._pending[session_hex] = (before[0] + asked, before[1] + present)
            return now - self._written.get(session_hex, -WRITE_EVERY) >= WRITE_EVERY

    def take(self, session_hex: str, *, ended: bool = False) -> SessionCounts:
        """What is to be added to the session's figures now."""
        with self._lock:
            self._written[session_hex] = self._monotonic()
            asked, present = self._pending.pop(session_hex, (0, 0))
            if ended:
                del self._written[session_hex]
        return SessionCounts(asked_ids=asked, present_ids=present)
