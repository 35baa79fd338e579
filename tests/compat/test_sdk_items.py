"""Policies, machines, items, recovery points and jobs through the SDKs, unmodified."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.mgmt.recoveryservicesbackup import models as rsb

from holdfast.testing.azure_sdk import Sdk, address
from holdfast.testing.sdk_shapes import check_shape
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World

FABRIC, CONTAINER, DOCS = "Azure", f"Linux;{HOST}", f"FileFolder;{ITEM}"
HERE = (VAULT, GROUP, FABRIC, CONTAINER)
FILES = "backupManagementType eq 'MAB'"
MACHINES = "backupManagementType eq 'AzureIaasVM'"
DONE = "Completed"


def policy_id(sdk: Sdk, name: str = "DefaultPolicy") -> str:
    return str(sdk.backup.protection_policies.get(VAULT, GROUP, name).id)


def files_item(policy: str, *paths: str, **more: Any) -> rsb.ProtectedItemResource:
    """What the SDK's own model holds, and ours beside it."""
    properties = rsb.MabFileFolderProtectedItem(policy_id=policy, **more)
    properties["holdfast"] = {"includePaths": list(paths)}
    return rsb.ProtectedItemResource(properties=properties)


def operation_of(response: Any, _value: Any, headers: Any) -> str:
    """``cls`` of a call: the id of its operation, from the headers."""
    url: str = response.http_response.headers["Azure-AsyncOperation"]
    return url.partition("?")[0].rpartition("/")[2]


def ended_job(sdk: Sdk, job_id: str) -> Any:
    def state() -> bool:
        job = sdk.backup.job_details.get(VAULT, GROUP, job_id)
        return bool(job.properties.status not in ("InProgress", "Cancelling"))

    eventually(state, f"the job {job_id} ends", seconds=60)
    return sdk.backup.job_details.get(VAULT, GROUP, job_id)


def back_up(sdk: Sdk, item: str = DOCS, **asked: Any) -> Any:
    """Back up through the SDK as a program would follow it; the job."""
    body = rsb.BackupRequestResource(
        properties=rsb.BackupRequest({"objectType": "FilesBackupRequest", **asked})
    )
    operation = sdk.backup.backups.trigger(*HERE, item, body, cls=operation_of)
    status = sdk.backup.protected_item_operation_statuses.get(*HERE, item, operation)
    check_shape(status)
    return ended_job(sdk, status.properties.job_id)


@pytest.fixture
def backed_up(sdk: Sdk) -> str:
    """The newest recovery point of `docs`."""
    points = list(sdk.backup.recovery_points.list(*HERE, DOCS))
    if not points:
        assert back_up(sdk).properties.status == DONE
        points = list(sdk.backup.recovery_points.list(*HERE, DOCS))
    return str(points[0].name)


@pytest.mark.sdk(
    "backup.backup_policies.list",
    "backup.protection_policies.get",
    "backup.protection_policies.create_or_update",
    "backup.protection_policies.begin_delete",
)
def test_policies(sdk: Sdk) -> None:
    listed = {row.name: row for row in sdk.backup.backup_policies.list(VAULT, GROUP)}
    assert {"DefaultPolicy", "EnhancedPolicy", "HourlyLogBackup"} <= set(listed)
    for row in listed.values():
        check_shape(row)
    only = sdk.backup.backup_policies.list(
        VAULT, GROUP, filter="backupManagementType eq 'AzureWorkload'"
    )
    assert {row.name for row in only} == {"HourlyLogBackup"}
    policies = sdk.backup.protection_policies
    default = policies.get(VAULT, GROUP, "DefaultPolicy")
    assert isinstance(default.properties, rsb.AzureIaaSVMProtectionPolicy)
    assert isinstance(default.properties.protected_items_count, int)
    default.properties.retention_policy.daily_schedule.retention_duration.count = 45
    made = policies.create_or_update(VAULT, GROUP, "sdk-policy", default)
    check_shape(made)
    assert made.properties.retention_policy.daily_schedule.retention_duration.count == 45
    assert policies.begin_delete(VAULT, GROUP, "sdk-policy").result() is None
    with pytest.raises(ResourceNotFoundError) as absent:
        policies.get(VAULT, GROUP, "sdk-policy")
    assert absent.value.error.code == "BMSUserErrorPolicyNotFound"


