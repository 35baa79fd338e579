"""Retention against a slow model that counts days one by one, and whole years of expiry runs."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain.retention import (
    RANGES,
    WEEKS,
    PointFacts,
    RetentionRule,
    expiry_of,
    missed_ranges,
    plan_retention,
    tags_for,
)

START = date(2024, 1, 1)
NOW = datetime(2027, 6, 30, 12, tzinfo=UTC)
STATES = ["Protected", "IRPending", "ProtectionError", "BackupsSuspended", "ProtectionStopped"]
some_weekdays = st.frozensets(st.integers(0, 6), min_size=1)
some_weeks = st.frozensets(st.sampled_from(WEEKS), min_size=1)
some_dates = st.frozensets(st.integers(0, 28), min_size=1, max_size=4)
some_months = st.frozensets(st.integers(1, 12), min_size=1)
days = st.dates(date(2023, 12, 1), date(2029, 3, 1))


@st.composite
def rules(draw: st.DrawFn) -> tuple[RetentionRule, ...]:
    """Any of the four ranges, each once."""
    found = []
    if draw(st.booleans()):
        found.append(RetentionRule("daily", draw(st.integers(7, 40))))
    if draw(st.booleans()):
        found.append(RetentionRule("weekly", 7 * draw(st.integers(1, 8)), draw(some_weekdays)))
    for name, unit in (("monthly", 31), ("yearly", 366)):
        if not draw(st.booleans()):
            continue
        length = unit * draw(st.integers(1, 3))
        months = draw(some_months) if name == "yearly" else frozenset()
        if draw(st.booleans()):
            rule = RetentionRule(name, length, month_days=draw(some_dates), months=months)  # type: ignore[arg-type]
        else:
            weeks = draw(some_weeks)
            rule = RetentionRule(name, length, draw(some_weekdays), weeks, months=months)  # type: ignore[arg-type]
        found.append(rule)
    return tuple(found)


@st.composite
def points(draw: st.DrawFn) -> list[PointFacts]:
    count = draw(st.integers(0, 12))
    found = []
    for number in range(count):
        moment = NOW - timedelta(hours=draw(st.integers(-2000, 30000)))
        if draw(st.integers(0, 3)) == 0:
            span = draw(st.none() | st.integers(-1000, 1000))
            until = None if span is None else NOW + timedelta(hours=span)
            found.append(PointFacts(str(number), moment, retain_until=until, on_demand=True))
        else:
            tags = draw(st.frozensets(st.sampled_from(RANGES)))
            found.append(PointFacts(str(number), moment, tags))
    return found


def model_matches(rule: RetentionRule, day: date) -> bool:
    """By listing the days of the month that the rule means."""
    if rule.range == "daily":
        return True
    if rule.range == "weekly":
        return day.weekday() in rule.weekdays
    if rule.range == "yearly" and day.month not in rule.months:
        return False
    length = monthrange(day.year, day.month)[1]
    month = [date(day.year, day.month, number) for number in range(1, length + 1)]
    if rule.month_days:
        meant = [month[number - 1] for number in rule.month_days if number]
        meant += [month[-1]] if 0 in rule.month_days else []
        return day in meant
    for weekday in rule.weekdays:
        same = [one for one in month if one.weekday() == weekday]
        named = dict(zip(("First", "Second", "Third", "Fourth"), same, strict=False))
        named["Last"] = same[-1]
        if day in [named[week] for week in rule.weeks]:
            return True
    return False


def model_keeps(
    point: PointFacts, rules: tuple[RetentionRule, ...], others: list[PointFacts], now: datetime
) -> bool:
    """Is there any reason left to keep the point?"""
    if not any((other.time, other.id) > (point.time, point.id) for other in others):
        return True
    past = [other for other in others if other.time <= now]
    if point in past and all((point.time, point.id) >= (other.time, other.id) for other in past):
        return True
    if point.on_demand:
        return point.retain_until is None or point.retain_until > now
    judged = [rule for rule in rules if rule.range in point.tags]
    judged = judged or [rule for rule in rules if rule.range == "daily"]
    return any((now - point.time) < timedelta(days=1) * rule.days for rule in judged)


@settings(deadline=None)
@given(rules(), days)
def test_tags_are_those_of_the_calendar(rules: tuple[RetentionRule, ...], day: date) -> None:
    assert tags_for(rules, day) == {rule.range for rule in rules if model_matches(rule, day)}


@settings(deadline=None)
@given(points(), rules(), st.sampled_from(STATES))
def test_the_plan_keeps_what_the_model_keeps(
    points: list[PointFacts], rules: tuple[RetentionRule, ...], state: str
) -> None:
    plan = plan_retention(points, rules, state, NOW)
    assert sorted(row.point.id for row in plan.decisions) == sorted(point.id for point in points)
    for row in plan.decisions:
        stopped = state == "ProtectionStopped"
        assert row.keep == (stopped or model_keeps(row.point, rules, points, NOW)), row
        assert row.reason
        assert row.expires_at is None or (row.expires_at > NOW) == row.keep
    if points:
        assert any(row.keep for row in plan.decisions)


@settings(deadline=None)
@given(points(), rules(), st.integers(0, 4000))
def test_expiry_in_steps_ends_where_one_late_run_ends(
    points: list[PointFacts], rules: tuple[RetentionRule, ...], hours: int
) -> None:
    later = NOW + timedelta(hours=hours)
    points = [point for point in points if point.time <= NOW]
    first = [
        row.point for row in plan_retention(points, rules, "Protected", NOW).decisions if row.keep
    ]
    twice = plan_retention(first, rules, "Protected", later)
    once = plan_retention(points, rules, "Protected", later)
    assert {r.point.id for r in twice.decisions if r.keep} == {
        r.point.id for r in once.decisions if r.keep
    }
    again = [row.point for row in once.decisions if row.keep]
    assert not plan_retention(again, rules, "Protected", later).dropped


@settings(deadline=None)
@given(points(), rules(), st.integers(1, 50))
def test_longer_retention_never_drops_more(
    points: list[PointFacts], rules: tuple[RetentionRule, ...], more: int
) -> None:
    longer = tuple(
        RetentionRule(r.range, r.days + more, r.weekdays, r.weeks, r.month_days, r.months)
        for r in rules
    )
    dropped = {row.point.id for row in plan_retention(points, longer, "Protected", NOW).dropped}
    assert dropped <= {
        row.point.id for row in plan_retention(points, rules, "Protected", NOW).dropped
    }


@settings(max_examples=20, deadline=None)
@given(rules(), st.integers(30, 500), st.frozensets(st.integers(0, 500), max_size=60))
def test_a_long_run_of_daily_backups_and_expiry_leaves_exactly_what_the_rules_say(
    rules: tuple[RetentionRule, ...], length: int, failed: frozenset[int]
) -> None:
    """The tag of a designated day without a backup passes to the next success."""
    held: list[PointFacts] = []
    pending: frozenset[str] = frozenset()
    expected: dict[str, int] = {}
    owed: set[str] = set()
    for number in range(length):
        day = START + timedelta(days=number)
        now = datetime(day.year, day.month, day.day, 1, tzinfo=UTC)
        if number in failed:
            pending = missed_ranges(rules, [day], pending)
            owed |= {rule.range for rule in rules if model_matches(rule, day)} - {"daily"}
        else:
            held.append(PointFacts(str(number), now, tags_for(rules, day, pending)))
            due = [r for r in rules if model_matches(r, day) or r.range in owed]
            longest = max((r.days for r in due), default=0)
            daily = [r.days for r in rules if r.range == "daily"]
            expected[str(number)] = number + (longest if due else max(daily, default=0))
            pending, owed = frozenset(), set()
        plan = plan_retention(held, rules, "Protected", now)
        held = [row.point for row in plan.decisions if row.keep]
        newest = max(expected, key=int, default="")
        alive = {name for name, end in expected.items() if end > number or name == newest}
        assert {point.id for point in held} == alive
        expected = {name: end for name, end in expected.items() if name in alive}


def test_twelve_months_end_on_day_372_and_a_year_on_day_366() -> None:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    monthly = (RetentionRule("monthly", 12 * 31, month_days=frozenset({1})),)
    end, rule = expiry_of(PointFacts("1", made, frozenset({"monthly"})), monthly)
    assert (end, rule) == (made + timedelta(days=372), "monthly")
    yearly = (RetentionRule("yearly", 366, month_days=frozenset({1}), months=frozenset({1})),)
    assert expiry_of(PointFacts("1", made, frozenset({"yearly"})), yearly)[0] == made + timedelta(
        366
    )


def test_policy_changes_count_for_points_that_exist() -> None:
    """Daily to weekly drops the dailies; weekly to daily judges by days; new ranges tag nothing."""
    daily, weekly = RetentionRule("daily", 30), RetentionRule("weekly", 70, frozenset({6}))
    dailies = [PointFacts(str(n), NOW - timedelta(days=n), frozenset({"daily"})) for n in range(40)]
    kept = [
        r.point.id for r in plan_retention(dailies, (weekly,), "Protected", NOW).decisions if r.keep
    ]
    assert kept == ["0"]
    weeklies = [
        PointFacts(str(n), NOW - timedelta(weeks=n), frozenset({"weekly"})) for n in range(10)
    ]
    kept = [
        r.point.id for r in plan_retention(weeklies, (daily,), "Protected", NOW).decisions if r.keep
    ]
    assert kept == ["0", "1", "2", "3", "4"]
    both = plan_retention(dailies, (daily, weekly), "Protected", NOW)
    assert len([row for row in both.decisions if row.keep]) == 30


def test_stopped_keeps_all_and_suspended_prunes_all_but_the_latest() -> None:
    old = [
        PointFacts(str(n), NOW - timedelta(days=100 + n), frozenset({"daily"})) for n in range(5)
    ]
    rules = (RetentionRule("daily", 7),)
    assert not plan_retention(old, rules, "ProtectionStopped", NOW).dropped
    suspended = plan_retention(old, rules, "BackupsSuspended", NOW)
    assert [row.point.id for row in suspended.decisions if row.keep] == ["0"]


def test_a_point_from_a_clock_that_ran_ahead_does_not_cost_the_latest_real_one() -> None:
    rules = (RetentionRule("daily", 7),)
    ahead = PointFacts("ahead", NOW + timedelta(days=3650), frozenset({"daily"}))
    real = PointFacts("real", NOW - timedelta(days=30), frozenset({"daily"}))
    older = PointFacts("older", NOW - timedelta(days=31), frozenset({"daily"}))
    plan = plan_retention([older, real, ahead], rules, "Protected", NOW)
    assert [row.point.id for row in plan.decisions if row.keep] == ["ahead", "real"]


def test_a_leap_day_and_the_last_day_of_months() -> None:
    last = RetentionRule("monthly", 31, month_days=frozenset({0}))
    ends = [date(2028, 2, 29), date(2027, 2, 28), date(2026, 12, 31)]
    assert all(last.tags(day) for day in ends)
    assert not last.tags(date(2028, 2, 28))
    fifth = RetentionRule("monthly", 31, frozenset({6}), frozenset({"Last"}))
    assert fifth.tags(date(2026, 5, 31)) and not fifth.tags(date(2026, 5, 24))
    january = RetentionRule(
        "yearly", 366, frozenset({3}), frozenset({"First"}), months=frozenset({1})
    )
    assert january.tags(date(2026, 1, 1)) and not january.tags(date(2025, 12, 25))


def test_ends_beyond_the_calendar_are_the_calendars_end() -> None:
    far = PointFacts("1", datetime(9990, 1, 1, tzinfo=UTC), frozenset({"yearly"}))
    end, _ = expiry_of(far, (RetentionRule("yearly", 99 * 366),))
    assert end == datetime.max.replace(tzinfo=UTC)
