"""When vaults are scrubbed by themselves."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

from holdfast.domain.scrubbing import LastScrub, is_due, scrub_due

MADE = datetime(2026, 3, 2, 12, tzinfo=UTC)
WEEK, DAY = timedelta(days=7), timedelta(days=1)


def test_first_scrubs_are_spread_over_the_period() -> None:
    vaults = [str(UUID(int=number)) for number in range(700)]
    days = Counter((scrub_due(vault, MADE, None, WEEK) - MADE) // DAY for vault in vaults)
    assert set(days) <= {1, 2, 3, 4, 5, 6}, "not on the first day, and within the week"
    assert min(days[day] for day in range(1, 7)) > 60
    assert scrub_due(vaults[0], MADE, None, DAY / 2) == MADE + DAY / 2


def test_the_next_scrub_counts_from_the_last() -> None:
    whole, broken = LastScrub(MADE, whole=True), LastScrub(MADE, whole=False)
    assert scrub_due("v", MADE, whole, WEEK) == MADE + WEEK
    assert scrub_due("v", MADE, broken, WEEK) == MADE + DAY, "one that was stopped goes on soon"
    assert not is_due("v", MADE, whole, WEEK, MADE + WEEK - DAY)
    assert is_due("v", MADE, whole, WEEK, MADE + WEEK)
    assert is_due("v", MADE, whole, WEEK, MADE - DAY), "a wrong clock holds nothing up"
