"""Standing configuration of vaults, and lists that are empty here: right in shape, true in content.

What this release does not have (soft delete, redundancy, customer keys, resource guards) is shown
as absent, and asking for it is refused rather than forgotten.
"""

from __future__ import annotations

from typing import Any

from litestar import Response, get, patch, post, put

from holdfast.arm.filters import parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    Answering,
    ArmRequest,
    Body,
    accepted,
    call_of,
    properties_of,
    text_of,
    threaded,
)
from holdfast.arm.subscriptions import SUB, check_subscription
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog import items
from holdfast.catalog.containers import agents_of_vault
from holdfast.errors import NotFoundError, UsageError

READ, WRITE = needs(f"{RS}/read"), needs(f"{RS}/write")
CONFIG = VAULT + "/backupconfig/vaultconfig"
STORAGE = VAULT + "/backupstorageconfig/vaultstorageconfig"
ENCRYPTION = VAULT + "/backupEncryptionConfigs/backupResourceEncryptionConfig"
GUARDS = VAULT + "/backupResourceGuardProxies"
_CONFIG = {
    "enhancedSecurityState": "Disabled",
    "softDeleteFeatureState": "Disabled",
    "softDeleteRetentionPeriodInDays": 14,
    "isSoftDeleteFeatureStateEditable": False,
}
_STORAGE = {
    "storageModelType": "LocallyRedundant",
    "storageType": "LocallyRedundant",
    "storageTypeState": "Locked",
    "crossRegionRestoreFlag": False,
}
_ENCRYPTION = {
    "encryptionAtRestType": "MicrosoftManaged",
    "lastUpdateStatus": "NotEnabled",
    "infrastructureEncryptionState": "Disabled",
}


def _shown(found: VaultCall, kind: str, name: str, properties: Body) -> Body:
    return {
        "id": f"{found.id}/{kind}/{name}",
        "name": name,
        "type": f"{RS}/{kind}",
        "properties": properties,
    }


def _refuse_other(body: Body, allowed: dict[str, tuple[str, ...]]) -> None:
    """UsageError (UserErrorNotSupported) when a body asks for a state that is not served."""
    asked = properties_of(body)
    for key, values in allowed.items():
        wanted = text_of(asked, key)
        if wanted and wanted.lower() not in values:
            raise UsageError(
                f"{key} {wanted!r} is not supported by this release",
                code="UserErrorNotSupported",
                hint=f"leave it at {values[0]!r}",
            )


def _config(found: VaultCall) -> Body:
    return _shown(found, "backupconfig", "vaultconfig", _CONFIG)