def weekly() -> rsb.ProtectionPolicyResource:
    """A policy of the file agent's kind, built from the SDK's models."""
    at = datetime(2026, 1, 1, 20, 0, tzinfo=UTC)
    keep = rsb.RetentionDuration(count=8, duration_type="Weeks")
    return rsb.ProtectionPolicyResource(
        properties=rsb.MabProtectionPolicy(
            schedule_policy=rsb.SimpleSchedulePolicy(
                schedule_run_frequency="Weekly",
                schedule_run_days=["Sunday"],
                schedule_run_times=[at],
            ),
            retention_policy=rsb.LongTermRetentionPolicy(
                weekly_schedule=rsb.WeeklyRetentionSchedule(
                    days_of_the_week=["Sunday"], retention_times=[at], retention_duration=keep
                )
            ),
        )
    )


@pytest.mark.sdk("backup.protection_policies.create_or_update")
def test_a_policy_built_from_models(sdk: Sdk) -> None:
    policies = sdk.backup.protection_policies
    made = policies.create_or_update(VAULT, GROUP, "sdk-weekly", weekly())
    check_shape(made)
    assert isinstance(made.properties, rsb.MabProtectionPolicy)
    kept = made.properties.retention_policy.weekly_schedule
    assert (kept.retention_duration.count, kept.days_of_the_week) == (8, ["Sunday"])
    wrong = weekly()
    wrong.properties.retention_policy.weekly_schedule.retention_duration.count = 0
    with pytest.raises(HttpResponseError) as refused:
        policies.create_or_update(VAULT, GROUP, "sdk-wrong", wrong)
    assert refused.value.status_code == 400
    policies.begin_delete(VAULT, GROUP, "sdk-weekly").result()


def test_a_policy_in_use_stays(sdk: Sdk) -> None:
    with pytest.raises(HttpResponseError) as refused:
        sdk.backup.protection_policies.begin_delete(VAULT, GROUP, "DefaultPolicy").result()
    assert (refused.value.status_code, refused.value.error.code) == (400, "BMSUserErrorPolicyInUse")


@pytest.mark.sdk("backup.backup_protection_containers.list", "backup.protection_containers.get")
def test_machines(sdk: Sdk) -> None:
    containers = sdk.backup.backup_protection_containers
    asked = f"{FILES} and status eq 'Registered'"
    rows = {row.name: row for row in containers.list(VAULT, GROUP, filter=asked)}
    assert CONTAINER in rows
    check_shape(rows[CONTAINER])
    assert isinstance(rows[CONTAINER].properties, rsb.MabContainer)
    assert list(containers.list(VAULT, GROUP, filter=MACHINES)) == []
    one = sdk.backup.protection_containers.get(*HERE)
    check_shape(one)
    assert one.properties.friendly_name == HOST
    with pytest.raises(ResourceNotFoundError):
        sdk.backup.protection_containers.get(
            VAULT, GROUP, FABRIC, "IaasVMContainer;iaasvmcontainerv2;rg1;vm1"
        )


@pytest.mark.sdk(
    "backup.protection_containers.refresh",
    "backup.protection_container_refresh_operation_results.get",
    "backup.protection_container_refresh_operation_statuses.get",
    "backup.protection_container_operation_results.get",
)
@pytest.mark.sdk(
    "backup.protection_containers.inquire",
    "backup.backup_workload_items.list",
    partly="nothing is found: databases are not part of this release",
)
def test_discovery_is_over_at_once(sdk: Sdk) -> None:
    refreshed = sdk.backup.protection_containers.refresh(VAULT, GROUP, FABRIC, cls=operation_of)
    results = sdk.backup.protection_container_refresh_operation_results
    assert results.get(VAULT, GROUP, FABRIC, refreshed) is None
    statuses = sdk.backup.protection_container_refresh_operation_statuses
    assert statuses.get(GROUP, VAULT, FABRIC, refreshed).status == "Succeeded"
    inquired = sdk.backup.protection_containers.inquire(*HERE, cls=operation_of)
    found = sdk.backup.protection_container_operation_results.get(*HERE, inquired)
    assert found is None
    assert list(sdk.backup.backup_workload_items.list(*HERE)) == []


