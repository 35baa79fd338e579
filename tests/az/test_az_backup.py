"""`az backup`, unmodified: what a script for Azure types, against an installation of ours.

The item `docs` is a folder, which Azure calls MAB. `az` lists and shows such items and deletes
their data; for everything else about them it sends nothing, and `az rest` is the way. What belongs
to shares and databases, or to machines that are not here, answers as Azure does where there are
none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.azure_cli import Az, another_person
from holdfast.testing.azure_sdk import address
from holdfast.testing.browser import sign_in_by_code
from holdfast.testing.wait import eventually
from holdfast.testing.world import World

HERE = ("-g", "rg1", "-v", "v1")
FILES = ("--backup-management-type", "MAB")
CONTAINER, DOCS = "Linux;host1", "FileFolder;docs"
ITEM = ("-c", CONTAINER, "-i", DOCS)
GROUP = "/subscriptions/{subscriptionId}/resourceGroups/rg1"
VAULT = f"{GROUP}/providers/Microsoft.RecoveryServices/vaults/v1"
ADDRESS = f"{VAULT}/backupFabrics/Azure/protectionContainers/{CONTAINER}/protectedItems/{DOCS}"
VERSION = "?api-version=2024-04-01"
NOT_SENT = "az sends no request for folders"
KEEPING = f"without --delete-backup-data {NOT_SENT}"


@pytest.mark.az("account show", "account list-locations", "group list", "provider show")
def test_an_installation_is_a_cloud(az: Az, world: World) -> None:
    shown = az.json("account", "show")
    assert (shown["environmentName"], shown["state"]) == ("holdfast", "Enabled")
    assert [row["name"] for row in az.json("account", "list-locations")] == ["local"]
    assert [line.split()[0] for line in az.table("group", "list")] == ["rg1"]
    assert az.json("provider", "show", "-n", "Microsoft.RecoveryServices")["registrationState"] == (
        "Registered"
    )


@pytest.mark.az("group create", "group exists", "group delete")
def test_groups(az: Az) -> None:
    az.run("group", "create", "-n", "az-group", "-l", "local")
    assert az.json("group", "exists", "-n", "az-group") is True
    az.run("group", "delete", "-n", "az-group", "-y")
    assert az.json("group", "exists", "-n", "az-group") is False


@pytest.mark.az(
    "backup vault create",
    "backup vault show",
    "backup vault list",
    "backup vault update",
    "backup vault delete",
    "backup vault backup-properties show",
    "backup vault backup-properties set",
    "backup vault encryption show",
)
def test_a_vaults_life(az: Az) -> None:
    named = ("-g", "rg1", "-n", "az-vault")
    made = az.json("backup", "vault", "create", *named, "-l", "local")
    assert made["properties"]["provisioningState"] == "Succeeded"
    assert az.table("backup", "vault", "show", *named)[0].split() == ["local", "az-vault", "rg1"]
    assert {line.split()[1] for line in az.table("backup", "vault", "list")} == {"az-vault", "v1"}
    assert az.json("backup", "vault", "update", *named, "--tags", "a=b")["tags"] == {"a": "b"}
    properties = ("backup", "vault", "backup-properties")
    shown = {row["name"]: row["properties"] for row in az.json(*properties, "show", *named)}
    assert shown["vaultconfig"]["softDeleteFeatureState"] == "AlwaysON", "as az always asks"
    assert shown["vaultstorageconfig"]["storageModelType"] == "LocallyRedundant"
    warned = az.run(*properties, "set", *named, "--soft-delete-feature-state", "Disable")
    assert "AlwaysOn. This cannot be modified" in warned.err
    encryption = az.json("backup", "vault", "encryption", "show", *named)
    assert encryption["properties"]["encryptionAtRestType"] == "MicrosoftManaged"
    az.run("backup", "vault", "delete", *named, "-y")
    gone = az.run("backup", "vault", "show", *named, code=3)
    assert "ResourceNotFound" in gone.err


@pytest.mark.az("backup vault create", "backup vault update", "backup vault show")
def test_immutability_is_turned_on_and_locked(az: Az) -> None:
    named, state = ("-g", "rg1", "-n", "az-held"), "--immutability-state"

    def shown() -> str:
        properties = az.json("backup", "vault", "show", *named)["properties"]
        found: str = properties["securitySettings"]["immutabilitySettings"]["state"]
        return found

    az.run("backup", "vault", "create", *named, "-l", "local", state, "Unlocked")
    assert shown() == "Unlocked"
    az.run("backup", "vault", "update", *named, state, "Locked")
    assert shown() == "Locked"
    kept = az.run("backup", "vault", "update", *named, state, "Disabled", code=1)
    assert "UserErrorUnsupportedVaultImmutabilityStateChange" in kept.err
    az.run("backup", "vault", "delete", *named, "-y")


@pytest.mark.az(
    "backup deleted-vault list", "backup deleted-vault get", "backup deleted-vault undelete"
)
def test_a_deleted_vault_comes_back(az: Az) -> None:
    named = ("-g", "rg1", "-n", "az-gone")
    made = az.json("backup", "vault", "create", *named, "-l", "local")
    az.run("backup", "vault", "delete", *named, "-y")
    rows = az.json("backup", "deleted-vault", "list", "--location", "local")
    (row,) = [one for one in rows if one["properties"]["vaultId"].lower() == made["id"].lower()]
    one = az.json("backup", "deleted-vault", "get", "--ids", row["id"])
    assert one["properties"]["purgeAt"] > one["properties"]["vaultDeletionTime"]
    az.run("backup", "deleted-vault", "undelete", "--location", "local", "-n", row["name"])
    assert az.json("backup", "vault", "show", *named)["id"] == made["id"]


@pytest.mark.az("backup vault backup-properties set")
def test_soft_delete_is_set(az: Az) -> None:
    properties = ("backup", "vault", "backup-properties")
    named = ("-g", "rg1", "-n", "v1")

    def shown() -> tuple[str, int]:
        found = {row["name"]: row["properties"] for row in az.json(*properties, "show", *named)}
        config = found["vaultconfig"]
        return config["softDeleteFeatureState"], config["softDeleteRetentionPeriodInDays"]

    az.run(*properties, "set", *named, "--soft-delete-feature-state", "Disable")
    assert shown()[0] == "Disabled"
    words = ("--soft-delete-feature-state", "Enable", "--soft-delete-duration", "30")
    az.run(*properties, "set", *named, *words)
    assert shown() == ("Enabled", 30)


def test_a_vault_with_items_stays(az: Az) -> None:
    refused = az.run("backup", "vault", "delete", "-g", "rg1", "-n", "v1", "-y", code=1)
    assert "existing resources within the vault" in refused.err


@pytest.mark.az(
    "backup policy get-default-for-vm",
    "backup policy create",
    "backup policy show",
    "backup policy set",
    "backup policy list",
    "backup policy list-associated-items",
    "backup policy delete",
)
def test_policies(az: Az, tmp_path: Path) -> None:
    default = az.json("backup", "policy", "get-default-for-vm", *HERE)
    draft = tmp_path / "policy.json"
    draft.write_text(json.dumps(default))
    kind = ("--backup-management-type", "AzureIaasVM")
    az.run("backup", "policy", "create", *HERE, "-n", "az-policy", "--policy", draft, *kind)
    made = az.json("backup", "policy", "show", *HERE, "-n", "az-policy")
    made["properties"]["retentionPolicy"]["dailySchedule"]["retentionDuration"]["count"] = 45
    draft.write_text(json.dumps(made))
    az.run("backup", "policy", "set", *HERE, "-n", "az-policy", "--policy", draft)
    changed = az.json("backup", "policy", "show", *HERE, "-n", "az-policy")
    kept = changed["properties"]["retentionPolicy"]["dailySchedule"]["retentionDuration"]
    assert kept == {"count": 45, "durationType": "Days"}
    names = {line.split()[0] for line in az.table("backup", "policy", "list", *HERE)}
    assert names == {"DefaultPolicy", "EnhancedPolicy", "HourlyLogBackup", "az-policy"}
    held = az.json("backup", "policy", "list-associated-items", *HERE, "-n", "DefaultPolicy")
    assert [row["name"] for row in held] == [DOCS]
    az.run("backup", "policy", "delete", *HERE, "-n", "az-policy")
    refused = az.run("backup", "policy", "delete", *HERE, "-n", "DefaultPolicy", code=1)
    assert "BMSUserErrorPolicyInUse" in refused.err


@pytest.mark.az(
    "backup container list", "backup container show", "backup item list", "backup item show"
)
def test_machines_and_items(az: Az) -> None:
    (machine,) = az.table("backup", "container", "list", *HERE, *FILES)
    assert machine.split() == [CONTAINER, "host1", "rg1", "MAB", "Registered"]
    shown = az.json("backup", "container", "show", *HERE, "-n", "host1", *FILES)
    assert shown["name"] == CONTAINER
    for kind in ("AzureIaasVM", "AzureStorage", "AzureWorkload"):
        words = ("--backup-management-type", kind)
        assert az.json("backup", "container", "list", *HERE, *words) == []
        assert az.json("backup", "item", "list", *HERE, *words) == []
    for words in (FILES, ()):
        (item,) = az.table("backup", "item", "list", *HERE, *words)
        assert item.split()[:6] == [DOCS, "docs", CONTAINER, "rg1", "FileFolder", "Completed"]
    one = az.json("backup", "item", "show", *HERE, "-c", "host1", "-n", "docs", *FILES)
    assert one["properties"]["policyName"] == "DefaultPolicy"
    named = az.json("backup", "item", "show", *HERE, "-c", CONTAINER, "-n", DOCS)
    assert named["id"] == one["id"]


@pytest.mark.az("backup recoverypoint show")
def test_a_recovery_point(az: Az, world: World) -> None:
    point = world.points()[0]["name"]
    shown = az.json("backup", "recoverypoint", "show", *HERE, *ITEM, "-n", point)
    assert shown["properties"]["recoveryPointType"] == "CrashConsistent"
    missing = az.run("backup", "recoverypoint", "show", *HERE, *ITEM, "-n", "1", code=1)
    assert "RecoveryPointNotFound" in missing.err


@pytest.mark.az("backup recoverypoint list", note=NOT_SENT, instead="GET ITEM/recoveryPoints")
@pytest.mark.az("backup protection backup-now", note=NOT_SENT, instead="POST ITEM/backup")
@pytest.mark.az("backup protection disable", note=KEEPING, instead="PUT ITEM")
@pytest.mark.az("backup item set-policy", note=NOT_SENT, instead="PUT ITEM")
def test_what_az_leaves_alone(az: Az, world: World) -> None:
    """It ends with 0 and does nothing, at Azure too: the how-to warns of it."""
    before, jobs = world.ask("item", "list"), len(world.jobs())
    assert az.table("backup", "recoverypoint", "list", *HERE, *ITEM) == []
    az.run("backup", "protection", "backup-now", *HERE, *ITEM)
    az.run("backup", "protection", "disable", *HERE, *ITEM, "-y")
    moved = ("-c", CONTAINER, "-n", DOCS, "-p", "EnhancedPolicy")
    az.run("backup", "item", "set-policy", *HERE, *moved)
    assert (world.ask("item", "list"), len(world.jobs())) == (before, jobs)


def rest(az: Az, method: str, address: str, properties: dict[str, Any] | None = None) -> Any:
    words = ["rest", "--method", method, "--url", address + VERSION]
    if properties is not None:
        words += ["--body", json.dumps({"properties": properties})]
    return az.json(*words)


def backups_ended(world: World) -> int:
    """How many backups ended well: a moment later than their points are there."""
    found = [job["properties"] for job in world.jobs()]
    return sum((job["operation"], job["status"]) == ("Backup", "Completed") for job in found)


@pytest.mark.az("rest", "backup job list", "backup job show", "backup job wait", "backup job stop")
def test_backing_up_and_its_job(az: Az, world: World) -> None:
    before, ended = len(world.points()), backups_ended(world)
    rest(az, "post", f"{ADDRESS}/backup", {})
    eventually(lambda: backups_ended(world) > ended, "the folder is backed up")
    assert len(rest(az, "get", f"{ADDRESS}/recoveryPoints")["value"]) == before + 1
    asked = ("--operation", "Backup", "--status", "Completed", *FILES)
    rows = az.table("backup", "job", "list", *HERE, *asked)
    assert rows[0].split()[1:5] == ["Backup", "Completed", "docs", "MAB"]
    job = rows[0].split()[0]
    shown = az.json("backup", "job", "show", *HERE, "-n", job)
    assert shown["properties"]["extendedInfo"]["tasksList"][0]["status"] == "Completed"
    for verb in ("show", "wait"):
        (line,) = az.table("backup", "job", verb, *HERE, "-n", job)
        assert line.split()[0] == job, verb
    refused = az.run("backup", "job", "stop", *HERE, "-n", job, code=1)
    assert "JobEnded" in refused.err


@pytest.mark.az("rest")
def test_restoring(az: Az, world: World) -> None:
    target = world.folder / "restored"
    asked = {"recoveryType": "AlternateLocation", "targetDirectory": str(target)}
    rest(az, "post", f"{ADDRESS}/recoveryPoints/latest/restore", asked)
    eventually(lambda: bool(list(target.rglob("letter.txt"))), "the file is restored")


@pytest.mark.az("backup job stop")
def test_stopping_a_job(az: Az, world: World) -> None:
    world.enroll("idle")  # nobody runs its agent: its job waits
    words = ("--container", "idle", "--include", "/srv", "--policy", "DefaultPolicy")
    world.ok("item", "protect", "waits", *words)
    idle = ADDRESS.replace("host1", "idle").replace("docs", "waits")
    rest(az, "post", f"{idle}/backup", {})
    (job,) = az.json("backup", "job", "list", *HERE, "--status", "InProgress")
    assert az.table("backup", "job", "stop", *HERE, "-n", job["name"]) == []

    def status() -> str:
        found = az.json("backup", "job", "show", *HERE, "-n", job["name"])
        return str(found["properties"]["status"])

    eventually(lambda: status() == "Cancelled", "the job is cancelled")
    away = ("-c", "Linux;idle", "-i", "FileFolder;waits", "--delete-backup-data", "-y")
    az.run("backup", "protection", "disable", *HERE, *away)


@pytest.mark.az("backup protection disable", "backup container unregister")
def test_a_machine_leaves(az: Az, world: World) -> None:
    world.enroll("leaves")
    words = ("--container", "leaves", "--include", "/srv", "--policy", "DefaultPolicy")
    world.ok("item", "protect", "gone", *words)
    away = ("-c", "Linux;leaves", "-i", "FileFolder;gone", "--delete-backup-data", "-y")
    job = az.json("backup", "protection", "disable", *HERE, *away)
    assert job["properties"]["operation"] == "DeleteBackupData"
    assert job["properties"]["status"] == "Completed"
    rows = {row["name"]: row["properties"] for row in az.json("backup", "item", "list", *HERE)}
    assert rows["FileFolder;gone"]["isScheduledForDeferredDelete"] is True
    assert rows["FileFolder;gone"]["deferredDeleteTimeInUTC"]
    az.run("backup", "container", "unregister", *HERE, "-c", "leaves", *FILES, "-y")
    names = {row["name"] for row in az.json("backup", "container", "list", *HERE, *FILES)}
    assert CONTAINER in names
    assert "Linux;leaves" not in names


REFUSED = "az refuses folders without asking the server"


@pytest.mark.az("rest", "backup protection disable", "backup job show")
@pytest.mark.az("backup protection undelete", note=REFUSED, instead="PUT ITEM, isRehydrate")
@pytest.mark.az("backup protection resume", note=NOT_SENT, instead="PUT ITEM")
def test_an_items_life(az: Az, world: World) -> None:
    """Stop, resume, delete, undelete, resume: by az where it sends a request, else by az rest."""
    place = ("--container", "host1", "--include", str(world.folder / "src"))
    world.ok("item", "protect", "lives", *place, "--policy", "DefaultPolicy")
    world.back_up(item="lives")
    point = world.points("lives")[0]["name"]
    named = ("-c", CONTAINER, "-i", "FileFolder;lives")
    lives = ADDRESS.replace("docs", "lives")

    def put(**properties: Any) -> tuple[str, str]:
        """Operation of the newest job and the item's state after it."""
        rest(az, "put", lives, {"protectedItemType": "MabFileFolderProtectedItem", **properties})
        job = az.json("backup", "job", "show", *HERE, "-n", world.jobs()[0]["name"])
        assert job["properties"]["status"] == "Completed"
        shown = rest(az, "get", lives)["properties"]
        return job["properties"]["operation"], shown["protectionState"]

    stop = {"protectionState": "ProtectionStopped", "policyId": ""}
    policy = rest(az, "get", lives)["properties"]["policyId"]
    assert put(protectionState="BackupsSuspended") == ("DisableBackup", "BackupsSuspended")
    assert put(**stop) == ("DisableBackup", "ProtectionStopped")
    assert put(policyId=policy) == ("ConfigureBackup", "Protected")
    job = az.json("backup", "protection", "disable", *HERE, *named, "--delete-backup-data", "-y")
    assert job["properties"]["operation"] == "DeleteBackupData"
    assert rest(az, "get", f"{lives}/recoveryPoints")["value"] == []
    az.run("backup", "protection", "undelete", *HERE, *named, code=1)
    assert put(**stop, isRehydrate=True) == ("Undelete", "ProtectionStopped")
    az.run("backup", "protection", "resume", *HERE, *named, "-p", "DefaultPolicy")
    assert rest(az, "get", lives)["properties"]["protectionState"] == "ProtectionStopped"
    target = world.folder / "undeleted"
    world.ok("restore", "--item", "lives", "--container", "host1", "--recovery-point", point,
             "--to", target, "--wait")  # fmt: skip
    assert next(target.rglob("letter.txt")).read_text() == "what is backed up"
    assert put(policyId=policy) == ("ConfigureBackup", "Protected")
    rest(az, "delete", lives)


