"""Backups and restores of virtual machines from request to result: a real server, the real agent
program, machines in memory."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from holdfast.arm.schemas import shown
from holdfast.errors import SourceError
from holdfast.testing.little_vms import running_host
from holdfast.testing.vm_farm import DATA, OFF, SYSTEM, Farm
from holdfast.testing.wait import eventually


@pytest.fixture(scope="module")
def point(farm: Farm) -> str:
    return farm.back_up("web")


def code_of(answer: httpx2.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_a_backup_makes_a_point_that_says_what_was_reached(farm: Farm, point: str) -> None:
    told = farm.point("web", point)
    assert told["objectType"] == "IaasVMRecoveryPoint"
    assert told["recoveryPointType"] == "AppConsistent"
    assert told["recoveryPointTierDetails"] == [{"type": "HardenedRP", "status": "Valid"}]
    assert told["osType"] == "Linux"
    disks = told["recoveryPointDiskConfiguration"]
    assert (disks["numberOfDisksAttachedToVm"], disks["numberOfDisksIncludedInBackup"]) == (2, 2)
    assert [one["lun"] for one in disks["includedDiskList"]] == [-1, 0]
    measured = told["holdfast"]["measured"]
    assert (measured["freezeMs"], measured["stopMs"]) == (12.5, 1.5)
    assert [one["logicalBytes"] for one in measured["disks"]] == [len(SYSTEM), len(DATA)]
    item = farm.server.ok("GET", farm.spot.item("web"))["properties"]
    assert (item["protectionState"], item["lastBackupStatus"]) == ("Protected", "Completed")
    assert farm.spot.ours("web")["lastRecoveryPoint"] is not None


def test_its_job_has_azures_two_pieces_of_work(farm: Farm, point: str) -> None:
    rows = farm.spot.rows("backupJobs", **{"$filter": "operation eq 'Backup'"})
    job = farm.server.ok("GET", rows[-1]["id"])["properties"]
    tasks = [(one["taskId"], one["status"]) for one in job["extendedInfo"]["tasksList"]]
    assert tasks == [("Take Snapshot", "Completed"), ("Transfer data to vault", "Completed")]
    bag = job["extendedInfo"]["propertyBag"]
    assert (bag["VM Name"], bag["Policy Name"]) == ("web", "DefaultPolicy")
    assert bag["Backed-up disk(s)"] == "OS disk, LUN 0"
    assert "Excluded disk(s)" not in bag
    done = [one["progressPercentage"] for one in job["extendedInfo"]["tasksList"]]
    assert [*done, job["extendedInfo"]["progressPercentage"]] == [100, 100, 100]
    assert (job["jobType"], job["backupManagementType"]) == ("AzureIaaSVMJob", "AzureIaasVM")
    assert job["entityFriendlyName"] == "web"


def test_the_next_backup_names_its_parent_and_keeps_the_reason_of_a_fall(
    farm: Farm, point: str
) -> None:
    farm.vms.reaches = ("FileSystemConsistent", "the guest agent has no hooks")
    newer = farm.back_up("web")
    farm.vms.reaches = ("AppConsistent", "")
    assert getattr(farm.vms.taken[-1], "parent_point", None) == point
    told = farm.point("web", newer)
    assert told["recoveryPointType"] == "FileSystemConsistent"
    assert told["holdfast"]["consistency"]["reason"] == "the guest agent has no hooks"


def test_a_backup_is_cancelled_while_its_snapshot_is_taken(farm: Farm) -> None:
    farm.vms.before.clear()
    answer = farm.start_backup("web")
    eventually(
        lambda: farm.job(answer, ended=False)["holdfast"]["progress"]["phase"] == "Take Snapshot",
        "the snapshot begins",
    )
    job = farm.job(answer, ended=False)
    assert job["actionsInfo"] == ["Cancellable"]
    farm.server.ok("POST", f"{farm.spot.vault}/backupJobs/{job['activityId']}/cancel")
    assert farm.job(answer)["status"] == "Cancelled"
    farm.vms.before.set()


def test_and_not_after(farm: Farm) -> None:
    farm.vms.hold.clear()
    answer = farm.start_backup("web")
    eventually(lambda: not farm.job(answer, ended=False)["actionsInfo"], "the snapshot is taken")
    job = farm.job(answer, ended=False)
    assert job["holdfast"]["progress"]["disks"][0]["totalBytes"] == len(SYSTEM)
    refused = farm.server.call("POST", f"{farm.spot.vault}/backupJobs/{job['activityId']}/cancel")
    assert code_of(refused) == "UserErrorJobNotCancellable"
    farm.vms.hold.set()
    assert farm.job(answer)["status"] == "Completed"


def test_disks_are_restored_into_a_storage_account(farm: Farm, point: str, tmp_path: Path) -> None:
    account = farm.account("restored1", tmp_path)
    answer = farm.restore("web", point, "RestoreDisks", storageAccountId=account)
    job = farm.job(answer)
    assert job["status"] == "Completed", job
    assert (tmp_path / "disk-1").read_bytes() == SYSTEM
    assert (tmp_path / "disk0").read_bytes() == DATA
    bag = job["extendedInfo"]["propertyBag"]
    assert bag["Job Type"] == "Recover disks"
    assert bag["Target Storage Account Name"] == "restored1"
    assert bag["Config Blob Name"] == "web.xml"
    assert bag["Original VM Name"] == "web"
    assert [one["taskId"] for one in job["extendedInfo"]["tasksList"]] == [
        "Transfer data from vault"
    ]


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        ({}, False),
        ({"holdfast": {"restoreKeys": True}}, True),
        ({"encryptionDetails": {"encryptionEnabled": True}}, True),
        (
            {"encryptionDetails": {"encryptionEnabled": True}, "holdfast": {"restoreKeys": False}},
            False,
        ),
    ],
)
def test_disks_alone_bring_keys_when_they_are_asked_for(
    farm: Farm, point: str, tmp_path: Path, more: dict[str, Any], keys: bool
) -> None:
    account = farm.account("keys1", tmp_path)
    farm.job(farm.restore("web", point, "RestoreDisks", storageAccountId=account, **more))
    assert getattr(farm.vms.taken[-1], "restore_keys", None) is keys
    assert bool(farm.vms.granted) is keys, "what is not asked for cannot be opened either"


def test_a_machine_brings_its_keys_unless_they_are_not_wanted(farm: Farm, point: str) -> None:
    for number, (ours, keys) in enumerate([({}, True), ({"restoreKeys": False}, False)]):
        target = farm.spot.resource(f"web-keys{number}")
        more = {"targetVirtualMachineId": target, "holdfast": ours}
        assert farm.job(farm.restore("web", point, "AlternateLocation", **more))
        assert getattr(farm.vms.taken[-1], "restore_keys", None) is keys
    refused = farm.restore("web", point, "OriginalLocation", holdfast={"restoreKeys": "yes"})
    assert code_of(refused) == "InvalidRestoreKeys"


def test_only_the_disks_that_are_asked_for(farm: Farm, point: str, tmp_path: Path) -> None:
    account = farm.account("restored2", tmp_path)
    more = {"storageAccountId": account, "restoreDiskLunList": ["0"]}  # az sends texts
    assert farm.job(farm.restore("web", point, "RestoreDisks", **more))["status"] == "Completed"
    assert {path.name for path in tmp_path.iterdir()} == {"disk0", "web.xml"}
    more["restoreDiskLunList"] = []
    farm.job(farm.restore("web", point, "RestoreDisks", **more))
    assert getattr(farm.vms.taken[-1], "luns", None) == (-1,), "as az asks for the system's disk"


def test_a_new_machine_is_made_and_reported(farm: Farm, point: str) -> None:
    target = {"targetVirtualMachineId": farm.spot.resource("web-copy")}
    job = farm.job(farm.restore("web", point, "AlternateLocation", **target))
    assert job["status"] == "Completed", job
    assert job["extendedInfo"]["propertyBag"]["Target Virtual machine Name"] == "web-copy"
    farm.server.call("POST", f"{farm.spot.vault}/backupFabrics/Azure/refreshContainers")
    eventually(lambda: "web-copy" in farm.seen(), "the host was asked to report", seconds=20)
    assert farm.spot.ours("web-copy")["powerState"] == "stopped"
    again = farm.restore("web", point, "AlternateLocation", **target)
    assert (again.status_code, code_of(again)) == (409, "UserErrorTargetVmExists")


def test_disks_are_replaced_on_a_machine_that_is_off(farm: Farm, point: str) -> None:
    own = farm.back_up("off")
    farm.vms.machines[OFF].disks[0] = b"lost"
    job = farm.end(farm.restore("off", own, "OriginalLocation"))
    assert job["status"] == "Completed", job
    assert farm.vms.machines[OFF].disks[0] == DATA
    safety = job["holdfast"]["result"]["safetyPointId"]
    assert safety != own
    assert (
        farm.point("off", "latest")["recoveryPointTime"]
        == farm.point("off", own)["recoveryPointTime"]
    ), "asked again, it does not bring back what was lost"
    farm.job(farm.restore("off", safety, "OriginalLocation", holdfast={"safetyPoint": False}))
    assert farm.vms.machines[OFF].disks[0] == b"lost", "what was replaced is in a point"
    farm.vms.machines[OFF].disks[0] = DATA
    refused = farm.restore("web", point, "OriginalLocation")
    assert (refused.status_code, code_of(refused)) == (409, "UserErrorVmNotShutDown")


def test_no_disk_is_replaced_without_a_point_of_what_it_holds(farm: Farm) -> None:
    own = farm.back_up("off")
    disks = farm.vms.machines[OFF].disks
    disks[0] = b"newer"
    farm.vms.refuses = SourceError("the image is damaged", code="DiskUnreadable")
    job = farm.end(farm.restore("off", own, "OriginalLocation"))
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", "SafetyPointFailed")
    assert "DiskUnreadable" in job["errorDetails"][0]["errorString"]
    assert "--no-safety-point" in job["errorDetails"][0]["recommendations"][0]
    assert disks[0] == b"newer"
    unsafe = {"holdfast": {"safetyPoint": False}}
    job = farm.job(farm.restore("off", own, "OriginalLocation", **unsafe))
    assert job["status"] == "Completed"
    assert "safetyPointId" not in job["holdfast"]["result"]
    farm.vms.refuses = None
    assert disks[0] == DATA


def test_a_backup_that_runs_is_waited_for_and_another_made(farm: Farm) -> None:
    """What it took its snapshot of may be older than what is replaced."""
    own = farm.back_up("off")
    farm.vms.hold.clear()
    running = farm.start_backup("off")
    eventually(lambda: not farm.job(running, ended=False)["actionsInfo"], "the snapshot is taken")
    answer = farm.restore("off", own, "OriginalLocation")
    eventually(
        lambda: "waiting for the end" in str(farm.job(answer, ended=False)), "the restore waits"
    )
    given_up = farm.job(answer, ended=False)["activityId"]
    farm.server.ok("POST", f"{farm.spot.vault}/backupJobs/{given_up}/cancel")
    assert farm.end(answer)["status"] == "Cancelled", "it waits no longer"
    answer = farm.restore("off", own, "OriginalLocation")
    eventually(
        lambda: "waiting for the end" in str(farm.job(answer, ended=False)), "the restore waits"
    )
    farm.vms.hold.set()
    between = farm.job(running)["holdfast"]["result"]["recoveryPointId"]
    job = farm.end(answer)
    assert job["status"] == "Completed", job
    assert job["holdfast"]["result"]["safetyPointId"] not in (own, between)


def test_protection_that_is_stopped_makes_no_safety_point(farm: Farm) -> None:
    own = farm.back_up("off")
    farm.spot.protect("off", policy="", protectionState="ProtectionStopped")
    refused = farm.restore("off", own, "OriginalLocation")
    assert (refused.status_code, code_of(refused)) == (409, "SafetyPointNotPossible")
    unsafe = {"holdfast": {"safetyPoint": False}}
    assert farm.job(farm.restore("off", own, "OriginalLocation", **unsafe))["status"] == "Completed"
    farm.spot.protect("off")


def test_a_point_without_all_disks_gives_disks_only(farm: Farm, tmp_path: Path) -> None:
    left_out = {"diskExclusionProperties": {"diskLunList": [0], "isInclusionList": False}}
    farm.spot.protect("web", extendedProperties=left_out)
    job = farm.job(farm.start_backup("web"))
    part = job["holdfast"]["result"]["recoveryPointId"]
    bag = job["extendedInfo"]["propertyBag"]
    assert (bag["Backed-up disk(s)"], bag["Excluded disk(s)"]) == ("OS disk", "LUN 0")
    farm.spot.protect("web", extendedProperties={"diskExclusionProperties": None})
    disks = farm.point("web", part)["recoveryPointDiskConfiguration"]
    assert disks["excludedDiskList"] == [{"lun": 0, "name": "disk0"}]
    for kind in ("AlternateLocation", "OriginalLocation"):
        more = {"targetVirtualMachineId": farm.spot.resource("other")}
        refused = farm.restore("web", part, kind, **more)
        assert (refused.status_code, code_of(refused)) == (400, "UserErrorDisksExcluded")
    account = farm.account("restored3", tmp_path)
    more = {"storageAccountId": account, "restoreDiskLunList": [0]}
    refused = farm.restore("web", part, "RestoreDisks", **more)
    assert code_of(refused) == "InvalidDiskList"
    done = farm.restore("web", part, "RestoreDisks", storageAccountId=account)
    assert farm.job(done)["status"] == "Completed"


def test_a_point_has_the_disks_of_its_moment_whatever_changes_meanwhile(farm: Farm) -> None:
    """One is left out, one is added and one is made larger while the backup transfers."""
    machine = farm.vms.machines[OFF]
    before = dict(machine.disks)
    farm.vms.hold.clear()
    answer = farm.start_backup("off")
    eventually(lambda: not farm.job(answer, ended=False)["actionsInfo"], "the snapshot is taken")
    left_out = {"diskExclusionProperties": {"diskLunList": [0], "isInclusionList": False}}
    farm.spot.protect("off", extendedProperties=left_out)
    machine.disks |= {1: b"new", -1: SYSTEM * 2}
    farm.server.call("POST", f"{farm.spot.vault}/backupFabrics/Azure/refreshContainers")
    eventually(lambda: _luns(farm, "off") == [-1, 0, 1], "the host reports again", seconds=20)
    farm.vms.hold.set()
    job = farm.job(answer)
    assert job["status"] == "Completed", job
    disks = farm.point("off", job["holdfast"]["result"]["recoveryPointId"])[
        "recoveryPointDiskConfiguration"
    ]
    assert [one["lun"] for one in disks["includedDiskList"]] == [-1, 0]
    assert disks["excludedDiskList"] == []
    assert disks["numberOfDisksAttachedToVm"] == 2
    machine.disks = before
    farm.spot.protect("off", extendedProperties={"diskExclusionProperties": None})


def _luns(farm: Farm, name: str) -> list[int]:
    return [disk["lun"] for disk in farm.spot.ours(name)["disks"]]


@pytest.mark.parametrize(
    ("kind", "more", "code"),
    [
        ("Elsewhere", {}, "UserErrorNotSupported"),
        ("RestoreDisks", {}, "StorageAccountRequired"),
        ("RestoreDisks", {"storageAccountId": "/nowhere"}, "InvalidStorageAccount"),
        ("RestoreDisks", {"holdfast": {"format": "floppy"}}, "InvalidFormat"),
        ("AlternateLocation", {}, "InvalidName"),
        ("AlternateLocation", {"restoreDiskLunList": [0]}, "InvalidDiskList"),
        ("RestoreDisks", {"restoreDiskLunList": [7]}, "InvalidDiskList"),
        ("RestoreDisks", {"restoreDiskLunList": "all"}, "InvalidDiskList"),
    ],
)
def test_restores_that_cannot_be_meant(
    farm: Farm, point: str, kind: str, more: dict[str, Any], code: str
) -> None:
    answer = farm.restore("web", point, kind, **more)
    assert (answer.status_code, code_of(answer)) == (400, code)


def test_storage_accounts_are_named_looked_up_as_az_does_and_forgotten(farm: Farm) -> None:
    made = farm.account("backups1", Path("/srv/backups"))
    group = farm.server.group(farm.spot.group).replace("resourceGroups", "resourcegroups")
    asked = f"{group}/providers/Microsoft.Storage/storageAccounts//backups1"
    assert farm.server.ok("GET", asked)["id"] == made
    classic = asked.replace("Microsoft.Storage", "Microsoft.ClassicStorage")
    assert farm.server.get(classic).status_code == 404
    listed = farm.server.ok("GET", asked.removesuffix("//backups1"))["value"]
    assert "backups1" in {row["name"] for row in listed}
    folder = {"vaultId": farm.spot.vault, "container": "farm"}
    for name, path, code in (
        ("Bad_Name", "/srv/x", "AccountNameInvalid"),
        ("backups1", "srv", "InvalidTarget"),
        ("backups1", "/", "InvalidTarget"),
    ):
        body = {"properties": {"holdfast": {**folder, "path": path}}}
        answer = farm.server.call("PUT", asked.replace("backups1", name), body)
        assert (answer.status_code, code_of(answer)) == (400, code)
    nobody = {"properties": {"holdfast": {**folder, "container": "nobody", "path": "/srv"}}}
    assert farm.server.call("PUT", asked, nobody).status_code == 404
    assert farm.server.call("DELETE", asked).status_code == 200
    assert farm.server.get(asked).status_code == 404


def test_an_agent_without_machines_is_asked_for_restores(
    farm: Farm, point: str, tmp_path: Path
) -> None:
    """It looks for disks as a hypervisor's host has them; points of this farm hold files."""
    with running_host(farm.server, farm.spot.vault, "plain", tmp_path / "plain", None):
        account = farm.account("plain1", tmp_path, host="plain")
        answer = farm.restore("web", point, "RestoreDisks", storageAccountId=account)
        job = farm.job(answer)
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", "ManifestDamaged")
    assert "holds no disk" in job["errorDetails"][0]["errorString"]


