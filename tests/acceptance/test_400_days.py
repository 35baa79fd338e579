"""400 days under a moved clock, and once back: real backups, expiry and collect, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
STEP_DAYS = 16
DAILY_KEEP, WEEKLY_KEEP = 7, 4


@pytest.fixture
def aged(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, test_mode=True)
    made.set_clock(START)
    try:
        yield made
    finally:
        made.close()


def policy(kept_days: int, kept_weeks: int) -> dict[str, object]:
    """Daily at 13:00 UTC; a week's Sunday is kept longer."""
    at = ["2026-01-01T13:00:00Z"]
    days = {"count": kept_days, "durationType": "Days"}
    weeks = {"count": kept_weeks, "durationType": "Weeks"}
    sunday = {"daysOfTheWeek": ["Sunday"], "retentionTimes": at, "retentionDuration": weeks}
    return {
        "properties": {
            "backupManagementType": "AzureIaasVM",
            "timeZone": "UTC",
            "schedulePolicy": {
                "schedulePolicyType": "SimpleSchedulePolicy",
                "scheduleRunFrequency": "Daily",
                "scheduleRunTimes": at,
            },
            "retentionPolicy": {
                "retentionPolicyType": "LongTermRetentionPolicy",
                "dailySchedule": {"retentionTimes": at, "retentionDuration": days},
                "weeklySchedule": sunday,
            },
        }
    }


def live_points_are(world: World, expected: set[str]) -> bool:
    return {point["properties"]["recoveryPointTime"][:10] for point in world.points()} == expected


def expected_days(made: list[datetime], now: datetime) -> set[str]:
    """The obviously right answer: young enough for its rule, or the newest. A backup stands for
    the Sundays the clock jumped over."""
    kept = set()
    for before, day in zip([made[0] - timedelta(days=1), *made], made, strict=False):
        spanned = [before + timedelta(days=number + 1) for number in range((day - before).days)]
        sunday = any(slot.weekday() == 6 for slot in spanned)
        keep_days = max(DAILY_KEEP, WEEKLY_KEEP * 7 if sunday else 0)
        if day + timedelta(days=keep_days) > now or day == made[-1]:
            kept.add(day.date().isoformat())
    return kept


def check_oldest(world: World, source: Path, out: Path) -> None:
    """The oldest point that retention kept restores what its day had."""
    oldest = world.points()[-1]
    day = oldest["properties"]["recoveryPointTime"][:10]
    world.restore(out, point=str(oldest["name"]))
    restored = (out / str(source).lstrip("/") / "today.txt").read_text()
    assert restored == f"the day is {day}\n" * 50_000
    assert restored != (source / "today.txt").read_text()


def scheduled_runs(world: World) -> int:
    """Backups by schedule on the first day that ended well."""
    found = [job["properties"] for job in world.jobs()]
    return sum(
        job["operation"] == "Backup"
        and job["holdfast"]["scheduled"]
        and job["status"] == "Completed"
        and job["startTime"].startswith(START.date().isoformat())
        for job in found
    )


def next_run(world: World) -> str:
    shown = world.ask("item", "show", ITEM, "--container", HOST)
    return str(shown["properties"]["holdfast"]["nextRunAt"])


@pytest.mark.slow
def test_400_days_of_backups_expiry_and_collect(aged: World, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "always.bin").write_bytes(bytes(range(251)) * 4000)
    draft = tmp_path / "policy.json"
    draft.write_text(json.dumps(policy(DAILY_KEEP, WEEKLY_KEEP)))
    aged.start_server()
    aged.login()
    aged.ok("vault", "create", VAULT, "-g", GROUP)
    aged.ok("policy", "create", "gfs", "--file", draft)
    assert aged.enroll().code == 0
    aged.start_agent()
    aged.protect(source, policy="gfs")

    made: list[datetime] = []
    now = START
    while now < START + timedelta(days=400):
        (source / "today.txt").write_text(f"the day is {now.date()}\n" * 50_000)
        slot = now.replace(hour=13)
        aged.set_clock(slot + timedelta(minutes=1))
        made.append(slot)
        eventually(partial(aged.backed_up_on, slot.date()), f"the scheduled backup of {slot:%F}")
        aged.ok("vault", "expire", VAULT, "-g", GROUP)
        aged.ok("vault", "collect", VAULT, "-g", GROUP)
        assert live_points_are(aged, expected_days(made, slot)), (made, aged.points())
        now += timedelta(days=STEP_DAYS if len(made) % 4 else 1)
    stored = sum(path.stat().st_size for path in aged.vault_folder().rglob("packs/*/*"))
    assert stored < 30_000_000, "collect must have freed the packs of expired points"

    aged.set_clock(START)
    answer = aged.cli("vault", "expire", VAULT, "-g", GROUP)
    assert answer.code == 1
    assert "ClockUntrusted" in answer.out + answer.err
    aged.back_up()
    aged.restore(tmp_path / "out")
    restored = tmp_path / "out" / str(source).lstrip("/")
    assert (restored / "today.txt").read_text() == (source / "today.txt").read_text()
    check_oldest(aged, source, tmp_path / "oldest")
    runs = scheduled_runs(aged)
    aged.stop_server()
    aged.start_server()
    eventually(lambda: next_run(aged).startswith("2026-01-01T13:00"), "the schedule is made anew")
    aged.set_clock(START.replace(hour=13) + timedelta(minutes=1))
    eventually(lambda: scheduled_runs(aged) == runs + 1, "the schedule goes on")
    words = ("item", "list")
    assert aged.ask(*words)[0]["properties"]["friendlyName"] == ITEM
    assert HOST in aged.ok("container", "list").out