NONE = "there are none: this release protects folders and virtual machines"
DATABASE = (
    *("--workload-type", "SQLDataBase", "-p", "HourlyLogBackup", "--server-name", "s"),
    *("--protectable-item-type", "SQLDataBase", "--protectable-item-name", "d"),
)
MACHINE = (
    *("--workload-type", "MSSQL", "--backup-management-type", "AzureWorkload"),
    *("--resource-id", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/x/vm1"),
)
OTHERS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "backup protection check-vm": (("--vm", "vm1", "-g", "rg1"), 1, "ResourceNotFound"),
    "backup protection enable-for-vm": (
        (*HERE, "--vm", "vm1", "-p", "DefaultPolicy"), 1, "ResourceNotFound",
    ),
    "backup protection enable-for-azurefileshare": (
        (*HERE, "--storage-account", "sa1", "--azure-file-share", "s1", "-p", "DefaultPolicy"),
        1, "Storage account not found",
    ),
    "backup protection enable-for-azurewl": (
        (*HERE, *DATABASE), 3, "Protectable item not found",
    ),
    "backup container register": ((*HERE, *MACHINE), 3, "Container unavailable"),
}  # fmt: skip


HERE_TOO = ("backup protection check-vm", "backup protection enable-for-vm")  # of other machines


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(name, marks=() if name in HERE_TOO else pytest.mark.az(name, note=NONE))
        for name in OTHERS
    ],
)
def test_what_is_not_here_is_refused(az: Az, command: str) -> None:
    words, code, message = OTHERS[command]
    assert message in az.run(*command.split(), *words, code=code).err


