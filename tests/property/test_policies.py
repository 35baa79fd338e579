"""Policies: Azure's ranges border by border, and any JSON whatever, parsed or refused."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain.default_policies import (
    default_policies,
    default_policy,
    enhanced_policy,
    hourly_log_backup,
)
from holdfast.domain.policy import (
    check_for_files,
    check_tiering,
    parse_policy,
    slot_tags,
    to_properties,
)
from holdfast.domain.retention import tags_for
from holdfast.domain.timezones import WINDOWS, find_zone
from holdfast.errors import UsageError

Body = dict[str, Any]
AT = "2026-01-01T10:30:00Z"


def span(count: Any, unit: str = "Days") -> Body:
    return {"count": count, "durationType": unit}


def daily(count: Any = 30, kind: str = "AzureIaasVM", **retention: Any) -> Body:
    return {
        "backupManagementType": kind,
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Daily",
            "scheduleRunTimes": [AT],
        },
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy",
            "dailySchedule": {"retentionTimes": [AT], "retentionDuration": span(count)},
            **retention,
        },
        "timeZone": "W. Europe Standard Time",
    }


def weekly(days: list[str], kept: list[str] | None = None, **retention: Any) -> Body:
    found = daily(**retention)
    found["schedulePolicy"] |= {"scheduleRunFrequency": "Weekly", "scheduleRunDays": days}
    del found["retentionPolicy"]["dailySchedule"]
    found["retentionPolicy"]["weeklySchedule"] = {
        "daysOfTheWeek": kept or days,
        "retentionTimes": [AT],
        "retentionDuration": span(12, "Weeks"),
    }
    return found


def by_date(*dates: Any, **more: Any) -> Body:
    return {
        "retentionScheduleFormatType": "Daily",
        "retentionScheduleDaily": {"daysOfTheMonth": list(dates)},
        "retentionTimes": [AT],
        "retentionDuration": span(12, "Months"),
        **more,
    }


def by_week(weeks: list[str], days: list[str], **more: Any) -> Body:
    return {
        "retentionScheduleFormatType": "Weekly",
        "retentionScheduleWeekly": {"weeksOfTheMonth": weeks, "daysOfTheWeek": days},
        "retentionTimes": [AT],
        "retentionDuration": span(12, "Months"),
        **more,
    }


def accepted(properties: Any) -> bool:
    """Whether it parses; then parsing the canonical form gives the same policy."""
    try:
        found = parse_policy(properties)
    except UsageError as error:
        assert error.hint and error.code
        return False
    assert parse_policy(to_properties(found)) == found
    return True


def refusal(properties: Body) -> str:
    with pytest.raises(UsageError) as caught:
        parse_policy(properties)
    return caught.value.code


@pytest.mark.parametrize(
    ("kind", "range_", "unit", "low", "high"),
    [
        ("AzureIaasVM", "daily", "Days", 7, 9999),
        ("AzureIaasVM", "weekly", "Weeks", 1, 5163),
        ("AzureIaasVM", "monthly", "Months", 1, 1188),
        ("AzureIaasVM", "yearly", "Years", 1, 99),
        ("MAB", "daily", "Days", 7, 9999),
        ("MAB", "weekly", "Weeks", 4, 5163),
        ("MAB", "monthly", "Months", 3, 1188),
        ("MAB", "yearly", "Years", 1, 99),
        ("AzureStorage", "daily", "Days", 1, 200),
        ("AzureStorage", "weekly", "Weeks", 1, 200),
        ("AzureStorage", "monthly", "Months", 1, 120),
        ("AzureStorage", "yearly", "Years", 1, 10),
    ],
)
def test_durations_end_where_azures_end(
    kind: str, range_: str, unit: str, low: int, high: int
) -> None:
    parts: Body = {
        "daily": {},
        "weekly": {"daysOfTheWeek": ["Sunday"]},
        "monthly": by_date({"date": 1}),
        "yearly": by_date({"date": 1}, monthsOfYear=["January"]),
    }

    def with_count(count: Any) -> Body:
        found = daily(30, kind)
        found["retentionPolicy"][f"{range_}Schedule"] = {
            **parts[range_],
            "retentionTimes": [AT],
            "retentionDuration": span(count, unit),
        }
        return found

    assert [accepted(with_count(count)) for count in (low - 1, low, high, high + 1)] == [
        False,
        True,
        True,
        False,
    ]
    for odd in (True, None, "30", 30.0, -1):
        assert not accepted(with_count(odd))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("2026-01-01T10:30:00Z", True),
        ("2018-01-24T10:30:00.000Z", True),
        ("2018-01-24T10:30:00.0000000+00:00", True),
        ("2018-01-24T10:30:00", True),
        ("2026-01-01T10:15:00Z", False),
        ("2026-01-01T10:30:01Z", False),
        ("2026-01-01T10:30:00.500Z", False),
        ("2026-01-01T10:30:00+02:00", False),
        ("2026-13-01T10:30:00Z", False),
        ("10:30", False),
        (1030, False),
    ],
)
def test_times_are_half_hours_in_any_of_the_forms_clients_send(text: Any, good: bool) -> None:
    found = daily()
    found["schedulePolicy"]["scheduleRunTimes"] = [text]
    found["retentionPolicy"]["dailySchedule"]["retentionTimes"] = [text]
    assert accepted(found) == good
    if good:
        kept = parse_policy(found).properties["schedulePolicy"]["scheduleRunTimes"]
        assert kept == [text[:19] + "Z"]


def test_times_of_schedule_and_retention_are_equal() -> None:
    found = daily()
    found["retentionPolicy"]["dailySchedule"]["retentionTimes"] = ["2026-01-01T11:00:00Z"]
    assert refusal(found) == "BackupAndRetentionTimesMismatch"
    found["retentionPolicy"]["dailySchedule"]["retentionTimes"] = None
    filled = parse_policy(found).properties["retentionPolicy"]["dailySchedule"]
    assert filled["retentionTimes"] == [AT]


def test_machines_of_agents_run_up_to_three_times_a_day_and_virtual_ones_once() -> None:
    three = [f"2026-01-01T{hour:02}:00:00Z" for hour in (6, 12, 18)]
    for kind, count, good in (("MAB", 3, True), ("AzureIaasVM", 2, False), ("MAB", 1, True)):
        found = daily(30, kind)
        found["schedulePolicy"]["scheduleRunTimes"] = three[:count]
        found["retentionPolicy"]["dailySchedule"]["retentionTimes"] = three[:count]
        assert accepted(found) == good
    found = daily(30, "MAB")
    found["schedulePolicy"]["scheduleRunTimes"] = [*three, "2026-01-01T20:00:00Z"]
    assert not accepted(found)


def test_weekly_schedules_have_weekly_retention_on_the_same_days_and_no_daily() -> None:
    assert accepted(weekly(["Monday", "Thursday"]))
    assert not accepted(weekly(["Monday", "Thursday"], ["Monday"]))
    both = weekly(["Monday"])
    both["retentionPolicy"]["dailySchedule"] = daily()["retentionPolicy"]["dailySchedule"]
    assert not accepted(both)
    only_daily = daily()
    del only_daily["retentionPolicy"]["dailySchedule"]
    assert not accepted(only_daily)
    dated = weekly(["Monday"], monthlySchedule=by_date({"date": 1}))
    assert refusal(dated) == "MonthlyYearlyInvalidDailyRetentionFormatType"
    other = weekly(["Monday"], monthlySchedule=by_week(["First"], ["Sunday"]))
    assert refusal(other) == "MonthlyYearlyRetentionDaysOfWeek"
    assert accepted(weekly(["Monday"], monthlySchedule=by_week(["First"], ["Monday"])))


@pytest.mark.parametrize(
    ("kind", "every", "good"),
    [
        ("MAB", 4, True),
        ("MAB", 5, False),
        ("MAB", -1, False),
        ("MAB", True, False),
        ("MAB", "2", False),
        ("AzureIaasVM", 1, True),
        ("AzureIaasVM", 2, False),
        ("AzureStorage", 2, False),
    ],
)
def test_only_agents_run_every_second_to_fourth_week(kind: str, every: Any, good: bool) -> None:
    found = weekly(["Monday"])
    found["backupManagementType"] = kind
    found["schedulePolicy"]["scheduleWeeklyFrequency"] = every
    assert accepted(found) == good


def test_the_date_of_the_first_time_names_a_week_that_runs() -> None:
    found = weekly(["Monday", "Sunday"])
    found |= {"backupManagementType": "MAB"}
    found["schedulePolicy"] |= {
        "scheduleWeeklyFrequency": 3,
        "scheduleRunTimes": ["2026-02-04T10:30:00Z"],
    }
    schedule = parse_policy(found).schedule
    assert schedule is not None
    days = [date(2026, 2, 1) + timedelta(days=number) for number in range(49)]
    runs = [day.isoformat() for day in days if schedule.runs_on(day)]
    assert runs == ["2026-02-02", "2026-02-08", "2026-02-23", "2026-03-01", "2026-03-16"]


def test_of_an_hourly_policy_the_days_last_point_is_the_week_s_and_month_s() -> None:
    found = enhanced_policy()
    found["retentionPolicy"]["weeklySchedule"] = {
        "daysOfTheWeek": ["Sunday"],
        "retentionDuration": span(12, "Weeks"),
    }
    policy = parse_policy(found)

    def tags(day: int, hour: int, pending: tuple[str, ...] = ()) -> frozenset[str]:
        return slot_tags(policy, datetime(2026, 3, day, hour, tzinfo=UTC), pending)

    assert [tags(1, hour) for hour in (8, 12, 16)] == [{"daily"}] * 3
    assert tags(1, 20) == {"daily", "weekly"}
    assert tags(2, 20) == {"daily"}
    assert tags(2, 8, ("weekly",)) == {"daily", "weekly"}


@pytest.mark.parametrize(
    ("given", "good"),
    [
        ({"date": 28}, True),
        ({"date": 0, "isLast": True}, True),
        ({"isLast": True}, True),
        ({"date": 29}, False),
        ({"date": 0}, False),
        ({"date": 0, "isLast": False}, False),
        ({"date": True}, False),
        ({"date": [1]}, False),
        ({}, False),
        ("1", False),
        (None, False),
    ],
)
def test_dates_are_1_to_28_or_the_last(given: Any, good: bool) -> None:
    assert accepted(daily(monthlySchedule=by_date(given))) == good


def test_first_and_last_weekdays_tag_what_they_say() -> None:
    monthly = by_week(["First", "Last"], ["Sunday", "Wednesday"])
    rules = parse_policy(daily(monthlySchedule=monthly)).rules
    days = [date(2026, 2, day) for day in range(1, 29)]
    tagged = [day.day for day in days if "monthly" in tags_for(rules, day)]
    assert tagged == [1, 4, 22, 25]


@pytest.mark.parametrize(
    ("interval", "start", "length", "hours"),
    [
        (4, 9, 12, [9, 13, 17, 21]),
        (4, 8, 12, [8, 12, 16, 20]),
        (4, 8, 24, [0, 4, 8, 12, 16, 20]),
        (4, 8, 16, [0, 8, 12, 16, 20]),
        (4, 9, 16, None),
        (12, 10, 13, [10, 22]),
        (24, 10, 24, [10]),
        (12, 10, 4, None),
        (4, 20, 12, None),
        (5, 8, 12, None),
        (4, 8, 25, None),
    ],
)
def test_hourly_slots_fill_the_window_to_its_end(
    interval: int, start: int, length: int, hours: list[int] | None
) -> None:
    found = enhanced_policy()
    found["schedulePolicy"]["hourlySchedule"] = {
        "interval": interval,
        "scheduleWindowStartTime": f"2026-01-01T{start:02}:00:00Z",
        "scheduleWindowDuration": length,
    }
    assert accepted(found) == (hours is not None)
    if hours is not None:
        schedule = parse_policy(found).schedule
        assert schedule is not None and schedule.times == tuple(time(hour) for hour in hours)


def test_a_shares_window_starts_by_1930_ends_by_2330_and_has_200_points() -> None:
    def share(start: str, interval: int, length: int, days: int) -> Body:
        found = daily(days, "AzureStorage")
        found["schedulePolicy"] = {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Hourly",
            "hourlySchedule": {
                "interval": interval,
                "scheduleWindowStartTime": f"2026-01-01T{start}:00Z",
                "scheduleWindowDuration": length,
            },
        }
        return found

    assert accepted(share("19:30", 4, 4, 30))
    assert not accepted(share("20:00", 4, 4, 30))
    assert not accepted(share("12:00", 4, 12, 30))
    assert accepted(share("08:00", 4, 12, 49))
    assert not accepted(share("08:00", 4, 12, 50))


def test_snapshot_days_follow_the_schedule() -> None:
    def with_days(body: Body, days: Any) -> Body:
        return {**body, "instantRpRetentionRangeInDays": days}

    assert [accepted(with_days(daily(), days)) for days in (0, 1, 5, 6)] == [
        False,
        True,
        True,
        False,
    ]
    assert [accepted(with_days(weekly(["Sunday"]), days)) for days in (4, 5)] == [False, True]
    assert [accepted(with_days(enhanced_policy(), days)) for days in (17, 18)] == [True, False]
    assert refusal(with_days(daily(), 6)) == "InstantRPRetentionDays"
    long = enhanced_policy()
    long["retentionPolicy"]["dailySchedule"]["retentionDuration"] = span(10)
    assert not accepted(with_days(long, 11))
    for each in (daily(), weekly(["Sunday"])):
        plan = each["schedulePolicy"]
        inner = {key: plan[key] for key in ("scheduleRunTimes", "scheduleRunDays") if key in plan}
        frequency = plan["scheduleRunFrequency"]
        each["schedulePolicy"] = {
            "schedulePolicyType": "SimpleSchedulePolicyV2",
            "scheduleRunFrequency": frequency,
            f"{frequency.lower()}Schedule": inner,
        }
        low, high = (5, 20) if frequency == "Weekly" else (1, 30)
        days = (low - 1, low, high, high + 1)
        assert [accepted(with_days(each, one)) for one in days] == [False, True, True, False]


def test_what_the_apis_own_examples_ask_against_its_rules_is_refused_by_name() -> None:
    """Three policies that Azure's API description shows, each short of one of its rules."""
    simple = daily(1)
    assert refusal(simple) == "UserErrorInvalidPolicyInput"
    assert accepted(daily(7))
    other_times = daily(180)
    other_times["retentionPolicy"]["dailySchedule"]["retentionTimes"] = ["2021-12-17T08:00:00Z"]
    assert refusal(other_times) == "BackupAndRetentionTimesMismatch"
    hourly = enhanced_policy() | {"instantRpRetentionRangeInDays": 30}
    hourly["schedulePolicy"]["hourlySchedule"]["scheduleWindowDuration"] = 16
    assert refusal(hourly) == "InstantRPRetentionDays"
    assert accepted(hourly | {"instantRpRetentionRangeInDays": 17})


