"""Slots without a backup, whatever the reason, hand their tag on; deleted items are gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.catalog import items, jobs, points, policies
from holdfast.catalog.points import PointRow
from holdfast.catalog.tasks import TaskRow
from holdfast.domain.default_policies import enhanced_policy
from holdfast.domain.policy import parse_policy
from holdfast.errors import SourceError
from holdfast.jobs.settings import JobSettings
from holdfast.ports.jobs import JobSpec
from holdfast.testing.job_yard import VAULT_ID, JobYard
from holdfast.testing.ports import MovableClock
from holdfast.testing.wait import eventually

SATURDAY = datetime(2026, 3, 7, 12, tzinfo=UTC)
SETTINGS = JobSettings(tick_seconds=0.05, retry_seconds=(30.0, 60.0), lease_seconds=60.0)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[JobYard]:
    """Daily at 13:00, a weekly tag on Sundays; the clock is moved by hand."""
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    with JobYard(tmp_path, url, clock=MovableClock(SATURDAY), settings=SETTINGS) as made:
        eventually(lambda: made.item().next_run_at is not None, "the first run is planned")
        yield made


def pass_to(yard: JobYard, moment: datetime) -> None:
    assert isinstance(yard.clock, MovableClock)
    yard.clock.pass_time(moment - yard.clock.now())


def made(yard: JobYard) -> list[PointRow]:
    """Points, newest first."""
    with yard.catalog.read() as connection:
        return points.points_of_item(connection, yard.item().id)


def idle(yard: JobYard) -> bool:
    with yard.catalog.read() as connection:
        return not jobs.active_jobs(connection)


def test_a_sunday_the_server_slept_through(yard: JobYard) -> None:
    pass_to(yard, SATURDAY + timedelta(days=3, hours=2))
    eventually(lambda: len(made(yard)) == 1 and idle(yard), "the run after the sleep")
    assert made(yard)[0].tags == ["daily", "weekly"]
    assert yard.item().missed_ranges == []
    pass_to(yard, SATURDAY + timedelta(days=4, hours=2))
    eventually(lambda: len(made(yard)) == 2 and idle(yard), "the next run")
    assert made(yard)[0].tags == ["daily"]


def test_a_sunday_that_was_cancelled(yard: JobYard) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_task: TaskRow) -> None:
        begun.set()
        assert go_on.wait(30)

    yard.agent.before = wait
    pass_to(yard, SATURDAY + timedelta(days=1, hours=2))
    assert begun.wait(20)
    with yard.catalog.read() as connection:
        (running,) = [job for job in jobs.active_jobs(connection) if job.kind == "backup"]
    yard.engine.cancel(running.id, "test")
    go_on.set()
    assert yard.ended(running.id).status in ("Cancelled", "Completed")
    if yard.job(running.id).status == "Cancelled":
        assert "weekly" in yard.item().missed_ranges
    yard.agent.before = lambda _task: None
    pass_to(yard, SATURDAY + timedelta(days=2, hours=2))
    eventually(lambda: bool(made(yard)) and idle(yard), "Monday's run")
    assert sum("weekly" in point.tags for point in made(yard)) == 1


def test_of_an_hourly_sunday_the_last_run_is_the_week_s_and_monday_takes_it_over(
    yard: JobYard,
) -> None:
    hourly = enhanced_policy()
    hourly["retentionPolicy"]["weeklySchedule"] = {
        "daysOfTheWeek": ["Sunday"],
        "retentionDuration": {"count": 12, "durationType": "Weeks"},
    }
    with yard.catalog.write() as connection:
        policy_id = yard.item().policy_id or ""
        policies.change_policy(connection, policy_id, properties=parse_policy(hourly).properties)
        items.change_item(connection, yard.item().id, next_run_at=None)
    eventually(lambda: yard.item().next_run_at is not None, "the first run is planned")
    pass_to(yard, SATURDAY + timedelta(hours=28.5))
    eventually(lambda: len(made(yard)) == 1 and idle(yard), "the run of Sunday 16:00")
    yard.agent.before = _refuse
    pass_to(yard, SATURDAY + timedelta(hours=32.5))
    eventually(lambda: yard.item().last_backup_status == "Failed" and idle(yard), "20:00 fails")
    yard.agent.before = lambda _task: None
    for number, hours in ((2, 44.5), (3, 48.5)):
        pass_to(yard, SATURDAY + timedelta(hours=hours))
        eventually(lambda n=number: len(made(yard)) == n and idle(yard), f"point {number}")
    tags = [point.tags for point in reversed(made(yard))]
    assert tags == [["daily"], ["daily", "weekly"], ["daily"]]


def _refuse(_task: TaskRow) -> None:
    raise SourceError("the source is gone", code="SourcePathMissing", hint="bring it back")


def test_an_item_whose_data_is_deleted_is_gone(yard: JobYard) -> None:
    first = yard.run("backup").result["recoveryPointId"]
    item = yard.item()
    spec = JobSpec("purge", VAULT_ID, "docs", item.id)
    kept = yard.ended(yard.engine.submit(spec))
    assert kept.result == {"droppedPoints": 0, "kept": True}
    assert yard.item().id == item.id, "nobody deleted it"
    asked = replace(spec, parameters={"immediate": True})
    assert yard.ended(yard.engine.submit(asked)).operation == "DeleteBackupData"
    with yard.catalog.read() as connection:
        assert items.get_item(connection, item.id) is None
        assert first not in points.point_ids(connection, VAULT_ID)