@pytest.mark.az("backup protectable-item list", "backup vault list-soft-deleted-containers")
def test_their_lists_are_empty(az: Az) -> None:
    kind = ("--workload-type", "MSSQL")
    assert az.json("backup", "protectable-item", "list", *HERE, *kind) == []
    deleted = ("-g", "rg1", "-n", "v1", "--backup-management-type", "AzureIaasVM")
    assert az.json("backup", "vault", "list-soft-deleted-containers", *deleted) == []


PASSWORD = "correct horse battery"


@pytest.mark.az("login")
def test_a_person_logs_in_by_password_and_by_device_code(
    az: Az, world: World, tmp_path: Path
) -> None:
    """Each in a profile of its own, as people have."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    world.ok("user", "create", "eve", "--password-file", file)
    world.ok("role", "assign", "Backup Reader", "--user", "eve", *HERE)
    by_password = another_person(az, tmp_path / "one")
    by_password.run("login", "-u", "eve", "-p", PASSWORD)
    assert by_password.json("account", "show")["user"] == {"name": "eve", "type": "user"}
    assert by_password.json("backup", "vault", "list")[0]["name"] == "v1"
    refused = by_password.run("backup", "policy", "delete", *HERE, "-n", "nothing", code=1)
    assert "AuthorizationFailed" in refused.err
    by_code = another_person(az, tmp_path / "two")
    with by_code.start("login", "--use-device-code") as told:
        code = told.read_until(r"enter the code ([A-Z]{4}-[A-Z]{4})")
        assert "goes on as eve" in sign_in_by_code(
            address(world), str(world.server_data / "ca.pem"), code, "eve", PASSWORD
        )
        assert told.ended() == 0
    assert by_code.json("account", "show")["user"]["name"] == "eve"
    assert DOCS in [row["name"] for row in by_code.json("backup", "item", "list", *HERE)]
    lent = another_person(az, tmp_path / "three")
    command = (lent.program, "login", "--identity")
    done = world.cli("identity", "exec", "env", f"AZURE_CONFIG_DIR={tmp_path / 'three'}", *command)
    assert done.code == 0, done.err
    assert lent.json("account", "show")["environmentName"] == "holdfast"


NO_CUSTOM = "custom roles are refused with a reason"


@pytest.mark.az("role assignment list", "role assignment create", "role assignment delete")
@pytest.mark.az("ad user show")
@pytest.mark.az("role definition create", note=NO_CUSTOM)
def test_roles_by_name(az: Az, world: World, tmp_path: Path) -> None:
    """Without --assignee-object-id az asks a directory who is meant: ours."""
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    scope = az.json("backup", "vault", "show", "-g", "rg1", "-n", "v1")["id"]
    for name in ("zoe", "zoe@example.org"):
        world.ok("user", "create", name, "--password-file", file)
        given = ("--assignee", name, "--role", "Backup Reader", "--scope", scope)
        made = az.json("role", "assignment", "create", *given)
        assert made["principalId"] == az.json("ad", "user", "show", "--id", name)["id"]
        rows = az.table("role", "assignment", "list", "--assignee", name, "--all")
        assert [row.split()[:3] for row in rows] == [[name, "Backup", "Reader"]]
        az.run("role", "assignment", "delete", *given)
        assert az.json("role", "assignment", "list", "--assignee", name, "--all") == []
    rows = az.table("role", "assignment", "list", "--scope", scope, "--include-inherited")
    assert ["administrator", "Owner", "/"] in [row.split() for row in rows]
    unknown = az.run("role", "assignment", "list", "--assignee", "nobody", "--all", code=1)
    assert "Cannot find user or service principal" in unknown.err
    subscription = "/".join(scope.split("/")[:3])
    draft = {"Name": "x", "Actions": ["*/read"], "AssignableScopes": [subscription]}
    words = ("--role-definition", json.dumps(draft))
    assert "custom roles" in az.run("role", "definition", "create", *words, code=1).err


@pytest.mark.az("role definition list", "role assignment create", "role assignment delete")
def test_roles(az: Az, world: World) -> None:
    """With the id of who is to have it, so that az asks no directory."""
    (role,) = az.json("role", "definition", "list", "-n", "Backup Operator")
    assert role["name"] == "00c29273-979b-4161-815c-10b084fb9324"
    world.ok("client", "create", "az-roles", "-o", world.folder / "az-roles.json")
    who = world.ask("client", "show", "az-roles")["properties"]["clientId"]
    scope = az.json("backup", "vault", "show", "-g", "rg1", "-n", "v1")["id"]
    named = ("--role", "Backup Operator", "--scope", scope)
    kind = ("--assignee-object-id", who, "--assignee-principal-type", "ServicePrincipal")
    made = az.json("role", "assignment", "create", *named, *kind)
    assert (made["principalId"], made["scope"]) == (who, scope)
    rows = world.ask("role", "assignments", "--client", "az-roles", *HERE)
    assert [row["name"] for row in rows] == [made["name"]]
    az.run("role", "assignment", "delete", "--ids", made["id"])
    assert world.ask("role", "assignments", "--client", "az-roles", *HERE) == []
