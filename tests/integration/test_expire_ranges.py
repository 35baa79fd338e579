"""Every range through the real ticker, backup and expire jobs, for fourteen months."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random

import pytest

from holdfast.catalog import items, jobs, points, policies
from holdfast.domain.policy import parse_policy
from holdfast.jobs.settings import JobSettings
from holdfast.testing.job_yard import VAULT_ID, JobYard
from holdfast.testing.policy_model import Body, ModelItem
from holdfast.testing.ports import MovableClock
from holdfast.testing.wait import eventually

START = datetime(2026, 11, 1, 20, tzinfo=UTC)
END = datetime(2028, 1, 10, 20, tzinfo=UTC)
SETTINGS = JobSettings(tick_seconds=0.05, retry_seconds=(30.0, 60.0), lease_seconds=60.0)


def kept(count: int, unit: str, **days: object) -> Body:
    return {"retentionDuration": {"count": count, "durationType": unit}, **days}


def by_week(week: str, day: str) -> Body:
    relative = {"weeksOfTheMonth": [week], "daysOfTheWeek": [day]}
    return {"retentionScheduleFormatType": "Weekly", "retentionScheduleWeekly": relative}


BY_DATE: Body = {
    "retentionScheduleFormatType": "Daily",
    "retentionScheduleDaily": {"daysOfTheMonth": [{"date": 15}, {"date": 0, "isLast": True}]},
}
BASE: Body = {"backupManagementType": "AzureIaasVM", "timeZone": "UTC"}
TIMES = ["2026-01-01T13:00:00Z"]
DAILY: Body = {
    **BASE,
    "schedulePolicy": {"scheduleRunFrequency": "Daily", "scheduleRunTimes": TIMES},
    "retentionPolicy": {
        "dailySchedule": kept(10, "Days"),
        "weeklySchedule": kept(5, "Weeks", daysOfTheWeek=["Sunday"]),
        "monthlySchedule": kept(4, "Months", **BY_DATE),
        "yearlySchedule": kept(1, "Years", **by_week("Last", "Friday"), monthsOfYear=["December"]),
    },
}
WEEKLY: Body = {
    **BASE,
    "schedulePolicy": {
        "scheduleRunFrequency": "Weekly",
        "scheduleRunDays": ["Sunday"],
        "scheduleRunTimes": TIMES,
    },
    "retentionPolicy": {
        "weeklySchedule": kept(8, "Weeks", daysOfTheWeek=["Sunday"]),
        "monthlySchedule": kept(6, "Months", **by_week("First", "Sunday")),
    },
}
CHANGES = {30: WEEKLY, 45: DAILY}


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[JobYard]:
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    with JobYard(tmp_path, url, clock=MovableClock(START), settings=SETTINGS) as made:
        yield made


def pass_to(yard: JobYard, moment: datetime) -> None:
    assert isinstance(yard.clock, MovableClock)
    yard.clock.pass_time(moment - yard.clock.now())


def give(yard: JobYard, policy: Body) -> None:
    """As services do: the policy, and its next run planned anew."""
    item = yard.item()
    with yard.catalog.write() as connection:
        properties = parse_policy(policy).properties
        policies.change_policy(connection, item.policy_id or "", properties=properties)
        items.change_item(connection, item.id, next_run_at=None)
    eventually(lambda: yard.item().next_run_at is not None, "the next run is planned")


def held(yard: JobYard) -> set[str]:
    """Days of the catalog's points, which must be the vault's; without those a shorter retention
    dropped, which are kept for a while."""
    with yard.catalog.read() as connection:
        rows = points.points_of_item(connection, yard.item().id)
    yard.vault.refresh()
    assert {row.rp_id for row in rows} == {one.rp_id for one in yard.vault.recovery_points()}
    return {row.time.date().isoformat() for row in rows if row.purge_at is None}


def settled(yard: JobYard, count: int) -> bool:
    with yard.catalog.read() as connection:
        lives = points.lives_of(connection, VAULT_ID).values()
        kept = sum(life.purge_at is None for life in lives)
        return count == kept and not jobs.active_jobs(connection)


def test_what_is_left_of_each_range_is_what_the_model_keeps(yard: JobYard) -> None:
    rng, model, now, step = Random(7), ModelItem(DAILY), START, 0
    give(yard, DAILY)
    while now < END:
        step += 1
        if step in CHANGES:
            give(yard, CHANGES[step])
            model.change(CHANGES[step])
        later = now.replace(hour=20) + timedelta(days=rng.choice([1, 1, 2, 3, 9, 14]))
        pass_to(yard, later)
        slots = model.slots(now, later)
        for slot in slots[:-1]:
            model.fail(slot)
        for slot in slots[-1:]:
            model.succeed(step, slot)
            model.points[-1].at = later
        count, what = len(model.points), f"the backup of {later:%F}"
        eventually(partial(settled, yard, count), what, every=0.02)
        now = later + timedelta(hours=1)
        pass_to(yard, now)
        assert yard.run("expire").status == "Completed"
        model.expire(now)
        assert held(yard) == {point.at.date().isoformat() for point in model.points}, now
    assert {tag for point in model.points for tag in point.tags} >= {"weekly", "monthly", "yearly"}
    assert step > max(CHANGES)
