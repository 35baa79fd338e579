"""`az backup` for virtual machines, unmodified: from discovery to restored disks. The host's agent
is the real one; its machines are in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.testing import compatibility
from holdfast.testing.azure_cli import Az, log_in
from holdfast.testing.live_server import live_server
from holdfast.testing.vm_farm import DATA, Farm, vm_farm

TESTS = Path(__file__).parents[1]
PROGRAM = TESTS.parent / ".venv-az" / "bin" / "az"
QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}
HERE = ("-g", "rg-farm", "-v", "farm")
KIND = ("--backup-management-type", "AzureIaasVM")
WEB = (*HERE, "-c", "web", "-i", "web")
ITEM = (*WEB, *KIND, "--workload-type", "VM")


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("az-machines")
    with live_server(folder / "server", QUICK) as server, vm_farm(server, folder / "host") as made:
        yield made


@pytest.fixture(scope="module")
def shell(farm: Farm) -> Iterator[Az]:
    server = farm.server
    where: Any = SimpleNamespace(port=server.port, server_data=server.data, folder=farm.folder)
    made = log_in(PROGRAM, where)
    made.warm_up()
    yield made
    made.cool_down()
    compatibility.note_requests(TESTS, made.sent)


def disks(farm: Farm) -> Any:
    found = farm.server.ok("GET", farm.spot.item("web"))["properties"]["extendedProperties"]
    return found["diskExclusionProperties"]


def ended(az: Az, job: Any) -> Any:
    az.run("backup", "job", "wait", *HERE, "-n", job["name"])
    return az.json("backup", "job", "show", *HERE, "-n", job["name"])["properties"]


@pytest.mark.az(
    "vm show",
    "vm list",
    "backup protection check-vm",
    "backup protection enable-for-vm",
    "backup protection update-for-vm",
    "backup container list",
    "backup item list",
)
def test_protection(az: Az, farm: Farm) -> None:
    found = ("--vm", "web", "-g", "rg-farm")
    assert az.json("vm", "show", "-g", "rg-farm", "-n", "web")["location"] == "local"
    assert {row["name"] for row in az.json("vm", "list", "-g", "rg-farm")} == {"web", "off"}
    assert az.json("backup", "protection", "check-vm", *found) is None
    protect = ("backup", "protection", "enable-for-vm", *HERE, "--vm", "web")
    leave = ("--disk-list-setting", "exclude", "--diskslist", "0")
    job = az.json(*protect, "-p", "DefaultPolicy", *leave)
    assert job["properties"]["status"] == "Completed"
    assert disks(farm) == {"diskLunList": [0], "isInclusionList": False}
    assert az.json("backup", "protection", "check-vm", *found) == farm.spot.vault
    again = ("backup", "protection", "update-for-vm", *WEB, "--disk-list-setting")
    az.run(*again, "include", "--diskslist", "0")
    assert disks(farm) == {"diskLunList": [0], "isInclusionList": True}
    az.run(*again, "resetexclusionsettings")
    assert disks(farm) is None
    containers = az.json("backup", "container", "list", *HERE, *KIND)
    assert [row["properties"]["friendlyName"] for row in containers] == ["web"]
    items = az.json("backup", "item", "list", *HERE, *KIND)
    assert [row["properties"]["friendlyName"] for row in items] == ["web"]
    for noun in ("container", "item"):
        assert any("web" in line for line in az.table("backup", noun, "list", *HERE, *KIND)), noun


@pytest.mark.az(
    "backup protection backup-now",
    "backup job wait",
    "backup job show",
    "backup job list",
    "backup recoverypoint list",
    "backup recoverypoint show",
    "backup restore restore-disks",
)
def test_a_backup_and_its_disks(az: Az, farm: Farm, tmp_path: Path) -> None:
    backup = az.json("backup", "protection", "backup-now", *ITEM, "--retain-until", "01-01-2030")
    job = ended(az, backup)
    assert job["status"] == "Completed"
    tasks = [one["taskId"] for one in job["extendedInfo"]["tasksList"]]
    assert tasks == ["Take Snapshot", "Transfer data to vault"]
    assert len(az.table("backup", "job", "list", *HERE)) >= 2
    (point,) = az.json("backup", "recoverypoint", "list", *ITEM)
    (line,) = az.table("backup", "recoverypoint", "list", *ITEM)
    assert line.split()[0] == point["name"]
    show = ("backup", "recoverypoint", "show", *ITEM, "-n", point["name"])
    assert az.json(*show)["properties"]["recoveryPointType"] == "AppConsistent"
    assert any(point["name"] in line for line in az.table(*show))
    farm.account("azdisks", tmp_path)
    restore = ("backup", "restore", "restore-disks", *WEB, "-r", point["name"])
    to = ("--storage-account", "azdisks")
    job = ended(az, az.json(*restore, *to, "--target-resource-group", "rg-farm"))
    assert job["extendedInfo"]["propertyBag"]["Target Storage Account Name"] == "azdisks"
    assert (tmp_path / "disk0").read_bytes() == DATA
    (tmp_path / "disk0").unlink()
    ended(az, az.json(*restore, *to, "--restore-only-osdisk"))
    assert not (tmp_path / "disk0").exists()
    refused = az.run(*restore, *to, "--restore-mode", "OriginalLocation", code=1)
    assert "UserErrorVmNotShutDown" in refused.err


@pytest.mark.az(
    "backup protection backup-now",
    "backup job wait",
    "backup job show",
    "backup job list",
    "backup job stop",
)
def test_a_backup_and_its_job_in_tables(az: Az) -> None:
    """The first word of a job's line is its name, which scripts cut out."""
    (line,) = az.table("backup", "protection", "backup-now", *ITEM)
    name = line.split()[0]
    assert line.split()[1] == "Backup"
    assert line.split()[3:5] == ["web", "AzureIaasVM"]
    job = (*HERE, "-n", name)
    for verb in ("wait", "show"):
        (line,) = az.table("backup", "job", verb, *job)
        assert line.split()[0] == name, verb
    (line, *_) = az.table("backup", "job", "list", *HERE)
    assert line.split()[:5] == [name, "Backup", "Completed", "web", "AzureIaasVM"]
    refused = az.run("backup", "job", "stop", *job, "-o", "table", code=1)
    assert "JobEnded" in refused.err