def test_database_policies_fit_together() -> None:
    def sub(number: int, **more: Any) -> Body:
        found = hourly_log_backup()
        found["subProtectionPolicy"][number] |= more
        return found

    def log(minutes: Any, days: Any) -> Body:
        return sub(
            1,
            schedulePolicy={
                "schedulePolicyType": "LogSchedulePolicy",
                "scheduleFrequencyInMins": minutes,
            },
            retentionPolicy={"retentionDuration": span(days)},
        )

    borders = [(14, 30), (15, 30), (15, 6), (15, 7), (15, 35), (15, 36)]
    expected = [False, True, False, True, True, False]
    assert [accepted(log(*one)) for one in borders] == expected
    full = weekly(["Sunday"])
    delta = {
        "policyType": "Differential",
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Weekly",
            "scheduleRunDays": ["Wednesday"],
            "scheduleRunTimes": [AT],
        },
        "retentionPolicy": {"retentionDuration": span(84)},
    }

    def with_delta(full: Body, *deltas: Body) -> Body:
        parts = {key: full[key] for key in ("schedulePolicy", "retentionPolicy")}
        found = hourly_log_backup()
        found["subProtectionPolicy"][0] |= parts
        found["subProtectionPolicy"] += list(deltas)
        return found

    assert accepted(with_delta(full, delta))
    subs = parse_policy(with_delta(full, delta)).subs
    assert [(sub.kind, [rule.days for rule in sub.rules]) for sub in subs] == [
        ("Full", [84]),
        ("Differential", [84]),
        ("Log", [30]),
    ]
    wednesday = subs[1].schedule
    assert wednesday is not None and wednesday.weekdays == {2}
    assert (subs[2].schedule, subs[2].log_minutes) == (None, 60)
    assert not accepted(with_delta(daily(), delta))
    same_day = copy.deepcopy(delta)
    same_day["schedulePolicy"]["scheduleRunDays"] = ["Sunday"]
    assert not accepted(with_delta(full, same_day))
    longer = {**delta, "retentionPolicy": {"retentionDuration": span(85)}}
    assert not accepted(with_delta(full, longer))
    assert not accepted(with_delta(full, delta, {**delta, "policyType": "Incremental"}))
    assert not accepted(with_delta(full, delta, delta))
    incremental = {**delta, "policyType": "Incremental"}
    assert not accepted(with_delta(full, incremental))
    assert accepted(with_delta(full, incremental) | {"workLoadType": "SAPHanaDatabase"})
    alone = hourly_log_backup()
    del alone["subProtectionPolicy"][0]
    assert not accepted(alone)


