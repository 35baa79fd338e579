"""Whoever changes a policy sees first what goes, then exactly that goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

THURSDAY = datetime(2026, 1, 1, 13, 1, tzinfo=UTC)
AT = ["2026-01-01T13:00:00Z"]
ON_ITEM = (ITEM, "--container", HOST)


def span(count: int, unit: str) -> dict[str, Any]:
    return {"retentionTimes": AT, "retentionDuration": {"count": count, "durationType": unit}}


def write(file: Path, days: int | None) -> Path:
    """Daily at 13:00, kept ``days`` (None: on Sundays only); Sundays are kept 12 weeks."""
    schedule: dict[str, Any] = {"scheduleRunFrequency": "Daily", "scheduleRunTimes": AT}
    if days is None:
        schedule |= {"scheduleRunFrequency": "Weekly", "scheduleRunDays": ["Sunday"]}
    kept: dict[str, Any] = {"weeklySchedule": {"daysOfTheWeek": ["Sunday"], **span(12, "Weeks")}}
    if days is not None:
        kept["dailySchedule"] = span(days, "Days")
    body = {"backupManagementType": "AzureIaasVM", "timeZone": "UTC"}
    file.write_text(json.dumps({**body, "schedulePolicy": schedule, "retentionPolicy": kept}))
    return file


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Twelve daily backups, from a Thursday on; then it is the evening of the last day."""
    made = World(tmp_path, test_mode=True)
    made.set_clock(THURSDAY - timedelta(hours=1))
    source = tmp_path / "src"
    source.mkdir()
    (source / "file").write_text("text")
    try:
        made.start_server()
        made.login()
        made.ok("vault", "create", VAULT, "-g", GROUP)
        made.ok("policy", "create", "nightly", "--file", write(tmp_path / "nightly.json", 30))
        made.ok("policy", "create", "sundays", "--file", write(tmp_path / "sundays.json", None))
        assert made.enroll().code == 0
        made.start_agent()
        made.protect(source, policy="nightly")
        for number in range(12):
            now = THURSDAY + timedelta(days=number)
            made.set_clock(now)
            eventually(partial(made.backed_up_on, now.date()), f"the backup of {now:%F}")
        made.set_clock(THURSDAY + timedelta(days=11, hours=8))
        yield made
    finally:
        made.close()


def days(points: list[dict[str, Any]]) -> list[int]:
    """Days of January of points as ``recovery-point list`` shows them, without those that are kept
    for a while only."""
    return sorted(_day(point) for point in points if not is_soft_deleted(point))


def _day(point: dict[str, Any]) -> int:
    return int(point["properties"]["recoveryPointTime"][8:10])


def is_soft_deleted(point: dict[str, Any]) -> bool:
    return bool(point["properties"]["recoveryPointProperties"]["isSoftDeleted"])


def planned(rows: list[dict[str, Any]], effect: str) -> list[int]:
    return sorted(int(row["recoveryPointTime"][8:10]) for row in rows if row["effect"] == effect)


def test_a_cut_a_switch_and_a_resumption_are_shown_counted_and_done(
    world: World, tmp_path: Path
) -> None:
    draft = write(tmp_path / "draft.json", 7)
    plan = world.ask("policy", "set", "nightly", "--file", draft, "--plan")
    assert planned(plan["value"], "expires") == [1, 2, 3, 5]
    assert planned(plan["value"], "shorter") == [6, 7, 8, 9, 10]
    counts = {"recoveryPoints": 12, "affected": 9, "expire": 4, "endSooner": 5}
    assert plan["properties"] == {**counts, "endLater": 0, "dueAnyway": 0}
    told = world.ok("policy", "set", "nightly", "--file", draft, "--plan").out
    assert "9 of 12 recovery points affected: 4 expire" in told and "nothing was changed" in told
    kept = world.ask("policy", "show", "nightly")["properties"]["retentionPolicy"]
    assert kept["dailySchedule"]["retentionDuration"]["count"] == 30

    told = world.ok("policy", "set", "nightly", "--file", draft).out
    assert "9 of 12 recovery points affected: 4 expire" in told
    assert len(world.points()) == 12, "the next expiry drops them, not the change"
    world.ok("vault", "expire", VAULT, "-g", GROUP)
    assert days(world.points()) == [4, 6, 7, 8, 9, 10, 11, 12]
    softly = [point for point in world.points() if is_soft_deleted(point)]
    assert sorted(map(_day, softly)) == [1, 2, 3, 5], "kept for the vault's period"
    assert {one["properties"]["recoveryPointProperties"]["expiryTime"][5:10] for one in softly} == {
        "01-26"
    }

    plan = world.ask("item", "update", *ON_ITEM, "--policy", "sundays", "--plan")
    assert planned(plan["value"], "expires") == [6, 7, 8, 9, 10]
    assert world.ask("item", "show", *ON_ITEM)["properties"]["policyName"] == "nightly"
    switched = world.ask("item", "update", *ON_ITEM, "--policy", "sundays")
    change = switched["properties"]["holdfast"]["retentionChange"]
    assert change == plan["properties"]
    world.ok("vault", "expire", VAULT, "-g", GROUP)
    assert days(world.points()) == [4, 11, 12]

    shown = world.ask("policy", "set", "nightly", "--file", draft)
    assert shown["properties"]["holdfast"]["retentionChange"]["recoveryPoints"] == 0
    again = tmp_path / "again.json"
    again.write_text(json.dumps(shown))
    world.ok("policy", "set", "nightly", "--file", again)
    assert "holdfast" not in world.ask("policy", "show", "nightly")["properties"]
    missing = world.cli("policy", "set", "nowhere", "--file", draft, "--plan")
    assert missing.code == 1 and "BMSUserErrorPolicyNotFound" in missing.out + missing.err

    world.ok("item", "disable", *ON_ITEM)
    plan = world.ask("item", "update", *ON_ITEM, "--policy", "nightly", "--plan")
    assert planned(plan["value"], "shorter") == [4, 6, 7, 8, 9, 10, 11], "they had no end"
    told = world.ok("item", "update", *ON_ITEM, "--policy", "nightly").out
    assert "11 of 12 recovery points affected: 4 expire" in told
