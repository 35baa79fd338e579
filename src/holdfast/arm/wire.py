"""Rows as ARM bodies."""

from __future__ import annotations

from typing import Any

from holdfast.arm.http import iso_duration, stamp
from holdfast.catalog.containers import AgentRow, ContainerRow
from holdfast.catalog.jobs import FindingRow, JobEvent, JobRow
from holdfast.catalog.places import Region, ResourceGroup
from holdfast.catalog.points import PointRow
from holdfast.catalog.policies import PolicyRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import may_cancel
from holdfast.domain.policy import parse_policy
from holdfast.domain.policy_change import ChangeCounts
from holdfast.domain.retention import expiry_of
from holdfast.services.items import ItemView
from holdfast.services.point_changes import point_facts
from holdfast.services.vault_bodies import merge
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
        "softDeleteSettings": {"softDeleteState": "Disabled"},
        "immutabilitySettings": {"state": "Disabled"},
    },
    "restoreSettings": {
        "crossSubscriptionRestoreSettings": {"crossSubscriptionRestoreState": "Enabled"},
    },
}  # fmt: skip
# whatever a client wrote, these say what is
_VAULT_TRUTH: Body = {
    "provisioningState": "Succeeded",
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


def region_body(row: Region) -> Body:
    return {
        "id": f"/providers/Holdfast.Backup/regions/{row.name}",
        "name": row.name,
        "type": "Holdfast.Backup/regions",
        "properties": {
            "store": row.store_url,
            "hasCredentials": row.sealed_credentials is not None,
            "state": row.state,
        },
    }


def vault_body(row: VaultRow, group: str, ours: Body | None = None) -> Body:
    given = row.properties
    properties = merge(merge(_VAULT_DEFAULTS, given.get("properties") or {}), _VAULT_TRUTH)
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
        "identity": given.get("identity"),
        "properties": properties,
    }


def changes_body(counts: ChangeCounts) -> Body:
    """How many recovery points a change of policy touches."""
    return {
        "recoveryPoints": counts.total,
        "affected": counts.affected,
        "expire": counts.expires,
        "endSooner": counts.shorter,
        "endLater": counts.longer,
        "dueAnyway": counts.due,
    }


def policy_body(row: PolicyRow, vault: str, items: int) -> Body:
    return {
        "id": f"{vault}/backupPolicies/{row.name}",
        "name": row.name,
        "type": f"{RS}/backupPolicies",
        "eTag": row.etag,
        "properties": {**row.properties, "protectedItemsCount": items},
    }


