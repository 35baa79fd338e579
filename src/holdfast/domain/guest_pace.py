"""How fast a guest's disks are read, judged by how long the guest's own writes take meanwhile.

A write that takes longer than the bound, and clearly longer than before the backup, halves the
rate; writes that are quick again raise it step by step, and a guest that writes nothing is not
waited for: nothing means for as long as two of its slowest writes would take, for one that takes
seconds ends in few intervals. The rate never falls below a floor, so that a backup ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

FLOOR = 4 << 20  # [bytes/s]
CEILING = 8 << 30  # [bytes/s]; a rate above it is none
SLOWER, FASTER = 0.5, 1.5  # what one interval does to the rate
EASY = 0.8  # of the bound: below it the rate rises
ROSE = 1.5  # times what writes took before the backup: less is no rise
PATIENCE = 10.0  # [s]; at most so long is the silence that means that a guest writes nothing
SECOND = 1e9  # [ns]
FEW = 3  # writes of an interval, below which what they took before counts for nothing


class Written(NamedTuple):
    """What a guest wrote to a disk since its machine was started: writes that ended, and how long
    they took, added up [ns]."""

    writes: int
    nanoseconds: int


Counts = Mapping[str, Written]  # by disk of the guest


def took(before: Counts, after: Counts, *, least: int = 1) -> dict[str, float]:
    """How long a write of each disk took between two counts [ns], on average; disks with fewer than
    ``least`` writes are left out, as are those whose counts began anew."""
    found = {}
    for disk, now in after.items():
        since = before.get(disk, now)
        writes, spent = now.writes - since.writes, now.nanoseconds - since.nanoseconds
        if writes >= least and spent >= 0:
            found[disk] = spent / writes
    return found


def usual(before: Counts, after: Counts) -> dict[str, float]:
    """The base line: how long writes took between two counts before the reads [ns]; for a disk with
    too few of them, since the machine was started."""
    start = dict.fromkeys(after, Written(0, 0))
    return took(start, after, least=FEW) | took(before, after, least=FEW)


@dataclass(slots=True)
class GuestPace:
    """``bound`` [ns]; ``base``: see ``usual``. Times are seconds of one clock that never goes back,
    handed in. Not thread safe. ``worst``: the longest that writes of a disk took in an interval
    [ns]."""

    bound: float
    base: Mapping[str, float]
    worst: float = 0.0
    _rate: float | None = None  # [bytes/s]; None: reads are not held back
    _last: Counts | None = None
    _at: float = 0.0
    _wrote: float = 0.0  # when writes were counted last
    _silence: float = 0.0  # [s] since, after which the guest writes nothing
    _free: float = 0.0  # when the next read may begin
    _read: int = 0  # bytes since the last count

    @property
    def rate(self) -> float | None:
        """Bytes per second that may be read now; None for as many as come."""
        return self._rate

    def count(self, now: float, counts: Counts) -> None:
        """The guest's counts, an interval after the last; the rate follows them."""
        last, span, read = self._last, now - self._at, self._read
        self._last, self._at, self._read = dict(counts), now, 0
        found = took(last, counts) if last is not None else {}
        if not found:
            if now - self._wrote >= self._silence:
                self.lift()
            return
        self._wrote = now
        self._silence = min(PATIENCE, 2 * max(found.values()) / SECOND)
        self.worst = max(self.worst, *found.values())
        strain = max(spent / self._limit(disk) for disk, spent in found.items())
        if strain > 1:
            self._slow(read / span if span > 0 else 0.0, now)
        elif strain < EASY and self._rate is not None:
            self._rate *= FASTER
            if self._rate > CEILING:
                self.lift()

    def _limit(self, disk: str) -> float:
        return max(self.bound, ROSE * self.base.get(disk, 0.0))

    def _slow(self, reading: float, now: float) -> None:
        """From what was read, if that is less than what might have been. An interval in which
        nothing was read is not to blame."""
        if reading <= 0:
            return
        held = reading if self._rate is None else min(self._rate, reading)
        self._rate = max(FLOOR, SLOWER * held)
        self._free = max(self._free, now)

    def lift(self) -> None:
        """Reads are not held back, until writes are slow again."""
        self._rate, self._free = None, 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next read may begin; 0 when it may now."""
        return max(0.0, self._free - now) if self._rate is not None else 0.0

    def begin(self, now: float, size: int) -> None:
        """A read of so many bytes begins."""
        self._read += size
        if self._rate is not None:
            self._free = max(self._free, now) + size / self._rate
