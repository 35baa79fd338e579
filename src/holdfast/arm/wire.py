"""Rows as ARM bodies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from holdfast.arm.http import iso_duration, stamp
from holdfast.arm.job_tasks import bag_of, progress_of, tasks_of
from holdfast.arm.machine_items import (
    machine_container,
    machine_item,
    machine_point,
    without_screenshot,
)
from holdfast.arm.schemas.vaults import VaultProperties
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.jobs import FindingRow, JobEvent, JobRow
from holdfast.catalog.places import Region, ResourceGroup
from holdfast.catalog.points import PointRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.retention import expiry_of
from holdfast.domain.soft_delete import is_upcoming, remaining_text, written
from holdfast.domain.virtual_machines import MANAGEMENT, WORKLOAD
from holdfast.jobs.ledger import may_cancel_job
from holdfast.services.item_views import ItemView
from holdfast.services.point_changes import point_facts
from holdfast.services.vault_bodies import merge, soft_delete_of, without_nulls
from holdfast.services.vaults import PROVISIONING

Body = dict[str, Any]
RS = "Microsoft.RecoveryServices/vaults"
NEVER = "2001-01-01T00:00:00Z"
_VAULT_DEFAULTS: Body = {
    "provisioningState": "Succeeded",
    "privateEndpointStateForBackup": "None",
    "privateEndpointStateForSiteRecovery": "None",
    "publicNetworkAccess": "Enabled",
    "bcdrSecurityLevel": "Fair",
    "redundancySettings": {
        "standardTierStorageRedundancy": "LocallyRedundant",
        "crossRegionRestore": "Disabled",
    },
    "monitoringSettings": {
        "azureMonitorAlertSettings": {"alertsForAllJobFailures": "Enabled"},
        "classicAlertSettings": {"alertsForCriticalOperations": "Enabled"},
    },
    "securitySettings": {
        "immutabilitySettings": {"state": "Disabled"},
        "multiUserAuthorization": "Disabled",
    },
    "restoreSettings": {
        "crossSubscriptionRestoreSettings": {"crossSubscriptionRestoreState": "Enabled"},
    },
}  # fmt: skip
_POLICY_FIELDS = frozenset(
    (
        "backupManagementType", "workLoadType", "policyType", "timeZone", "settings",
        "schedulePolicy", "retentionPolicy", "vaultRetentionPolicy", "subProtectionPolicy",
        "tieringPolicy", "instantRpRetentionRangeInDays", "instantRPDetails",
        "snapshotConsistencyType", "makePolicyConsistent", "resourceGuardOperationRequests",
        "restoreTest", "consistency",
    )
)  # fmt: skip
_IDENTITIES = {
    "systemassigned": "SystemAssigned",
    "userassigned": "UserAssigned",
    "none": "None",
}
# whatever a client wrote, these say what is
_VAULT_TRUTH: Body = {
    "provisioningState": "Succeeded",
    "publicNetworkAccess": "Enabled",
    "redundancySettings": _VAULT_DEFAULTS["redundancySettings"],
    "securitySettings": _VAULT_DEFAULTS["securitySettings"],
}


def group_id(subscription: str, group: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}"


def vault_id(row: VaultRow, group: str) -> str:
    return f"{group_id(row.subscription_id, group)}/providers/{RS}/{row.name}"


def container_id(vault: str, container: str) -> str:
    return f"{vault}/backupFabrics/Azure/protectionContainers/{container}"


def item_id(vault: str, container: str, item: str) -> str:
    return f"{container_id(vault, container)}/protectedItems/{item}"


def group_body(row: ResourceGroup) -> Body:
    return {
        "id": group_id(row.subscription_id, row.name),
        "name": row.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": row.location,
        "tags": row.tags,
        "properties": {"provisioningState": "Succeeded"},
    }


def region_body(row: Region, disks: list[Body] | None = None) -> Body:
    """``disks``: of a region that keeps copies on several."""
    return {
        "id": f"/providers/Holdfast.Backup/regions/{row.name}",
        "name": row.name,
        "type": "Holdfast.Backup/regions",
        "properties": {
            "store": row.store_url,
            "hasCredentials": row.sealed_credentials is not None,
            "state": row.state,
            **({"disks": disks} if disks else {}),
        },
    }


def vault_body(row: VaultRow, group: str, ours: Body | None = None) -> Body:
    given = without_nulls(row.properties)
    properties = merge(merge(_VAULT_DEFAULTS, _known(given.get("properties"))), _VAULT_TRUTH)
    for never in ("encryption", "holdfast"):  # keys of customers are not used; the other we say
        properties.pop(never, None)
    properties["securitySettings"]["softDeleteSettings"] = written(soft_delete_of(row))
    properties["securitySettings"]["immutabilitySettings"] = {"state": row.immutability}
    if row.state == PROVISIONING:
        properties["provisioningState"] = PROVISIONING
    if ours is not None:
        properties["holdfast"] = ours
    return {
        "id": vault_id(row, group),
        "name": row.name,
        "type": RS,
        "location": row.location,
        "etag": row.etag,
        "tags": row.tags,
        "sku": given.get("sku") or {"name": "RS0", "tier": "Standard"},
        "identity": _identity(given.get("identity")),
        "properties": properties,
    }


def _known(given: Body | None) -> Body:
    """What a client wrote, without fields that no vault has."""
    try:
        found: Body = msgspec.to_builtins(msgspec.convert(given or {}, VaultProperties))
    except msgspec.ValidationError:  # of a release that took it
        return given or {}
    return found


def _identity(given: Body | None) -> Body | None:
    """As it was given, its kind in Azure's letters: az writes it in small ones."""
    if not given or "type" not in given:
        return given
    words = [word.strip().lower() for word in given["type"].split(",")]
    return {**given, "type": ", ".join(_IDENTITIES.get(word, word) for word in words)}


