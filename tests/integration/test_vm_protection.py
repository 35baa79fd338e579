"""Virtual machines in discovery, and the life of their protection, as Azure's clients see it."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_place import GIB, VmPlace, machine

MACHINES = "backupManagementType eq 'AzureIaasVM'"
OF_VMS = f"{MACHINES} and itemType eq 'VM'"
EXCLUDED = {"diskExclusionProperties": {"diskLunList": [0], "isInclusionList": False}}


@pytest.fixture(scope="module")
def spot(live: LiveServer) -> VmPlace:
    place = VmPlace(live, "guests")
    place.report(machine("Web", 1), machine("db", 2), machine("old", 3))
    return place


def protectable(spot: VmPlace) -> set[str]:
    rows = spot.rows("backupProtectableItems", **{"$filter": MACHINES})
    return {row["properties"]["friendlyName"] for row in rows}


def item(spot: VmPlace, name: str) -> Any:
    return spot.server.ok("GET", spot.item(name))["properties"]


def code_of(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


def test_discovery_names_what_az_takes_apart(spot: VmPlace) -> None:
    rows = spot.rows("backupProtectableItems", **{"$filter": MACHINES})
    row = next(one for one in rows if one["properties"]["friendlyName"] == "Web")
    holder = f"IaasVMContainer;iaasvmcontainerv2;{spot.group};Web"
    assert row["id"].endswith(
        f"/protectionContainers/{holder}/protectableItems/vm;iaasvmcontainerv2;{spot.group};Web"
    )
    assert row["name"] == f"iaasvmcontainerv2;{spot.group};Web"
    told = row["properties"]
    assert told["virtualMachineId"] == spot.resource("Web")
    assert (told["protectableItemType"], told["protectionState"]) == (
        "Microsoft.Compute/virtualMachines",
        "NotProtected",
    )
    others = {"$filter": "backupManagementType eq 'AzureWorkload'"}
    assert spot.rows("backupProtectableItems", **others) == []


def test_a_refresh_asks_the_hosts(spot: VmPlace) -> None:
    asked = spot.server.call("POST", f"{spot.vault}/backupFabrics/Azure/refreshContainers")
    assert asked.status_code == 202
    told = spot.host.call("next", {"waitSeconds": 0, "running": []}).json()
    assert told["inventory"] is True
    spot.report(machine("Web", 1), machine("db", 2), machine("old", 3))
    told = spot.host.call("next", {"waitSeconds": 0, "running": []}).json()
    assert told["inventory"] is False


def status_of(spot: VmPlace, name: str) -> Any:
    address = f"{spot.server.subscription}/providers/Microsoft.RecoveryServices/locations/local"
    body = {"resourceType": "VM", "resourceId": spot.resource(name)}
    return spot.server.ok("POST", f"{address}/backupStatus", body)


def test_protecting_as_az_does(spot: VmPlace) -> None:
    assert status_of(spot, "Web") == {"protectionStatus": "NotProtected"}
    spot.protect("web")
    assert protectable(spot) == {"db", "old"}, "a protected machine is not offered"
    shown = spot.server.ok("GET", spot.item("web"))
    assert shown["name"] == f"VM;iaasvmcontainerv2;{spot.group};Web"
    told = shown["properties"]
    assert told["protectedItemType"] == "Microsoft.Compute/virtualMachines"
    assert told["containerName"] == f"iaasvmcontainerv2;{spot.group};Web"
    assert told["virtualMachineId"] == told["sourceResourceId"] == spot.resource("Web")
    assert (told["protectionState"], told["policyName"]) == ("IRPending", "DefaultPolicy")
    assert (told["workloadType"], told["backupManagementType"]) == ("VM", "AzureIaasVM")
    found = status_of(spot, "Web")
    assert (found["protectionStatus"], found["vaultId"]) == ("Protected", spot.vault)
    listed = spot.rows("backupProtectedItems", **{"$filter": OF_VMS})
    assert [row["properties"]["friendlyName"] for row in listed] == ["Web"]
    assert spot.rows("backupProtectedItems", **{"$filter": "backupManagementType eq 'MAB'"}) == []
    wanted = f"{MACHINES} and friendlyName eq 'web' and status eq 'Registered'"
    containers = spot.rows("backupProtectionContainers", **{"$filter": wanted})
    assert [row["properties"]["virtualMachineId"] for row in containers] == [spot.resource("Web")]
    jobs = spot.rows("backupJobs", **{"$filter": MACHINES})
    kinds = {(row["properties"]["jobType"], row["properties"]["operation"]) for row in jobs}
    assert ("AzureIaaSVMJob", "ConfigureBackup") in kinds
    assert spot.ours("Web")["protectionState"] == "IRPending"


def test_a_standard_policy_gives_way_to_an_enhanced_one_and_never_back(live: LiveServer) -> None:
    place = VmPlace(live, "moves")
    place.report(machine("db", 71))
    place.protect("db", "DefaultPolicy", extendedProperties=EXCLUDED)
    place.protect("db", "EnhancedPolicy")
    assert item(place, "db")["policyType"] == "V2"
    assert item(place, "db")["extendedProperties"] == EXCLUDED, "another policy keeps it"
    back = [place.put("db", "DefaultPolicy")]
    assert item(place, "db")["policyName"] == "EnhancedPolicy"
    policies = f"{place.vault}/backupPolicies"
    standard = place.server.ok("GET", f"{policies}/DefaultPolicy")["properties"]
    enhanced = place.server.ok("GET", f"{policies}/EnhancedPolicy")["properties"]
    change, ours = {"properties": standard}, f"{place.vault}/providers/Holdfast.Backup"
    back.append(place.server.call("PUT", f"{policies}/EnhancedPolicy", change))
    assert place.put("db", "", protectionState="ProtectionStopped").status_code == 202
    back.append(place.put("db", "DefaultPolicy"))
    container, _, name = place.item("db").split("/protectionContainers/")[1].split("/")
    switch = {"policy": "DefaultPolicy", "container": container, "item": name}
    back.append(place.server.call("POST", f"{ours}/planPolicyChange", switch))
    place.protect("db", "EnhancedPolicy")
    plan = {**change, "policy": "EnhancedPolicy"}
    back.append(place.server.call("POST", f"{ours}/planPolicyChange", plan))
    for answer in back:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "UserErrorPolicyTypeMismatch")
    assert place.server.ok("GET", f"{policies}/EnhancedPolicy")["properties"] == enhanced
    place.server.ok("PUT", f"{policies}/unused", {"properties": {**enhanced}})
    place.server.ok("PUT", f"{policies}/unused", change)


def test_disks_are_left_out_and_taken_in_again(spot: VmPlace) -> None:
    spot.protect("db", "DefaultPolicy", extendedProperties=EXCLUDED)
    assert item(spot, "db")["extendedProperties"] == EXCLUDED
    assert item(spot, "db")["policyType"] == "V1"
    spot.protect("db", "")
    assert item(spot, "db")["extendedProperties"] == EXCLUDED, "what is left out stays"
    spot.protect("db", extendedProperties={"diskExclusionProperties": None})
    assert item(spot, "db")["extendedProperties"] == {"diskExclusionProperties": None}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (
            {"extendedProperties": {"diskExclusionProperties": {"diskLunList": [9]}}},
            "InvalidDiskList",
        ),
        (
            {"extendedProperties": {"diskExclusionProperties": {"diskLunList": [-1]}}},
            "InvalidDiskList",
        ),
        (
            {"extendedProperties": {"diskExclusionProperties": {"diskLunList": "0"}}},
            "InvalidDiskList",
        ),
        ({"extendedProperties": {"diskExclusionProperties": 3}}, "InvalidDiskList"),
        ({"holdfast": {"consistency": {"wish": "holy"}}}, "InvalidConsistency"),
        (
            {"holdfast": {"consistency": {"wish": "crash", "atLeast": "application"}}},
            "InvalidConsistency",
        ),
        ({"holdfast": {"consistency": "crash"}}, "InvalidConsistency"),
        ({"protectedItemType": "MabFileFolderProtectedItem"}, "UserErrorNotSupported"),
    ],
)
def test_what_cannot_be_meant_is_refused(spot: VmPlace, more: dict[str, Any], code: str) -> None:
    answer = spot.put("db", **more)
    assert (answer.status_code, code_of(answer)) == (400, code)


def test_policies_of_other_kinds_are_refused(spot: VmPlace) -> None:
    answer = spot.put("db", "HourlyLogBackup")
    assert (answer.status_code, code_of(answer)) == (400, "UserErrorPolicyTypeMismatch")


def test_names_that_do_not_belong_together_are_refused(spot: VmPlace) -> None:
    kind = "Microsoft.Compute/virtualMachines"
    asked = {"policyId": f"{spot.vault}/backupPolicies/DefaultPolicy", "protectedItemType": kind}
    body = {"properties": asked}
    wrong = f"{spot.container('db')}/protectedItems/VM;iaasvmcontainerv2;{spot.group};web"
    answer = spot.server.call("PUT", wrong, body)
    assert (answer.status_code, code_of(answer)) == (400, "InvalidName")
    short = f"{spot.vault}/backupFabrics/Azure/protectionContainers/IaasVMContainer;x"
    answer = spot.server.call("PUT", f"{short}/protectedItems/VM;x", body)
    assert answer.status_code == 400


def test_a_machine_that_no_host_has_is_not_protected(spot: VmPlace) -> None:
    answer = spot.put("nothing")
    assert (answer.status_code, code_of(answer)) == (404, "UserErrorVmNotFoundV2")
    listed = spot.rows("backupProtectionContainers", **{"$filter": MACHINES})
    assert "nothing" not in {row["properties"]["friendlyName"] for row in listed}


def test_stop_delete_undelete_resume_as_for_folders(spot: VmPlace) -> None:
    spot.protect("old")
    spot.protect("old", "", protectionState="ProtectionStopped")
    assert (item(spot, "old")["protectionState"], item(spot, "old")["policyId"]) == (
        "ProtectionStopped",
        "",
    )
    ended = spot.server.finish(spot.server.call("DELETE", spot.item("old")))
    assert ended["status"] == "Succeeded"
    assert item(spot, "old")["isScheduledForDeferredDelete"] is True
    deleted = spot.rows("backupDeletedProtectionContainers", **{"$filter": MACHINES})
    assert [row["properties"]["friendlyName"] for row in deleted] == ["old"]
    assert code_of(spot.put("old")) == "UserErrorItemSoftDeleted"
    spot.report(machine("Web", 1), machine("db", 2))
    assert spot.ours("old")["state"] == "Missing", "it has data, so it is told of"
    spot.report(machine("Web", 1), machine("db", 2), machine("old", 3))
    spot.protect("old", "", protectionState="ProtectionStopped", isRehydrate=True)
    assert item(spot, "old")["isScheduledForDeferredDelete"] is False
    assert spot.rows("backupDeletedProtectionContainers", **{"$filter": MACHINES}) == []
    spot.protect("old")
    assert item(spot, "old")["protectionState"] == "IRPending"


def test_a_protected_machine_keeps_its_name_when_its_host_renames_it(spot: VmPlace) -> None:
    spot.protect("db")
    spot.report(machine("Web", 1), machine("renamed", 2), machine("old", 3))
    assert spot.ours("db")["displayName"] == "renamed"
    assert spot.server.get(spot.resource("renamed")).status_code == 404
    spot.report(machine("Web", 1), machine("db", 2), machine("old", 3))


def test_prevalidation_says_why_not(spot: VmPlace) -> None:
    address = f"{spot.server.subscription}/providers/Microsoft.RecoveryServices/locations/local"

    def asked(name: str) -> Any:
        body = {"resourceType": "VM", "resourceId": spot.resource(name), "vaultId": spot.vault}
        return spot.server.ok("POST", f"{address}/backupPreValidateProtection", body)

    spot.report(machine("Web", 1), machine("db", 2), machine("old", 3), machine("fresh", 4))
    spot.protect("Web")
    assert asked("fresh")["status"] == "Succeeded"
    assert asked("Web")["errorCode"] == "UserErrorVmAlreadyProtected"
    assert asked("nobody")["errorCode"] == "UserErrorVmNotFoundV2"
    features = {"featureType": "AzureVMResourceBackup"}
    told = spot.server.ok("POST", f"{address}/backupValidateFeatures", features)
    assert told == {"supportStatus": "Supported"}


def started(spot: VmPlace, name: str) -> Any:
    """A backup's answer; no agent has taken its task yet."""
    asked = {"objectType": "IaasVMBackupRequest", "recoveryPointExpiryTimeInUTC": None}
    answer = spot.server.call("POST", f"{spot.item(name)}/backup", {"properties": asked})
    assert answer.status_code == 202, answer.text
    return answer


