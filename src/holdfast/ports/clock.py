"""Time, handed in. Nothing outside adapters/clock may ask the machine for it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall and monotonic time.

    ``now`` returns an aware UTC datetime; it may jump either way when an administrator or NTP
    sets it. ``monotonic`` returns seconds that never go back within one process.
    """

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


class Random(Protocol):
    """Randomness, handed in so that a simulation can replay it. ``count`` is in bytes."""

    def token(self, count: int) -> bytes: ...