def policy_body(row: PolicyRow, vault: str, items: int) -> Body:
    shown = {name: value for name, value in row.properties.items() if name in _POLICY_FIELDS}
    return {
        "id": f"{vault}/backupPolicies/{row.name}",
        "name": row.name,
        "type": f"{RS}/backupPolicies",
        "eTag": row.etag,
        "properties": {**shown, "protectedItemsCount": items},
    }


def container_body(row: ContainerRow, vault: str, agent: AgentRow | None, items: int) -> Body:
    machine = row.management_type == MANAGEMENT
    shown = machine_container(row, vault) if machine else _registered_machine(row, agent, items)
    return {
        "id": container_id(vault, row.name),
        "name": row.name,
        "type": f"{RS}/backupFabrics/protectionContainers",
        "properties": shown,
    }


def _registered_machine(row: ContainerRow, agent: AgentRow | None, items: int) -> Body:
    return {
        "friendlyName": row.friendly_name,
        "backupManagementType": "MAB",
        "containerType": "Windows",
        "registrationStatus": row.registration_status,
        "healthStatus": "Healthy" if agent is not None else "Unhealthy",
        "protectableObjectType": "MABContainer",
        "canReRegister": True,
        "protectedItemCount": items,
        "agentVersion": agent.version if agent else "",
        "extendedInfo": {"lastRefreshedAt": stamp(agent.last_seen_at) if agent else None},
        "holdfast": {
            "platform": row.platform,
            "lastSeenAt": stamp(agent.last_seen_at) if agent else None,
        },
    }


def item_body(view: ItemView, vault: str) -> Body:
    row, policy = view.item, view.policy
    failed = row.last_backup_status == "Failed"
    policy_id = f"{vault}/backupPolicies/{policy.name}" if policy else ""
    own = machine_item(view, vault) if row.workload_type == WORKLOAD else _files_item(view)
    properties: Body = {
        "friendlyName": row.friendly_name,
        "policyId": policy_id,
        "policyName": policy.name if policy else "",
        "protectionState": row.protection_state,
        "lastBackupStatus": row.last_backup_status,
        "lastBackupTime": stamp(row.last_backup_at) or NEVER,
        "lastRecoveryPoint": stamp(row.latest_point_at),
        **_deletion(view),
        "extendedInfo": {
            "lastRefreshedAt": stamp(row.updated_at),
            "oldestRecoveryPoint": stamp(view.oldest),
            "recoveryPointCount": view.points,
        },
        **own,
    }
    properties["holdfast"] |= {
        "health": "Failed" if failed else "Overdue" if view.overdue else "Healthy",
        "overdue": view.overdue,
        "lastErrorCode": row.last_error_code,
        "lastJobId": row.last_job_id,
        "nextRunAt": stamp(row.next_run_at),
    }
    return {
        "id": item_id(vault, view.container.name, row.name),
        "name": row.name,
        "type": f"{RS}/backupFabrics/protectionContainers/protectedItems",
        "eTag": row.etag,
        "properties": properties,
    }


def _files_item(view: ItemView) -> Body:
    row = view.item
    return {
        "protectedItemType": "MabFileFolderProtectedItem",
        "backupManagementType": "MAB",
        "workloadType": "FileFolder",
        "computerName": view.container.friendly_name,
        "containerName": view.container.name,
        "sourceResourceId": None,
        "holdfast": {
            "includePaths": row.include_paths,
            "excludeGlobs": row.exclude_globs,
            "throttleBytesPerSecond": row.properties.get("throttleBytesPerSecond"),
            "workHours": row.properties.get("workHours"),
            "remarks": _remarks(view),
        },
    }


def _deletion(view: ItemView) -> Body:
    """Whether its data was deleted, and when it goes for good."""
    row = view.item
    if row.deleted_at is None or row.purge_at is None:
        return {"isScheduledForDeferredDelete": False, "isDeferredDeleteScheduleUpcoming": False}
    return {
        "isScheduledForDeferredDelete": True,
        "deferredDeleteTimeInUTC": stamp(row.purge_at),
        "deferredDeleteTimeRemaining": remaining_text(row.purge_at, view.now),
        "isDeferredDeleteScheduleUpcoming": is_upcoming(row.purge_at, view.now),
        "softDeleteRetentionPeriodInDays": row.soft_delete_days,
    }


