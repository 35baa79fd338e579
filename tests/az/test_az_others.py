"""Commands of `az backup` for what is not here: databases, file shares, keys and guards of Azure's.
Each answers as Azure does where there is none, and none ends as if it had done something."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from holdfast.testing import compatibility
from holdfast.testing.azure_cli import Az, command_of
from holdfast.testing.world import World

TESTS = Path(__file__).parents[1]
HERE, NAMED = ("-g", "rg1", "-v", "v1"), ("-g", "rg1", "-n", "v1")
SAFER = ("-g", "rg1", "-n", "az-safer")
NONE = "there are none: this release protects folders and virtual machines"
NO_KEY = "keys of your own are not used"
NO_GUARD = "multi-user authorisation is not part of this release"
NO_TIER = "there is no archive tier"
NO_COPY = "no second copy is made: --backup-storage-redundancy and --cross-region-restore-flag are "
NO_COPY += "taken and change nothing"
BUILT = ""  # it works on what there is
DATABASE_AT = ("-c", "vmappcontainer;compute;rg1;vm1", "-i", "sqldatabase;mssqlserver;db")
OF_SQL = ("--workload-type", "MSSQL")
OF_SQL_TOO = (*OF_SQL, "--backup-management-type", "AzureWorkload")
FOUND = ("--server-name", "s", "--protectable-item-type", "SQLDataBase")
VM = ("-c", "vm1", "-i", "vm1")
SHARE = ("-c", "sa1", "-i", "share", "-r", "1", "--restore-mode", "OriginalLocation")
FILE = ("--source-file-type", "File", "--source-file-path", "a")
GROUP = "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/rg1"
GUARD = f"{GROUP}/providers/Microsoft.DataProtection/resourceGuards/g1"
CONFIG = {
    "restore_mode": "OriginalLocation",
    "container_uri": DATABASE_AT[1],
    "item_uri": DATABASE_AT[3],
    "recovery_point_id": "1",
    "item_type": "SQL",
    "workload_type": "SQLDataBase",
    "source_resource_id": f"{GROUP}/providers/Microsoft.Compute/virtualMachines/vm1",
}
UNSET = ("database_name", "container_id", "recovery_mode", "log_point_in_time", "filepath")
MORE_UNSET = ("alternate_directory_paths", "attach_and_mount", "identity_arm_id")
SNAPSHOTS = "snapshot_instance_resource_group"
TO_RESTORE = json.dumps(CONFIG | dict.fromkeys((*UNSET, *MORE_UNSET, SNAPSHOTS)))

# words, exit code, what is said; why the command does not do its work
REFUSED: dict[tuple[str, ...], tuple[int, str, str]] = {
    ("backup", "container", "re-register", *HERE, *DATABASE_AT[:2], *OF_SQL_TOO, "-y"): (
        1, "No such registered container exists", NONE,
    ),
    ("backup", "protectable-item", "initialize", *HERE, *DATABASE_AT[:2], *OF_SQL): (
        1, "ContainerNotFound", NONE,
    ),
    (
        *("backup", "protection", "auto-enable-for-azurewl", *HERE, *OF_SQL, *FOUND),
        *("--protectable-item-name", "d", "-p", "HourlyLogBackup"),
    ): (3, "Protectable item not found", NONE),
    (
        *("backup", "protection", "auto-disable-for-azurewl", *HERE, *OF_SQL, *FOUND),
        *("--protectable-item-name", "d"),
    ): (3, "Protectable item not found", NONE),
    (
        *("backup", "recoveryconfig", "show", *HERE, *DATABASE_AT, *OF_SQL),
        *("--restore-mode", "OriginalWorkloadRestore", "-r", "1"),
    ): (3, "ContainerNotFound", NONE),
    ("backup", "recoverypoint", "show-log-chain", *HERE, *DATABASE_AT, *OF_SQL_TOO): (
        3, "ContainerNotFound", NONE,
    ),
    ("backup", "restore", "files", "mount-rp", *HERE, *VM, "-r", "1"): (
        3, "Container not found", BUILT,
    ),
    ("backup", "restore", "files", "unmount-rp", *HERE, *VM, "-r", "1"): (
        3, "Container not found", BUILT,
    ),
    ("backup", "restore", "restore-azurefileshare", *HERE, *SHARE,
     "--resolve-conflict", "Overwrite"): (3, "Item not found", NONE),
    ("backup", "restore", "restore-azurefiles", *HERE, *SHARE, *FILE,
     "--resolve-conflict", "Overwrite"): (3, "Item not found", NONE),
    ("backup", "vault", "encryption", "update", *NAMED, "--mi-system-assigned",
     "--encryption-key-id", "https://kv.vault.azure.net/keys/k/1"): (
        1, "Please enable identities", NO_KEY,
    ),
    ("backup", "vault", "create", *SAFER, "-l", "local", "--immutability-state", "Locked"): (
        1, "UserErrorUnsupportedVaultImmutabilityStateChange", BUILT,
    ),
    ("backup", "vault", "resource-guard-mapping", "show", *NAMED): (
        3, "ResourceNotFound", NO_GUARD,
    ),
    ("backup", "vault", "resource-guard-mapping", "update", *NAMED,
     "--resource-guard-id", GUARD): (1, "MethodNotAllowed", NO_GUARD),
    ("backup", "vault", "resource-guard-mapping", "delete", *NAMED, "-y"): (
        3, "does not have any Resource Guard Mapping", NO_GUARD,
    ),
    (
        *("backup", "recoverypoint", "move", *HERE, *VM, "-n", "1", "--workload-type", "VM"),
        *("--backup-management-type", "AzureIaasVM"),
        *("--source-tier", "VaultStandard", "--destination-tier", "VaultArchive"),
    ): (3, "not found", NO_TIER),
    ("backup", "restore", "restore-azurewl", *HERE, "--recovery-config", TO_RESTORE): (
        1, "ContainerNotFound", NONE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, marks=pytest.mark.az(command_of(words), note=REFUSED[words][2]))
        for words in REFUSED
    ],
    ids=command_of,
)
def test_it_is_refused(az: Az, words: tuple[str, ...]) -> None:
    code, said, _ = REFUSED[words]
    assert said in az.run(*words, code=code).err


@pytest.mark.az("backup vault backup-properties set", note=NO_COPY)
def test_a_second_copy_is_not_shown_as_made(az: Az) -> None:
    asked = ("--backup-storage-redundancy", "GeoRedundant", "--cross-region-restore-flag", "True")
    properties = ("backup", "vault", "backup-properties")
    az.run(*properties, "set", *NAMED, *asked)
    shown = {row["name"]: row["properties"] for row in az.json(*properties, "show", *NAMED)}
    assert shown["vaultstorageconfig"]["storageModelType"] == "LocallyRedundant"
    assert not shown["vaultstorageconfig"]["crossRegionRestoreFlag"]


@pytest.mark.az("backup protectable-item show", note=NONE)
def test_a_database_is_not_found(az: Az) -> None:
    words = ("backup", "protectable-item", "show", *HERE, "-n", "d", *FOUND, *OF_SQL)
    assert az.json(*words) is None


@pytest.mark.az("backup vault identity assign", "backup vault identity show")
@pytest.mark.az("backup vault identity remove")
def test_an_identity_is_kept_as_it_was_said(az: Az) -> None:
    """Nothing here uses it; scripts that assign one go on."""
    verbs = ("backup", "vault", "identity")
    given = az.json(*verbs, "assign", *NAMED, "--system-assigned")
    assert given["identity"]["type"].lower() == "systemassigned"
    assert az.json(*verbs, "show", *NAMED)["type"].lower() == "systemassigned"
    taken = az.json(*verbs, "remove", *NAMED, "--system-assigned")
    assert taken["identity"]["type"].lower() == "none"


LIST = """
from azure.cli.core import MainCommandsLoader, get_default_cli
names = MainCommandsLoader(get_default_cli()).load_command_table(["backup"])
print("\\n".join(name for name in names if name.startswith("backup ")))
"""


@pytest.mark.az("backup deleted-vault list-containers", note="it asks Azure Resource Graph")
@pytest.mark.az("backup item source-scan-configuration set", note="there is no malware scan")
@pytest.mark.az("backup protection reconfigure", note="vaults move as folders; not between vaults")
def test_no_command_of_az_backup_is_left_out(az: Az, world: World) -> None:
    """The page names each, also one a newer az brings."""
    python = az.program.with_name("python")
    done = subprocess.run(
        [python, "-c", LIST], env=az.environment, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split("\n")) - {""} <= set(compatibility.az_coverage(TESTS))
    for words in ("deleted-vault list-containers", "item source-scan-configuration set",
                  "protection reconfigure"):  # fmt: skip
        az.run("backup", *words.split(), "-h")


@pytest.mark.az("backup vault delete")
def test_force_deletes_no_data_of_folders(az: Az, world: World) -> None:
    """--force takes what az can list of Azure's own kinds; data of folders keeps the vault."""
    refused = az.run("backup", "vault", "delete", *NAMED, "--force", "-y", code=1)
    assert "existing resources within the vault" in refused.err
    assert world.points()


