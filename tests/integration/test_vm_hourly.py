"""Of an hourly policy a day's last run goes to the vault; the others stay beside the disks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.clock import choose_clock
from holdfast.errors import SourceError
from holdfast.testing.live_server import live_server
from holdfast.testing.vm_farm import Farm, vm_farm
from holdfast.testing.wait import eventually

VAULT = {"type": "HardenedRP", "status": "Valid"}
BESIDE = {"type": "InstantRP", "status": "Valid"}


class Days:
    """The vault's days; EnhancedPolicy runs at 8, 12, 16 and 20 o'clock."""

    def __init__(self, farm: Farm, clock: Path) -> None:
        self.farm, self._clock = farm, clock

    def pass_to(self, day: int, hour: int) -> None:
        staged = self._clock.with_suffix(".new")
        staged.write_text(datetime(2026, 3, day, hour, 1, tzinfo=UTC).isoformat())
        staged.replace(self._clock)

    def run_at(self, day: int, hour: int) -> dict[str, Any]:
        """The scheduled backup of this hour, when it has ended."""
        before = {job["name"] for job in self._ended()}
        self.pass_to(day, hour)
        eventually(lambda: {job["name"] for job in self._ended()} - before, "it ends", seconds=30)
        (fresh,) = [job for job in self._ended() if job["name"] not in before]
        found = self.farm.server.ok("GET", fresh["id"])["properties"]
        return dict(found)

    def _ended(self) -> list[dict[str, Any]]:
        rows = self.farm.spot.rows("backupJobs")
        ours = [row for row in rows if row["properties"]["operation"] == "Backup"]
        return [row for row in ours if row["properties"]["status"] not in ("InProgress",)]

    def tiers(self) -> list[list[dict[str, str]]]:
        """Of each recovery point, the oldest first by where it is: vault before host."""
        listed = self.farm.server.ok("GET", f"{self.farm.spot.item('web')}/recoveryPoints")
        rows = [row["properties"]["recoveryPointTierDetails"] for row in listed["value"]]
        return sorted(rows, key=lambda told: VAULT not in told)


def asked(farm: Farm) -> bool:
    return bool(getattr(farm.vms.taken[-1], "local_only", None))


@pytest.fixture
def days(tmp_path: Path) -> Iterator[Days]:
    clock = tmp_path / "clock"
    clock.write_text(datetime(2026, 3, 2, 21, tzinfo=UTC).isoformat())
    environment = {"HOLDFAST_TEST_CLOCK": str(clock), "HOLDFAST_TICK_SECONDS": "0.05"}
    environment |= {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_SCRUB_DAYS": "0"}
    with live_server(tmp_path / "server", environment, test_mode=True) as server:
        moved = choose_clock(environment, test_mode=True)
        with vm_farm(server, tmp_path / "farm", "hours", clock=moved) as farm:
            farm.spot.protect("web", "EnhancedPolicy")
            farm.vms.keeps = True
            yield Days(farm, clock)


def test_a_days_last_point_is_in_the_vault_and_the_next_ones_when_that_failed(days: Days) -> None:
    farm = days.farm
    farm.back_up("web")
    assert not asked(farm), "somebody asked for it"
    job = days.run_at(3, 8)
    assert (job["status"], asked(farm)) == ("Completed", True), job
    result = job["holdfast"]["result"]
    assert (result["localOnly"], result["instant"]["kept"]) == (True, True)
    eventually(lambda: days.tiers() == [[BESIDE, VAULT], [BESIDE]], "the host has told of both")
    item = farm.server.ok("GET", farm.spot.item("web"))["properties"]
    assert item["lastRecoveryPoint"].startswith("2026-03-03T08:01")
    assert item["lastBackupStatus"] == "Completed"

    farm.vms.keeps = False  # where no copy can be made, the vault has the point
    assert days.run_at(3, 12)["holdfast"]["result"]["recoveryPointId"]
    assert asked(farm)
    assert [VAULT] in days.tiers()
    farm.vms.keeps = True

    farm.vms.refuses = SourceError("the machine is lost", code="MachineLost")
    assert (days.run_at(3, 20)["status"], asked(farm)) == ("Failed", False)
    farm.vms.refuses = None
    job = days.run_at(4, 8)
    assert (job["status"], asked(farm)) == ("Completed", False), "the day before is owed"
    assert job["holdfast"]["result"]["recoveryPointId"]