def container_body(row: ContainerRow, vault: str, agent: AgentRow | None, items: int) -> Body:
    properties: Body = {
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
    return {
        "id": container_id(vault, row.name),
        "name": row.name,
        "type": f"{RS}/backupFabrics/protectionContainers",
        "properties": properties,
    }


def item_body(view: ItemView, vault: str) -> Body:
    row, policy = view.item, view.policy
    failed = row.last_backup_status == "Failed"
    policy_id = f"{vault}/backupPolicies/{policy.name}" if policy else ""
    health = "Failed" if failed else "Overdue" if view.overdue else "Healthy"
    properties: Body = {
        "protectedItemType": "MabFileFolderProtectedItem",
        "backupManagementType": "MAB",
        "workloadType": "FileFolder",
        "friendlyName": row.friendly_name,
        "computerName": view.container.friendly_name,
        "containerName": view.container.name,
        "sourceResourceId": None,
        "policyId": policy_id,
        "policyName": policy.name if policy else "",
        "protectionState": row.protection_state,
        "lastBackupStatus": row.last_backup_status,
        "lastBackupTime": stamp(row.last_backup_at) or NEVER,
        "lastRecoveryPoint": stamp(row.latest_point_at),
        "extendedInfo": {
            "lastRefreshedAt": stamp(row.updated_at),
            "oldestRecoveryPoint": stamp(view.oldest),
            "recoveryPointCount": view.points,
        },
        "holdfast": {
            "includePaths": row.include_paths,
            "excludeGlobs": row.exclude_globs,
            "throttleBytesPerSecond": row.properties.get("throttleBytesPerSecond"),
            "health": health,
            "overdue": view.overdue,
            "lastErrorCode": row.last_error_code,
            "lastJobId": row.last_job_id,
            "nextRunAt": stamp(row.next_run_at),
            "remarks": _remarks(view),
        },
    }
    return {
        "id": item_id(vault, view.container.name, row.name),
        "name": row.name,
        "type": f"{RS}/backupFabrics/protectionContainers/protectedItems",
        "eTag": row.etag,
        "properties": properties,
    }


def _remarks(view: ItemView) -> list[str]:
    if view.policy is None or "instantRpRetentionRangeInDays" not in view.policy.properties:
        return []
    return ["the policy's instant-tier fields do not apply to files: there is no snapshot tier"]


def point_body(row: PointRow, view: ItemView, vault: str, *, newest: bool) -> Body:
    expires, rule = None, ""
    if view.policy is not None:
        rules = parse_policy(view.policy.properties).rules
        expires, rule = expiry_of(point_facts(row), rules)
    holder = item_id(vault, view.container.name, view.item.name)
    return {
        "id": f"{holder}/recoveryPoints/{row.rp_id}",
        "name": row.rp_id,
        "type": f"{RS}/backupFabrics/protectionContainers/protectedItems/recoveryPoints",
        "properties": {
            "objectType": "GenericRecoveryPoint",
            "friendlyName": view.item.friendly_name,
            "recoveryPointType": row.consistency,
            "recoveryPointTime": stamp(row.time),
            "recoveryPointAdditionalInfo": row.consistency_reason,
            "recoveryPointProperties": {
                "expiryTime": None if newest else stamp(expires),
                "ruleName": rule,
            },
            "holdfast": {
                "logicalBytes": row.logical_bytes,
                "transferredBytes": row.transferred_bytes,
                "storedBytes": row.stored_bytes,
                "fileCount": row.file_count,
                "findingsCount": row.findings_count,
                "tags": row.tags,
                "scheduled": row.scheduled,
                "retainUntil": stamp(row.retain_until),
                "consistency": {"level": row.consistency, "reason": row.consistency_reason},
                "jobId": row.job_id,
            },
        },
    }


def job_body(
    row: JobRow,
    vault: str,
    now: Any,
    history: list[JobEvent] | None = None,
    findings: list[FindingRow] | None = None,
) -> Body:
    """A job; with ``history`` (of a single job) also its extended info."""
    end = row.ended_at or now
    properties: Body = {
        "jobType": "MabJob" if row.kind in ("backup", "restore") else "VaultJob",
        "entityFriendlyName": row.entity_name,
        "backupManagementType": "MAB",
        "operation": row.operation,
        "status": row.status,
        "startTime": stamp(row.started_at),
        "endTime": stamp(row.ended_at),
        "duration": iso_duration(end - row.started_at),
        "activityId": row.id,
        "actionsInfo": ["Cancellable"] if may_cancel(row.operation, row.status) else [],
        "holdfast": {
            "kind": row.kind,
            "progress": {"phase": row.phase, **row.progress},
            "detail": row.detail,
            "attempt": row.attempt,
            "scheduled": row.scheduled,
            "findingsCount": row.findings_count,
            "result": row.result,
        },
    }
    if row.error_code:
        properties["errorDetails"] = [
            {
                "errorCode": row.error_code,
                "errorString": row.error_message,
                "errorTitle": row.error_code,
                "recommendations": [row.error_hint] if row.error_hint else [],
            }
        ]
    if history is not None:
        _extend(properties, row, history, findings or [])
    return {
        "id": f"{vault}/backupJobs/{row.id}",
        "name": row.id,
        "type": f"{RS}/backupJobs",
        "properties": properties,
    }


def _extend(
    properties: Body, row: JobRow, history: list[JobEvent], findings: list[FindingRow]
) -> None:
    ours = properties["holdfast"]
    ours["history"] = [
        {"at": stamp(event.at), "event": event.event, "message": event.message} for event in history
    ]
    ours["findings"] = [
        {"code": one.code, "path": one.path, "message": one.message} for one in findings
    ]
    status = {"Completed": "Completed", "InProgress": "InProgress"}.get(row.status, row.status)
    name = "Transfer data from vault" if row.kind == "restore" else "Transfer data to vault"
    bag = {key: str(value) for key, value in row.result.items() if not isinstance(value, dict)}
    properties["extendedInfo"] = {
        "tasksList": [{"taskId": name, "status": status}],
        "propertyBag": bag,
        "dynamicErrorMessage": row.error_message,
    }
