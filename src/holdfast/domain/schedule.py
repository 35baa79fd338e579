"""When a policy's backups are due: wall-clock times in the policy's zone.

A time that daylight saving skips runs at the next valid minute; a time that comes twice runs once,
the first time. This departs from Azure Backup on purpose, which does not follow daylight saving.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

Frequency = Literal["Daily", "Weekly", "Hourly"]
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """``times``: wall-clock times of a day, sorted. ``weekdays``: 0 = Monday; empty means all."""

    frequency: Frequency
    times: tuple[time, ...]
    weekdays: frozenset[int] = frozenset()

    def runs_on(self, day: date) -> bool:
        return not self.weekdays or day.weekday() in self.weekdays


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
    day = after.astimezone(zone).date() - timedelta(days=1)
    while True:
        for slot in slots_of_day(schedule, day, zone):
            if slot > after:
                return slot
        day += timedelta(days=1)


def latest_slot(schedule: Schedule, zone: ZoneInfo, at: datetime) -> datetime:
    """The last due moment (UTC) not later than ``at``."""
    day = at.astimezone(zone).date() + timedelta(days=1)
    while True:
        for slot in reversed(slots_of_day(schedule, day, zone)):
            if slot <= at:
                return slot
        day -= timedelta(days=1)


def slot_day(slot: datetime, zone: ZoneInfo) -> date:
    """The wall-clock day a recovery point of ``slot`` counts for."""
    return slot.astimezone(zone).date()
