"""Schedules against a model that walks through time minute by minute.

The model's one rule: a slot is the first minute at which the zone's wall clock shows the wanted
time or, where daylight saving skips it, anything later.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.domain.schedule import (
    Schedule,
    days_due,
    latest_slot,
    next_slot,
    slot_at,
    slot_day,
    slots_of_day,
)

# nights on which the clocks of these zones change; the day is the local one before or of the change
NIGHTS = [
    ("Europe/Berlin", date(2026, 3, 29)),
    ("Europe/Berlin", date(2026, 10, 25)),
    ("America/New_York", date(2026, 3, 8)),
    ("America/New_York", date(2026, 11, 1)),
    ("Australia/Lord_Howe", date(2026, 4, 5)),
    ("Australia/Lord_Howe", date(2026, 10, 4)),
    ("America/Havana", date(2026, 3, 8)),
    ("Africa/Cairo", date(2026, 4, 24)),
    ("Asia/Beirut", date(2026, 3, 29)),
    ("America/Nuuk", date(2026, 3, 28)),
    ("America/Nuuk", date(2026, 10, 24)),
    ("Antarctica/Troll", date(2026, 3, 29)),
    ("Africa/Casablanca", date(2026, 2, 15)),
    ("Pacific/Chatham", date(2026, 9, 27)),
    ("Pacific/Apia", date(2011, 12, 30)),
    ("UTC", date(2028, 2, 29)),
    ("Asia/Kolkata", date(2026, 1, 1)),
]
TIMES = [time(hour, minute) for hour in range(24) for minute in (0, 30)]
nights = st.sampled_from(NIGHTS)
times = st.sets(st.sampled_from(TIMES), min_size=1, max_size=6).map(
    lambda found: tuple(sorted(found))
)
weekdays = st.frozensets(st.integers(0, 6), max_size=7)


def first_minute(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The model."""
    wanted = datetime.combine(day, at)
    moment = datetime.combine(day, time(), tzinfo=UTC) - timedelta(hours=16)
    while moment.astimezone(zone).replace(tzinfo=None) < wanted:
        moment += timedelta(minutes=1)
    return moment


def make(times: tuple[time, ...], weekdays: frozenset[int], every: int = 1) -> Schedule:
    kind = "Weekly" if weekdays else "Hourly" if len(times) > 3 else "Daily"
    return Schedule(kind, times, weekdays, every, date(2020, 2, 29))  # type: ignore[arg-type]


def week_runs(day: date, every: int) -> bool:
    """Counted in steps of weeks from the Monday of the anchor."""
    if every == 1:
        return True
    monday = date(2020, 2, 24)
    while monday + timedelta(days=7) <= day:
        monday += timedelta(days=7 * every)
    while monday > day:
        monday -= timedelta(days=7 * every)
    return (day - monday).days < 7


@pytest.mark.parametrize(("zone", "night"), NIGHTS)
def test_every_half_hour_around_a_change_is_the_first_minute_of_the_model(
    zone: str, night: date
) -> None:
    found = ZoneInfo(zone)
    for at in TIMES[:12] + TIMES[40:]:
        assert slot_at(night, at, found) == first_minute(night, at, found), at


@settings(deadline=None)
@given(nights, times, weekdays, st.integers(-3, 3), st.integers(0, 1439), st.integers(1, 4))
def test_next_and_latest_slot_are_neighbours_in_the_list_of_all_slots(
    night: tuple[str, date],
    times: tuple[time, ...],
    weekdays: frozenset[int],
    shift: int,
    minute: int,
    every: int,
) -> None:
    zone, schedule = ZoneInfo(night[0]), make(times, weekdays, every if weekdays else 1)
    start = night[1] + timedelta(days=shift)
    at = datetime.combine(start, time(), tzinfo=UTC) + timedelta(minutes=minute)
    days = [start + timedelta(days=ahead) for ahead in range(-38, 39)]
    if weekdays:
        days = [day for day in days if day.weekday() in weekdays and week_runs(day, every)]
    found = {slot_at(day, one, zone) for day in days for one in times}
    assert next_slot(schedule, zone, at) == min(slot for slot in found if slot > at)
    assert latest_slot(schedule, zone, at) == max(slot for slot in found if slot <= at)


@settings(deadline=None)
@given(nights, times, weekdays)
def test_a_run_from_slot_to_slot_visits_every_due_day_once(
    night: tuple[str, date], times: tuple[time, ...], weekdays: frozenset[int]
) -> None:
    zone, schedule = ZoneInfo(night[0]), make(times[:1], weekdays)
    start = datetime.combine(night[1] - timedelta(days=9), time(12), tzinfo=UTC)
    until = start + timedelta(days=18)
    visited, slot = [], next_slot(schedule, zone, start)
    while slot < until:
        visited.append(slot_day(slot, zone, schedule))
        slot = next_slot(schedule, zone, slot)
    due = days_due(schedule, zone, start + timedelta(seconds=1), until)
    if night[0] != "Pacific/Apia":  # one day does not exist there
        assert visited == due
    assert len(set(visited)) == len(visited)
    assert all(schedule.runs_on(day) for day in visited)


def test_a_skipped_time_runs_at_the_next_valid_minute_and_a_doubled_one_once() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    nightly = Schedule("Daily", (time(2, 30),))
    skipped = slots_of_day(nightly, date(2026, 3, 29), berlin)
    assert skipped == [datetime(2026, 3, 29, 1, 0, tzinfo=UTC)]
    doubled = slots_of_day(nightly, date(2026, 10, 25), berlin)
    assert doubled == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]
    assert next_slot(nightly, berlin, doubled[0]) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_a_slot_moved_past_midnight_counts_for_the_day_it_was_due() -> None:
    nuuk = ZoneInfo("America/Nuuk")
    saturdays = Schedule("Weekly", (time(23, 30),), frozenset({5}))
    (slot,) = slots_of_day(saturdays, date(2026, 3, 28), nuuk)
    assert slot.astimezone(nuuk).date() == date(2026, 3, 29)
    assert slot_day(slot, nuuk, saturdays) == date(2026, 3, 28)


def test_two_times_that_a_night_moves_to_one_minute_run_once() -> None:
    thrice = Schedule("Daily", (time(2, 0), time(2, 30), time(3, 0)))
    assert slots_of_day(thrice, date(2026, 3, 29), ZoneInfo("Europe/Berlin")) == [
        datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    ]


def test_a_far_clock_looks_back_400_days_only() -> None:
    daily, utc = Schedule("Daily", (time(1),)), ZoneInfo("UTC")
    until = datetime(9000, 1, 1, tzinfo=UTC)
    assert len(days_due(daily, utc, datetime(2026, 1, 1, tzinfo=UTC), until)) == 400
