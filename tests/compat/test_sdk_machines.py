"""Virtual machines through the SDK, unmodified: discovery, protection, backup, points, restore."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.recoveryservicesbackup import models as rsb

from holdfast.testing.azure_sdk import Sdk, connect, secret_credential
from holdfast.testing.live_server import live_server
from holdfast.testing.sdk_shapes import check_shape
from holdfast.testing.vm_farm import DATA, Farm, vm_farm
from holdfast.testing.wait import eventually

QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}
VAULT, GROUP, FABRIC, LOCATION = "farm", "rg-farm", "Azure", "local"
WEB = f"iaasvmcontainerv2;{GROUP};web"
HERE = (VAULT, GROUP, FABRIC, f"IaasVMContainer;{WEB}", f"VM;{WEB}")
MACHINES = "backupManagementType eq 'AzureIaasVM'"


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    folder = tmp_path_factory.mktemp("machines")
    with live_server(folder / "server", QUICK) as server, vm_farm(server, folder / "host") as made:
        yield made


@pytest.fixture
def sdk(farm: Farm, request: pytest.FixtureRequest) -> Iterator[Sdk]:
    """Both SDKs; what a test is marked to cover, it must have called."""
    where: Any = SimpleNamespace(port=farm.server.port, server_data=farm.server.data)
    connected = connect(where, secret_credential(where))
    yield connected
    said = {name for mark in request.node.iter_markers("sdk") for name in mark.args}
    assert said <= connected.called, f"marked but not called: {said - connected.called}"


def operation_of(response: Any, _value: Any, headers: Any) -> str:
    """``cls`` of a call: the id of its operation, from the headers."""
    url: str = response.http_response.headers["Azure-AsyncOperation"]
    return url.partition("?")[0].rpartition("/")[2]


def ended_job(sdk: Sdk, operation: str) -> Any:
    statuses = sdk.backup.protected_item_operation_statuses
    status = statuses.get(*HERE, operation)
    job_id = status.properties.job_id

    def ended() -> bool:
        job = sdk.backup.job_details.get(VAULT, GROUP, job_id)
        return bool(job.properties.status not in ("InProgress", "Cancelling"))

    eventually(ended, f"the job {job_id} ends", seconds=60)
    job = sdk.backup.job_details.get(VAULT, GROUP, job_id)
    check_shape(job)
    assert isinstance(job.properties, rsb.AzureIaaSVMJob)
    return job


def policy_id(sdk: Sdk, name: str = "DefaultPolicy") -> str:
    return str(sdk.backup.protection_policies.get(VAULT, GROUP, name).id)


def machine_item(resource: Any) -> rsb.AzureIaaSComputeVMProtectedItem:
    """The SDK finds no class for Azure's own word of a machine's item and leaves the base class:
    read as the class it is."""
    typed = rsb.AzureIaaSComputeVMProtectedItem(dict(resource.properties))
    check_shape(typed)
    return typed


def put(sdk: Sdk, farm: Farm, **more: Any) -> Any:
    given = {"policy_id": policy_id(sdk), "source_resource_id": farm.spot.resource("web"), **more}
    properties = rsb.AzureIaaSComputeVMProtectedItem(**given)
    body = rsb.ProtectedItemResource(properties=properties)
    return machine_item(sdk.backup.protected_items.begin_create_or_update(*HERE, body).result())


@pytest.mark.sdk(
    "backup.backup_protectable_items.list",
    "backup.protection_containers.refresh",
    "backup.backup_status.get",
    "backup.feature_support.validate",
    "backup.protection_intent.validate",
)
def test_discovery(sdk: Sdk, farm: Farm) -> None:
    sdk.backup.protection_containers.refresh(VAULT, GROUP, FABRIC)
    rows = list(sdk.backup.backup_protectable_items.list(VAULT, GROUP, filter=MACHINES))
    names = {row.properties["friendlyName"] for row in rows}
    assert names == {"web", "off"}
    assert rows[0].properties["virtualMachineId"].startswith("/subscriptions/")
    asked = rsb.BackupStatusRequest(resource_type="VM", resource_id=farm.spot.resource("web"))
    assert sdk.backup.backup_status.get(LOCATION, asked).protection_status == "NotProtected"
    feature = rsb.AzureVMResourceFeatureSupportRequest(vm_size="any", vm_sku="any")
    told = sdk.backup.feature_support.validate(LOCATION, feature)
    check_shape(told)
    assert told.support_status == "Supported"
    before = rsb.PreValidateEnableBackupRequest(
        resource_type="VM", resource_id=farm.spot.resource("web"), vault_id=farm.spot.vault
    )
    validated = sdk.backup.protection_intent.validate(LOCATION, before)
    check_shape(validated)
    assert validated.status == "Succeeded"


@pytest.mark.sdk(
    "backup.protected_items.begin_create_or_update",
    "backup.protected_items.get",
    "backup.backup_protected_items.list",
    "backup.backup_protection_containers.list",
)
def test_protection(sdk: Sdk, farm: Farm) -> None:
    left_out = rsb.ExtendedProperties(
        disk_exclusion_properties=rsb.DiskExclusionProperties(
            disk_lun_list=[0], is_inclusion_list=False
        )
    )
    made = put(sdk, farm, extended_properties=left_out)
    assert made.protection_state == "IRPending"
    one = machine_item(sdk.backup.protected_items.get(*HERE))
    kept = one.extended_properties.disk_exclusion_properties
    assert (kept.disk_lun_list, kept.is_inclusion_list) == ([0], False)
    everything = rsb.ExtendedProperties(disk_exclusion_properties=None)
    put(sdk, farm, extended_properties=everything)
    asked = f"{MACHINES} and itemType eq 'VM'"
    rows = list(sdk.backup.backup_protected_items.list(VAULT, GROUP, filter=asked))
    assert [machine_item(row).friendly_name for row in rows] == ["web"]
    (holder,) = sdk.backup.backup_protection_containers.list(
        VAULT, GROUP, filter=f"{MACHINES} and status eq 'Registered'"
    )
    typed = rsb.AzureIaaSComputeVMContainer(dict(holder.properties))
    check_shape(typed)
    assert typed.virtual_machine_id == farm.spot.resource("web")
    hosts = sdk.backup.backup_protection_containers.list(
        VAULT, GROUP, filter="backupManagementType eq 'MAB'"
    )
    for kind, of_files in (("ProtectedItem", 0), ("ProtectionContainer", len(list(hosts)))):
        summary = f"type eq 'Backup{kind}CountSummary'"
        counts = sdk.backup.backup_usage_summaries.list(VAULT, GROUP, filter=summary)
        found = {row.name.value: row.current_value for row in counts}
        assert found == {"MAB": of_files, "AzureIaasVM": 1}, kind


@pytest.mark.sdk(
    "backup.backups.trigger",
    "backup.job_details.get",
    "backup.backup_jobs.list",
    "backup.recovery_points.list",
    "backup.recovery_points.get",
    "backup.restores.begin_trigger",
)
def test_a_backup_its_point_and_a_restore(sdk: Sdk, farm: Farm, tmp_path: Path) -> None:
    put(sdk, farm)
    body = rsb.BackupRequestResource(properties=rsb.IaasVMBackupRequest())
    job = ended_job(sdk, sdk.backup.backups.trigger(*HERE, body, cls=operation_of))
    assert job.properties.status == "Completed"
    tasks = [one.task_id for one in job.properties.extended_info.tasks_list]
    assert tasks == ["Take Snapshot", "Transfer data to vault"]
    bag = job.properties.extended_info.property_bag
    expiry = datetime.fromisoformat(bag["Recovery Point Expiry Time in UTC"])
    kept = expiry - job.properties.start_time
    assert timedelta(days=30) <= kept < timedelta(days=30, minutes=5), "none was asked for"
    jobs = list(sdk.backup.backup_jobs.list(VAULT, GROUP, filter=MACHINES))
    check_shape(jobs[0])
    points = list(sdk.backup.recovery_points.list(*HERE))
    check_shape(points[0])
    point = sdk.backup.recovery_points.get(*HERE, points[0].name)
    check_shape(point)
    assert isinstance(point.properties, rsb.IaasVMRecoveryPoint)
    assert point.properties.recovery_point_type == "AppConsistent"
    assert point.properties.recovery_point_tier_details[0].type == "HardenedRP"
    included = point.properties.recovery_point_disk_configuration.included_disk_list
    assert [disk.lun for disk in included] == [-1, 0]
    asked = rsb.IaasVMRestoreRequest(
        recovery_point_id=point.name,
        recovery_type="RestoreDisks",
        source_resource_id=farm.spot.resource("web"),
        storage_account_id=farm.account("sdkdisks", tmp_path),
        region=LOCATION,
        create_new_cloud_service=False,
        restore_disk_lun_list=[0],
    )
    request = rsb.RestoreRequestResource(properties=asked)
    sdk.backup.restores.begin_trigger(*HERE, point.name, request).result()
    eventually((tmp_path / "disk0").exists, "the disk is restored")
    assert (tmp_path / "disk0").read_bytes() == DATA
    wrong = rsb.IaasVMRestoreRequest(recovery_point_id=point.name, recovery_type="RestoreDisks")
    with pytest.raises(HttpResponseError) as refused:
        body = rsb.RestoreRequestResource(properties=wrong)
        sdk.backup.restores.begin_trigger(*HERE, point.name, body)
    assert refused.value.error.code == "StorageAccountRequired"


@pytest.mark.sdk(
    "backup.item_level_recovery_connections.provision",
    "backup.item_level_recovery_connections.list_instant_item_recovery_operation_result",
    "backup.item_level_recovery_connections.revoke",
)
def test_a_script_that_mounts_a_point(sdk: Sdk, farm: Farm) -> None:
    put(sdk, farm)
    point = farm.back_up("web")
    connections = sdk.backup.item_level_recovery_connections
    asked = rsb.IaasVMILRRegistrationRequest(
        recovery_point_id=point, virtual_machine_id=farm.spot.resource("web")
    )
    body = rsb.ILRRequestResource(properties=asked)
    operation = connections.provision(*HERE, point, body, cls=operation_of)
    wanted = rsb.InstantItemRecoveryOperationResultRequest(
        provision_instant_item_recovery_operation_id=operation
    )
    names = {
        "resource_group_name": GROUP,
        "vault_name": VAULT,
        "fabric_name": FABRIC,
        "container_name": HERE[3],
        "protected_item_name": HERE[4],
        "recovery_point_id": point,
    }
    found = connections.list_instant_item_recovery_operation_result(**names, body=wanted)
    check_shape(found)
    (script,) = found.client_scripts
    assert script.script_name_suffix.startswith("web_")

    def active() -> bool:
        shown = sdk.backup.recovery_points.get(*HERE, point).properties
        return bool(shown.is_instant_ilr_session_active)

    assert active()
    connections.revoke(*HERE, point)
    assert not active()


@pytest.mark.sdk(
    "backup.protected_items.delete",
    "backup.deleted_protection_containers.list",
    "backup.protected_items.begin_create_or_update",
)
def test_its_life(sdk: Sdk, farm: Farm) -> None:
    put(sdk, farm)
    stopped = put(sdk, farm, policy_id="", protection_state="ProtectionStopped")
    assert stopped.protection_state == "ProtectionStopped"
    sdk.backup.protected_items.delete(*HERE)
    gone = machine_item(sdk.backup.protected_items.get(*HERE))
    assert gone.is_scheduled_for_deferred_delete
    (deleted,) = sdk.backup.deleted_protection_containers.list(GROUP, VAULT, filter=MACHINES)
    assert deleted.properties["friendlyName"] == "web"
    back = put(sdk, farm, policy_id="", protection_state="ProtectionStopped", is_rehydrate=True)
    assert not back.is_scheduled_for_deferred_delete
    assert put(sdk, farm).protection_state in ("IRPending", "Protected")