@pytest.mark.az(
    "backup item set-policy",
    "backup protection disable",
    "backup protection resume",
    "backup protection undelete",
    "backup vault list-soft-deleted-containers",
)
def test_its_life(az: Az, farm: Farm) -> None:
    def state() -> tuple[str, str, bool]:
        told = farm.server.ok("GET", farm.spot.item("web"))["properties"]
        deleted = told["isScheduledForDeferredDelete"]
        return told["protectionState"], told["policyName"], deleted

    def operation(lines: list[str]) -> str:
        """Of the job that a table names: az has no column for it."""
        (line,) = lines
        job = farm.server.ok("GET", f"{farm.spot.vault}/backupJobs/{line.split()[0]}")
        return str(job["properties"]["operation"])

    switch = ("backup", "item", "set-policy", *HERE, "-c", "web", "-n", "web", *KIND,
              "--workload-type", "VM", "--yes", "-p")  # fmt: skip
    assert az.json(*switch, "DefaultPolicy")["properties"]["operation"] == "ConfigureBackup"
    assert any("ConfigureBackup" in line for line in az.table(*switch, "EnhancedPolicy"))
    assert state() == ("Protected", "EnhancedPolicy", False)
    stop = ("backup", "protection", "disable", *ITEM, "--yes")
    suspend = (*stop, "--retain-recovery-points-as-per-policy", "true")
    assert operation(az.table(*suspend)) == "DisableBackup"
    assert state() == ("BackupsSuspended", "EnhancedPolicy", False)
    assert operation(az.table(*stop)) == "DisableBackup"
    assert state() == ("ProtectionStopped", "", False)
    resume = ("backup", "protection", "resume", *ITEM, "-p")
    refused = az.run(*resume, "DefaultPolicy", code=1)
    assert "UserErrorPolicyTypeMismatch" in refused.err, "none goes back from an enhanced policy"
    assert operation(az.table(*resume, "EnhancedPolicy")) == "ConfigureBackup"
    assert state() == ("Protected", "EnhancedPolicy", False)
    deleting = az.table(*stop, "--delete-backup-data", "true")
    assert operation(deleting) == "DeleteBackupData"
    assert state() == ("ProtectionStopped", "", True)
    gone = ("-g", "rg-farm", "-n", "farm", *KIND)
    deleted = az.json("backup", "vault", "list-soft-deleted-containers", *gone)
    assert [row["properties"]["friendlyName"] for row in deleted] == ["web"]
    undelete = az.table("backup", "protection", "undelete", *ITEM)
    assert operation(undelete) == "Undelete"
    assert state() == ("ProtectionStopped", "", False)