@pytest.mark.az("backup vault delete", "backup vault create")
def test_force_deletes_an_empty_vault(az: Az) -> None:
    named = ("-g", "rg1", "-n", "az-forced")
    az.run("backup", "vault", "create", *named, "-l", "local")
    az.run("backup", "vault", "delete", *named, "--force", "-y")
    assert "ResourceNotFound" in az.run("backup", "vault", "show", *named, code=3).err


FILES = ("--backup-management-type", "MAB")
ITEM = ("-c", "Linux;host1", "-i", "FileFolder;docs")
READ: dict[tuple[str, ...], str] = {  # a word of the table
    ("account", "show"): "holdfast",
    ("backup", "vault", "show", *NAMED): "v1",
    ("backup", "vault", "list"): "v1",
    ("backup", "vault", "backup-properties", "show", *NAMED): "vaultconfig",
    ("backup", "policy", "get-default-for-vm", *HERE): "DefaultPolicy",
    ("backup", "policy", "list", *HERE): "EnhancedPolicy",
    ("backup", "policy", "show", *HERE, "-n", "DefaultPolicy"): "DefaultPolicy",
    ("backup", "container", "list", *HERE, *FILES): "host1",
    ("backup", "container", "show", *HERE, "-n", "host1", *FILES): "host1",
    ("backup", "item", "list", *HERE): "docs",
    ("backup", "item", "show", *HERE, "-c", "host1", "-n", "docs", *FILES): "docs",
    ("backup", "job", "list", *HERE): "Backup",
}