def job_of(spot: VmPlace, answer: Any) -> Any:
    operation = answer.headers["Azure-AsyncOperation"].split("?")[0].rpartition("/")[2]
    told = spot.server.ok("GET", f"{spot.vault}/backupOperations/{operation}")
    job = f"{spot.vault}/backupJobs/{told['properties']['jobId']}"
    return spot.server.ok("GET", job, waitSeconds="5")["properties"]


def test_a_backup_of_a_machine_claimed_twice_or_moved_is_not_made(spot: VmPlace) -> None:
    spot.protect("db")
    other = spot.add_host("hv2")
    spot.report(machine("db", 2), host=other)
    job = job_of(spot, started(spot, "db"))
    assert (job["status"], job["holdfast"]["errorCode"]) == (
        "Failed",
        "UserErrorVmClaimedByTwoHosts",
    )
    spot.report(machine("Web", 1), machine("old", 3))
    assert spot.ours("db")["state"] == "Moved"
    job = job_of(spot, started(spot, "db"))
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", "UserErrorVmMoved")
    assert "vm protect" in job["errorDetails"][0]["recommendations"][0]
    spot.protect("db")
    assert spot.ours("db")["state"] == "Present", "somebody said that it is the same"
    spot.report(host=other)
    job = job_of(spot, started(spot, "db"))
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", "UserErrorVmNotFoundV2")
    assert job["jobType"] == "AzureIaaSVMJob"
    assert [one["taskId"] for one in job["extendedInfo"]["tasksList"]] == [
        "Take Snapshot",
        "Transfer data to vault",
    ]
    spot.report(machine("Web", 1), machine("db", 2), machine("old", 3))
    spot.protect("db")