def test_a_restore_to_another_host_needs_the_right_to(
    farm: Farm, point: str, tmp_path: Path
) -> None:
    farm.spot.add_host("away")
    account = farm.account("away1", tmp_path, host="away")
    client = "/providers/Holdfast.Backup/clients/vm-operator"
    made = farm.server.ok("PUT", client, {})["properties"]["credentials"]
    scope = farm.server.group(farm.spot.group)
    role = "providers/Microsoft.Authorization/roleDefinitions/00c29273-979b-4161-815c-10b084fb9324"
    asked = {"principalId": made["client_id"], "roleDefinitionId": f"/{role}"}
    assigned = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    farm.server.ok("PUT", assigned, {"properties": asked})
    token = farm.server.log_in(made["client_id"], made["client_secret"]).json()["access_token"]
    address = f"{farm.spot.item('web')}/recoveryPoints/{point}/restore"

    def restore(to: str) -> httpx2.Response:
        properties = {
            "objectType": "IaasVMRestoreRequest",
            "recoveryType": "RestoreDisks",
            "storageAccountId": to,
        }
        return farm.server.call("POST", address, {"properties": properties}, token=token)

    refused = restore(account)
    assert (refused.status_code, code_of(refused)) == (403, "AuthorizationFailed")
    own = restore(farm.account("own1", tmp_path))
    assert farm.job(own)["status"] == "Completed"


def test_answers_are_of_the_kinds_that_are_written_down(
    farm: Farm, point: str, tmp_path: Path
) -> None:
    job = farm.spot.rows("backupJobs")[0]["id"]
    for address, kind in (
        (farm.spot.item("web"), shown.Item),
        (farm.spot.container("web"), shown.Container),
        (f"{farm.spot.item('web')}/recoveryPoints/{point}", shown.Point),
        (job, shown.Job),
        (farm.account("kinds1", tmp_path), shown.Account),
    ):
        msgspec.json.decode(farm.server.get(address).content, type=kind)
