"""Backup policies: from ARM properties to values and back, refused as a whole when out of range.

Ranges and rules are Azure Backup's (facts 3.3 and 3.9): half-hour times, schedule and retention
times equal, a daily schedule needs daily retention of 7 to 9999 days, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from holdfast.domain.retention import DAYS_PER_UNIT, WEEKS, Range, RetentionRule
from holdfast.domain.schedule import WEEKDAYS, Schedule
from holdfast.domain.timezones import find_zone
from holdfast.errors import UsageError

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
LIMITS: dict[Range, tuple[int, int]] = {
    "daily": (7, 9999),
    "weekly": (1, 5163),
    "monthly": (1, 1188),
    "yearly": (1, 99),
}
UNITS: dict[Range, str] = {
    "daily": "Days",
    "weekly": "Weeks",
    "monthly": "Months",
    "yearly": "Years",
}
MAB_WEEKLY_MIN, MAB_MONTHLY_MIN = 4, 3
FILES_TYPES = ("AzureIaasVM", "MAB")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d{1,7})?(?:Z|\+00:00)?", re.ASCII)
Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as rules need it. ``kind``: backupManagementType; ``properties``: canonical ARM."""

    kind: str
    zone_name: str
    schedule: Schedule | None
    rules: tuple[RetentionRule, ...]
    properties: dict[str, Any]

    @property
    def zone(self) -> ZoneInfo:
        return find_zone(self.zone_name)


def refuse(message: str, hint: str = "", code: str = "UserErrorInvalidPolicyInput") -> UsageError:
    return UsageError(message, code=code, hint=hint or "correct the policy and send it again")


def parse_policy(properties: Properties) -> Policy:
    """The policy of an ARM ``properties`` object. UsageError (UserErrorInvalidPolicyInput, ...)."""
    kind = properties.get("backupManagementType")
    if kind == "AzureWorkload":
        return _workload(properties)
    if kind not in ("AzureIaasVM", "MAB", "AzureStorage"):
        raise refuse(f"backupManagementType {kind!r} is not supported")
    zone_name = properties.get("timeZone") or "UTC"
    find_zone(zone_name)
    schedule = _schedule(_object(properties, "schedulePolicy"))
    retention = _object(properties, "retentionPolicy")
    rules = _rules(retention, schedule, kind)
    _check_instant_days(properties, kind, schedule)
    return Policy(kind, zone_name, schedule, rules, canonical(properties, zone_name))


def canonical(properties: Properties, zone_name: str) -> dict[str, Any]:
    """What is stored and returned: Azure's key casing, times as YYYY-MM-DDTHH:MM:SSZ, no nulls."""
    found = _clean(properties)
    found.pop("protectedItemsCount", None)
    if "instantRpDetails" in found:
        found["instantRPDetails"] = found.pop("instantRpDetails")
    found.setdefault("policyType", "V1" if found.get("backupManagementType") != "MAB" else None)
    if found["policyType"] is None:
        del found["policyType"]
    return {**found, "timeZone": zone_name}


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    if isinstance(value, str) and (match := _TIME.fullmatch(value)):
        return match.group(1) + "Z"
    return value


def _object(holder: Properties, key: str) -> Properties:
    found = holder.get(key)
    if not isinstance(found, Mapping):
        raise refuse(f"{key} is missing")
    return found


def _time(value: Any) -> time:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise refuse(f"{value!r} is no time", "give times as 2026-01-01T10:00:00Z")
    try:
        found = datetime.fromisoformat(match.group(1)).time()
    except ValueError as error:
        raise refuse(f"{value!r} is no time") from error
    if found.minute % 30 or found.second:
        raise refuse(
            f"{found:%H:%M:%S} is not on a half hour",
            "schedule times are on the hour or half hour",
            code="InvalidScheduleTimeInSchedule",
        )
    return found