def test_built_in_policies_are_canonical_and_only_databases_is_none_for_files() -> None:
    found = {name: parse_policy(body) for name, body in default_policies().items()}
    assert {name: policy.properties for name, policy in found.items()} == default_policies()
    for name in ("DefaultPolicy", "EnhancedPolicy"):
        assert check_for_files(found[name]) is found[name]
    with pytest.raises(UsageError, match="cannot protect files"):
        check_for_files(found["HourlyLogBackup"])
    with pytest.raises(UsageError):
        check_for_files(parse_policy(daily(30, "AzureStorage")))
    check_for_files(parse_policy(daily(30, "MAB")))


def test_the_clients_round_trip_with_nulls_and_its_own_casing_is_accepted() -> None:
    sent = default_policy("03:00")
    sent["instantRpDetails"] = {"azureBackupRgNamePrefix": None}
    del sent["instantRPDetails"]
    sent |= {"tieringPolicy": None, "protectedItemsCount": 4, "futureKey": {"a": [1, None]}}
    sent["retentionPolicy"] |= {"weeklySchedule": None, "monthlySchedule": None}
    kept = parse_policy(sent).properties
    assert kept["instantRPDetails"] == {}
    assert "instantRpDetails" not in kept
    assert "protectedItemsCount" not in kept
    assert kept["futureKey"] == {"a": [1]}
    assert kept["retentionPolicy"] == default_policy("03:00")["retentionPolicy"]


