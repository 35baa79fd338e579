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

from holdfast.testing.arm_place import ArmPlace
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
    assert (made.status_code, made.content) == (202, b"")
    assert f"{office.item('items1')}/operationsStatus/" in made.headers["azure-asyncoperation"]
    assert f"{office.item('items1')}/operationResults/" in made.headers["location"]
    ended = office.server.finish(made)
    assert ended["status"] == "Succeeded"
    job = office.job(ended["properties"]["jobId"])
    assert (job["operation"], job["status"], job["jobType"]) == (
        "ConfigureBackup",
        "Completed",
        "MabJob",
    )
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
    office.protect("items1", holdfast={"includePaths": ["/srv", "/home"]})
    assert office.shown("items1")["holdfast"]["includePaths"] == ["/home", "/srv"]
    assert office.server.ok("GET", f"{office.item('items1')}/recoveryPoints") == {"value": []}


def test_the_speed_limit_of_an_item(office: Office) -> None:
    machine = enrolled(office, "slow1")
    ours = {"includePaths": ["/srv"], "throttleBytesPerSecond": 2_000_000}
    office.protect("slow1", holdfast=ours)
    assert office.shown("slow1")["holdfast"]["throttleBytesPerSecond"] == 2_000_000
    office.protect("slow1", holdfast={"includePaths": ["/home"]})
    assert office.shown("slow1")["holdfast"]["throttleBytesPerSecond"] == 2_000_000
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
    refused(unregistered, 400, "BMSUserErrorContainerHasDatasources")
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


@pytest.mark.parametrize(
    "body",
    [{}, *({"properties": said} for said in (None, {}, {"protectionState": "Protected"}))],
)
def test_a_body_without_its_kind_changes_no_item(office: Office, body: dict[str, Any]) -> None:
    if office.server.get(office.container("refused3")).status_code == 404:
        enrolled(office, "refused3")
        assert office.protect("refused3").status_code == 202
    answer = office.server.call("PUT", office.item("refused3"), body)
    refused(answer, 400, "InvalidRequestContent")
    assert "MabFileFolderProtectedItem" in answer.json()["error"]["hint"]


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
    event = 'event="BackupHealthEvent",health="Transient Degraded",vault="rg1/v1"'
    assert f"holdfast_health_events{{{event}}}" in metrics
    assert 'holdfast_alerts{severity="Sev1",state="New",vault="rg1/v1"}' in metrics
    assert_alert_of(office, job_id)


def assert_alert_of(office: Office, job_id: str) -> None:
    """The job's alert at every scope, its states and its history, as Azure Monitor has them."""
    server, alerts = office.server, "/providers/Microsoft.AlertsManagement/alerts"
    found: list[dict[str, Any]] = []
    for scope in (server.subscription, server.group("rg1"), office.vault):
        asked = {"severity": "Sev1", "monitorCondition": "Fired", "alertRule": "BackupFailure"}
        rows = server.ok("GET", scope + alerts, **asked, timeRange="1d")["value"]
        found += [row for row in rows if row["properties"]["context"]["jobId"] == job_id]
    assert len(found) == 3
    essentials = found[0]["properties"]["essentials"]
    assert essentials["targetResource"] == office.vault
    assert (essentials["alertState"], essentials["monitorService"]) == ("New", "Azure Backup")
    assert found[0]["id"] == f"{office.vault}{alerts}/{found[0]['name']}"
    path = found[0]["id"]
    moved = server.call(
        "POST", f"{path}/changestate", {"comments": "seen"}, query={"newState": "Closed"}
    )
    assert moved.json()["properties"]["essentials"]["alertState"] == "Closed"
    history = server.ok("GET", f"{path}/history")["properties"]["modifications"]
    assert [(one["modificationEvent"], one["newValue"]) for one in history] == [
        ("AlertCreated", "Fired"),
        ("StateChange", "Closed"),
    ]
    assert history[-1]["comments"] == "seen"
    wrong = server.call("POST", f"{path}/changestate", query={"newState": "x"})
    refused(wrong, 400, "InvalidAlertState")
    refused(server.get(f"{office.vault}{alerts}/none"), 404, "AlertNotFound")
    refused(server.get(office.vault + alerts, severity="high"), 400, "InvalidFilter")
    refused(server.get(office.vault + alerts, monitorCondition="over"), 400, "InvalidFilter")
    assert server.ok("GET", path)["properties"]["holdfast"]["messages"] == []


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
    late = {"properties": {"recoveryPointExpiryTimeInUTC": "2127-01-01T00:00:00Z"}}
    answer = office.server.call("POST", f"{office.item('cancel1')}/backup", late)
    refused(answer, 400, "UserErrorInvalidRetention")


def did(office: Office, answer: httpx2.Response) -> str:
    """The operation of the job behind an answer."""
    ended = office.server.finish(answer)
    assert ended["status"] == "Succeeded"
    job = office.job(ended["properties"]["jobId"])
    assert job["status"] == "Completed"
    return str(job["operation"])


