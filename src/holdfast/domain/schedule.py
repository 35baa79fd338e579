"""When a policy's backups are due: wall-clock times in the policy's zone.

A time that daylight saving skips runs at the next valid minute; a time that comes twice runs once,
the first time. This departs from Azure Backup on purpose, which does not follow daylight saving.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from holdfast.errors import InternalError

Frequency = Literal["Daily", "Weekly", "Hourly"]
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MINUTE = timedelta(minutes=1)
LONGEST_LOOK_BACK = timedelta(days=400)
MOST_WEEKS = 4
SEARCH_DAYS = 9 + 7 * MOST_WEEKS  # more than any gap, with a day that a zone leaves out


@dataclass(frozen=True, slots=True)
class Schedule:
    """``times``: wall-clock times of a day, sorted. ``weekdays``: 0 = Monday; empty means all.
    ``every_weeks``: every how many weeks, counted from the week (Monday first) of ``anchor``."""

    frequency: Frequency
    times: tuple[time, ...]
    weekdays: frozenset[int] = frozenset()
    every_weeks: int = 1
    anchor: date = date(2026, 1, 5)

    def runs_on(self, day: date) -> bool:
        if self.every_weeks > 1 and _weeks_between(self.anchor, day) % self.every_weeks:
            return False
        return not self.weekdays or day.weekday() in self.weekdays


def _weeks_between(first: date, second: date) -> int:
    """Calendar weeks from the week of ``first`` to that of ``second``."""
    days = second.toordinal() - second.weekday() - first.toordinal() + first.weekday()
    return days // 7


def slot_at(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The moment (UTC) of wall-clock ``at`` on ``day``; a skipped time moves to the next valid
    minute, of a doubled time the first is meant."""
    wall = datetime.combine(day, at)
    while True:
        moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == wall:
            return moment
        wall += MINUTE


def slots_of_day(schedule: Schedule, day: date, zone: ZoneInfo) -> list[datetime]:
    """Due moments (UTC) whose wall-clock day is ``day``, ascending, without doubles."""
    if not schedule.runs_on(day):
        return []
    return sorted({slot_at(day, at, zone) for at in schedule.times})


def next_slot(schedule: Schedule, zone: ZoneInfo, after: datetime) -> datetime:
    """The first due moment (UTC) strictly later than ``after``."""
    start = after.astimezone(zone).date()
    for ahead in range(-1, SEARCH_DAYS):
        for slot in slots_of_day(schedule, start + timedelta(days=ahead), zone):
            if slot > after:
                return slot
    raise InternalError(f"a schedule has no time after {after}: {schedule}")


def latest_slot(schedule: Schedule, zone: ZoneInfo, at: datetime) -> datetime:
    """The last due moment (UTC) not later than ``at``."""
    start = at.astimezone(zone).date()
    for back in range(-1, SEARCH_DAYS):
        for slot in reversed(slots_of_day(schedule, start - timedelta(days=back), zone)):
            if slot <= at:
                return slot
    raise InternalError(f"a schedule has no time before {at}: {schedule}")


def slot_day(slot: datetime, zone: ZoneInfo, schedule: Schedule | None = None) -> date:
    """The wall-clock day a recovery point of ``slot`` counts for. With ``schedule`` also right for
    a slot that daylight saving moved past midnight: it counts for the day it was due."""
    day = slot.astimezone(zone).date()
    if schedule is None or slot in slots_of_day(schedule, day, zone):
        return day
    before = day - timedelta(days=1)
    return before if slot in slots_of_day(schedule, before, zone) else day


def tagging_slots(schedule: Schedule, day: date, zone: ZoneInfo) -> list[datetime]:
    """The slots of a day that may be kept for its week, month or year: of an hourly schedule only
    the day's last, else all."""
    slots = slots_of_day(schedule, day, zone)
    return slots[-1:] if schedule.frequency == "Hourly" else slots


def days_due(schedule: Schedule, zone: ZoneInfo, since: datetime, until: datetime) -> list[date]:
    """Days with a tagging slot at or after ``since`` and before ``until``, ascending; of a longer
    time the last 400 days."""
    since = max(since, until - LONGEST_LOOK_BACK)
    day = since.astimezone(zone).date() - timedelta(days=1)
    last = until.astimezone(zone).date()
    found = []
    while day <= last:
        if any(since <= slot < until for slot in tagging_slots(schedule, day, zone)):
            found.append(day)
        day += timedelta(days=1)
    return found
