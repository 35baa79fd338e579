"""Which address takes which body, and which it gives. ``DOCUMENTED``: bodies that are described
here and checked by their handlers alone, with codes of their own."""

from __future__ import annotations

from typing import Any

from holdfast.arm import (
    agent_bodies,
    alerts,
    deleted_vaults,
    directory,
    discovery,
    machine_files,
    machine_runs,
    machines,
    region_disks,
    storage,
    users,
)
from holdfast.arm.access import CLIENTS
from holdfast.arm.agent_api import AGENTS, ONE, TASK
from holdfast.arm.configuration import CONFIG, ENCRYPTION, STORAGE
from holdfast.arm.containers import CONTAINER
from holdfast.arm.items import ITEM
from holdfast.arm.jobs import JOB
from holdfast.arm.ours import OURS, REGIONS
from holdfast.arm.points import POINT
from holdfast.arm.policies import POLICY
from holdfast.arm.provider import LOCATION
from holdfast.arm.roles import ASSIGNMENTS, AUTH, DEFINITIONS, SCOPES
from holdfast.arm.schemas import people, policies, shown, vaults, work
from holdfast.arm.subscriptions import GROUP_PATH, SUB
from holdfast.arm.vaults import IN_GROUP, IN_SUB, VAULT
from holdfast.ports import vm_tasks

