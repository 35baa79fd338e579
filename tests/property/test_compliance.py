"""Points expected and present, against counting day by day."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.compliance import compliance, longest_gap
from holdfast.domain.policy import parse_policy
from holdfast.testing.catalog_rows import DAILY

NOW = datetime(2026, 3, 31, 15, tzinfo=UTC)
POLICY = parse_policy(
    {
        **DAILY,
        "retentionPolicy": {
            "retentionPolicyType": "LongTermRetentionPolicy",
            "dailySchedule": {
                "retentionTimes": ["2026-01-01T13:00:00Z"],
                "retentionDuration": {"count": 400, "durationType": "Days"},
            },
        },
    }
)
WEEKLY_GONE = parse_policy(DAILY)  # 7 days daily, 4 weeks for Sundays


@given(
    days=st.sets(st.integers(0, 29)),
    minutes=st.integers(0, 23 * 60),
    protected=st.integers(0, 40),
)
def test_each_day_has_its_point_or_is_missing(days: set[int], minutes: int, protected: int) -> None:
    slots = {
        n: datetime.combine((NOW - timedelta(days=n)).date(), time(13), UTC) for n in range(30)
    }
    points = sorted(slots[n] + timedelta(minutes=minutes) for n in days)
    points = [point for point in points if point <= NOW]
    since = NOW - timedelta(days=protected, hours=5)
    found = compliance(POLICY, points, since, NOW)
    window = max(since, NOW - timedelta(days=30))
    expected = present = 0
    for number, slot in slots.items():
        has = any(slot <= point < slot + timedelta(days=1) for point in points)
        if slot >= window and (has or number > 0):
            expected += 1
            present += has
    assert (found.expected, found.present) == (expected, present)
    assert len(found.missing) == min(10, expected - present)


def test_what_retention_dropped_is_not_missed() -> None:
    found = compliance(WEEKLY_GONE, [], NOW - timedelta(days=60), NOW)
    sundays = {(2026, 3, 8), (2026, 3, 15), (2026, 3, 22)}
    named = {(slot.year, slot.month, slot.day) for slot in found.missing}
    assert sundays <= named
    assert found.expected == 6 + len(sundays), "the last 6 days (and Sundays within 4 weeks)"


def test_an_item_just_protected_promises_nothing_yet() -> None:
    assert compliance(POLICY, [], NOW, NOW).share is None
    assert compliance(POLICY, [], NOW - timedelta(minutes=30), NOW).expected == 0


@given(st.lists(st.integers(0, 1000), unique=True))
def test_the_longest_gap_is_somewhere(hours: list[int]) -> None:
    begin = NOW - timedelta(hours=1000)
    points = sorted(begin + timedelta(hours=one) for one in hours)
    gap = longest_gap(points, begin, NOW)
    assert not points or gap <= timedelta(hours=1000)
    clear = any(
        not any(start < point < start + gap for point in points) for start in [begin, *points]
    )
    assert clear
    assert gap >= timedelta(hours=1000) / (len(points) + 1)