def test_a_policy_stored_with_a_wish_for_another_tier_still_runs() -> None:
    stored = daily() | {"tieringPolicy": {"ArchivedRP": {"tieringMode": "TierAfter"}}}
    kept = parse_policy(stored)
    assert kept.rules == parse_policy(daily()).rules
    with pytest.raises(UsageError, match="no archive tier"):
        check_tiering(kept.properties)


@pytest.mark.parametrize(
    "tiers", [None, {}, {"ArchivedRP": {"tieringMode": "doNotTier", "durationType": "Invalid"}}]
)
def test_leaving_recovery_points_where_they_are_may_be_asked_for(tiers: Any) -> None:
    check_tiering(parse_policy(daily() | {"tieringPolicy": tiers}).properties)


@pytest.mark.parametrize(
    "tiers", ["x", 7, ["TierAfter"], {"ArchivedRP": []}, {"A": {"tieringMode": 1}}]
)
def test_tiers_of_any_other_form_are_refused(tiers: Any) -> None:
    with pytest.raises(UsageError) as refused:
        check_tiering({"tieringPolicy": tiers})
    assert refused.value.code == "UserErrorNotSupported"


@pytest.mark.parametrize(
    "zone", ["utc", "w. europe standard time", "Europe/Berlin", "India Standard Time"]
)
def test_zones_have_windows_or_iana_names(zone: str) -> None:
    assert accepted({**daily(), "timeZone": zone})


