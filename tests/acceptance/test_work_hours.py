"""The limit of work hours holds a backup back, and letting go of it counts at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, ITEM, World

LIMITED = "Mon-Sun 00:00-00:00 Europe/Berlin 10k"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"})
    source = tmp_path / "src"
    source.mkdir()
    (source / "noise").write_bytes(os.urandom(4_000_000))
    try:
        made.set_up(source)
        yield made
    finally:
        made.close()


def test_a_running_backup_follows_its_items_work_hours(world: World) -> None:
    """4 MB take nearly seven minutes at 10 kB a second."""
    named = (ITEM, "--container", HOST)
    world.ok("item", "update", *named, "--work-hours", LIMITED)
    assert "00:00-00:00 Europe/Berlin: 10.0 kB/s" in world.ok("item", "show", *named).out
    world.ok("backup", "now", "--item", ITEM, "--container", HOST)

    def job() -> dict[str, object]:
        found: dict[str, object] = world.jobs()[0]["properties"]
        return found

    eventually(lambda: job()["holdfast"]["progress"].get("doneBytes"), "it reads", seconds=30)  # type: ignore[index]
    assert job()["status"] == "InProgress"
    world.ok("item", "update", *named, "--work-hours", "none", "--throttle", "none")
    eventually(lambda: job()["status"] == "Completed", "it goes on at full speed", seconds=60)
    assert "work hours: none" in world.ok("item", "show", *named).out
