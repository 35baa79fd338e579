"""When the backups of a policy are due, kind by kind: of a database policy full, differential or
incremental, and log backups.

Log backups follow no wall clock: they are due at one distance from each other, counted from a fixed
midnight (UTC), so that no night with another offset makes the distance longer. An interval that
divides a day is due at the same times (UTC) every day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.domain.policy import Policy
from holdfast.domain.policy_workload import SubPolicy
from holdfast.domain.schedule import latest_slot, next_slot
from holdfast.errors import InternalError

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
ONLY = "Backup"  # the kind of a policy that makes one kind of backup


@dataclass(frozen=True, slots=True)
class Upcoming:
    """The next moments (UTC, ascending) at which backups of a ``kind`` are due."""

    kind: str
    times: tuple[datetime, ...]


def next_due(sub: SubPolicy, zone: ZoneInfo, after: datetime) -> datetime:
    """The first moment (UTC) strictly later than ``after`` at which it is due."""
    if sub.schedule is not None:
        return next_slot(sub.schedule, zone, after)
    step = _step(sub)
    return FIRST + ((after - FIRST) // step + 1) * step


def latest_due(sub: SubPolicy, zone: ZoneInfo, at: datetime) -> datetime:
    """The last moment (UTC) not later than ``at`` at which it was due."""
    if sub.schedule is not None:
        return latest_slot(sub.schedule, zone, at)
    step = _step(sub)
    return FIRST + (at - FIRST) // step * step


def _step(sub: SubPolicy) -> timedelta:
    if sub.log_minutes <= 0:
        raise InternalError(f"a {sub.kind} policy has neither a schedule nor an interval")
    return timedelta(minutes=sub.log_minutes)


def upcoming(policy: Policy, after: datetime, count: int) -> list[Upcoming]:
    """The next ``count`` moments of each kind of backup the policy makes."""
    subs = policy.subs
    if policy.schedule is not None:
        subs = (SubPolicy(ONLY, policy.schedule, policy.rules),)
    return [Upcoming(sub.kind, _next(sub, policy.zone, after, count)) for sub in subs]


def _next(sub: SubPolicy, zone: ZoneInfo, after: datetime, count: int) -> tuple[datetime, ...]:
    found: list[datetime] = []
    while len(found) < count:
        found.append(next_due(sub, zone, found[-1] if found else after))
    return tuple(found)