def test_every_windows_name_leads_to_a_zone_of_the_database() -> None:
    """In any case, as clients write them."""
    assert len(WINDOWS) >= 139
    for name, zone in WINDOWS.items():
        assert find_zone(name.upper()).key == zone
        assert datetime(2026, 7, 1, tzinfo=find_zone(name)).utcoffset() is not None


@pytest.mark.parametrize(
    "zone", ["Mars/Base", "../etc/passwd", "/etc/localtime", "Europe", "\0", 5, []]
)
def test_other_zones_are_refused(zone: Any) -> None:
    assert refusal({**daily(), "timeZone": zone}) == "UserErrorInvalidTimeZone"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10000)
    | st.floats(allow_nan=False)
    | st.sampled_from([AT, "Daily", "Weekly", "Hourly", "Sunday", "First", "January", "Days", ""])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here] if here else []
    keys: Any = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    )
    for key in keys:
        found += _paths(value[key], (*here, key))
    return found


LAST_FRIDAY = by_week(["Last"], ["Friday"], monthsOfYear=["May"])
BASES = [
    *default_policies().values(),
    daily(monthlySchedule=by_date({"date": 1}), yearlySchedule=LAST_FRIDAY),
    weekly(["Sunday"]),
    daily(30, "AzureStorage"),
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(BASES), st.data())
def test_whatever_is_put_anywhere_is_parsed_or_refused_with_a_reason(
    base: Body, data: st.DataObject
) -> None:
    body = copy.deepcopy(base)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_paths(body)))
        holder: Any = body
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = data.draw(json_values)
    accepted(body)


@settings(deadline=None)
@given(json_values)
def test_json_that_is_no_policy_is_refused(value: Any) -> None:
    assert not accepted(value)


def test_endless_nesting_is_refused() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"a": deep}
    assert not accepted({**daily(), "more": deep})
