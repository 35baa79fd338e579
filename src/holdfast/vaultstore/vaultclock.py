"""Vault time: the later of the server's clock and the log's head, and when neither is trusted.

Nothing about safety rests on time; only retention does. A clock that stands behind the head, or
far ahead of what was last seen plus the time that passed since, stops expiry and collect until a
person confirms it. Backups go on, but a record made under such a clock does not move vault time,
so a wrong clock cannot make itself trusted by writing a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from holdfast.errors import ConflictError
from holdfast.ports.clock import Clock

TOLERANCE_NS = 5 * 60 * 1_000_000_000  # [ns] drift between servers, NTP steps
RESTART_TOLERANCE_NS = 7 * 24 * 3600 * 1_000_000_000  # [ns] how long a server may have been off

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ns(moment: datetime) -> int:
    """Nanoseconds since the epoch of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def from_ns(nanoseconds: int) -> datetime:
    """Aware UTC datetime, whole microseconds."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


@dataclass(frozen=True, slots=True)
class Seen:
    """A clock reading that was trusted: wall and monotonic, and how far the next may lie."""

    wall_ns: int
    monotonic_ns: int
    tolerance_ns: int


class VaultClock:
    """Judges the server's clock against the log. Guarded by the vault's lock."""

    def __init__(self, clock: Clock, head_ns: int) -> None:
        self._clock = clock
        self._seen = Seen(head_ns, self._monotonic_ns(), RESTART_TOLERANCE_NS)

    def now_ns(self) -> int:
        return to_ns(self._clock.now())

    def doubt(self, head_ns: int) -> str:
        """Why the clock is not trusted, or an empty string. A trusted reading is remembered."""
        now, monotonic = self.now_ns(), self._monotonic_ns()
        if now < head_ns - TOLERANCE_NS:
            return f"the clock says {_text(now)}, but the vault has seen {_text(head_ns)}"
        elapsed = monotonic - self._seen.monotonic_ns
        expected = max(self._seen.wall_ns + elapsed, head_ns)
        if now > expected + self._seen.tolerance_ns:
            return f"the clock says {_text(now)}, but about {_text(expected)} was expected"
        self._seen = Seen(now, monotonic, TOLERANCE_NS)
        return ""

    def require_trust(self, head_ns: int, action: str) -> None:
        """Raise ConflictError (ClockUntrusted) unless the clock is trusted."""
        doubt = self.doubt(head_ns)
        if doubt:
            raise ConflictError(
                f"{action} stops because the time is in doubt: {doubt}",
                code="ClockUntrusted",
                hint="Correct the server's clock, or confirm that it is right; backups go on.",
                retry="later",
            )

    def stamp_ns(self, head_ns: int) -> int:
        """Vault time for the next record: the very reading that was judged, for the clock may be
        set between two."""
        return head_ns if self.doubt(head_ns) else max(self._seen.wall_ns, head_ns)

    def confirm(self) -> int:
        """Trust the clock as it is now; returns its reading."""
        now = self.now_ns()
        self._seen = Seen(now, self._monotonic_ns(), TOLERANCE_NS)
        return now

    def _monotonic_ns(self) -> int:
        return int(self._clock.monotonic() * 1_000_000_000)


def _text(nanoseconds: int) -> str:
    return from_ns(nanoseconds).isoformat(timespec="seconds")