def test_suspend_stop_and_resume(office: Office) -> None:
    enrolled(office, "stop1")
    office.protect("stop1")
    assert did(office, office.protect("stop1", protectionState="BackupsSuspended")) == (
        "DisableBackup"
    )
    assert office.shown("stop1")["protectionState"] == "BackupsSuspended"
    assert office.shown("stop1")["policyName"] == "DefaultPolicy"
    backup = f"{office.item('stop1')}/backup"
    refused(office.server.call("POST", backup, {}), 409, "UserErrorProtectionStopped")
    stopped = office.protect("stop1", protectionState="ProtectionStopped", policyId="")
    assert did(office, stopped) == "DisableBackup"
    shown = office.shown("stop1")
    assert (shown["policyId"], shown["policyName"]) == ("", "")
    assert shown["holdfast"]["nextRunAt"] is None
    suspended = office.protect("stop1", protectionState="BackupsSuspended")
    refused(suspended, 409, "UserErrorInvalidProtectionState")
    assert did(office, office.protect("stop1")) == "ConfigureBackup"
    shown = office.shown("stop1")
    assert (shown["protectionState"], shown["policyName"]) == ("IRPending", "DefaultPolicy")


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


def deleted(office: Office, host: str) -> None:
    gone = office.server.call("DELETE", office.item(host))
    assert gone.status_code == 202
    assert f"{office.vault}/backupOperations/" in gone.headers["azure-asyncoperation"]
    assert f"{office.vault}/backupOperationResults/" in gone.headers["location"]
    assert did(office, gone) == "DeleteBackupData"


def test_deleted_data_is_shown_as_azure_shows_it(office: Office) -> None:
    enrolled(office, "soft1")
    office.protect("soft1")
    assert office.shown("soft1")["isScheduledForDeferredDelete"] is False
    deleted(office, "soft1")
    listed = office.server.ok("GET", f"{office.vault}/backupProtectedItems")["value"]
    (shown,) = [row["properties"] for row in listed if row["id"] == office.item("soft1")]
    assert shown["protectionState"] == "ProtectionStopped"
    assert (shown["policyId"], shown["isScheduledForDeferredDelete"]) == ("", True)
    assert shown["deferredDeleteTimeInUTC"] == "2026-03-16T12:00:00.000000Z"
    assert shown["deferredDeleteTimeRemaining"] == "14.00:00:00.0000000"
    assert shown["isDeferredDeleteScheduleUpcoming"] is False
    assert shown["softDeleteRetentionPeriodInDays"] == 14
    assert office.server.ok("GET", f"{office.item('soft1')}/recoveryPoints") == {"value": []}
    restore = f"{office.item('soft1')}/recoveryPoints/latest/restore"
    asked = {"properties": {"recoveryType": "OriginalLocation"}}
    code = "UserErrorItemSoftDeleted"
    refused(office.server.call("POST", restore, asked), 409, code)
    refused(office.server.call("POST", f"{office.item('soft1')}/backup", {}), 409, code)
    refused(office.protect("soft1"), 409, code)
    deleted(office, "soft1")
    back = {"isRehydrate": True, "protectionState": "ProtectionStopped", "policyId": ""}
    odd = office.protect("soft1", **{**back, "isRehydrate": "yes"})
    refused(odd, 400, "InvalidRequestContent")
    assert did(office, office.protect("soft1", **back)) == "Undelete"
    shown = office.shown("soft1")
    assert (shown["protectionState"], shown["policyId"]) == ("ProtectionStopped", "")
    assert shown["isScheduledForDeferredDelete"] is False
    refused(office.protect("soft1", **back), 409, "UserErrorItemNotSoftDeleted")
    nowhere = office.protect("soft1", "nothing", **back)
    refused(nowhere, 404, "ItemNotFound")


def test_a_machine_with_deleted_items_is_unregistered_and_kept(office: Office) -> None:
    machine = enrolled(office, "leaving1")
    token = machine.token()
    office.protect("leaving1")
    deleted(office, "leaving1")
    assert office.server.call("DELETE", office.container("leaving1")).status_code == 202
    answer = machine.call("next", {}, token)
    assert answer.status_code == 401, "an unregistered agent's token is refused at once"
    login = machine.log_in()
    assert (login.status_code, login.json()["error"]) == (401, "AgentRevoked")
    assert office.container("leaving1") not in held(office, "backupProtectionContainers")
    gone = held(office, "backupDeletedProtectionContainers")
    assert gone[office.container("leaving1")]["registrationStatus"] == "SoftDeleted"
    enrolled(office, "leaving1")
    assert office.container("leaving1") in held(office, "backupProtectionContainers")
    assert office.shown("leaving1")["isScheduledForDeferredDelete"] is True


def held(office: Office, kind: str) -> dict[str, dict[str, Any]]:
    asked = {"$filter": "backupManagementType eq 'MAB'"}
    rows = office.server.ok("GET", f"{office.vault}/{kind}", **asked)["value"]
    return {row["id"]: row["properties"] for row in rows}


def test_a_machine_without_items_is_gone(office: Office) -> None:
    enrolled(office, "leaving2")
    assert office.server.call("DELETE", office.container("leaving2")).status_code == 202
    refused(office.server.get(office.container("leaving2")), 404, "ContainerNotFound")


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


def test_a_preview_says_when_each_kind_of_backup_is_due(place: ArmPlace) -> None:
    ask = f"{place.vault}/providers/Holdfast.Backup/previewPolicy"
    shown = {}
    for name in ("DefaultPolicy", "HourlyLogBackup"):
        draft = place.server.ok("GET", f"{place.vault}/backupPolicies/{name}")["properties"]
        found = place.server.ok("POST", ask, {"properties": draft})
        shown[name] = [one["backupType"] for one in found["upcoming"]]
        assert bool(found["value"]) == (name == "DefaultPolicy"), "databases' keep no folder"
        for one in found["upcoming"]:
            assert len(one["times"]) == 3
            assert one["times"] == sorted(one["times"])
    assert shown == {"DefaultPolicy": ["Backup"], "HourlyLogBackup": ["Full", "Log"]}
