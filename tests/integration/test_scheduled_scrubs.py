"""The server scrubs its vaults by itself, and tells of the damage it finds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from holdfast.catalog import alerts, jobs, vaults
from holdfast.catalog.jobs import JobRow
from holdfast.jobs.settings import JobSettings
from holdfast.testing.job_yard import VAULT_ID, JobYard
from holdfast.testing.ports import MovableClock
from holdfast.testing.wait import eventually

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def scrubs(yard: JobYard) -> list[JobRow]:
    """Those that were begun, the oldest first."""
    with yard.catalog.read() as connection:
        rows = jobs.page_jobs(connection, VAULT_ID, limit=200).rows
    return sorted((job for job in rows if job.kind == "scrub"), key=lambda job: job.started_at)


def pass_time(yard: JobYard, by: timedelta) -> None:
    """Let the clock go on, and the server do what is due then."""
    assert isinstance(yard.clock, MovableClock)
    yard.clock.pass_time(by)
    today = yard.clock.now()

    def rests() -> bool:
        with yard.catalog.read() as connection:
            busy = jobs.active_jobs(connection)
            done = jobs.page_jobs(connection, VAULT_ID, limit=50).rows
        upkeep = [job for job in done if job.kind == "collect" and job.started_at >= today]
        return bool(upkeep) and not busy

    eventually(rests, "the daily upkeep", every=0.05)


def damage(folder: Path) -> None:
    path = max(folder.glob("vaults/*/packs/*/*"), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def is_told(yard: JobYard) -> bool:
    with yard.catalog.read() as connection:
        return alerts.fired(connection, VAULT_ID, "VaultDamaged", VAULT_ID) is not None


@contextmanager
def yard_at(folder: Path, scrub_days: float) -> Iterator[JobYard]:
    url = f"sqlite:///{folder / 'catalog.sqlite'}"
    settings = JobSettings(tick_seconds=0.05, retry_seconds=(), scrub_days=scrub_days)
    with JobYard(folder, url, clock=MovableClock(START), settings=settings) as yard:
        with yard.catalog.write() as connection:
            vaults.change_vault(connection, VAULT_ID, next_maintenance_at=START + DAY)
        yield yard


def test_a_vault_is_scrubbed_every_week_and_damage_is_told(tmp_path: Path) -> None:
    with yard_at(tmp_path, 7) as yard:
        yard.run("backup")
        assert scrubs(yard) == [], "not on the day it is made"
        pass_time(yard, 8 * DAY)
        first = scrubs(yard)
        assert [(job.status, job.scheduled) for job in first] == [("Completed", True)]
        check = yard.open_vault(VAULT_ID).health().checks["scrub"]
        assert check.complete
        assert check.objects == first[0].result["objects"] > 0
        pass_time(yard, 6 * DAY)
        assert len(scrubs(yard)) == 1
        damage(tmp_path)
        assert not is_told(yard)
        pass_time(yard, DAY)
        assert [job.error_code for job in scrubs(yard)] == ["", "VaultDamaged"]
        assert is_told(yard)
        pass_time(yard, DAY)
        assert len(scrubs(yard)) == 2, "it came to its end: the next is in a week"


def test_no_vault_is_scrubbed_when_the_setting_says_so(tmp_path: Path) -> None:
    with yard_at(tmp_path, 0) as yard:
        pass_time(yard, 30 * DAY)
        assert scrubs(yard) == []
