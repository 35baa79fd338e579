"""The retention part of an ARM policy: ranges by kind, and how retention must fit
its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.domain.policy_reading import (
    Properties,
    clock_times,
    integer,
    listed,
    members,
    one_of,
    optional_part,
    part,
    refuse,
    weekdays,
)
from holdfast.domain.retention import DAYS_PER_UNIT, RANGES, WEEKS, Range, RetentionRule
from holdfast.domain.schedule import Schedule

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
Limits = dict[Range, tuple[int, int]]
UNITS: dict[Range, str] = {
    "daily": "Days",
    "weekly": "Weeks",
    "monthly": "Months",
    "yearly": "Years",
}
VAULT_LIMITS: Limits = {
    "daily": (7, 9999),
    "weekly": (1, 5163),
    "monthly": (1, 1188),
    "yearly": (1, 99),
}
LIMITS: dict[str, Limits] = {
    "MAB": {**VAULT_LIMITS, "weekly": (4, 5163), "monthly": (3, 1188)},
    "AzureStorage": {
        "daily": (1, 200),
        "weekly": (1, 200),
        "monthly": (1, 120),
        "yearly": (1, 10),
    },
}
LAST_DATE = 28
LAST_DAY = 0


def read_rules(
    retention: Properties, schedule: Schedule, limits: Limits
) -> tuple[RetentionRule, ...]:
    """The rules of a ``LongTermRetentionPolicy`` object, in the order daily to yearly."""
    one_of(
        retention.get("retentionPolicyType"),
        "retentionPolicyType",
        (None, "LongTermRetentionPolicy"),
    )
    parts: dict[Range, Properties] = {
        name: found
        for name in RANGES
        if (found := optional_part(retention, f"{name}Schedule")) is not None
    }
    _check_ranges(list(parts), schedule)
    rules = tuple(_rule(name, found, schedule, limits) for name, found in parts.items())
    if schedule.frequency == "Weekly":
        _check_weekly(rules, schedule)
    return rules


def _check_ranges(names: Sequence[Range], schedule: Schedule) -> None:
    weekly = schedule.frequency == "Weekly"
    if weekly and "daily" in names:
        raise refuse("a weekly schedule has no daily retention", "remove dailySchedule")
    needed: Range = "weekly" if weekly else "daily"
    if needed not in names:
        raise refuse(
            f"a {schedule.frequency.lower()} schedule needs {needed} retention",
            f"add {needed}Schedule to retentionPolicy",
        )


def span(duration: Properties, unit: str, low: int, high: int, what: str) -> int:
    """Days of a ``retentionDuration`` in ``unit``."""
    one_of(duration.get("durationType"), f"durationType of {what}", (unit,))
    count = integer(duration.get("count"), f"{what} in {unit.lower()}", low, high)
    return count * DAYS_PER_UNIT[unit]


def _rule(name: Range, found: Properties, schedule: Schedule, limits: Limits) -> RetentionRule:
    what = f"{name} retention"
    days = span(part(found, "retentionDuration"), UNITS[name], *limits[name], what)
    _check_times(found.get("retentionTimes"), schedule, what)
    if name == "daily":
        return RetentionRule(name, days)
    if name == "weekly":
        return RetentionRule(name, days, weekdays(found.get("daysOfTheWeek"), "daysOfTheWeek"))
    return _calendar_rule(name, days, found)


def _check_times(given: Any, schedule: Schedule, what: str) -> None:
    if schedule.frequency == "Hourly" or given is None:
        return
    if clock_times(given, "retentionTimes", len(schedule.times)) != schedule.times:
        raise refuse(
            f"{what} times differ from the schedule's",
            "use the same times for schedule and retention",
            code="BackupAndRetentionTimesMismatch",
        )


def _calendar_rule(name: Range, days: int, found: Properties) -> RetentionRule:
    months: frozenset[int] = frozenset()
    if name == "yearly":
        positions = members(found.get("monthsOfYear"), "monthsOfYear", MONTHS)
        months = frozenset(position + 1 for position in positions)
    form = found.get("retentionScheduleFormatType")
    if one_of(form, "retentionScheduleFormatType", ("Daily", "Weekly")) == "Daily":
        dates = listed(
            part(found, "retentionScheduleDaily").get("daysOfTheMonth"), "daysOfTheMonth"
        )
        chosen = frozenset(_date(one) for one in dates)
        return RetentionRule(name, days, month_days=chosen, months=months)
    weekly = part(found, "retentionScheduleWeekly")
    weeks = members(weekly.get("weeksOfTheMonth"), "weeksOfTheMonth", WEEKS)
    chosen = weekdays(weekly.get("daysOfTheWeek"), "daysOfTheWeek")
    names = frozenset(WEEKS[position] for position in weeks)
    return RetentionRule(name, days, chosen, names, months=months)


def _date(given: Any) -> int:
    """1 to 28, or LAST_DAY."""
    if not isinstance(given, dict):
        raise refuse("daysOfTheMonth has an entry that is no object", 'give {"date": 1}')
    if given.get("isLast") is True:
        return LAST_DAY
    return integer(given.get("date"), "a date of daysOfTheMonth (or isLast)", 1, LAST_DATE)


def _check_weekly(rules: Sequence[RetentionRule], schedule: Schedule) -> None:
    for rule in rules:
        if rule.range == "weekly" and rule.weekdays != schedule.weekdays:
            raise refuse(
                "weekly retention and schedule name different days",
                "give daysOfTheWeek the days of scheduleRunDays",
            )
        if rule.month_days:
            raise refuse(
                f"{rule.range} retention by day of month does not fit a weekly schedule",
                "use retentionScheduleFormatType Weekly",
                code="MonthlyYearlyInvalidDailyRetentionFormatType",
            )
        if not rule.weekdays <= schedule.weekdays:
            raise refuse(
                f"{rule.range} retention names days the schedule does not run on",
                "choose its daysOfTheWeek from scheduleRunDays",
                code="MonthlyYearlyRetentionDaysOfWeek",
            )