Kind = Any
HB_GROUP = GROUP_PATH + "/providers/Holdfast.Backup"
REQUESTS: dict[tuple[str, str], Kind] = {
    ("PUT", GROUP_PATH): vaults.GroupAsked,
    ("POST", GROUP_PATH + LOCATION + "/checkNameAvailability"): vaults.NameAsked,
    ("POST", discovery.STATUS): vaults.StatusAsked,
    ("POST", discovery.PREVALIDATE): vaults.PrevalidateAsked,
    ("POST", discovery.FEATURES): vaults.FeaturesAsked,
    ("PUT", VAULT): vaults.VaultAsked,
    ("PATCH", VAULT): vaults.VaultAsked,
    ("PUT", CONFIG): vaults.ConfigAsked,
    ("PATCH", CONFIG): vaults.ConfigAsked,
    ("PUT", STORAGE): vaults.StorageAsked,
    ("PATCH", STORAGE): vaults.StorageAsked,
    ("PUT", ENCRYPTION): vaults.EncryptionAsked,
    ("PUT", POLICY): policies.PolicyAsked,
    ("PUT", CONTAINER): work.ContainerAsked,
    ("PUT", ITEM): work.ItemAsked,
    ("POST", ITEM + "/backup"): work.BackupAsked,
    ("POST", POINT + "/restore"): work.RestoreAsked,
    ("POST", machine_files.LIST): work.ListFilesAsked,
    ("POST", machine_files.RESTORE): work.RestoreFilesAsked,
    ("POST", POINT + "/provisionInstantItemRecovery"): work.ProvisionAsked,
    ("POST", POINT + "/listInstantItemRecoveryOperationResult"): work.ScriptAsked,
    ("PUT", REGIONS + "/{region:str}"): work.RegionAsked,
    ("POST", region_disks.ADOPT): work.DiskAsked,
    ("POST", region_disks.FAIL_OVER): work.DiskAsked,
    ("POST", OURS + "/createVaultCredentials"): work.CredentialsAsked,
    ("POST", OURS + "/exportKey"): work.KeyAsked,
    ("POST", HB_GROUP + "/importVault"): work.ImportAsked,
    ("POST", OURS + "/verify"): work.UpkeepAsked,
    ("POST", OURS + "/scrub"): work.UpkeepAsked,
    ("POST", OURS + "/repair"): work.UpkeepAsked,
    ("POST", OURS + "/expire"): work.UpkeepAsked,
    ("POST", OURS + "/collect"): work.UpkeepAsked,
    ("POST", OURS + "/confirmClock"): work.Nothing,
    ("POST", OURS + "/acceptHead"): work.UpkeepAsked,
    ("POST", OURS + "/previewPolicy"): policies.PreviewAsked,
    ("POST", OURS + "/planPolicyChange"): policies.PlanAsked,
    ("POST", machine_runs.INSTANT): work.InstantAsked,
    ("POST", machine_runs.MOVE): work.MoveAsked,
    ("POST", machine_runs.TEST): work.TestAsked,
    ("PUT", storage.ACCOUNT): work.AccountAsked,
    ("PUT", users.ONE): people.UserAsked,
    ("POST", users.ONE + "/setPassword"): people.PasswordAsked,
    ("POST", "/providers/Holdfast.Backup/changePassword"): people.OwnPasswordAsked,
    ("POST", directory.GRAPH + "/directoryObjects/getByIds"): people.IdsAsked,
    ("POST", deleted_vaults.ONE + "/undelete"): people.UndeleteAsked,
    ("PUT", alerts.SETTINGS): people.AlertSettingsAsked,
    **{
        ("POST", scope + alerts.ALERTS + "/{alert:str}/changestate"): people.CommentAsked
        for scope in alerts.SCOPES
    },
    **{("PUT", scope + ASSIGNMENTS + "/{assignment:str}"): work.RoleAsked for scope in SCOPES},
    **{("PUT", scope + DEFINITIONS + "/{role:str}"): people.DefinitionAsked for scope in SCOPES},
}
AGENT_REQUESTS: dict[tuple[str, str], Kind] = {
    ("POST", AGENTS + "/enroll"): agent_bodies.EnrollBody,
    ("POST", ONE + "/next"): agent_bodies.NextBody,
    ("POST", TASK + "/progress"): agent_bodies.ProgressBody,
    ("POST", TASK + "/complete"): agent_bodies.CompleteBody,
    ("POST", ONE + "/sessions"): agent_bodies.SessionBody,
    ("PUT", ONE + "/virtualMachines"): vm_tasks.Inventory,
}  # read by their handlers; what packs and lookups send is msgpack
DOCUMENTED: frozenset[Kind] = frozenset(
    {policies.PolicyAsked, policies.PreviewAsked, policies.PlanAsked}
)
_EVERY_STATE = ("operationsStatus", "operationStatus", "backupOperations", "operations")
_LISTS: dict[str, Kind] = {
    "/subscriptions": shown.Subscription,
    SUB + "/locations": shown.Location,
    SUB + "/resourceGroups": shown.Group,
    IN_SUB: shown.Vault,
    IN_GROUP: shown.Vault,
    VAULT + "/backupPolicies": shown.Policy,
    VAULT + "/backupProtectionContainers": shown.Container,
    VAULT + "/backupProtectedItems": shown.Item,
    VAULT + "/backupProtectableItems": shown.Protectable,
    VAULT + "/backupJobs": shown.Job,
    machines.IN_SUB: shown.Machine,
    machines.IN_GROUP: shown.Machine,
    machines.OF_VAULT: shown.Machine,
    storage.IN_SUB: shown.Account,
    storage.IN_GROUP: shown.Account,
    VAULT + "/usages": shown.Usage,
    VAULT + "/backupUsageSummaries": shown.Usage,
    ITEM + "/recoveryPoints": shown.Point,
    POINT + "/providers/Holdfast.Backup/files": shown.Entry,
    REGIONS: shown.Holder,
    CLIENTS: shown.Holder,
    "/providers/Holdfast.Backup/audit": shown.Holder,
    SUB + f"/providers/{AUTH}/roleDefinitions": shown.Holder,
    **{scope + ASSIGNMENTS: shown.Holder for scope in SCOPES},
}
_ONE: dict[str, Kind] = {
    SUB: shown.Subscription,
    GROUP_PATH: shown.Group,
    VAULT: shown.Vault,
    CONFIG: shown.Config,
    STORAGE: shown.StorageConfig,
    ENCRYPTION: shown.Encryption,
    POLICY: shown.Policy,
    CONTAINER: shown.Container,
    ITEM: shown.Item,
    POINT: shown.Point,
    JOB: shown.Job,
    machines.MACHINE: shown.Machine,
    storage.ACCOUNT: shown.Account,
    machine_runs.TESTED: shown.Properties,
    machines.OF_VAULT + "/{machine:str}": shown.Machine,
    REGIONS + "/{region:str}": shown.Holder,
    CLIENTS + "/{client:str}": shown.Holder,
    **{scope + ASSIGNMENTS + "/{assignment:str}": shown.Holder for scope in SCOPES},
    "/healthz": shown.Health,
}
_CALLS: dict[str, Kind] = {
    GROUP_PATH + LOCATION + "/checkNameAvailability": shown.NameFree,
    discovery.STATUS: shown.Status,
    discovery.PREVALIDATE: shown.Prevalidated,
    discovery.FEATURES: shown.Supported,
    region_disks.ADOPT: shown.Holder,
    region_disks.FAIL_OVER: shown.Holder,
    OURS + "/createVaultCredentials": shown.Properties,
    OURS + "/exportKey": shown.Properties,
    OURS + "/acceptHead": shown.Properties,
    OURS + "/planPolicyChange": shown.Changed,
    **{
        f"{OURS}/{kind}": shown.Properties
        for kind in ("verify", "scrub", "repair", "expire", "collect")
    },
    CLIENTS + "/{client:str}/renewSecret": shown.Holder,
}


_SILENT = {("PUT", ENCRYPTION), ("PATCH", STORAGE)}  # they answer without a body


def response_of(method: str, path: str) -> Kind | None:
    """What an address (as routes write it) gives when it does what it was asked; None where
    nothing is written down."""
    if method == "GET" and path in _LISTS:
        listed: Any = shown.Listed
        return listed[_LISTS[path]]
    if method == "GET" and path.rpartition("/")[0].endswith(_EVERY_STATE):
        return shown.Operation
    if method in ("GET", "PUT", "PATCH") and path in _ONE and (method, path) not in _SILENT:
        return _ONE[path]
    return _CALLS.get(path) if method == "POST" else None
