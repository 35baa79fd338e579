"""Who may do what: roles as action patterns, assignments at scopes.

Roles follow Azure's: a contributor manages everything but access and the vault's end,
an operator backs up and restores but removes nothing and manages no policies, a reader looks. An
agent's own role covers the agent API only. Exporting the key and restoring to another container are
actions of their own, which only the owner has and a role of their own grants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from holdfast.errors import AccessError

RS = "Microsoft.RecoveryServices/vaults"
LOCATIONS = "Microsoft.RecoveryServices/locations"
HB = "Holdfast.Backup"
RESTORE_ELSEWHERE = f"{HB}/vaults/restoreToOtherContainer/action"
EXPORT_KEY = f"{HB}/vaults/exportKey/action"


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


OWNER = Role("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", ("*",))
CONTRIBUTOR = Role(
    "5e467623-bb1f-42f4-a55d-6e525e11384b",
    "Backup Contributor",
    ("*/read", f"{RS}/*", f"{LOCATIONS}/*", "Microsoft.Resources/*", f"{HB}/vaults/*"),
    (f"{RS}/delete", f"{HB}/audit/*", EXPORT_KEY, RESTORE_ELSEWHERE),
)
OPERATOR = Role(
    "00c29273-979b-4161-815c-10b084fb9324",
    "Backup Operator",
    (
        "*/read",
        f"{RS}/*/backup/action",
        f"{RS}/*/restore/action",
        f"{RS}/backupJobs/cancel/action",
        f"{RS}/*/refreshContainers/action",
        f"{RS}/*/protectedItems/write",
        f"{LOCATIONS}/*",
        f"{HB}/vaults/createVaultCredentials/action",
        f"{HB}/vaults/verify/action",
        f"{HB}/vaults/previewPolicy/action",
        f"{HB}/vaults/planPolicyChange/action",
    ),
    (f"{HB}/audit/*",),
)
READER = Role(
    "a795c7a0-d4a2-40c1-ae25-d81f01202912",
    "Backup Reader",
    ("*/read", f"{LOCATIONS}/backupStatus/action"),
    (f"{HB}/audit/*",),
)
RESTORER = Role(
    "6f1b6c52-9a3e-4d55-8f0e-2c7d90b1e7a4",
    "Holdfast Restore To Other Containers",
    (RESTORE_ELSEWHERE,),
)
AGENT = Role("1d3b8a52-0c7e-4d0f-9a53-6a1f5c0a4e01", "Holdfast Agent", (f"{HB}/agents/*",))
ROLES = {role.id: role for role in (OWNER, CONTRIBUTOR, OPERATOR, READER, RESTORER, AGENT)}


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


def check_access(
    assignments: Iterable[Assignment], action: str, resource: str, who: str = "the caller"
) -> None:
    """AccessError (AuthorizationFailed) unless some assignment allows it."""
    if not allowed(assignments, action, resource):
        raise AccessError(
            f"{who} does not have authorization to perform action '{action}' over scope "
            f"'{resource}'",
            hint="ask an administrator for a role that allows it, then log in again",
            target=resource,
        )
