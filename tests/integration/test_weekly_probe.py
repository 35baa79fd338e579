"""The store is tested weekly: what fails is shown, and a store that overwrites stops backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from holdfast.adapters.object_store.layers.base import StoreLayer
from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.catalog import jobs, vaults
from holdfast.catalog.upkeep import MaintenanceRun
from holdfast.jobs.probing import last_probe
from holdfast.jobs.settings import JobSettings
from holdfast.ports.object_store import Buffer
from holdfast.testing.job_yard import VAULT_ID, JobYard
from holdfast.testing.live_server import live_server
from holdfast.testing.ports import MovableClock
from holdfast.testing.wait import eventually

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
SETTINGS = JobSettings(tick_seconds=0.05, retry_seconds=())
QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.05"}


class Overwriting(StoreLayer):
    """Forgets what create-if-absent means when it is told to."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        super().__init__(self.memory)
        self.broken = False

    def create(self, key: str, data: Buffer) -> None:
        if self.broken and "/probe/" in key:
            self.memory.objects[key] = bytes(data)
        else:
            super().create(key, data)


def probe_of(yard: JobYard) -> MaintenanceRun | None:
    with yard.catalog.read() as connection:
        return last_probe(connection, VAULT_ID)


def pass_days(yard: JobYard, days: int) -> None:
    """Day by day, waiting for each day's upkeep."""
    assert isinstance(yard.clock, MovableClock)
    for _ in range(days):
        yard.clock.pass_time(timedelta(days=1))
        today = yard.clock.now()
        eventually(lambda today=today: upkeep_is_over(yard, today), "the daily upkeep")  # type: ignore[misc]


def upkeep_is_over(yard: JobYard, today: datetime) -> bool:
    with yard.catalog.read() as connection:
        active = jobs.active_jobs(connection)
        done = jobs.page_jobs(connection, VAULT_ID, limit=50).rows
    expired = [job for job in done if job.kind == "expire" and job.started_at >= today]
    return bool(expired) and not active


def test_backups_stop_while_the_store_overwrites(tmp_path: Path) -> None:
    store = Overwriting()
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    clock = MovableClock(START)
    with JobYard(tmp_path, url, clock=clock, settings=SETTINGS, store=store) as yard:
        with yard.catalog.write() as connection:
            due = START + timedelta(days=1)
            vaults.change_vault(connection, VAULT_ID, next_maintenance_at=due)
        pass_days(yard, 6)
        assert probe_of(yard) is None, "it was tested at its creation"
        pass_days(yard, 1)
        first = probe_of(yard)
        assert first is not None
        assert first.status == "Completed"
        store.broken = True
        pass_days(yard, 6)
        assert probe_of(yard) == first
        assert yard.run("backup").status == "Completed"
        pass_days(yard, 1)
        failed = probe_of(yard)
        assert failed is not None
        assert failed.status == "Failed"
        refused = yard.run("backup")
        assert (refused.status, refused.error_code) == ("Failed", "StoreCreateNotAtomic")
        store.broken = False
        assert yard.run("backup").status == "Failed", "not tested again yet"
        pass_days(yard, 1)
        assert yard.run("backup").status == "Completed"
        assert yard.run("verify").status == "Completed"
    assert not any("/probe/" in key for key in store.memory.objects)


def test_a_failed_test_is_shown_by_a_real_server(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text(START.isoformat())
    environment = {**QUICK, "HOLDFAST_TEST_CLOCK": str(clock)}
    with live_server(tmp_path / "server", environment, test_mode=True) as server:
        vault = server.make_vault()
        ours = server.ok("GET", vault)["properties"]["holdfast"]
        assert ours["storeProbe"] is None
        assert 'holdfast_vault_store_sound{vault="rg1/v1"} 1.0' in server.get("/metrics").text
        blocked = server.data / "vaults" / ours["vaultId"] / "probe"
        blocked.rmdir()
        blocked.write_text("a file in the way of the test")
        staged = clock.with_suffix(".new")
        staged.write_text((START + timedelta(days=8)).isoformat())
        staged.replace(clock)

        def shown() -> str:
            return str(server.ok("GET", vault)["properties"]["holdfast"]["warnings"])

        eventually(lambda: "the weekly test" in shown(), "the warning", seconds=30)
        assert "backups are stopped" not in shown()
        assert 'holdfast_vault_store_sound{vault="rg1/v1"} 0.0' in server.get("/metrics").text