@pytest.mark.sdk("backup.backup_protected_items.list", "backup.protected_items.get")
def test_items(sdk: Sdk, backed_up: str) -> None:
    items = sdk.backup.backup_protected_items
    rows = {
        row.name: row
        for row in items.list(VAULT, GROUP, filter=f"{FILES} and itemType eq 'FileFolder'")
    }
    check_shape(rows[DOCS])
    assert list(items.list(VAULT, GROUP, filter=f"{MACHINES} and itemType eq 'VM'")) == []
    one = sdk.backup.protected_items.get(*HERE, DOCS)
    check_shape(one)
    assert isinstance(one.properties, rsb.MabFileFolderProtectedItem)
    assert (one.properties.friendly_name, one.properties.computer_name) == (ITEM, HOST)
    assert one.properties.policy_id == policy_id(sdk)
    assert one.properties.last_recovery_point.tzinfo is not None
    assert one.properties.extended_info.recovery_point_count >= 1
    with pytest.raises(ResourceNotFoundError):
        sdk.backup.protected_items.get(*HERE, "FileFolder;nothing")


@pytest.mark.sdk(
    "backup.protected_items.begin_create_or_update",
    "backup.protected_items.delete",
    "backup.backup_operation_statuses.get",
    "backup.backup_operation_results.get",
)
def test_an_items_life(sdk: Sdk, world: World) -> None:
    name, place = "FileFolder;sdk life", str(world.folder / "src")
    items, policy = sdk.backup.protected_items, policy_id(sdk)

    def put(*paths: str, policy: str = policy, **more: Any) -> Any:
        body = files_item(policy, *paths, **more)
        return items.begin_create_or_update(*HERE, name, body).result()

    made = put(place)
    check_shape(made)
    assert made.properties.protection_state == "IRPending"
    assert back_up(sdk, name).properties.status == DONE
    assert items.get(*HERE, name).properties.protection_state == "Protected"
    suspended = put(place, protection_state="BackupsSuspended")
    assert suspended.properties.protection_state == "BackupsSuspended"
    stopped = put(place, policy="", protection_state="ProtectionStopped")
    assert (stopped.properties.protection_state, stopped.properties.policy_id) == (
        "ProtectionStopped",
        "",
    )
    with pytest.raises(ResourceExistsError) as refused:
        back_up(sdk, name)
    assert refused.value.error.code == "UserErrorProtectionStopped"
    assert put(place).properties.protection_state == "Protected"
    job = deleted(sdk, name)
    check_shape(job)
    assert (job.properties.operation, job.properties.status) == ("DeleteBackupData", DONE)
    gone = items.get(*HERE, name)
    check_shape(gone)
    shown = gone.properties
    assert (shown.protection_state, shown.policy_id) == ("ProtectionStopped", "")
    assert shown.is_scheduled_for_deferred_delete
    assert shown.deferred_delete_time_in_utc > datetime.now(UTC) + timedelta(days=13)
    assert shown.deferred_delete_time_remaining.startswith("13.")
    assert list(sdk.backup.recovery_points.list(*HERE, name)) == []
    with pytest.raises(ResourceExistsError) as refused:
        back_up(sdk, name)
    assert refused.value.error.code == "UserErrorItemSoftDeleted"
    undeleted = put(place, policy="", protection_state="ProtectionStopped", is_rehydrate=True)
    check_shape(undeleted)
    shown = undeleted.properties
    assert (shown.protection_state, shown.is_scheduled_for_deferred_delete) == (
        "ProtectionStopped",
        False,
    )
    (point,) = list(sdk.backup.recovery_points.list(*HERE, name))
    assert put(place).properties.protection_state == "Protected"
    assert point.name in {row.name for row in sdk.backup.recovery_points.list(*HERE, name)}
    target = world.folder / "undeleted"
    asked = {"recoveryType": "AlternateLocation", "targetDirectory": str(target)}
    restore = sdk.backup.restores.begin_trigger(*HERE, name, point.name, {"properties": asked})
    assert restore.result() is None
    eventually(lambda: bool(list(target.rglob("letter.txt"))), "the file is restored", seconds=60)
    assert next(target.rglob("letter.txt")).read_text() == "what is backed up"