def _remarks(view: ItemView) -> list[str]:
    if view.policy is None or "instantRpRetentionRangeInDays" not in view.policy.properties:
        return []
    return ["the policy's instant-tier fields do not apply to files: there is no snapshot tier"]


def point_body(
    row: PointRow,
    view: ItemView,
    vault: str,
    *,
    newest: bool,
    mounted: bool = False,
    local: bool = False,
) -> Body:
    """``mounted``: it is open for reading files out of it; ``local``: a host has copies of its
    disks."""
    expires, rule = None, ""
    if view.parsed is not None:
        expires, rule = expiry_of(point_facts(row), view.parsed.rules)
    holder = item_id(vault, view.container.name, view.item.name)
    machine = view.item.workload_type == WORKLOAD
    ours: Body = {
        "logicalBytes": row.logical_bytes,
        "transferredBytes": row.transferred_bytes,
        "storedBytes": row.stored_bytes,
        "findingsCount": row.findings_count,
        "tags": row.tags,
        "scheduled": row.scheduled,
        "retainUntil": stamp(row.retain_until),
        "consistency": {"level": row.consistency, "reason": row.consistency_reason},
        "jobId": row.job_id,
    }
    ours |= without_screenshot(row.details) if machine else {"fileCount": row.file_count}
    return {
        "id": f"{holder}/recoveryPoints/{row.rp_id}",
        "name": row.rp_id,
        "type": f"{RS}/backupFabrics/protectionContainers/protectedItems/recoveryPoints",
        "properties": {
            "recoveryPointType": row.consistency,
            "recoveryPointTime": stamp(row.time),
            "recoveryPointAdditionalInfo": row.consistency_reason,
            "recoveryPointProperties": {
                "expiryTime": None if newest else stamp(row.purge_at or expires),
                "ruleName": rule,
                "isSoftDeleted": row.purge_at is not None,
            },
            **(machine_point(row, mounted=mounted, local=local) if machine else _files_point(view)),
            "holdfast": ours,
        },
    }


def _files_point(view: ItemView) -> Body:
    return {"objectType": "GenericRecoveryPoint", "friendlyName": view.item.friendly_name}


def job_body(
    row: JobRow,
    vault: str,
    now: Any,
    history: list[JobEvent] | None = None,
    findings: list[FindingRow] | None = None,
) -> Body:
    """A job; with ``history`` (of a single job) also its extended info."""
    end = row.ended_at or now
    machine = row.management_type == MANAGEMENT
    properties: Body = {
        "jobType": _job_type(row),
        "entityFriendlyName": row.entity_name,
        "backupManagementType": row.management_type,
        **(
            {"virtualMachineVersion": "Compute", "isUserTriggered": not row.scheduled}
            if machine
            else {}
        ),
        "operation": row.operation,
        "status": row.status,
        "startTime": stamp(row.started_at),
        "endTime": stamp(row.ended_at),
        "duration": iso_duration(end - row.started_at),
        "activityId": row.id,
        "actionsInfo": ["Cancellable"] if may_cancel_job(row) else [],
        "holdfast": {
            "kind": row.kind,
            "progress": {"phase": row.phase, **row.progress},
            "detail": row.detail,
            "attempt": row.attempt,
            "scheduled": row.scheduled,
            "findingsCount": row.findings_count,
            "errorCode": row.error_code,
            "result": row.result,
        },
    }
    if row.error_code:
        properties["errorDetails"] = [_job_error(row, properties["jobType"])]
    if history is not None:
        _extend(properties, row, now, history, findings or [])
    return {
        "id": f"{vault}/backupJobs/{row.id}",
        "name": row.id,
        "type": f"{RS}/backupJobs",
        "properties": properties,
    }


OF_MACHINES = ("register", "unregister")


def _job_type(row: JobRow) -> str:
    if row.management_type == MANAGEMENT:
        return "AzureIaaSVMJob"
    return "MabJob" if row.item_id is not None or row.kind in OF_MACHINES else "VaultJob"


def _job_error(row: JobRow, job_type: str) -> Body:
    """``errorCode`` of other jobs is a number in Azure: strict clients stop at a text there."""
    code = {"errorCode": row.error_code} if job_type == "MabJob" else {}
    return code | {
        "errorString": row.error_message,
        "errorTitle": row.error_code,
        "recommendations": [row.error_hint] if row.error_hint else [],
    }


def _extend(
    properties: Body,
    row: JobRow,
    now: datetime,
    history: list[JobEvent],
    findings: list[FindingRow],
) -> None:
    ours = properties["holdfast"]
    ours["history"] = [
        {"at": stamp(event.at), "event": event.event, "message": event.message} for event in history
    ]
    ours["findings"] = [
        {"code": one.code, "path": one.path, "message": one.message} for one in findings
    ]
    properties["extendedInfo"] = {
        "tasksList": tasks_of(row, history, now),
        "propertyBag": bag_of(row),
        "dynamicErrorMessage": row.error_message,
        **progress_of(row),
    }
