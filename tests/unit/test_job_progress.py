"""How far a virtual machine's job is, in Azure's words; other jobs have none there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.arm.job_tasks import progress_of, tasks_of
from holdfast.catalog.jobs import JobEvent, JobRow
from holdfast.domain.virtual_machines import MANAGEMENT
from holdfast.testing.catalog_rows import estate_rows, job_of
from holdfast.testing.ports import SeededRandom

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def running(**progress: Any) -> JobRow:
    """A virtual machine's backup under way."""
    job = job_of("j1", estate_rows(SeededRandom(1), NOW).item, NOW)
    return replace(
        job, management_type=MANAGEMENT, status="InProgress", ended_at=None, progress=progress
    )


@pytest.mark.parametrize(
    ("progress", "percent", "left"),
    [
        ({}, 0.0, None),
        ({"doneBytes": 50, "totalBytes": 0}, 0.0, None),
        ({"doneBytes": 50, "totalBytes": 200}, 25.0, None),
        ({"doneBytes": 50, "totalBytes": 200, "bytesPerSecond": 15}, 25.0, "PT10.000S"),
        ({"doneBytes": 300, "totalBytes": 200, "bytesPerSecond": 15}, 100.0, "PT0.000S"),
    ],
)
def test_a_machines_job_says_how_far_it_is(
    progress: dict[str, Any], percent: float, left: str | None
) -> None:
    told = progress_of(running(**progress))
    assert (told["progressPercentage"], told.get("estimatedRemainingDuration")) == (percent, left)


def test_its_tasks_say_so_each() -> None:
    job, later = running(doneBytes=1, totalBytes=4), NOW + timedelta(seconds=5)
    begun = [JobEvent("j1", NOW, "started", "")]
    taken = [*begun, JobEvent("j1", later, "snapshot-taken", "")]

    def shown(history: list[JobEvent]) -> list[tuple[str, float]]:
        rows = tasks_of(job, history, later)
        return [(row["status"], row["progressPercentage"]) for row in rows]

    assert shown(begun) == [("InProgress", 0.0), ("NotStarted", 0.0)]
    assert shown(taken) == [("Completed", 100.0), ("InProgress", 25.0)]


def test_what_ended_well_is_whole_and_what_failed_is_not() -> None:
    assert progress_of(replace(running(), status="Completed"))["progressPercentage"] == 100
    failed = replace(running(doneBytes=1, totalBytes=2), status="Failed")
    assert progress_of(failed)["progressPercentage"] == 50
    assert "estimatedRemainingDuration" not in progress_of(failed)


def test_folders_have_none_as_in_azures_agent() -> None:
    assert progress_of(replace(running(doneBytes=1, totalBytes=2), management_type="MAB")) == {}