def deleted(sdk: Sdk, name: str, where: tuple[str, ...] = HERE) -> Any:
    """Delete an item's data as a program would follow it; the job."""
    operation = sdk.backup.protected_items.delete(*where, name, cls=operation_of)
    statuses = sdk.backup.backup_operation_statuses
    eventually(
        lambda: statuses.get(VAULT, GROUP, operation).status == "Succeeded", "the data is deleted"
    )
    ended = statuses.get(VAULT, GROUP, operation)
    check_shape(ended)
    assert isinstance(ended.properties, rsb.OperationStatusJobExtendedInfo)
    assert sdk.backup.backup_operation_results.get(VAULT, GROUP, operation) is None
    return sdk.backup.job_details.get(VAULT, GROUP, ended.properties.job_id)


@pytest.mark.sdk("backup.deleted_protection_containers.list")
def test_a_machine_with_deleted_items(sdk: Sdk, world: World) -> None:
    world.enroll("sdk-soft")
    here = (VAULT, GROUP, FABRIC, "Linux;sdk-soft")
    body = files_item(policy_id(sdk), "/srv")
    sdk.backup.protected_items.begin_create_or_update(*here, "FileFolder;x", body).result()
    deleted(sdk, "FileFolder;x", here)
    sdk.backup.protection_containers.unregister(*here)
    rows = {row.name: row for row in sdk.backup.deleted_protection_containers.list(GROUP, VAULT)}
    check_shape(rows["Linux;sdk-soft"])
    assert rows["Linux;sdk-soft"].properties.registration_status == "SoftDeleted"
    live = sdk.backup.backup_protection_containers.list(VAULT, GROUP, filter=FILES)
    assert "Linux;sdk-soft" not in {row.name for row in live}


@pytest.mark.sdk(
    "backup.backups.trigger",
    "backup.protected_item_operation_statuses.get",
    "backup.protected_item_operation_results.get",
    "backup.job_details.get",
    "backup.backup_jobs.list",
)
def test_a_backup_and_its_job(sdk: Sdk) -> None:
    retain = (datetime.now(UTC) + timedelta(days=90)).isoformat()
    job = back_up(sdk, recoveryPointExpiryTimeInUTC=retain)
    check_shape(job)
    shown = job.properties
    assert isinstance(shown, rsb.MabJob)
    assert (shown.operation, shown.status, shown.entity_friendly_name) == ("Backup", DONE, ITEM)
    assert shown.duration > timedelta(0)
    assert shown.end_time >= shown.start_time
    (task,) = shown.extended_info.tasks_list
    assert (task.task_id, task.status) == ("Transfer data to vault", DONE)
    assert shown.start_time <= task.start_time <= task.end_time <= shown.end_time
    assert task.duration <= shown.duration
    bag = shown.extended_info.property_bag
    assert bag["Recovery Point Expiry Time in UTC"][:10] == retain[:10]
    assert bag["Backup Size"].endswith(" MB")
    assert shown.mab_server_name == HOST
    jobs = sdk.backup.backup_jobs
    asked = "operation eq 'Backup' and status eq 'Completed'"
    listed = {row.name: row for row in jobs.list(VAULT, GROUP, filter=asked)}
    check_shape(listed[job.name])
    assert listed[job.name].properties.extended_info is None
    assert list(jobs.list(VAULT, GROUP, filter=MACHINES)) == []
    soon = "startTime eq '2020-01-01 12:00:00 AM' and endTime eq '2020-01-02 12:00:00 AM'"
    assert list(jobs.list(VAULT, GROUP, filter=soon)) == []
    body = rsb.BackupRequestResource(
        properties=rsb.BackupRequest({"objectType": "FilesBackupRequest"})
    )
    operation = sdk.backup.backups.trigger(*HERE, DOCS, body, cls=operation_of)
    assert sdk.backup.protected_item_operation_results.get(*HERE, DOCS, operation) is None
    status = sdk.backup.protected_item_operation_statuses.get(*HERE, DOCS, operation)
    ended_job(sdk, status.properties.job_id)


