"""Standing configuration of vaults, and lists that are empty here: right in shape, true in content.

What this release does not have (redundancy, customer keys, resource guards) is shown as absent, and
asking for it is refused rather than forgotten.
"""

from __future__ import annotations

from typing import Any

from litestar import get, patch, put

from holdfast.arm.actions import by_address
from holdfast.arm.http import (
    ArmRequest,
    Body,
    properties_of,
    text_of,
    threaded,
)
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import NotFoundError, UsageError
from holdfast.services import vaults as service
from holdfast.services.etags import check_etag
from holdfast.services.vault_bodies import no_customer_keys, soft_delete_of

READ = WRITE = by_address()
CONFIG = VAULT + "/backupconfig/vaultconfig"
STORAGE = VAULT + "/backupstorageconfig/vaultstorageconfig"
ENCRYPTION = VAULT + "/backupEncryptionConfigs/backupResourceEncryptionConfig"
GUARDS = VAULT + "/backupResourceGuardProxies"
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
        if wanted and wanted.lower() not in map(str.lower, values):
            raise UsageError(
                f"{key} {wanted!r} is not supported by this release",
                code="UserErrorNotSupported",
                hint=f"leave it at {values[0]!r}",
            )


def _config(found: VaultCall, row: VaultRow) -> Body:
    """Its version is the vault's."""
    setting = soft_delete_of(row)
    properties = {
        "enhancedSecurityState": "Disabled" if setting.enhanced == "Disabled" else "Enabled",
        "softDeleteFeatureState": setting.state,
        "softDeleteRetentionPeriodInDays": setting.days,
        "isSoftDeleteFeatureStateEditable": setting.state != "AlwaysON",
    }
    return {**_shown(found, "backupconfig", "vaultconfig", properties), "eTag": row.etag}


@get(CONFIG, opt=READ)
@threaded
def get_config(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Soft delete, as the vault itself shows it too."""
    found = vault_call(request, sub, group, vault)
    return _config(found, found.row)


def _change_config(
    request: ArmRequest, sub: str, group: str, vault: str, data: dict[str, Any]
) -> Body:
    """Set soft delete; the same as the vault's softDeleteSettings."""
    found, asked = vault_call(request, sub, group, vault), properties_of(data)
    check_etag(found.call.if_match, found.row.etag, "the vault's configuration")
    settings = {
        "softDeleteState": asked.get("softDeleteFeatureState"),
        "softDeleteRetentionPeriodInDays": asked.get("softDeleteRetentionPeriodInDays"),
        "enhancedSecurityState": asked.get("enhancedSecurityState"),
    }
    given = {key: value for key, value in settings.items() if value is not None}
    body = {"properties": {"securitySettings": {"softDeleteSettings": given}}}
    row = service.change_vault(found.call.platform, group, vault, body)
    return _config(found, row)


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
    local = ("LocallyRedundant",)
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
) -> None:
    """Refuses keys of customers, as a vault does that is made or changed with one; without a body,
    as Azure answers."""
    vault_call(request, sub, group, vault)
    asked = properties_of(data)
    if text_of(asked, "encryptionAtRestType").lower() == "customermanaged" or asked.get("keyUri"):
        raise no_customer_keys("encryptionAtRestType")


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
]