@pytest.mark.parametrize("words", READ, ids=command_of)
def test_a_reading_command_prints_both_ways(az: Az, words: tuple[str, ...]) -> None:
    assert az.json(*words)
    assert any(READ[words] in line for line in az.table(*words))


def test_writing_commands_print_tables(az: Az, tmp_path: Path) -> None:
    named, within = ("-g", "rg1", "-n", "az-tables"), ("-g", "rg1", "-v", "az-tables")
    vault = ("backup", "vault")
    assert any("az-tables" in one for one in az.table(*vault, "create", *named, "-l", "local"))
    assert any("az-tables" in one for one in az.table(*vault, "update", *named, "--tags", "a=b"))
    state = ("--soft-delete-feature-state", "Enable")
    az.table(*vault, "backup-properties", "set", *named, *state)
    draft = tmp_path / "policy.json"
    draft.write_text(json.dumps(az.json("backup", "policy", "get-default-for-vm", *within)))
    policy = ("-n", "in-a-table", "--policy", draft)
    kind = ("--backup-management-type", "AzureIaasVM")
    for verb, more in (("create", kind), ("set", ())):
        lines = az.table("backup", "policy", verb, *within, *policy, *more)
        assert any("in-a-table" in line for line in lines), verb
    assert az.table("backup", "policy", "delete", *within, "-n", "in-a-table") == []
    assert az.table(*vault, "delete", *named, "-y") == []