def _times(values: Any, what: str) -> tuple[time, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise refuse(f"{what} is missing")
    return tuple(sorted({_time(value) for value in values}))


def _weekdays(values: Any, what: str) -> frozenset[int]:
    if not isinstance(values, Sequence) or not values:
        raise refuse(f"{what} is missing")
    try:
        return frozenset(WEEKDAYS.index(value) for value in values)
    except ValueError as error:
        raise refuse(f"{what} names a day that does not exist: {values}") from error


def _schedule(policy: Properties) -> Schedule:
    frequency = policy.get("scheduleRunFrequency")
    if frequency == "Hourly":
        return _hourly(_object(policy, "hourlySchedule"))
    if policy.get("schedulePolicyType") == "SimpleSchedulePolicyV2" and frequency:
        policy = _object(policy, f"{str(frequency).lower()}Schedule")
    times = _times(policy.get("scheduleRunTimes"), "scheduleRunTimes")
    if frequency == "Daily":
        return Schedule("Daily", times)
    if frequency == "Weekly":
        return Schedule(
            "Weekly", times, _weekdays(policy.get("scheduleRunDays"), "scheduleRunDays")
        )
    raise refuse(f"scheduleRunFrequency {frequency!r} is not Daily, Weekly or Hourly")


def _hourly(hourly: Properties) -> Schedule:
    interval, window = hourly.get("interval"), hourly.get("scheduleWindowDuration")
    start = _time(hourly.get("scheduleWindowStartTime"))
    if interval not in (4, 6, 8, 12, 24) or not isinstance(window, int) or not 4 <= window <= 24:
        raise refuse("an hourly schedule has an interval of 4, 6, 8, 12 or 24 h, a window to 24 h")
    hours = range(start.hour, min(start.hour + window, 23) + 1, interval)
    return Schedule("Hourly", tuple(time(hour, start.minute) for hour in hours))


def _rules(retention: Properties, schedule: Schedule, kind: str) -> tuple[RetentionRule, ...]:
    if retention.get("retentionPolicyType") not in (None, "LongTermRetentionPolicy"):
        raise refuse("retentionPolicyType must be LongTermRetentionPolicy")
    parts: dict[Range, Properties] = {
        name: part
        for name in LIMITS
        if isinstance(part := retention.get(f"{name}Schedule"), Mapping)
    }
    weekly = schedule.frequency == "Weekly"
    if weekly and "daily" in parts:
        raise refuse("a weekly schedule has no daily retention", "remove dailySchedule")
    needed: Range = "weekly" if weekly else "daily"
    if needed not in parts:
        raise refuse(f"a {schedule.frequency.lower()} schedule needs {needed}Schedule retention")
    rules = tuple(_rule(name, part, schedule, kind) for name, part in parts.items())
    if weekly:
        _check_weekly(rules, schedule)
    return rules


def _rule(name: Range, part: Properties, schedule: Schedule, kind: str) -> RetentionRule:
    duration = _object(part, "retentionDuration")
    count, unit = duration.get("count"), duration.get("durationType")
    low, high = LIMITS[name]
    if kind == "MAB":
        low = {"weekly": MAB_WEEKLY_MIN, "monthly": MAB_MONTHLY_MIN}.get(name, low)
    if unit != UNITS[name] or not isinstance(count, int) or not low <= count <= high:
        raise refuse(
            f"{name} retention of {count} {unit} is out of range",
            f"{name} retention is {low} to {high} {UNITS[name].lower()}",
        )
    if schedule.frequency != "Hourly" and part.get("retentionTimes") is not None:
        times = _times(part.get("retentionTimes"), "retentionTimes")
        if times != schedule.times:
            raise refuse(
                f"{name} retention times differ from the schedule's",
                "use the same times for schedule and retention",
                code="BackupAndRetentionTimesMismatch",
            )
    days = count * DAYS_PER_UNIT[unit]
    if name == "daily":
        return RetentionRule(name, days)
    if name == "weekly":
        return RetentionRule(name, days, _weekdays(part.get("daysOfTheWeek"), "daysOfTheWeek"))
    return _calendar_rule(name, days, part)


def _calendar_rule(name: Range, days: int, part: Properties) -> RetentionRule:
    months: frozenset[int] = frozenset()
    if name == "yearly":
        try:
            months = frozenset(MONTHS.index(month) + 1 for month in part.get("monthsOfYear") or ())
        except ValueError as error:
            raise refuse("monthsOfYear names a month that does not exist") from error
        if not months:
            raise refuse("yearly retention needs monthsOfYear")
    if part.get("retentionScheduleFormatType") == "Daily":
        listed = _object(part, "retentionScheduleDaily").get("daysOfTheMonth") or ()
        chosen = frozenset(0 if day.get("isLast") else day.get("date", -1) for day in listed)
        if not chosen or not all(isinstance(day, int) and 0 <= day <= 28 for day in chosen):
            raise refuse("daysOfTheMonth has dates from 1 to 28, or isLast")
        return RetentionRule(name, days, month_days=chosen, months=months)
    weekly = _object(part, "retentionScheduleWeekly")
    weeks = frozenset(weekly.get("weeksOfTheMonth") or ())
    if not weeks or not weeks <= set(WEEKS):
        raise refuse(f"weeksOfTheMonth is any of {', '.join(WEEKS)}")
    weekdays = _weekdays(weekly.get("daysOfTheWeek"), "daysOfTheWeek")
    return RetentionRule(name, days, weekdays, weeks, months=months)


def _check_weekly(rules: Sequence[RetentionRule], schedule: Schedule) -> None:
    for rule in rules:
        if rule.range == "weekly" and rule.weekdays != schedule.weekdays:
            raise refuse("weekly retention and schedule must name the same days")
        if rule.month_days:
            raise refuse(
                f"{rule.range} retention by day of month does not fit a weekly schedule",
                code="MonthlyYearlyInvalidDailyRetentionFormatType",
            )
        if not rule.weekdays <= schedule.weekdays:
            raise refuse(
                f"{rule.range} retention names days the schedule does not run on",
                code="MonthlyYearlyRetentionDaysOfWeek",
            )


def _check_instant_days(properties: Properties, kind: str, schedule: Schedule) -> None:
    days = properties.get("instantRpRetentionRangeInDays")
    if kind != "AzureIaasVM" or days is None or properties.get("policyType") == "V2":
        return
    allowed = range(5, 6) if schedule.frequency == "Weekly" else range(1, 6)
    if days not in allowed:
        raise refuse(
            f"instantRpRetentionRangeInDays of {days} is out of range",
            "1 to 5 days; exactly 5 with a weekly schedule",
            code="InstantRPRetentionDays",
        )


def _workload(properties: Properties) -> Policy:
    """Database policies are kept as values until databases use them."""
    if not properties.get("workLoadType") or not properties.get("subProtectionPolicy"):
        raise refuse("a workload policy needs workLoadType and subProtectionPolicy")
    settings = properties.get("settings")
    zone_name = (settings.get("timeZone") if isinstance(settings, Mapping) else None) or "UTC"
    find_zone(zone_name)
    found = canonical(properties, zone_name)
    return Policy("AzureWorkload", zone_name, None, (), found)


def check_for_files(policy: Policy) -> Policy:
    """A files item takes any daily or weekly policy of type AzureIaasVM or MAB."""
    scheduled = policy.schedule is not None and policy.schedule.frequency in ("Daily", "Weekly")
    if policy.kind not in FILES_TYPES or not scheduled:
        raise UsageError(
            "this policy cannot protect files",
            code="UserErrorPolicyTypeMismatch",
            hint="choose a daily or weekly policy of type AzureIaasVM or MAB, e.g. DefaultPolicy",
        )
    return policy
