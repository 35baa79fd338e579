"""The limit of an hour, against asking a calendar minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.rates import Hours, hours_text
from holdfast.domain.schedule import WEEKDAYS
from holdfast.domain.work_hours import WorkHours, rate_at, read_work_hours, work_hours_body
from holdfast.errors import UsageError
from holdfast.workloads.packing import STRETCH_SECONDS, Throttle, _PackPace

MINUTES = st.integers(0, 24 * 60 - 1).map(lambda one: time(one // 60, one % 60))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Tokyo"])
HOURS = st.builds(
    WorkHours,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    start=MINUTES,
    end=MINUTES,
    zone_name=ZONES,
    rate=st.none() | st.integers(1000, 10**9),
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(
    lambda one: one.replace(tzinfo=UTC, second=0, microsecond=0)
)
BODY: dict[str, Any] = {"days": ["Monday"], "start": "09:00", "end": "18:00"}


def walked_into(hours: WorkHours, now: datetime) -> bool:
    """Obviously right and slow: walk back on the wall clock to where work would have begun."""
    wall = now.astimezone(hours.zone).replace(tzinfo=None)
    start, end = (one.hour * 60 + one.minute for one in (hours.start, hours.end))
    for _ in range((end - start) % 1440 or 1440):
        if wall.time() == hours.start:
            return wall.weekday() in hours.days
        wall -= timedelta(minutes=1)
    return False


@given(HOURS, MOMENTS, st.none() | st.integers(1000, 10**9))
def test_the_limit_is_that_of_the_hour(
    hours: WorkHours, now: datetime, outside: int | None
) -> None:
    expected = hours.rate if walked_into(hours, now) else outside
    assert rate_at(outside, hours, now) == expected
    assert rate_at(outside, None, now) == outside


@given(HOURS)
def test_a_body_says_all(hours: WorkHours) -> None:
    assert read_work_hours(work_hours_body(hours)) == hours


@pytest.mark.parametrize(
    "wrong",
    [
        "Mon-Fri",
        {**BODY, "days": []},
        {**BODY, "days": ["Someday"]},
        {**BODY, "days": [1]},
        {**BODY, "start": "9 o'clock"},
        {**BODY, "end": None},
        {**BODY, "end": "24:00"},
        {**BODY, "timeZone": "Mars/Base"},
        {**BODY, "timeZone": 1},
        {**BODY, "timeZone": {}},
        {**BODY, "throttleBytesPerSecond": False},
        {**BODY, "throttleBytesPerSeconds": 5000},
        {**BODY, "throttleBytesPerSecond": 999},
        {**BODY, "throttleBytesPerSecond": 1.5},
        {**BODY, "throttleBytesPerSecond": True},
    ],
)
def test_wrong_bodies_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        read_work_hours(wrong)


def test_as_people_type_them() -> None:
    typed = Hours().convert("Mon-Fri 09:00-18:00 Europe/Berlin 2MB", None, None)
    hours = read_work_hours(typed)
    assert hours is not None
    assert (hours.days, hours.rate) == (frozenset(range(5)), 2_000_000)
    assert hours_text(typed) == "Mon, Tue, Wed, Thu, Fri 09:00-18:00 Europe/Berlin: 2.0 MB/s"
    weekend = Hours().convert("sat-sun,wed 22:00-06:00 none", None, None)
    assert weekend["days"] == [WEEKDAYS[2], WEEKDAYS[5], WEEKDAYS[6]]
    assert weekend["timeZone"] == "UTC"
    assert Hours().convert("none", None, None) == {}


def test_the_limit_is_asked_again_while_it_waits() -> None:
    """10 kB under 1 kB/s, which ends after three seconds."""
    waited: list[float] = []
    throttle = Throttle(lambda: 1_000 if sum(waited) < 3 else None, waited.append)
    throttle.spend(10_000)
    assert sum(waited) == pytest.approx(3)
    faster = Throttle(lambda: 1_000 if sum(waited) < 5 else 8_000, waited.append)
    faster.spend(10_000)
    assert sum(waited) == pytest.approx(3 + 2 + 1)


def test_a_pack_is_stretched_but_not_for_long() -> None:
    waited: list[float] = []
    throttle = Throttle(lambda: 100_000, waited.append)
    pace = _PackPace(throttle)
    for _ in range(128):
        pace(256 * 1024)
    assert STRETCH_SECONDS <= sum(waited) <= STRETCH_SECONDS + 2.7
    throttle.spend(32 * 1024 * 1024 - pace.count)
    assert sum(waited) == pytest.approx(32 * 1024 * 1024 / 100_000)