def test_the_task_says_what_to_back_up_and_the_job_how_far_it_is(spot: VmPlace) -> None:
    least = {"consistency": {"wish": "application", "atLeast": "file-system"}}
    spot.protect("web", extendedProperties=EXCLUDED, holdfast=least)
    answer = started(spot, "web")
    task = spot.host.next_task()
    assert task["kind"] == "vm-backup"
    asked = task["payload"]
    assert asked["disks"] == [{"lun": -1, "name": "vda"}]
    assert (asked["wish"], asked["minimum"]) == ("AppConsistent", "FileSystemConsistent")
    assert (asked["name"], asked["parentPoint"]) == ("Web", None)

    def report(phase: str, done: int) -> None:
        disks = [{"lun": -1, "doneBytes": done, "totalBytes": 4 * GIB}]
        body = {"fence": task["fence"], "phase": phase, "doneBytes": done, "disks": disks}
        assert spot.host.call(f"tasks/{task['taskId']}/progress", body).status_code == 200

    report("Take Snapshot", 0)
    job = job_of_running(spot, answer)
    assert job["actionsInfo"] == ["Cancellable"]
    assert [one["status"] for one in job["extendedInfo"]["tasksList"]] == [
        "InProgress",
        "NotStarted",
    ]
    report("Transfer data to vault", GIB)
    job = job_of_running(spot, answer)
    assert [one["status"] for one in job["extendedInfo"]["tasksList"]] == [
        "Completed",
        "InProgress",
    ]
    assert job["holdfast"]["progress"]["disks"][0]["doneBytes"] == GIB
    assert job["actionsInfo"] == []
    refused = spot.server.call("POST", f"{spot.vault}/backupJobs/{job['activityId']}/cancel")
    assert (refused.status_code, code_of(refused)) == (409, "UserErrorJobNotCancellable")
    spot.host.fail(task)
    job = job_of(spot, answer)
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", "SourcePathMissing")
    assert [one["status"] for one in job["extendedInfo"]["tasksList"]] == ["Completed", "Failed"]


def job_of_running(spot: VmPlace, answer: Any) -> Any:
    operation = answer.headers["Azure-AsyncOperation"].split("?")[0].rpartition("/")[2]
    told = spot.server.ok("GET", f"{spot.vault}/backupOperations/{operation}")
    return spot.server.ok("GET", f"{spot.vault}/backupJobs/{told['properties']['jobId']}")[
        "properties"
    ]


def test_a_disk_that_cannot_be_backed_up_is_named(spot: VmPlace) -> None:
    spot.protect("old")
    disks = machine("old", 3)["disks"]
    disks[1]["problem"] = "it is shared between machines"
    spot.report(machine("Web", 1), machine("db", 2), machine("old", 3, disks=disks))
    job = job_of(spot, started(spot, "old"))
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", "DiskCannotBeBackedUp")
    assert "vdb" in job["errorDetails"][0]["errorString"]
