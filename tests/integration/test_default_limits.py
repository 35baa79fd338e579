"""The limits that count without a word of the operator's: where they refuse, and that they never
stop a backup by schedule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.catalog import alerts, jobs, points, policies
from holdfast.jobs.settings import JobSettings
from holdfast.settings import Settings
from holdfast.testing.catalog_rows import Amounts, fill, point_of
from holdfast.testing.in_process import InProcess, Reply, in_process
from holdfast.testing.job_yard import JobYard
from holdfast.testing.live_server import live_server
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.testing.vm_place import VmPlace, machine
from holdfast.testing.wait import eventually

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InProcess]:
    """A server as it is installed, at noon."""
    clock = MovableClock(NOON)
    with in_process(tmp_path / "server", Settings(reserve_bytes=0), clock) as made:
        yield made


def vault_of(app: InProcess, token: str) -> str:
    group = f"{app.subscription}/resourcegroups/rg1"
    assert app.call("PUT", group, {"location": "local"}, token=token).status < 300
    body = {"location": "local", "properties": {}}
    found = app.call("PUT", app.vault(), body, token=token).json
    return str(found["properties"]["holdfast"]["vaultId"])


def refused(answer: Reply, status: int, code: str, setting: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.content
    assert setting in answer.json["error"]["hint"]


def test_the_fifty_first_change_of_a_policy_is_told_to_come_tomorrow(app: InProcess) -> None:
    token = app.holder("Owner", app.subscription)
    vault_of(app, token)
    found = app.call("GET", f"{app.vault()}/backupPolicies/DefaultPolicy", token=token).json
    body = {"properties": found["properties"]}

    def change() -> Reply:
        return app.call("PUT", f"{app.vault()}/backupPolicies/mine", body, token=token)

    assert {change().status for _ in range(50)} == {200}
    answer = change()
    refused(answer, 429, "CloudDosAbsoluteLimitReached", "max_policy_changes_a_day")
    assert "retry-after" not in answer.headers, "az would sleep until midnight without a word"


def test_a_backup_on_demand_is_refused_when_an_item_is_full(app: InProcess) -> None:
    token = app.holder("Owner", app.subscription)
    vault_id, rng = vault_of(app, token), SeededRandom(1)
    with app.parts.platform.catalog.write() as connection:
        policy = policies.find_policy(connection, vault_id, "DefaultPolicy")
        assert policy is not None
        amounts = Amounts(items=1, one_item=9998)
        (item,) = fill(connection, rng, policy, NOON, amounts)
    holder, _, name = item.item_key.partition("/")
    address = f"{app.vault()}/backupFabrics/Azure/protectionContainers/{holder}"
    address += f"/protectedItems/{name}/backup"

    def back_up() -> Reply:
        return app.call("POST", address, {"properties": {}}, token=token)

    def cancel_all() -> None:
        with app.parts.platform.catalog.write() as connection:
            for job in jobs.active_jobs(connection):
                jobs.change_job(connection, job.id, status="Cancelled", ended_at=NOON)

    assert back_up().status == 202
    cancel_all()
    with app.parts.platform.catalog.write() as connection:
        points.put_point(connection, point_of(item, 99_999, NOON))
    refused(back_up(), 409, "QuotaExceeded", "max_item_points")


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[JobYard]:
    """Daily at 13:00; two recovery points are the limit."""
    settings = JobSettings(tick_seconds=0.05, max_item_points=2)
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    with JobYard(tmp_path, url, clock=MovableClock(NOON), settings=settings) as made:
        eventually(lambda: made.item().next_run_at is not None, "the first run is planned")
        yield made


def test_the_schedule_goes_on_over_the_limit_and_an_alert_tells(yard: JobYard) -> None:
    def point_count() -> int:
        with yard.catalog.read() as connection:
            return points.count_points(connection, yard.item().id)

    def idle() -> bool:
        with yard.catalog.read() as connection:
            return not jobs.active_jobs(connection)

    def told() -> list[Any]:
        with yard.catalog.read() as connection:
            return list(alerts.fired_of(connection, ("RecoveryPointLimit",)))

    for day in range(1, 4):
        assert isinstance(yard.clock, MovableClock)
        yard.clock.pass_time(NOON + timedelta(days=day, hours=2) - yard.clock.now())
        eventually(lambda made=day: point_count() == made and idle(), f"run {day}")  # type: ignore[misc]
        assert bool(told()) is (day > 2), day
    (alert,) = told()
    assert "2 are the limit" in alert.message
    with yard.catalog.write() as connection:
        gone = points.points_of_item(connection, yard.item().id)[-2:]
        points.remove_points(connection, yard.item().vault_id, [row.rp_id for row in gone])
    yard.clock.pass_time(timedelta(days=1))
    eventually(lambda: not told() and idle(), "it is over when the next run finds fewer")


def test_machines_have_limits_of_their_own(tmp_path: Path) -> None:
    few = {
        "HOLDFAST_RESERVE_BYTES": "0",
        "HOLDFAST_MAX_POLICY_VMS": "1",
        "HOLDFAST_MAX_VM_BACKUPS_A_DAY": "1",
    }
    with live_server(tmp_path / "server", few) as server:
        spot = VmPlace(server, "few")
        spot.report(machine("one", 1), machine("two", 2))
        spot.protect("one")
        error = spot.put("two").json()["error"]
        assert (error["code"], "max_policy_vms" in error["hint"]) == ("QuotaExceeded", True)
        spot.protect("two", "EnhancedPolicy")
        again = f"{spot.item('one')}/backup"
        asked = {"properties": {"objectType": "IaasVMBackupRequest"}}
        assert server.call("POST", again, asked).status_code == 202
        answer = server.call("POST", again, asked)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (429, "CloudDosAbsoluteLimitReached")
        assert "max_vm_backups_a_day" in error["hint"]
