"""Whether an item has the recovery points its policy promises."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from holdfast.domain.policy import Policy, slot_tags
from holdfast.domain.retention import PointFacts, expiry_of
from holdfast.domain.schedule import next_slot, slots_of_day

WINDOW = timedelta(days=30)
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Compliance:
    """``expected``: scheduled moments of the window whose point should still be there; ``present``:
    those that have one. ``missing`` names the newest of the others. ``longest_gap``: the longest
    time of the window without a new point, up to now."""

    expected: int = 0
    present: int = 0
    missing: tuple[datetime, ...] = ()
    longest_gap: timedelta | None = None

    @property
    def share(self) -> float | None:
        """From 0 to 1; None when nothing is expected yet."""
        return self.present / self.expected if self.expected else None


def compliance(
    policy: Policy, points: Sequence[datetime], since: datetime, now: datetime
) -> Compliance:
    """Of an item protected ``since``, whose ``points`` ascend. A point belongs to the last
    scheduled moment before it; a moment counts when its time is over or it has its point."""
    begin = max(since, now - WINDOW)
    if policy.schedule is None or begin >= now:
        return Compliance()
    expected, missing = 0, []
    for slot, following in _slots(policy, begin, now):
        at = bisect_left(points, slot)
        found = at < len(points) and points[at] < following
        if found or (following <= now and _is_kept(policy, slot, now)):
            expected += 1
            if not found:
                missing.append(slot)
    gap = longest_gap([one for one in points if one >= begin], begin, now)
    named = tuple(reversed(missing[-MOST_NAMED:]))
    return Compliance(expected, expected - len(missing), named, gap)


def _slots(policy: Policy, begin: datetime, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Scheduled moments from ``begin`` to ``now``, each with the one after it."""
    schedule, zone = policy.schedule, policy.zone
    if schedule is None:
        return
    day, last = begin.astimezone(zone).date() - timedelta(days=1), now.astimezone(zone).date()
    found: set[datetime] = set()
    while day <= last:
        found.update(slot for slot in slots_of_day(schedule, day, zone) if begin <= slot <= now)
        day += timedelta(days=1)
    if found:
        yield from pairwise([*sorted(found), next_slot(schedule, zone, now)])


def _is_kept(policy: Policy, slot: datetime, now: datetime) -> bool:
    """Whether retention keeps a point of ``slot`` until now."""
    end, _ = expiry_of(PointFacts("", slot, slot_tags(policy, slot)), policy.rules)
    return end is None or end > now


def longest_gap(points: Sequence[datetime], begin: datetime, now: datetime) -> timedelta:
    """The longest time without a new point between ``begin`` and ``now``."""
    return max(later - earlier for earlier, later in pairwise([begin, *points, now]))
