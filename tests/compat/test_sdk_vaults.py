"""Vaults and their configuration through the SDKs, unmodified."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.recoveryservices import RecoveryServicesClient
from azure.mgmt.recoveryservices import models as rs
from azure.mgmt.recoveryservicesbackup import models as rsb

from holdfast.testing.azure_sdk import (
    Sdk,
    StaticCredential,
    address,
    admin,
    connect,
    secret_credential,
)
from holdfast.testing.sdk_shapes import check_shape
from holdfast.testing.world import GROUP, VAULT, World


def token(world: World) -> str:
    login = admin(world)
    form = {
        "grant_type": "client_credentials",
        "client_id": login["client_id"],
        "client_secret": login["client_secret"],
        "scope": f"{address(world)}/.default",
    }
    trust = ssl.create_default_context(cafile=str(world.server_data / "ca.pem"))
    answer = httpx2.post(
        f"{address(world)}/adfs/oauth2/token", data=form, verify=trust, trust_env=False
    )
    return str(answer.json()["access_token"])


def asked(name: str) -> rs.Vault:
    """As a program that speaks to Azure writes it, all parts given."""
    return rs.Vault(
        location="local",
        sku=rs.Sku(name="RS0", tier="Standard"),
        tags={"made-by": name},
        properties=rs.VaultProperties(
            public_network_access="Enabled",
            monitoring_settings=rs.MonitoringSettings(
                azure_monitor_alert_settings=rs.AzureMonitorAlertSettings(
                    alerts_for_all_job_failures="Enabled"
                )
            ),
        ),
    )


@pytest.mark.sdk(
    "vaults.vaults.begin_create_or_update",
    "vaults.vaults.get",
    "vaults.vaults.begin_update",
    "vaults.vaults.begin_delete",
    "vaults.vaults.list_by_resource_group",
    "vaults.vaults.list_by_subscription_id",
)
def test_a_vaults_life(sdk: Sdk) -> None:
    vaults = sdk.vaults.vaults
    with pytest.raises(ResourceNotFoundError) as absent:
        vaults.get(GROUP, "sdk-life")
    assert absent.value.error.code == "ResourceNotFound"
    made = vaults.begin_create_or_update(GROUP, "sdk-life", asked("sdk")).result()
    check_shape(made)
    assert (made.name, made.type) == ("sdk-life", "Microsoft.RecoveryServices/vaults")
    assert made.properties.provisioning_state == "Succeeded"
    check_shape(vaults.get(GROUP, "sdk-life"))
    for listed in (vaults.list_by_resource_group(GROUP), vaults.list_by_subscription_id()):
        rows = {row.name: row for row in listed}
        assert {"sdk-life", VAULT} <= set(rows)
        check_shape(rows["sdk-life"])
    settings = rs.PatchVault(tags={"changed": "yes"})
    changed = vaults.begin_update(GROUP, "sdk-life", settings).result()
    assert changed.tags == {"changed": "yes"}
    assert vaults.begin_delete(GROUP, "sdk-life").result() is None
    with pytest.raises(ResourceNotFoundError):
        vaults.get(GROUP, "sdk-life")
    vaults.begin_delete(GROUP, "sdk-life").result()


@pytest.mark.sdk("vaults.vaults.begin_create_or_update", "vaults.vaults.begin_update")
def test_immutability_is_turned_on_and_off_until_it_is_locked(sdk: Sdk) -> None:
    vaults = sdk.vaults.vaults

    def state(asked: str) -> str:
        settings = {"immutabilitySettings": {"state": asked}}
        body = {"properties": {"securitySettings": settings}}
        vaults.begin_update(GROUP, "sdk-held", body).result()
        found = vaults.get(GROUP, "sdk-held")
        check_shape(found)
        held: str = found.properties.security_settings.immutability_settings.state
        return held

    vaults.begin_create_or_update(GROUP, "sdk-held", asked("sdk")).result()
    states = ["Unlocked", "Disabled", "Unlocked", "Locked"]
    assert [state(one) for one in states] == states
    with pytest.raises(HttpResponseError) as refused:
        state("Disabled")
    assert refused.value.error.code == "UserErrorUnsupportedVaultImmutabilityStateChange"
    assert state("Locked") == "Locked"
    vaults.begin_delete(GROUP, "sdk-held").result()


@pytest.mark.sdk("vaults.get_operation_status")
def test_an_operation_of_a_vault(sdk: Sdk) -> None:
    told: list[str] = []

    def look(answer: Any) -> None:
        told.append(answer.http_response.headers.get("Azure-AsyncOperation", ""))

    sdk.vaults.vaults.begin_create_or_update(GROUP, "sdk-asked", asked("sdk")).result()
    sdk.vaults.vaults.begin_delete(GROUP, "sdk-asked", raw_response_hook=look).result()
    operation = told[0].partition("?")[0].rpartition("/")[2]
    status = sdk.vaults.get_operation_status(GROUP, "sdk-asked", operation)
    check_shape(status)
    assert (status.name, status.status) == (operation, "Succeeded")
    assert status.end_time >= status.start_time
    with pytest.raises(HttpResponseError) as refused:  # said in REFUSED
        sdk.vaults.get_operation_result(GROUP, "sdk-asked", operation)
    assert refused.value.status_code == 204
    with pytest.raises(ResourceNotFoundError):
        sdk.vaults.get_operation_status(GROUP, "sdk-asked", "none")


@pytest.mark.sdk("vaults.vaults.begin_delete")
def test_a_vault_that_holds_something_stays(sdk: Sdk) -> None:
    with pytest.raises(HttpResponseError) as refused:
        sdk.vaults.vaults.begin_delete(GROUP, VAULT).result()
    assert refused.value.status_code == 400
    assert refused.value.error.code == "ServiceResourceNotEmptyWithBackendMessage"


def test_a_static_credential(world: World) -> None:
    held = connect(world, StaticCredential(token(world)))
    assert held.vaults.vaults.get(GROUP, VAULT).name == VAULT
    assert list(held.backup.backup_policies.list(VAULT, GROUP))
    forged = connect(world, StaticCredential("no token at all"))
    with pytest.raises(ClientAuthenticationError) as refused:
        forged.vaults.vaults.get(GROUP, VAULT)
    assert refused.value.status_code == 401


def test_a_wrong_secret(world: World) -> None:
    wrong = connect(world, secret_credential(world, "not the secret"))
    with pytest.raises(ClientAuthenticationError, match="secret is wrong"):
        wrong.vaults.vaults.get(GROUP, VAULT)


def test_another_subscription(world: World, sdk: Sdk) -> None:
    other = RecoveryServicesClient(
        StaticCredential(token(world)),
        "00000000-0000-4000-8000-000000000000",
        base_url=address(world),
        credential_scopes=[f"{address(world)}/.default"],
        connection_verify=str(world.server_data / "ca.pem"),
    )
    with pytest.raises(ResourceNotFoundError) as refused:
        list(other.vaults.list_by_subscription_id())
    assert refused.value.error.code == "SubscriptionNotFound"


@pytest.mark.sdk(
    "backup.backup_resource_vault_configs.get",
    "backup.backup_resource_vault_configs.update",
    "backup.backup_resource_vault_configs.put",
)
def test_security_configuration(sdk: Sdk) -> None:
    configs = sdk.backup.backup_resource_vault_configs
    found = configs.get(VAULT, GROUP)
    check_shape(found)
    longer = rsb.BackupResourceVaultConfigResource(
        properties=rsb.BackupResourceVaultConfig(
            soft_delete_feature_state="Enabled", soft_delete_retention_period_in_days=20
        )
    )
    check_shape(configs.update(VAULT, GROUP, longer))
    shown = sdk.vaults.vaults.get(GROUP, VAULT).properties.security_settings.soft_delete_settings
    assert (shown.soft_delete_state, shown.soft_delete_retention_period_in_days) == ("Enabled", 20)
    longer.properties.soft_delete_retention_period_in_days = 14
    check_shape(configs.put(VAULT, GROUP, longer))
    assert configs.get(VAULT, GROUP).properties.soft_delete_retention_period_in_days == 14
    longer.properties.soft_delete_retention_period_in_days = 13
    with pytest.raises(HttpResponseError) as refused:
        configs.put(VAULT, GROUP, longer)
    assert refused.value.error.code == "BMSUserErrorInvalidInput"


@pytest.mark.sdk(
    "vaults.deleted_vaults.list_by_subscription_id",
    "vaults.deleted_vaults.get",
    "vaults.deleted_vaults.begin_undelete",
    "vaults.deleted_vaults.get_operation_status",
)
def test_a_deleted_vault_comes_back(sdk: Sdk) -> None:
    vaults, deleted = sdk.vaults.vaults, sdk.vaults.deleted_vaults
    made = vaults.begin_create_or_update(GROUP, "sdk-gone", asked("sdk")).result()
    vaults.begin_delete(GROUP, "sdk-gone").result()
    rows = [
        row
        for row in deleted.list_by_subscription_id("local")
        if row.properties.vault_id.lower() == made.id.lower()
    ]
    (row,) = rows
    check_shape(row)
    one = deleted.get("local", row.name)
    check_shape(one)
    kept = one.properties.purge_at - one.properties.vault_deletion_time
    assert kept == timedelta(days=14)
    place = made.id.partition("/providers/")[0]
    body = rs.DeletedVaultUndeleteInput(
        properties=rs.DeletedVaultUndeleteInputProperties(recovery_resource_group_id=place)
    )
    undeleting = deleted.begin_undelete("local", row.name, body)
    assert undeleting.result() is None
    headers = undeleting.polling_method()._initial_response.http_response.headers
    url: str = headers["Azure-AsyncOperation"]
    operation = url.partition("?")[0].rpartition("/")[2]
    ended = deleted.get_operation_status("local", row.name, operation)
    check_shape(ended)
    assert ended.status == "Succeeded"
    assert vaults.get(GROUP, "sdk-gone").tags == made.tags
    with pytest.raises(ResourceNotFoundError):
        deleted.get("local", row.name)


@pytest.mark.sdk(
    "backup.backup_resource_storage_configs_non_crr.get",
    "backup.backup_resource_encryption_configs.get",
)
@pytest.mark.sdk(
    "backup.backup_resource_storage_configs_non_crr.update",
    "backup.backup_resource_storage_configs_non_crr.patch",
    partly="LocallyRedundant alone; no second copies are made",
)
@pytest.mark.sdk(
    "backup.backup_resource_encryption_configs.update",
    partly="MicrosoftManaged alone; keys of your own are not used",
)
def test_storage_and_encryption(sdk: Sdk) -> None:
    storage = sdk.backup.backup_resource_storage_configs_non_crr
    found = storage.get(VAULT, GROUP)
    check_shape(found)
    same = rsb.BackupResourceConfigResource(
        properties=rsb.BackupResourceConfig(storage_model_type="LocallyRedundant")
    )
    check_shape(storage.update(VAULT, GROUP, same))
    assert storage.patch(VAULT, GROUP, same) is None
    other = rsb.BackupResourceConfigResource(
        properties=rsb.BackupResourceConfig(storage_model_type="GeoRedundant")
    )
    with pytest.raises(HttpResponseError) as refused:
        storage.update(VAULT, GROUP, other)
    assert refused.value.status_code == 400
    encryption = sdk.backup.backup_resource_encryption_configs
    check_shape(encryption.get(VAULT, GROUP))
    ours = rsb.BackupResourceEncryptionConfigResource(
        properties=rsb.BackupResourceEncryptionConfig(encryption_at_rest_type="MicrosoftManaged")
    )
    assert encryption.update(VAULT, GROUP, ours) is None
    theirs = rsb.BackupResourceEncryptionConfigResource(
        properties=rsb.BackupResourceEncryptionConfig(encryption_at_rest_type="CustomerManaged")
    )
    with pytest.raises(HttpResponseError) as kept:
        encryption.update(VAULT, GROUP, theirs)
    assert kept.value.error.code == "UserErrorNotSupported"


@pytest.mark.sdk("vaults.usages.list_by_vaults", "backup.backup_usage_summaries.list")
def test_usage(sdk: Sdk) -> None:
    usages = list(sdk.vaults.usages.list_by_vaults(GROUP, VAULT))
    assert usages
    for row in usages:
        check_shape(row)
    counted = {row.name.value: (row.current_value, row.limit) for row in usages}
    assert counted["ProtectedItems"][0] >= 1
    machines, most = counted["RegisteredMachines"]
    assert most == 50, "as Azure has it"
    held = sdk.backup.backup_protection_containers.list(
        VAULT, GROUP, filter="backupManagementType eq 'MAB'"
    )
    assert machines == len(list(held)) >= 1
    for kind in ("BackupProtectedItemCountSummary", "BackupProtectionContainerCountSummary"):
        rows = list(
            sdk.backup.backup_usage_summaries.list(VAULT, GROUP, filter=f"type eq '{kind}'")
        )
        counted = {row.name.value: row.current_value for row in rows}
        assert counted["MAB"] >= 1, kind
        assert counted["AzureIaasVM"] == 0, kind
        for row in rows:
            check_shape(row)


def test_an_unknown_summary(sdk: Sdk) -> None:
    with pytest.raises(HttpResponseError) as refused:
        list(sdk.backup.backup_usage_summaries.list(VAULT, GROUP, filter="type eq 'Prices'"))
    assert refused.value.error.code == "InvalidFilter"


EMPTY: dict[str, tuple[tuple[Any, ...], str]] = {
    "vaults.replication_usages.list": ((GROUP, VAULT), "nothing is replicated"),
    "vaults.private_link_resources.list": ((GROUP, VAULT), "private endpoints are Azure's"),
    "backup.backup_engines.list": ((VAULT, GROUP), "there are no backup servers (DPM)"),
    "backup.backup_protection_intent.list": ((VAULT, GROUP), "intents belong to databases"),
    "backup.protectable_containers.list": (
        (VAULT, GROUP, "Azure"),
        "machines register themselves",
    ),
    "backup.resource_guard_proxies.get": ((VAULT, GROUP), "there are no resource guards"),
}


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(name, marks=pytest.mark.sdk(name, partly=f"always an empty list: {why}"))
        for name, (_, why) in EMPTY.items()
    ],
)
def test_lists_of_what_other_workloads_have_are_empty(sdk: Sdk, operation: str) -> None:
    client, group, method = operation.split(".")
    assert list(getattr(getattr(getattr(sdk, client), group), method)(*EMPTY[operation][0])) == []


@pytest.mark.sdk("backup.backup_protectable_items.list")
def test_a_vault_without_hosts_has_no_machine_to_protect(sdk: Sdk) -> None:
    assert list(sdk.backup.backup_protectable_items.list(VAULT, GROUP)) == []


@pytest.mark.sdk(
    "vaults.vaults.begin_create_or_update",
    "vaults.vaults.begin_update",
    partly="vaults under a key of your own are refused; GeoRedundant is taken and shown as "
    "LocallyRedundant, for no second copy is made",
)
@pytest.mark.parametrize(
    "properties",
    [
        {
            "securitySettings": {
                "immutabilitySettings": {"state": "Unlocked", "configuration": {"type": "Fixed"}}
            }
        },
        {"encryption": {"keyVaultProperties": {"keyUri": "https://keys.invalid/keys/one"}}},
    ],
    ids=["held for other times", "own key"],
)
def test_a_protection_that_is_not_given_is_refused(sdk: Sdk, properties: dict[str, Any]) -> None:
    before = sdk.vaults.vaults.get(GROUP, VAULT)
    body = {"location": "local", "sku": {"name": "Standard"}, "properties": properties}
    for name in ("sdk-safer", VAULT):
        with pytest.raises(HttpResponseError) as made:
            sdk.vaults.vaults.begin_create_or_update(GROUP, name, body).result()
        assert made.value.error.code == "UserErrorNotSupported"
    with pytest.raises(HttpResponseError) as changed:
        sdk.vaults.vaults.begin_update(GROUP, VAULT, {"properties": properties}).result()
    assert changed.value.error.code == "UserErrorNotSupported"
    with pytest.raises(ResourceNotFoundError):
        sdk.vaults.vaults.get(GROUP, "sdk-safer")
    assert sdk.vaults.vaults.get(GROUP, VAULT).etag == before.etag


@pytest.mark.sdk("vaults.recovery_services.check_name_availability")
def test_whether_a_name_is_free(sdk: Sdk) -> None:
    check = sdk.vaults.recovery_services.check_name_availability
    kind = "Microsoft.RecoveryServices/Vaults"
    taken = check(GROUP, "local", rs.CheckNameAvailabilityParameters(type=kind, name=VAULT.upper()))
    assert (taken.name_available, taken.reason) == (False, "AlreadyExists")
    assert taken.message
    free = check(
        GROUP, "local", rs.CheckNameAvailabilityParameters(type=kind, name="nobody-has-it")
    )
    assert free.name_available
    bad = check(GROUP, "local", rs.CheckNameAvailabilityParameters(type=kind, name="1"))
    assert (bad.name_available, bad.reason) == (False, "Invalid")


@pytest.mark.sdk("vaults.operations.list", "backup.operations.list")
def test_the_operations_the_provider_has(sdk: Sdk) -> None:
    for client in (sdk.vaults, sdk.backup):
        rows = {row.name: row for row in client.operations.list()}
        assert "Microsoft.RecoveryServices/vaults/read" in rows
        for row in rows.values():
            check_shape(row)


def test_a_name_that_cannot_be(sdk: Sdk) -> None:
    with pytest.raises(HttpResponseError) as refused:
        sdk.vaults.vaults.begin_create_or_update(GROUP, "9-digits-first", asked("x")).result()
    assert (refused.value.status_code, refused.value.error.code) == (400, "InvalidName")
    assert not isinstance(refused.value, ResourceExistsError)
