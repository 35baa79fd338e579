"""When each kind of a policy's backups is due, against a model that counts minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain.default_policies import default_policy, hourly_log_backup
from holdfast.domain.policy import Policy, parse_policy
from holdfast.domain.policy_workload import SubPolicy
from holdfast.domain.retention import RetentionRule
from holdfast.domain.schedule import WEEKDAYS
from holdfast.domain.upcoming import latest_due, next_due, upcoming

MIDNIGHT = datetime(2025, 1, 1, tzinfo=UTC)  # whole days before the fixed one
moments = st.datetimes(datetime(2025, 2, 1), datetime(2027, 12, 31), timezones=st.just(UTC))
intervals = st.sampled_from([15, 16, 30, 45, 60, 61, 90, 120, 240, 480, 720, 1000, 1439, 1440])


def log_of(minutes: int) -> SubPolicy:
    return SubPolicy("Log", None, (RetentionRule("daily", 7),), minutes)


def database(zone: str, full_days: list[str], delta_days: list[str], minutes: int) -> Policy:
    """Full and differential backups on days of the week at 02:30, and logs."""
    found = hourly_log_backup()
    full, log = found["subProtectionPolicy"]
    full["schedulePolicy"] = _weekly(full_days)
    full["retentionPolicy"] = {
        "weeklySchedule": {
            "daysOfTheWeek": full_days,
            "retentionDuration": {"count": 4, "durationType": "Weeks"},
        }
    }
    log["schedulePolicy"]["scheduleFrequencyInMins"] = minutes
    delta = {
        "policyType": "Differential",
        "schedulePolicy": _weekly(delta_days),
        "retentionPolicy": {"retentionDuration": {"count": 7, "durationType": "Days"}},
    }
    found["settings"]["timeZone"] = zone
    found["subProtectionPolicy"] = [full, delta, log]
    return parse_policy(found)


def _weekly(days: list[str]) -> dict[str, Any]:
    return {
        "schedulePolicyType": "SimpleSchedulePolicy",
        "scheduleRunFrequency": "Weekly",
        "scheduleRunDays": days,
        "scheduleRunTimes": ["2026-01-01T02:30:00Z"],
    }


@settings(deadline=None)
@given(intervals, moments, st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]))
def test_logs_are_due_at_one_distance_whatever_the_zone(
    minutes: int, now: datetime, zone: str
) -> None:
    policy = database(zone, ["Sunday"], ["Monday"], minutes)
    sub, step = policy.subs[-1], timedelta(minutes=minutes)
    found = next_due(sub, policy.zone, now)
    assert now < found <= now + step
    assert latest_due(sub, policy.zone, now) == found - step
    assert next_due(sub, policy.zone, found) == found + step
    assert latest_due(sub, policy.zone, found) == found
    assert (found - datetime(2026, 1, 1, tzinfo=UTC)) % step == timedelta(0)


@given(st.sampled_from([15, 30, 45, 60, 90, 120, 240, 480, 720, 1440]), moments)
def test_an_interval_that_divides_a_day_is_due_at_the_same_times_every_day(
    minutes: int, now: datetime
) -> None:
    policy, day = parse_policy(default_policy()), timedelta(days=1)
    found = next_due(log_of(minutes), policy.zone, now)
    assert next_due(log_of(minutes), policy.zone, now + day) == found + day
    assert (found - MIDNIGHT) % timedelta(minutes=minutes) == timedelta(0)


@settings(deadline=None, max_examples=60)
@given(
    st.permutations(WEEKDAYS), st.integers(1, 3), st.integers(1, 3), intervals, moments,
    st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"]),
)  # fmt: skip
def test_each_kind_follows_its_own_schedule(
    names: list[str], fulls: int, deltas: int, minutes: int, now: datetime, zone: str
) -> None:
    full_days, delta_days = names[:fulls], names[fulls : fulls + deltas]
    policy = database(zone, full_days, delta_days, minutes)
    found = {one.kind: one.times for one in upcoming(policy, now, 5)}
    assert list(found) == ["Full", "Differential", "Log"]
    for times in found.values():
        assert len(times) == 5
        assert all(now < one < other for one, other in pairwise(times))
    local = {kind: [one.astimezone(policy.zone) for one in found[kind]] for kind in found}
    for kind, days in (("Full", full_days), ("Differential", delta_days)):
        assert {WEEKDAYS[one.weekday()] for one in local[kind]} <= set(days)
        # five runs on n days of the week are over after so many weeks and a bit
        assert found[kind][-1] - now <= timedelta(days=7 * (-(-5 // len(days))) + 1)
    assert not {one.date() for one in local["Full"]} & {one.date() for one in local["Differential"]}


def test_a_policy_of_one_kind_shows_its_schedule() -> None:
    now = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
    (only,) = upcoming(parse_policy(default_policy()), now, 2)
    assert only.kind == "Backup"
    assert only.times == (now + timedelta(days=1), now + timedelta(days=2))
