"""ARM paths are written in many ways; here they get one form before routing.

Fixed words match in any case, doubled slashes count as one. Names are left as they are.
"""

from __future__ import annotations

WORDS = (
    "subscriptions", "resourceGroups", "providers", "locations", "tenants", "vaults",
    "backupFabrics", "protectionContainers", "protectedItems", "recoveryPoints", "backupPolicies",
    "backupJobs", "backupProtectedItems", "backupProtectionContainers", "backupProtectableItems",
    "backupOperations", "backupOperationResults", "operationsStatus", "operationStatus",
    "operationResults", "operationsResults", "backupconfig", "backupstorageconfig",
    "backupEncryptionConfigs", "backupResourceGuardProxies", "usages", "backup", "restore",
    "cancel", "operations", "regions", "agents", "files", "createVaultCredentials", "exportKey",
    "importVault", "verify", "expire", "collect", "confirmClock", "previewPolicy", "enroll",
    "next", "tasks", "sessions", "progress", "complete", "packs", "lookup", "checkpoint", "commit",
    "close", "locate", "metadata", "endpoints", "adfs", "oauth2", "token", ".well-known",
    "openid-configuration", "vaultconfig", "vaultstorageconfig", "backupResourceEncryptionConfig",
    "deletedVaults", "backupStatus", "roleAssignments", "audit",
)  # fmt: skip
NAMESPACES = ("Microsoft.RecoveryServices", "Microsoft.Authorization", "Holdfast.Backup")
_CANONICAL = {word.lower(): word for word in WORDS}
_NAMESPACE = {name.lower(): name for name in NAMESPACES}
_SINGLE = frozenset({"vaultconfig", "vaultstorageconfig", "backupresourceencryptionconfig"})


def normalise(path: str) -> str:
    """The one form of ``path``."""
    parts = [part for part in path.split("/") if part]
    found: list[str] = []
    word = True  # a fixed word is expected; else a name
    for part in parts:
        lower = part.lower()
        if found and found[-1] == "providers":
            found.append(_NAMESPACE.get(lower, part))
            word = True
        elif word:
            found.append(_CANONICAL.get(lower, part))
            word = False
        else:
            name = _CANONICAL.get(lower, part) if _is_fixed(found, lower) else part
            found.append(name)
            word = name != "providers"
    return "/" + "/".join(found)


def _is_fixed(before: list[str], lower: str) -> bool:
    """Places where a word stands where a name would: single configurations, our own short paths,
    and 'providers' right after a name."""
    if lower in _SINGLE or lower == "providers":
        return True
    return before[0] not in ("subscriptions", "providers") or before[-1] == "agents"
