"""Work hours: when an agent may use how much of the network. Wall-clock times in a zone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from holdfast.domain.schedule import WEEKDAYS
from holdfast.domain.timezones import find_zone
from holdfast.errors import UsageError

CODE = "InvalidWorkHours"
SLOWEST, FASTEST = 1_000, 1_000_000_000_000  # [bytes/s]
FIELDS = ("days", "start", "end", "timeZone", "throttleBytesPerSecond")
EXAMPLE = (
    '{"days": ["Monday"], "start": "09:00", "end": "18:00", "timeZone": "Europe/Berlin", '
    '"throttleBytesPerSecond": 500000}'
)


@dataclass(frozen=True, slots=True)
class WorkHours:
    """``days`` (0 = Monday) on which work begins at ``start``; it lasts until ``end`` of the same
    day, or of the next when that is not later. ``rate``: most bytes per second meanwhile; None is
    no limit."""

    days: frozenset[int]
    start: time
    end: time
    zone_name: str
    rate: int | None

    @property
    def zone(self) -> ZoneInfo:
        return find_zone(self.zone_name)

    def covers(self, now: datetime) -> bool:
        """Whether ``now`` lies in them."""
        local = now.astimezone(self.zone)
        at, day = local.time(), local.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= at < self.end
        before = (local.date() - timedelta(days=1)).weekday()
        return (day in self.days and at >= self.start) or (before in self.days and at < self.end)


def rate_at(outside: int | None, hours: WorkHours | None, now: datetime) -> int | None:
    """Most bytes per second now; None is no limit. ``outside``: that of the other hours."""
    return hours.rate if hours is not None and hours.covers(now) else outside


def read_work_hours(given: Any) -> WorkHours | None:
    """From a body; None for null. UsageError (InvalidWorkHours, or of the zone)."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise _wrong("workHours is not an object")
    for name in given:
        if name not in FIELDS:
            raise _wrong(f"{str(name)[:50]!r} is no field of workHours")
    zone = given.get("timeZone")
    zone = "UTC" if zone in (None, "") else zone
    if not isinstance(zone, str):
        raise _wrong("timeZone is not a text")
    find_zone(zone)
    days = given.get("days")
    if not isinstance(days, list) or not days:
        raise _wrong("days is not a list of days")
    return WorkHours(
        days=frozenset(_day(one) for one in days),
        start=_time(given.get("start"), "start"),
        end=_time(given.get("end"), "end"),
        zone_name=zone,
        rate=_rate(given.get("throttleBytesPerSecond")),
    )


def work_hours_body(hours: WorkHours | None) -> dict[str, Any] | None:
    """As ``read_work_hours`` reads it."""
    if hours is None:
        return None
    return {
        "days": [WEEKDAYS[day] for day in sorted(hours.days)],
        "start": f"{hours.start:%H:%M}",
        "end": f"{hours.end:%H:%M}",
        "timeZone": hours.zone_name,
        "throttleBytesPerSecond": hours.rate,
    }


def _day(given: Any) -> int:
    for number, name in enumerate(WEEKDAYS):
        if isinstance(given, str) and given.lower() == name.lower():
            return number
    raise _wrong(f"{str(given)[:50]!r} is no day of the week")


def _time(given: Any, name: str) -> time:
    try:
        return datetime.strptime(given, "%H:%M").time()  # noqa: DTZ007 - a wall-clock time
    except (TypeError, ValueError) as error:
        raise _wrong(f"{name} is no time such as 09:00") from error


def _rate(given: Any) -> int | None:
    whole = isinstance(given, int) and not isinstance(given, bool)
    if given is None or (whole and given == 0):
        return None
    if not whole or not SLOWEST <= given <= FASTEST:
        raise _wrong(
            f"throttleBytesPerSecond is not a whole number from {SLOWEST:,} to {FASTEST:,}"
        )
    return int(given)


def _wrong(message: str) -> UsageError:
    return UsageError(message, code=CODE, hint=f"send e.g. {EXAMPLE}, or null for none")
