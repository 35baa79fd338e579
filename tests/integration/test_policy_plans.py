"""Previews and plans over more recovery points than a list can show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.bootstrap import build
from holdfast.catalog.vaults import VaultRow
from holdfast.services import policy_plans
from holdfast.services.platform import Platform
from holdfast.settings import Settings
from holdfast.testing.catalog_rows import DAILY, Amounts, fill, furnish
from holdfast.testing.ports import MovableClock, SeededRandom

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
POINTS = 12_000  # one a minute: the last eight days and a bit
OVER = POINTS - 7 * 24 * 60 + 1  # older than the seven days that the policy keeps them


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, VaultRow]]:
    """Two items with the same number of points, all of them tagged daily."""
    rng, folder = SeededRandom(3), tmp_path_factory.mktemp("plans")
    parts = build(folder / "data", Settings(), MovableClock(NOW), rng)
    with parts.platform.catalog.write() as connection:
        estate = furnish(connection, rng, NOW)
        fill(connection, rng, estate.policy, NOW, Amounts(items=2, points=POINTS))
    yield parts.platform, estate.vault
    parts.close()


def kept(days: int) -> dict[str, Any]:
    """The policy with another number of days."""
    retention = {**DAILY["retentionPolicy"]}
    retention["dailySchedule"] = {"retentionDuration": {"count": days, "durationType": "Days"}}
    return {**DAILY, "retentionPolicy": retention}


def test_a_plan_counts_all_points_and_lists_those_that_expire(
    held: tuple[Platform, VaultRow],
) -> None:
    platform, vault = held
    plan = policy_plans.plan_edit(platform, vault, "daily", kept(9))
    assert plan.counts.total == POINTS
    assert (plan.counts.longer, plan.counts.expires) == (POINTS - 2, 0), "the two latest stay"
    assert len(plan.touched) == policy_plans.MOST_SHOWN
    sundays = {**kept(9), "retentionPolicy": {**kept(9)["retentionPolicy"]}}
    del sundays["retentionPolicy"]["dailySchedule"]
    sundays["retentionPolicy"]["weeklySchedule"] = {
        **DAILY["retentionPolicy"]["weeklySchedule"], "daysOfTheWeek": ["Sunday"],
    }  # fmt: skip
    sundays["schedulePolicy"] = {
        **DAILY["schedulePolicy"], "scheduleRunFrequency": "Weekly", "scheduleRunDays": ["Sunday"],
    }  # fmt: skip
    plan = policy_plans.plan_edit(platform, vault, "daily", sundays)
    assert (plan.counts.expires, plan.counts.due) == (POINTS - OVER - 2, OVER)
    assert {row.change.effect for row in plan.touched} == {"expires"}
    assert len({row.item.id for row in plan.touched}) == 1, "the first item's fill the list"


def test_a_preview_of_many_points_shows_those_that_go(held: tuple[Platform, VaultRow]) -> None:
    platform, vault = held
    found = policy_plans.preview_policy(platform, vault, kept(7), "daily")
    assert (found.total, found.dropped) == (POINTS, OVER)
    assert len(found.rows) == policy_plans.MOST_SHOWN
    assert [decision.keep for _, decision in found.rows[: OVER + 1]] == [False] * OVER + [True]
    assert len({item.id for item, decision in found.rows if not decision.keep}) == 2