@get(CONFIG, opt=READ)
@threaded
def get_config(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Security configuration: soft delete is not part of this release."""
    return _config(vault_call(request, sub, group, vault))


def _change_config(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """Refuses to switch on what is not there."""
    found = vault_call(request, sub, group, vault)
    off = ("disabled",)
    _refuse_other(data, {"softDeleteFeatureState": off, "enhancedSecurityState": off})
    return _config(found)


put_config = put(CONFIG, opt=WRITE)(threaded(_change_config))
patch_config = patch(CONFIG, opt=WRITE)(threaded(_change_config))


@get(STORAGE, opt=READ)
@threaded
def get_storage_config(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """One copy, in the vault's region."""
    found = vault_call(request, sub, group, vault)
    return _shown(found, "backupstorageconfig", "vaultstorageconfig", _STORAGE)


def _change_storage(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """Refuses copies that are not made."""
    found = vault_call(request, sub, group, vault)
    local = ("locallyredundant",)
    _refuse_other(data, {"storageModelType": local, "storageType": local})
    if properties_of(data).get("crossRegionRestoreFlag"):
        raise UsageError(
            "cross-region restore is not supported by this release",
            code="UserErrorNotSupported",
            hint="leave crossRegionRestoreFlag at false",
        )
    return _shown(found, "backupstorageconfig", "vaultstorageconfig", _STORAGE)


put_storage_config = put(STORAGE, opt=WRITE)(threaded(_change_storage))


@patch(STORAGE, opt=WRITE, status_code=204)
@threaded
def patch_storage_config(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> None:
    """As PUT, without an answer's body."""
    _change_storage(request, sub, group, vault, data)


@get(ENCRYPTION, opt=READ)
@threaded
def get_encryption_config(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Vaults are always encrypted, under the platform's key."""
    found = vault_call(request, sub, group, vault)
    name = "backupResourceEncryptionConfig"
    return _shown(found, "backupEncryptionConfigs", name, _ENCRYPTION)


@put(ENCRYPTION, opt=WRITE)
@threaded
def put_encryption_config(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """Refuses customer keys."""
    found = vault_call(request, sub, group, vault)
    _refuse_other(data, {"encryptionAtRestType": ("microsoftmanaged", "invalid")})
    name = "backupResourceEncryptionConfig"
    return _shown(found, "backupEncryptionConfigs", name, _ENCRYPTION)


@get(GUARDS + "/{proxy:str}", opt=READ)
@threaded
def get_guard_proxy(request: ArmRequest, sub: str, group: str, vault: str, proxy: str) -> Body:
    """There is none: multi-user authorisation is not part of this release."""
    vault_call(request, sub, group, vault)
    raise NotFoundError(
        f"there is no resource guard proxy {proxy}",
        hint="multi-user authorisation is not part of this release",
    )


@get(
    [
        GUARDS,
        VAULT + "/backupProtectionIntents",
        VAULT + "/backupProtectableItems",
        VAULT + "/backupDeletedProtectionContainers",
        VAULT + "/backupEngines",
        VAULT + "/backupFabrics/{fabric:str}/protectableContainers",
        VAULT + "/replicationUsages",
        VAULT + "/privateLinkResources",
    ],
    opt=READ,
)
@threaded
def nothing(request: ArmRequest, sub: str, group: str, vault: str, fabric: str = "") -> Body:
    """Lists of what only other workloads have."""
    vault_call(request, sub, group, vault)
    return {"value": []}


@get(
    SUB + "/providers/Microsoft.RecoveryServices/locations/{location:str}/deletedVaults",
    opt=READ,
)
async def list_deleted_vaults(request: ArmRequest, sub: str, location: str) -> Body:
    """None: a deleted vault is gone from the catalog; its objects can be imported."""
    check_subscription(call_of(request), sub)
    return {"value": []}


@post(
    VAULT + "/backupFabrics/{fabric:str}/refreshContainers",
    opt=needs(f"{RS}/backupFabrics/refreshContainers/action"),
    status_code=202,
)
@threaded
def refresh_containers(
    request: ArmRequest, sub: str, group: str, vault: str, fabric: str
) -> Response[None]:
    """Over at once: machines register themselves."""
    found = vault_call(request, sub, group, vault)
    answering = Answering(f"{found.id}/backupFabrics/Azure")
    return accepted(found.call, found.id, "RefreshContainers", None, answering)


def _usage(value: str, shown: str, count: int) -> Body:
    name = {"value": value, "localizedValue": shown}
    return {"unit": "Count", "currentValue": count, "limit": -1, "name": name}


@get([VAULT + "/usages", VAULT + "/backupUsageSummaries"], opt=READ)
@threaded
def usages(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """How many items or machines a vault protects."""
    found = vault_call(request, sub, group, vault)
    kind = parse_filter(found.call.query("$filter")).get("type", "").lower()
    with found.call.platform.catalog.read() as connection:
        if "container" in kind:
            count = len(agents_of_vault(connection, found.row.id))
        else:
            count = items.count_items(connection, found.row.id)
    return {"value": [_usage("MAB", "Files and folders", count)]}


ROUTES = [
    get_config,
    put_config,
    patch_config,
    get_storage_config,
    put_storage_config,
    patch_storage_config,
    get_encryption_config,
    put_encryption_config,
    get_guard_proxy,
    nothing,
    list_deleted_vaults,
    refresh_containers,
    usages,
]
