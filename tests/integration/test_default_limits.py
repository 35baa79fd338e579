"""The limits that count without a word of the operator's: where they refuse, and that they never
stop a backup by schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.catalog import alerts, jobs, points, policies, vaults
from holdfast.catalog.identifiers import new_id
from holdfast.jobs.settings import JobSettings
from holdfast.settings import Settings
from holdfast.testing.catalog_rows import Amounts, fill, point_of
from holdfast.testing.in_process import InProcess, Reply, in_process
from holdfast.testing.job_yard import JobYard
from holdfast.testing.live_server import live_server
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.testing.vm_farm import Farm, vm_farm
from holdfast.testing.vm_place import machine
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


AZURES = {  # as Azure publishes its limits
    "max_vaults": 500,
    "max_vault_policies": 200,
    "max_vault_items": 2000,
    "max_vault_vms": 1000,
    "max_vault_machines": 50,
    "max_policy_vms": 100,
    "max_item_points": 9999,
    "max_policy_changes_a_day": 50,
    "max_protection_changes_a_day": 1000,
    "max_vm_backups_a_day": 9,
    "max_vm_restores_a_day": 20,
}


def test_numbers_that_azure_has_are_azures() -> None:
    assert {name: getattr(Settings(), name) for name in AZURES} == AZURES


def test_the_first_beyond_what_azure_lets_is_refused(app: InProcess) -> None:
    """The 201st policy and the 2001st item of a vault, and the 501st vault; what is there may
    still be changed."""
    token = app.holder("Owner", app.subscription)
    vault_id, rng = vault_of(app, token), SeededRandom(1)
    with app.parts.platform.catalog.write() as connection:
        policy = policies.find_policy(connection, vault_id, "DefaultPolicy")
        vault = vaults.get_vault(connection, vault_id)
        assert policy is not None
        assert vault is not None
        built_in = len(policies.list_policies(connection, vault_id))
        amounts = Amounts(items=1999, policies=199 - built_in)
        (item, *_) = fill(connection, rng, policy, NOON, amounts)
        for number in range(498):
            name = f"copy-{number}"
            vaults.add_vault(connection, replace(vault, id=new_id(rng), name=name, name_key=name))
    asked = {"properties": policy.properties}
    protect = {"protectedItemType": "MabFileFolderProtectedItem", "policyId": "DefaultPolicy"}
    folder = {"properties": {**protect, "holdfast": {"includePaths": ["/srv"]}}}
    holder = f"backupFabrics/Azure/protectionContainers/{item.item_key.partition('/')[0]}"

    def put(path: str, body: Any) -> Reply:
        return app.call("PUT", path, body, token=token)

    for place, body, setting in (
        (f"{app.vault()}/backupPolicies/new-", asked, "max_vault_policies"),
        (f"{app.vault()}/{holder}/protectedItems/FileFolder;new-", folder, "max_vault_items"),
        (app.vault("new-"), {"location": "local", "properties": {}}, "max_vaults"),
    ):
        assert put(f"{place}1", body).status in (200, 201, 202), "the last there is room for"
        refused(put(f"{place}2", body), 409, "QuotaExceeded", setting)
        assert put(f"{place}1", body).status in (200, 202), "no further one"


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


def too_often(answer: httpx2.Response, setting: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "CloudDosAbsoluteLimitReached")
    assert setting in error["hint"]


def test_machines_have_limits_of_their_own(tmp_path: Path) -> None:
    few = {
        "HOLDFAST_RESERVE_BYTES": "0",
        "HOLDFAST_TICK_SECONDS": "0.1",
        "HOLDFAST_MAX_POLICY_VMS": "1",
        "HOLDFAST_MAX_VAULT_VMS": "2",
        "HOLDFAST_MAX_VM_BACKUPS_A_DAY": "1",
        "HOLDFAST_MAX_VM_RESTORES_A_DAY": "1",
        "HOLDFAST_MAX_RESTORES_A_DAY": "1",
    }
    with (
        live_server(tmp_path / "server", few) as server,
        vm_farm(server, tmp_path / "farm", "few") as farm,
    ):
        farm.spot.protect("web")
        error = farm.spot.put("off").json()["error"]
        assert (error["code"], "max_policy_vms" in error["hint"]) == ("QuotaExceeded", True)
        farm.spot.protect("off", "EnhancedPolicy")
        farm.spot.report(machine("more", 3))
        error = farm.spot.put("more", "EnhancedPolicy").json()["error"]
        assert (error["code"], "max_vault_vms" in error["hint"]) == ("QuotaExceeded", True)
        point = farm.back_up("web")
        asked = {"properties": {"objectType": "IaasVMBackupRequest"}}
        again = server.call("POST", f"{farm.spot.item('web')}/backup", asked)
        too_often(again, "max_vm_backups_a_day")
        _restores_are_limited(farm, point, tmp_path)


def _restores_are_limited(farm: Farm, point: str, folder: Path) -> None:
    account = farm.account("few1", folder / "back")
    bad = farm.restore("web", point, "RestoreDisks", storageAccountId="/nowhere")
    assert bad.status_code == 400
    answer = farm.restore("web", point, "RestoreDisks", storageAccountId=account)
    assert answer.status_code == 202, "what was refused does not count"
    again = farm.restore("web", point, "RestoreDisks", storageAccountId=account)
    too_often(again, "max_vm_restores_a_day")
    assert farm.job(answer)["operation"] == "Restore"
    kinds = [row["properties"]["operation"] for row in farm.spot.rows("backupJobs")]
    assert kinds.count("Restore") == 1, "no job of what was refused"
    test = f"{farm.spot.vault}/providers/Holdfast.Backup/virtualMachines/web/testRestore"
    tried = {"properties": {"recoveryPointId": point}}
    assert farm.server.call("POST", test, tried).status_code == 202, "has a limit of its own"
    too_often(farm.server.call("POST", test, tried), "max_restores_a_day")
