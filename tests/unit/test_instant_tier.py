"""When local copies of machines' disks go."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.instant_tier import (
    Held,
    Space,
    goes_to_vault,
    instant_days,
    is_short,
    plan_drops,
)
from holdfast.domain.schedule import Schedule, slots_of_day

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GIB = 1 << 30
ROOMY = {1: Space(50 * GIB, 100 * GIB)}


def held(token: str, **more: Any) -> Held:
    """A copy of yesterday's that stays for another day."""
    usual: dict[str, Any] = {
        "machine": "m",
        "point": f"rp-{token}",
        "job": f"job-{token}",
        "taken_at": NOW - timedelta(days=1),
        "until": NOW + timedelta(days=1),
        "standing": True,
        "device": 1,
    }
    return Held(token=token, **usual | more)


def gone(*copies: Held, spaces: dict[int, Space] = ROOMY, busy: tuple[str, ...] = ()) -> list[str]:
    return [drop.token for drop in plan_drops(copies, spaces, NOW, busy)]


def test_a_copy_goes_when_its_time_is_over_and_not_before() -> None:
    assert gone(held("a", until=NOW + timedelta(seconds=1)), held("b", until=NOW)) == ["b"]


def test_one_that_is_being_made_stays_and_one_nobody_makes_any_more_goes() -> None:
    copies = held("a", standing=False), held("b", standing=False)
    assert gone(*copies, busy=("a",)) == ["b"]


def test_a_backup_that_is_done_again_takes_the_place_of_its_first_copy() -> None:
    older = held("a", job="j", point="")
    newer = held("b", job="j", point="", taken_at=NOW)
    assert gone(older, newer) == ["a"]
    assert gone(held("a", job="j"), newer) == [], "a point's copy stays"
    assert gone(older, held("b", job="j", standing=False, taken_at=NOW), busy=("b",)) == []
    assert gone(held("a", job="", point=""), held("b", job="", point="", taken_at=NOW)) == []


def test_guests_need_the_room_one_at_a_time_and_what_is_in_the_vault_first() -> None:
    tight = {1: Space(9 * GIB, 100 * GIB), 2: Space(50 * GIB, 100 * GIB)}
    alone = held("a", point="", taken_at=NOW - timedelta(days=3))
    older = held("b", taken_at=NOW - timedelta(days=2))
    elsewhere = held("d", device=2, taken_at=NOW - timedelta(days=9))
    copies = [alone, held("c"), older, elsewhere]
    (drop,) = plan_drops(copies, tight, NOW, ())
    assert (drop.token, "9.0 GiB" in drop.why) == ("b", True)
    assert gone(alone, spaces=tight) == ["a"]
    assert gone(*copies, spaces=tight, busy=("b",)) == ["c"]


def test_room_is_short_below_a_tenth_and_never_with_twenty_gibibytes() -> None:
    assert is_short(Space(GIB - 1, 10 * GIB))
    assert not is_short(Space(GIB, 10 * GIB))
    assert not is_short(Space(20 * GIB, 10_000 * GIB))


@pytest.mark.parametrize(
    ("policy", "days"),
    [
        ({"policyType": "V1", "instantRpRetentionRangeInDays": 5}, 5),
        ({"policyType": "V2"}, 7),
        ({}, 2),
        ({"instantRpRetentionRangeInDays": None}, 2),
    ],
)
def test_days_are_the_policys_or_azures_own(policy: dict[str, Any], days: int) -> None:
    assert instant_days(policy) == days


@given(
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=6),
    weekdays=st.frozensets(st.integers(0, 6)),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland"]),
    failing=st.sets(st.integers(0, 40)),
)
def test_a_days_last_run_goes_to_the_vault_or_else_the_next_one(
    hours: set[int], weekdays: frozenset[int], zone: str, failing: set[int]
) -> None:
    times = tuple(time(hour) for hour in sorted(hours))
    schedule, here = Schedule("Hourly", times, weekdays), ZoneInfo(zone)
    days = [date(2026, 3, 20) + timedelta(days=n) for n in range(16)]
    slots = [(slot, day) for day in days for slot in slots_of_day(schedule, day, here)]
    newest: datetime | None = None
    owed = True  # nothing is in the vault yet
    for number, (slot, day) in enumerate(slots):
        last = slot == slots_of_day(schedule, day, here)[-1]
        assert goes_to_vault(schedule, here, slot, newest) == (owed or last), (slot, newest)
        if number in failing:
            owed = owed or last
        elif owed or last:
            newest, owed = slot + timedelta(minutes=3), False


def test_every_run_of_another_schedule_goes_to_the_vault() -> None:
    daily = Schedule("Daily", (time(2), time(14)))
    slots = slots_of_day(daily, date(2026, 3, 1), ZoneInfo("UTC"))
    assert all(goes_to_vault(daily, ZoneInfo("UTC"), slot, NOW) for slot in slots)