@pytest.mark.sdk("backup.jobs.export", "backup.export_jobs_operation_results.get")
def test_jobs_as_a_file(
    sdk: Sdk, backed_up: str, world: World, credential: ClientSecretCredential
) -> None:
    def place(response: Any, _value: Any, _headers: Any) -> str:
        return str(response.http_response.headers["Location"])

    asked = "operation eq 'Backup' and status eq 'Completed'"
    location = sdk.backup.jobs.export(VAULT, GROUP, filter=asked, cls=place)
    operation = location.partition("?")[0].rpartition("/")[2]
    found = sdk.backup.export_jobs_operation_results.get(VAULT, GROUP, operation)
    check_shape(found)
    assert isinstance(found.operation, rsb.ExportJobsOperationResultInfo)

    def read(url: str) -> Any:
        context = ssl.create_default_context(cafile=str(world.server_data / "ca.pem"))
        token = credential.get_token(f"{address(world)}/.default").token
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx2.get(url, headers=headers, verify=context, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer

    rows = read(found.operation.blob_url).json()["value"]
    listed = {row.name for row in sdk.backup.backup_jobs.list(VAULT, GROUP, filter=asked)}
    assert {row["name"] for row in rows} == listed
    lines = read(found.operation.excel_file_blob_url).text.splitlines()
    assert lines[0].startswith("jobId,entityFriendlyName,operation,status")
    assert len(lines) == len(listed) + 1


def test_filters_of_jobs(sdk: Sdk, backed_up: str) -> None:
    jobs = sdk.backup.backup_jobs
    newest = next(iter(jobs.list(VAULT, GROUP))).name
    (one,) = jobs.list(VAULT, GROUP, filter=f"jobId eq '{newest.upper()}'")
    assert one.name == newest
    assert one.properties.mab_server_name == HOST
    swaggers = "startTime eq '2016-01-01 00:00:00 AM' and endTime eq '2017-11-29 00:00:00 AM'"
    assert list(jobs.list(VAULT, GROUP, filter=swaggers)) == []
    with pytest.raises(HttpResponseError) as refused:
        list(jobs.list(VAULT, GROUP, filter="status eq 'Sleeping'"))
    assert (refused.value.status_code, refused.value.error.code) == (400, "InvalidFilter")


@pytest.mark.sdk("backup.recovery_points.list", "backup.recovery_points.get")
def test_recovery_points(sdk: Sdk, backed_up: str) -> None:
    points = sdk.backup.recovery_points
    listed = list(points.list(*HERE, DOCS))
    for row in listed:
        check_shape(row)
    times = [row.properties.recovery_point_time for row in listed]
    assert times == sorted(times, reverse=True)
    one = points.get(*HERE, DOCS, backed_up)
    check_shape(one)
    assert isinstance(one.properties, rsb.GenericRecoveryPoint)
    old = "startDate eq '2020-01-01 12:00:00 AM' and endDate eq '2020-01-02 12:00:00 AM'"
    assert list(points.list(*HERE, DOCS, filter=old)) == []
    with pytest.raises(ResourceNotFoundError):
        points.get(*HERE, DOCS, "1234567890")


@pytest.mark.sdk("backup.restores.begin_trigger")
def test_a_restore(sdk: Sdk, backed_up: str, world: World) -> None:
    """The models have no restore of folders; the client takes a plain object as well."""
    target = world.folder / "restored"
    asked = {
        "properties": {
            "objectType": "FilesRestoreRequest",
            "recoveryType": "AlternateLocation",
            "targetDirectory": str(target),
        }
    }
    assert sdk.backup.restores.begin_trigger(*HERE, DOCS, backed_up, asked).result() is None
    eventually(lambda: bool(list(target.rglob("letter.txt"))), "the file is restored", seconds=60)
    query = "operation eq 'Restore'"
    job = next(iter(sdk.backup.backup_jobs.list(VAULT, GROUP, filter=query)))
    assert ended_job(sdk, job.name).properties.status == DONE
    assert next(target.rglob("letter.txt")).read_text() == "what is backed up"


@pytest.mark.sdk("backup.job_cancellations.trigger", "backup.job_operation_results.get")
def test_cancelling(sdk: Sdk, world: World, tmp_path: Any) -> None:
    world.enroll("sdk-idle")  # nobody runs its agent: its job waits
    idle = (VAULT, GROUP, FABRIC, "Linux;sdk-idle", "FileFolder;waiting")
    body = files_item(policy_id(sdk), "/srv")
    sdk.backup.protected_items.begin_create_or_update(*idle, body).result()
    asked = rsb.BackupRequestResource(
        properties=rsb.BackupRequest({"objectType": "FilesBackupRequest"})
    )
    operation = sdk.backup.backups.trigger(*idle, asked, cls=operation_of)
    job = sdk.backup.backup_operation_statuses.get(VAULT, GROUP, operation).properties.job_id
    cancelled = sdk.backup.job_cancellations.trigger(VAULT, GROUP, job, cls=operation_of)
    assert ended_job(sdk, job).properties.status == "Cancelled"
    assert sdk.backup.job_operation_results.get(VAULT, GROUP, job, cancelled) is None
    with pytest.raises(ResourceExistsError) as refused:
        sdk.backup.job_cancellations.trigger(VAULT, GROUP, job)
    assert refused.value.error.code == "JobEnded"
    with pytest.raises(ResourceNotFoundError):
        sdk.backup.job_cancellations.trigger(VAULT, GROUP, "00000000-0000-4000-8000-000000000000")


@pytest.mark.sdk("backup.protection_containers.unregister", "vaults.registered_identities.delete")
def test_unregistering_machines(sdk: Sdk, world: World) -> None:
    world.enroll("sdk-leaves")
    leaving = (VAULT, GROUP, FABRIC, "Linux;sdk-leaves")
    sdk.backup.protection_containers.unregister(*leaving)
    with pytest.raises(ResourceNotFoundError):
        sdk.backup.protection_containers.get(*leaving)
    world.enroll("sdk-leaves-too")
    sdk.vaults.registered_identities.delete(GROUP, VAULT, "sdk-leaves-too")
    with pytest.raises(ResourceNotFoundError):
        sdk.backup.protection_containers.get(VAULT, GROUP, FABRIC, "Linux;sdk-leaves-too")
    with pytest.raises(HttpResponseError) as refused:
        sdk.vaults.registered_identities.delete(GROUP, VAULT, HOST)
    assert (refused.value.status_code, refused.value.error.code) == (
        400,
        "BMSUserErrorContainerHasDatasources",
    )


@pytest.mark.sdk("backup.backup_status.get")
def test_machines_of_azure_are_not_protected(sdk: Sdk) -> None:
    machine = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm1"
    asked = rsb.BackupStatusRequest(resource_type="VM", resource_id=machine)
    found = sdk.backup.backup_status.get("local", asked)
    check_shape(found)
    assert (found.protection_status, found.vault_id) == ("NotProtected", None)
