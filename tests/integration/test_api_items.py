"""Containers, items, backups and jobs over REST, with a scripted agent in the machine's place."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.scripted_agent import AGENTS, ScriptedAgent
from holdfast.testing.wait import eventually

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
THROTTLE = "throttleBytesPerSecond"
ENVIRONMENT = {
    "HOLDFAST_RESERVE_BYTES": "0",
    "HOLDFAST_TICK_SECONDS": "0.1",
    "HOLDFAST_AGENT_WAIT_SECONDS": "2000000",
}


class Office:
    """A server under a moved clock, its vault, and addresses in it."""

    def __init__(self, server: LiveServer, clock: Path) -> None:
        self.server = server
        self.clock = clock
        self.now = START
        self.vault = server.make_vault()

    def pass_time(self, by: timedelta) -> None:
        self.now += by
        staged = self.clock.with_suffix(".new")
        staged.write_text(self.now.isoformat())
        staged.replace(self.clock)

    def container(self, host: str) -> str:
        return f"{self.vault}/backupFabrics/Azure/protectionContainers/Linux;{host}"

    def item(self, host: str, name: str = "docs") -> str:
        return f"{self.container(host)}/protectedItems/FileFolder;{name}"

    def protect(self, host: str, name: str = "docs", **properties: Any) -> httpx2.Response:
        body = {
            "protectedItemType": "MabFileFolderProtectedItem",
            "backupManagementType": "MAB",
            "policyId": f"{self.vault}/backupPolicies/DefaultPolicy",
            "holdfast": {"includePaths": ["/srv/docs/", "/srv/docs"], "excludeGlobs": ["*.tmp"]},
            **properties,
        }
        return self.server.call("PUT", self.item(host, name), {"properties": body})

    def shown(self, host: str, name: str = "docs") -> dict[str, Any]:
        found: dict[str, Any] = self.server.ok("GET", self.item(host, name))["properties"]
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        found = self.server.ok("GET", f"{self.vault}/backupJobs/{job_id}")["properties"]
        result: dict[str, Any] = found
        return result


def enrolled(office: Office, host: str) -> ScriptedAgent:
    return ScriptedAgent(office.server, office.vault, host, office.now)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("items")
    clock = folder / "clock"
    clock.write_text(START.isoformat())
    environment = {**ENVIRONMENT, "HOLDFAST_TEST_CLOCK": str(clock)}
    with live_server(folder / "server", environment, test_mode=True) as server:
        yield Office(server, clock)


def refused(answer: httpx2.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.json()["error"]["hint"]


def test_an_enrolled_machine_is_a_container(office: Office) -> None:
    enrolled(office, "Web1")
    enrolled(office, "web2")
    listed = office.server.ok("GET", f"{office.vault}/backupProtectionContainers")["value"]
    assert {row["name"] for row in listed} >= {"Linux;Web1", "Linux;web2"}
    wanted = {"$filter": "backupManagementType eq 'MAB' and friendlyName eq 'web1'"}
    one = office.server.ok("GET", f"{office.vault}/backupProtectionContainers", **wanted)["value"]
    assert [row["properties"]["friendlyName"] for row in one] == ["Web1"]
    encoded = office.container("WEB1").replace(";", "%3B").replace("protectionC", "PROTECTIONc")
    found = office.server.ok("GET", encoded)
    assert found["id"] == office.container("Web1")
    assert found["properties"]["backupManagementType"] == "MAB"
    assert found["properties"]["registrationStatus"] == "Registered"
    others = {"$filter": "backupManagementType eq 'AzureIaasVM'"}
    address = f"{office.vault}/backupProtectionContainers"
    assert office.server.ok("GET", address, **others)["value"] == []


def test_an_assertion_counts_once_and_an_agent_reads_no_vault(office: Office) -> None:
    machine = enrolled(office, "agent1")
    form = machine.assertion()
    assert machine.log_in(form).status_code == 200
    again = machine.log_in(form)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")
    forged = machine.assertion(Ed25519PrivateKey.generate())
    assert machine.log_in(forged).status_code == 401
    late = machine.log_in(machine.assertion(now=office.now - timedelta(hours=1)))
    assert (late.status_code, late.json()["error"]) == (401, "ExpiredAuthenticationToken")
    refused(office.server.get(office.vault, token=machine.token()), 403, "AuthorizationFailed")
    foreign = f"{AGENTS}/{uuid.uuid4()}/next"
    headers = {"Authorization": f"Bearer {machine.token()}"}
    answer = office.server.raw("POST", foreign, json={}, headers=headers)
    refused(answer, 403, "AuthorizationFailed")


def test_a_protected_item(office: Office) -> None:
    enrolled(office, "items1")
    made = office.protect("items1")
    assert made.status_code == 200
    assert office.server.finish(made)["status"] == "Succeeded"
    shown = office.shown("items1")
    assert shown["protectionState"] == "IRPending"
    assert shown["policyName"] == "DefaultPolicy"
    assert shown["lastBackupTime"] == "2001-01-01T00:00:00Z"
    assert shown["holdfast"]["includePaths"] == ["/srv/docs"]
    assert shown["holdfast"]["nextRunAt"].startswith("2026-03-02T22:30")
    assert any("instant-tier" in remark for remark in shown["holdfast"]["remarks"])
    policy = office.server.ok("GET", f"{office.vault}/backupPolicies/DefaultPolicy")
    assert policy["properties"]["protectedItemsCount"] >= 1
    listed = office.server.ok(
        "GET",
        f"{office.vault}/backupProtectedItems",
        **{"$filter": "policyName eq 'DefaultPolicy'"},
    )["value"]
    assert office.item("items1") in {row["id"] for row in listed}
    changed = office.protect("items1", holdfast={"includePaths": ["/srv", "/home"]})
    assert changed.json()["properties"]["holdfast"]["includePaths"] == ["/home", "/srv"]
    assert office.server.ok("GET", f"{office.item('items1')}/recoveryPoints") == {"value": []}


def test_the_speed_limit_of_an_item(office: Office) -> None:
    machine = enrolled(office, "slow1")
    ours = {"includePaths": ["/srv"], "throttleBytesPerSecond": 2_000_000}
    made = office.protect("slow1", holdfast=ours)
    assert made.json()["properties"]["holdfast"]["throttleBytesPerSecond"] == 2_000_000
    kept = office.protect("slow1", holdfast={"includePaths": ["/home"]})
    assert kept.json()["properties"]["holdfast"]["throttleBytesPerSecond"] == 2_000_000
    office.server.call("POST", f"{office.item('slow1')}/backup", {"properties": {}})
    task = machine.next_task()
    assert task["payload"]["throttleBytesPerSecond"] == 2_000_000
    machine.fail(task)
    office.protect("slow1", holdfast={"throttleBytesPerSecond": 0})
    assert office.shown("slow1")["holdfast"]["throttleBytesPerSecond"] is None
    assert office.shown("slow1")["holdfast"]["includePaths"] == ["/home"]


def test_what_holds_an_item_stays(office: Office) -> None:
    enrolled(office, "held1")
    office.protect("held1")
    policy = f"{office.vault}/backupPolicies/DefaultPolicy"
    refused(office.server.call("DELETE", policy), 400, "BMSUserErrorPolicyInUse")
    gone = office.server.call("DELETE", office.vault)
    refused(gone, 400, "ServiceResourceNotEmptyWithBackendMessage")
    assert "existing resources within the vault" in gone.json()["error"]["message"]
    unregistered = office.server.call("DELETE", office.container("held1"))
    refused(unregistered, 400, "ContainerHasProtectedItems")
    assert office.shown("held1")["protectionState"] == "IRPending"


@pytest.mark.parametrize(
    ("properties", "status", "code"),
    [
        ({"holdfast": {}}, 400, "InvalidInclude"),
        ({"holdfast": {"includePaths": []}}, 400, "InvalidInclude"),
        ({"holdfast": {"includePaths": ["relative"]}}, 400, "InvalidInclude"),
        ({"holdfast": {"includePaths": [""]}}, 400, "InvalidInclude"),
        ({"holdfast": {"includePaths": "/srv"}}, 400, "InvalidInclude"),
        ({"holdfast": {"includePaths": ["/a\\x00"]}}, 400, "InvalidPath"),
        ({"holdfast": {"includePaths": ["/a"], "excludeGlobs": ["a\\x00"]}}, 400, "InvalidPath"),
        ({"holdfast": {"includePaths": ["/a"], THROTTLE: 999}}, 400, "InvalidThrottle"),
        ({"holdfast": {"includePaths": ["/a"], THROTTLE: "fast"}}, 400, "InvalidThrottle"),
        ({"holdfast": {"includePaths": ["/a"], THROTTLE: 2e6}}, 400, "InvalidThrottle"),
        ({"holdfast": {"includePaths": ["/a"], THROTTLE: True}}, 400, "InvalidThrottle"),
        ({"policyId": "x/none"}, 404, "BMSUserErrorPolicyNotFound"),
        ({"policyId": ""}, 400, "PolicyRequired"),
        ({"protectionState": "ProtectionStopped"}, 404, "ItemNotFound"),
    ],
)
def test_items_that_cannot_be(
    office: Office, properties: dict[str, Any], status: int, code: str
) -> None:
    host = "refused1"
    if office.server.get(office.container(host)).status_code == 404:
        enrolled(office, host)
    refused(office.protect(host, "other", **properties), status, code)
    assert office.server.get(office.item(host, "other")).status_code == 404


def test_policies_of_other_workloads_and_unknown_machines(office: Office) -> None:
    enrolled(office, "refused2")
    other = f"{office.vault}/backupPolicies/HourlyLogBackup"
    assert office.protect("refused2", policyId=other).status_code == 400
    refused(office.protect("nobody"), 404, "ContainerNotFound")
    refused(office.protect("refused2", "a:b"), 400, "InvalidName")


def test_a_backup_that_fails_is_shown_everywhere(office: Office) -> None:
    machine = enrolled(office, "failing1")
    office.protect("failing1")
    backup = f"{office.item('failing1')}/backup"
    body = {"properties": {"objectType": "FilesBackupRequest"}}
    started = office.server.call("POST", backup, body)
    assert started.status_code == 202
    assert "/operationsStatus/" in started.headers["azure-asyncoperation"]
    operation = office.server.finish(started)
    assert operation["properties"]["objectType"] == "OperationStatusJobExtendedInfo"
    job_id = operation["properties"]["jobId"]
    assert office.job(job_id)["status"] == "InProgress"
    again = office.server.call("POST", backup, body)
    refused(again, 409, "UserErrorBackupOperationInProgress")
    task = machine.next_task()
    assert task["jobId"] == job_id
    assert task["payload"]["includePaths"] == ["/srv/docs"]
    machine.fail(task)
    eventually(lambda: office.job(job_id)["status"] == "Failed", "the job fails")
    job = office.job(job_id)
    assert job["jobType"] == "MabJob"
    assert job["operation"] == "Backup"
    assert job["errorDetails"][0]["errorCode"] == "SourcePathMissing"
    assert job["errorDetails"][0]["recommendations"] == ["bring it back"]
    assert job["extendedInfo"]["tasksList"][0]["status"] == "Failed"
    shown = office.shown("failing1")
    assert (shown["lastBackupStatus"], shown["holdfast"]["health"]) == ("Failed", "Failed")
    listed = office.server.ok("GET", f"{office.vault}/backupProtectedItems")["value"]
    health = {row["name"]: row["properties"]["holdfast"]["health"] for row in listed
              if row["id"] == office.item("failing1")}  # fmt: skip
    assert health == {"FileFolder;docs": "Failed"}
    failed = {"$filter": "status eq 'Failed' and operation eq 'Backup'"}
    rows = office.server.ok("GET", f"{office.vault}/backupJobs", **failed)["value"]
    assert job_id in {row["name"] for row in rows}
    metrics = office.server.get("/metrics").text
    assert 'holdfast_items{health="Failed",vault="rg1/v1"}' in metrics


def test_a_waiting_backup_can_be_cancelled(office: Office) -> None:
    enrolled(office, "cancel1")
    office.protect("cancel1")
    body = {"properties": {"recoveryPointExpiryTimeInUTC": "2026-05-01T00:00:00Z"}}
    started = office.server.call("POST", f"{office.item('cancel1')}/backup", body)
    job_id = office.server.finish(started)["properties"]["jobId"]
    assert office.job(job_id)["actionsInfo"] == ["Cancellable"]
    cancelled = office.server.call("POST", f"{office.vault}/backupJobs/{job_id}/cancel")
    assert cancelled.status_code == 202
    assert f"/backupJobs/{job_id}/operationResults/" in cancelled.headers["location"]
    eventually(lambda: office.job(job_id)["status"] == "Cancelled", "the job is cancelled")
    past = {"properties": {"recoveryPointExpiryTimeInUTC": "2026-01-01T00:00:00Z"}}
    answer = office.server.call("POST", f"{office.item('cancel1')}/backup", past)
    refused(answer, 400, "UserErrorInvalidRetention")


def test_suspend_stop_and_resume(office: Office) -> None:
    enrolled(office, "stop1")
    office.protect("stop1")
    suspended = office.protect("stop1", protectionState="BackupsSuspended")
    assert suspended.json()["properties"]["protectionState"] == "BackupsSuspended"
    backup = f"{office.item('stop1')}/backup"
    refused(office.server.call("POST", backup, {}), 409, "UserErrorProtectionStopped")
    stopped = office.protect("stop1", protectionState="ProtectionStopped", policyId="")
    shown = stopped.json()["properties"]
    assert (shown["policyId"], shown["policyName"]) == ("", "")
    assert shown["holdfast"]["nextRunAt"] is None
    resumed = office.protect("stop1")
    assert resumed.json()["properties"]["protectionState"] == "IRPending"
    assert office.shown("stop1")["policyName"] == "DefaultPolicy"


@pytest.mark.parametrize(
    ("properties", "status", "code"),
    [
        ({"recoveryType": "OriginalLocation"}, 404, "RecoveryPointNotFound"),
        ({"recoveryType": "RestoreDisks"}, 400, "InvalidParameter"),
        ({"recoveryType": "AlternateLocation"}, 400, "InvalidTarget"),
        ({"targetDirectory": "/x", "conflict": "maybe"}, 400, "InvalidConflict"),
        ({"targetDirectory": "/x", "paths": ["../y"]}, 400, "InvalidPath"),
        ({"targetDirectory": "/x", "paths": "/y"}, 400, "InvalidPath"),
    ],
)
def test_restores_that_cannot_be(
    office: Office, properties: dict[str, Any], status: int, code: str
) -> None:
    host = "restore1"
    if office.server.get(office.container(host)).status_code == 404:
        enrolled(office, host)
        office.protect(host)
    address = f"{office.item(host)}/recoveryPoints/latest/restore"
    refused(office.server.call("POST", address, {"properties": properties}), status, code)


def test_deleting_data_then_the_machine(office: Office) -> None:
    machine = enrolled(office, "leaving1")
    token = machine.token()
    office.protect("leaving1")
    gone = office.server.call("DELETE", office.item("leaving1"))
    assert gone.status_code == 202
    assert f"{office.vault}/backupOperations/" in gone.headers["azure-asyncoperation"]
    assert f"{office.vault}/backupOperationResults/" in gone.headers["location"]
    ended = office.server.finish(gone)
    assert ended["status"] == "Succeeded"
    assert office.job(ended["properties"]["jobId"])["operation"] == "DeleteBackupData"
    refused(office.server.get(office.item("leaving1")), 404, "ItemNotFound")
    assert office.server.call("DELETE", office.container("leaving1")).status_code == 202
    refused(office.server.get(office.container("leaving1")), 404, "ContainerNotFound")
    answer = machine.call("next", {}, token)
    assert answer.status_code == 401, "an unregistered agent's token is refused at once"
    login = machine.log_in()
    assert (login.status_code, login.json()["error"]) == (401, "AgentRevoked")


def test_missed_backups_are_overdue(office: Office) -> None:
    """Runs last: it moves the clock by days."""
    enrolled(office, "overdue1")
    office.protect("overdue1")
    assert office.shown("overdue1")["holdfast"]["health"] == "Healthy"
    office.pass_time(timedelta(days=3))
    eventually(lambda: office.shown("overdue1")["holdfast"]["overdue"], "the item is overdue")
    shown = office.shown("overdue1")["holdfast"]
    assert shown["health"] == "Overdue"
    query = {"$filter": "status eq 'InProgress'"}

    def scheduled() -> bool:
        jobs = office.server.ok("GET", f"{office.vault}/backupJobs", **query)["value"]
        mine = [job for job in jobs if job["properties"]["holdfast"]["scheduled"]]
        return bool(mine)

    eventually(scheduled, "the missed backup runs")
