"""Who may do what: roles as action patterns, assignments at scopes.

Roles follow Azure's: Owner, Contributor and Reader reach over everything; of the backup roles a
contributor manages everything but access, groups and the vault's end, an operator backs up and
restores but removes nothing and manages no policies, a reader looks. An agent's own role covers
the agent API only. Exporting the key, restoring to another container and accepting the head of a
vault's log are actions of their own, which only the owner has; for restoring to another container
there is a role. People, clients and the audit record are the owner's alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from holdfast.errors import AccessError

RS = "Microsoft.RecoveryServices/vaults"
LOCATIONS = "Microsoft.RecoveryServices/locations"
FABRICS = f"{RS}/backupFabrics"
ITEMS = f"{FABRICS}/protectionContainers/protectedItems"
AUTH = "Microsoft.Authorization"
HB = "Holdfast.Backup"
RESTORE_ELSEWHERE = f"{HB}/vaults/restoreToOtherContainer/action"
EXPORT_KEY = f"{HB}/vaults/exportKey/action"
ACCEPT_HEAD = f"{HB}/vaults/acceptHead/action"
EXPORT_JOBS = f"{RS}/backupJobsExport/action"
CHANGE_ALERTS = "Microsoft.AlertsManagement/alerts/changestate/action"


@dataclass(frozen=True, slots=True)
class Role:
    """``id``: GUID, Azure's where Azure has the role. Patterns match whole actions, any case; a
    star matches any text."""

    id: str
    name: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()

    def grants(self, action: str) -> bool:
        wanted = action.lower()
        return any(fnmatchcase(wanted, one.lower()) for one in self.actions) and not any(
            fnmatchcase(wanted, one.lower()) for one in self.not_actions
        )


# what only owners see or do, whatever else a role covers
PEOPLE = (f"{HB}/clients/*", f"{HB}/users/*")
OWNERS_ONLY = (f"{HB}/audit/*", *PEOPLE)
KEEP_CLOSED = (ACCEPT_HEAD, EXPORT_KEY, RESTORE_ELSEWHERE)

OWNER = Role("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", ("*",))
GENERAL_CONTRIBUTOR = Role(
    "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Contributor",
    ("*",),
    (f"{AUTH}/*/delete", f"{AUTH}/*/write", f"{HB}/agents/*", *OWNERS_ONLY, *KEEP_CLOSED),
)
GENERAL_READER = Role("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", ("*/read",), OWNERS_ONLY)
CONTRIBUTOR = Role(
    "5e467623-bb1f-42f4-a55d-6e525e11384b",
    "Backup Contributor",
    ("*/read", f"{RS}/*", f"{LOCATIONS}/*", f"{HB}/vaults/*", CHANGE_ALERTS),
    (f"{RS}/delete", *OWNERS_ONLY, *KEEP_CLOSED),
)
OPERATOR = Role(
    "00c29273-979b-4161-815c-10b084fb9324",
    "Backup Operator",
    (
        "*/read",
        f"{FABRICS}/refreshContainers/action",
        f"{FABRICS}/protectionContainers/write",
        f"{FABRICS}/protectionContainers/inquire/action",
        f"{ITEMS}/write",
        f"{ITEMS}/backup/action",
        f"{ITEMS}/recoveryPoints/*/action",
        f"{RS}/backupJobs/*",
        f"{RS}/backupValidateOperation/action",
        f"{RS}/backupTriggerValidateOperation/action",
        f"{LOCATIONS}/backupStatus/action",
        f"{LOCATIONS}/backupPreValidateProtection/action",
        f"{LOCATIONS}/backupValidateFeatures/action",
        f"{LOCATIONS}/checkNameAvailability/action",
        f"{HB}/vaults/createVaultCredentials/action",
        f"{HB}/vaults/verify/action",
        f"{HB}/vaults/scrub/action",
        f"{HB}/vaults/previewPolicy/action",
        f"{HB}/vaults/planPolicyChange/action",
        f"{HB}/vaults/virtualMachines/*/action",
        CHANGE_ALERTS,
        EXPORT_JOBS,
    ),
    OWNERS_ONLY,
)
READER = Role(
    "a795c7a0-d4a2-40c1-ae25-d81f01202912",
    "Backup Reader",
    (
        "*/read",
        f"{LOCATIONS}/backupStatus/action",
        f"{LOCATIONS}/backupPreValidateProtection/action",
        f"{LOCATIONS}/backupValidateFeatures/action",
        EXPORT_JOBS,
    ),
    OWNERS_ONLY,
)
RESTORER = Role(
    "6f1b6c52-9a3e-4d55-8f0e-2c7d90b1e7a4",
    "Holdfast Restore To Other Containers",
    (RESTORE_ELSEWHERE,),
)
AGENT = Role("1d3b8a52-0c7e-4d0f-9a53-6a1f5c0a4e01", "Holdfast Agent", (f"{HB}/agents/*",))
ROLES = {
    role.id: role
    for role in (
        OWNER,
        GENERAL_CONTRIBUTOR,
        GENERAL_READER,
        CONTRIBUTOR,
        OPERATOR,
        READER,
        RESTORER,
        AGENT,
    )
}


@dataclass(frozen=True, slots=True)
class Assignment:
    """``scope``: "/" or an ARM id; it covers everything below."""

    role_id: str
    scope: str


def covers(scope: str, resource: str) -> bool:
    """Whether an assignment at ``scope`` reaches ``resource`` (case ignored)."""
    upper, lower = scope.lower().rstrip("/"), resource.lower()
    return not upper or lower == upper or lower.startswith(upper + "/")


def allowed(assignments: Iterable[Assignment], action: str, resource: str) -> bool:
    return any(
        covers(one.scope, resource) and one.role_id in ROLES and ROLES[one.role_id].grants(action)
        for one in assignments
    )


def allowed_below(assignments: Iterable[Assignment], action: str, holder: str) -> bool:
    """Whether some assignment at, above or below ``holder`` allows it: somebody with one vault may
    ask for the list it stands in, and sees that one."""
    return any(
        (covers(one.scope, holder) or covers(holder, one.scope))
        and one.role_id in ROLES
        and ROLES[one.role_id].grants(action)
        for one in assignments
    )


def check_access(
    assignments: Iterable[Assignment], action: str, resource: str, who: str = "the caller"
) -> None:
    """AccessError (AuthorizationFailed) unless some assignment allows it."""
    if not allowed(assignments, action, resource):
        raise refusal(action, resource, who)


def refusal(action: str, resource: str, who: str) -> AccessError:
    """In Azure's words."""
    return AccessError(
        f"{who} does not have authorization to perform action '{action}' over scope '{resource}'",
        hint="ask an administrator for a role that allows it, then log in again",
        target=resource,
    )
