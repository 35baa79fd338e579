"""Random policies, and random changes of them, as the JSON a client would send."""

from __future__ import annotations

import copy
from calendar import day_name, month_name
from random import Random
from typing import Any

Body = dict[str, Any]
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
WEEKS = ("First", "Second", "Third", "Fourth", "Last")


def some(rng: Random, values: list[Any], most: int) -> list[Any]:
    return rng.sample(values, rng.randint(1, min(most, len(values))))


def random_policy(rng: Random) -> Body:
    frequency = rng.choice(["Daily", "Daily", "Weekly", "Weekly", "Hourly"])
    policy: Body = {
        "backupManagementType": "AzureIaasVM" if frequency == "Hourly" else "MAB",
        "timeZone": rng.choice(ZONES),
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": frequency,
        },
        "retentionPolicy": {"retentionPolicyType": "LongTermRetentionPolicy"},
    }
    schedule = policy["schedulePolicy"]
    if frequency == "Hourly":
        start, interval = rng.choice([(6, 4), (8, 6), (4, 12)])
        at = f"2026-01-07T{start:02}:00:00Z"
        window = {"scheduleWindowStartTime": at, "scheduleWindowDuration": 12}
        schedule |= {"schedulePolicyType": "SimpleSchedulePolicyV2"}
        schedule["hourlySchedule"] = {"interval": interval, **window}
    else:
        hours = sorted(some(rng, list(range(4, 23)), 3))
        schedule["scheduleRunTimes"] = [f"2026-01-07T{hour:02}:30:00Z" for hour in hours]
    if frequency == "Weekly":
        schedule["scheduleRunDays"] = some(rng, list(day_name), 4)
        schedule["scheduleWeeklyFrequency"] = rng.choice([0, 1, 1, 2, 3, 4])
    needed = "weekly" if frequency == "Weekly" else "daily"
    for name in ("daily", "weekly", "monthly", "yearly"):
        if name == needed or (rng.random() < 0.6 and (name, needed) != ("daily", "weekly")):
            policy["retentionPolicy"][f"{name}Schedule"] = random_rule(rng, name, schedule)
    return policy


def random_rule(rng: Random, name: str, schedule: Body) -> Body:
    run_days = schedule.get("scheduleRunDays")
    if name == "daily":
        return duration(rng.randint(7, 25), "Days")
    if name == "weekly":
        days = run_days or some(rng, list(day_name), 3)
        return {"daysOfTheWeek": days, **duration(rng.randint(4, 8), "Weeks")}
    rule = duration(rng.randint(3, 5), "Months")
    if name == "yearly":
        rule = duration(rng.randint(1, 2), "Years")
        rule["monthsOfYear"] = some(rng, list(month_name)[1:], 4)
    if run_days is None and rng.random() < 0.5:
        dates: list[Body] = [{"date": one} for one in some(rng, list(range(1, 29)), 3)]
        dates += [{"date": 0, "isLast": True}] * rng.randint(0, 1)
        form: Body = {"retentionScheduleFormatType": "Daily"}
        return {**rule, **form, "retentionScheduleDaily": {"daysOfTheMonth": dates}}
    days = some(rng, run_days or list(day_name), 2)
    relative = {"daysOfTheWeek": days, "weeksOfTheMonth": some(rng, list(WEEKS), 2)}
    form = {"retentionScheduleFormatType": "Weekly", "retentionScheduleWeekly": relative}
    return {**rule, **form}


def duration(count: int, unit: str) -> Body:
    return {"retentionDuration": {"count": count, "durationType": unit}}


def changed_policy(rng: Random, old: Body) -> Body:
    """Another policy altogether, or the old one with a range cut, extended, added or removed."""
    if rng.random() < 0.4:
        return random_policy(rng)
    new = copy.deepcopy(old)
    held, schedule = new["retentionPolicy"], new["schedulePolicy"]
    weekly = schedule["scheduleRunFrequency"] == "Weekly"
    name = rng.choice(["weekly" if weekly else "daily", "weekly", "monthly", "yearly"])
    needed = name == ("weekly" if weekly else "daily")
    if f"{name}Schedule" in held and not needed and rng.random() < 0.5:
        del held[f"{name}Schedule"]
    else:
        held[f"{name}Schedule"] = random_rule(rng, name, schedule)
    return new
