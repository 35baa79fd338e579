"""An item's life under changing policies, slow and obviously right: for the tests of whole years.

It reads a policy's JSON as a person would, lists the days of the month to find "the last Friday",
and keeps a recovery point while there is any reason to. It shares no code with the product.
"""

from __future__ import annotations

from calendar import day_name, month_name, monthrange
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Body = dict[str, Any]
DAYS = {"Days": 1, "Weeks": 7, "Months": 31, "Years": 366}
RANGES = ("daily", "weekly", "monthly", "yearly")
FIRST_WEEK = date(2026, 1, 5)  # the Monday of the week that every policy of the test names


@dataclass
class Point:
    name: int
    at: datetime
    tags: frozenset[str] = frozenset()
    until: datetime | None = None
    on_demand: bool = False


@dataclass
class ModelItem:
    """One item. ``owed``: ranges whose backup failed since the last success."""

    policy: Body
    state: str = "Protected"
    owed: set[str] = field(default_factory=set)
    points: list[Point] = field(default_factory=list)

    def slots(self, since: datetime, until: datetime) -> list[datetime]:
        """Due moments after ``since``, up to ``until``."""
        zone = ZoneInfo(self.policy["timeZone"])
        found, day = [], since.astimezone(zone).date()
        while day <= until.astimezone(zone).date():
            if runs_on(self.policy["schedulePolicy"], day):
                for at in times(self.policy["schedulePolicy"]):
                    found.append(datetime.combine(day, at, tzinfo=zone).astimezone(UTC))
            day += timedelta(days=1)
        return [slot for slot in found if since < slot <= until]

    def meant(self, slot: datetime) -> set[str]:
        """Ranges that the calendar gives a backup of ``slot``."""
        local = slot.astimezone(ZoneInfo(self.policy["timeZone"]))
        found = {name for name in self.ranges() if belongs(self.rule(name), local.date(), name)}
        schedule = self.policy["schedulePolicy"]
        last = max(times(schedule))
        if schedule["scheduleRunFrequency"] == "Hourly" and local.time() != last:
            found &= {"daily"}
        return found

    def ranges(self) -> list[str]:
        return [name for name in RANGES if f"{name}Schedule" in self.policy["retentionPolicy"]]

    def rule(self, name: str) -> Body:
        found: Body = self.policy["retentionPolicy"][f"{name}Schedule"]
        return found

    def days(self, name: str) -> int:
        duration = self.rule(name)["retentionDuration"]
        return int(duration["count"] * DAYS[duration["durationType"]])

    def succeed(self, name: int, slot: datetime) -> None:
        self.points.append(Point(name, slot, frozenset(self.meant(slot) | self.owed)))
        self.owed = set()

    def fail(self, slot: datetime) -> None:
        self.owed |= self.meant(slot) - {"daily"}

    def change(self, policy: Body) -> None:
        self.policy = policy
        self.owed &= set(self.ranges())

    def end(self, point: Point) -> datetime | None:
        """When nothing keeps the point any more; None: never, as things are."""
        newest = max(self.points, key=lambda one: one.at)
        if self.state == "ProtectionStopped" or point is newest:
            return None
        if point.on_demand:
            return point.until
        judged = [name for name in self.ranges() if name in point.tags]
        if not judged and "daily" in self.ranges():
            judged = ["daily"]
        ends = [point.at + timedelta(days=self.days(name)) for name in judged]
        return max(ends, default=point.at)

    def expire(self, now: datetime) -> set[int]:
        """Names of the points that went."""
        ends = {point.name: self.end(point) for point in self.points}
        gone = {name for name, end in ends.items() if end is not None and end <= now}
        self.points = [point for point in self.points if point.name not in gone]
        return gone


def times(schedule: Body) -> list[time]:
    if schedule["scheduleRunFrequency"] == "Hourly":
        hourly = schedule["hourlySchedule"]
        hour, found = int(hourly["scheduleWindowStartTime"][11:13]), []
        last = hour + hourly["scheduleWindowDuration"]
        while hour <= last:
            found.append(time(hour))
            hour += hourly["interval"]
        return found
    return [time.fromisoformat(text[11:16]) for text in schedule["scheduleRunTimes"]]


def runs_on(schedule: Body, day: date) -> bool:
    if schedule["scheduleRunFrequency"] != "Weekly":
        return True
    if day_name[day.weekday()] not in schedule["scheduleRunDays"]:
        return False
    every = timedelta(weeks=schedule.get("scheduleWeeklyFrequency") or 1)
    monday = FIRST_WEEK - 9 * every
    while monday <= day:
        if day < monday + timedelta(days=7):
            return True
        monday += every
    return False


def belongs(rule: Body, day: date, name: str) -> bool:
    if name == "daily":
        return True
    if name == "weekly":
        return day_name[day.weekday()] in rule["daysOfTheWeek"]
    if name == "yearly" and month_name[day.month] not in rule["monthsOfYear"]:
        return False
    length = monthrange(day.year, day.month)[1]
    month = [date(day.year, day.month, number) for number in range(1, length + 1)]
    if rule["retentionScheduleFormatType"] == "Daily":
        dates = rule["retentionScheduleDaily"]["daysOfTheMonth"]
        return day in [month[-1] if one.get("isLast") else month[one["date"] - 1] for one in dates]
    relative = rule["retentionScheduleWeekly"]
    if day_name[day.weekday()] not in relative["daysOfTheWeek"]:
        return False
    same = [one for one in month if one.weekday() == day.weekday()]
    named = {"First": same[0], "Second": same[1], "Third": same[2], "Fourth": same[3]}
    named["Last"] = same[-1]
    return day in [named[week] for week in relative["weeksOfTheMonth"]]
