"""Virtual machines as ARM bodies: the resource, and where it stands in discovery."""

from __future__ import annotations

from typing import Any

from holdfast.arm.http import stamp
from holdfast.catalog.machines import ReportRow
from holdfast.domain.virtual_machines import (
    FAMILY,
    MANAGEMENT,
    OS_DISK_LUN,
    WORKLOAD,
    claim_error,
    container_name,
    item_name,
)
from holdfast.ports.vm_tasks import TAG_JOB, TAG_OF, TAG_POINT
from holdfast.services.machines import MachineView

Body = dict[str, Any]
COMPUTE = "Microsoft.Compute/virtualMachines"
GIBIBYTE = 1 << 30
POWER = {"running": "VM running", "stopped": "VM stopped", "paused": "VM paused"}
AGENT = {"ready": "Ready", "silent": "Not Ready", "missing": "Not Ready"}


def machine_id(subscription: str, group: str, name: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{COMPUTE}/{name}"


def machine_body(view: MachineView, group: str, *, expanded: bool = False) -> Body:
    """``group``: the resource group as it was named first; ``expanded``: with its instance view."""
    row, report = view.row, view.report
    properties: Body = {
        "vmId": row.uuid,
        "provisioningState": "Succeeded" if view.claim == "Present" else "Failed",
        "hardwareProfile": {"vmSize": _size(report)},
        "storageProfile": _storage(report),
        "osProfile": {"computerName": report.name if report else row.name},
        "holdfast": _ours(view, group),
    }
    if expanded:
        properties["instanceView"] = _instance(report)
    return {
        "id": machine_id(row.subscription_id, group, row.name),
        "name": row.name,
        "type": COMPUTE,
        "location": view.vault.location,
        "tags": report.tags if report else {},
        "properties": properties,
    }


def _size(report: ReportRow | None) -> str:
    if report is None or not report.memory_bytes:
        return "Unknown"
    return f"{report.processors} processors, {report.memory_bytes / GIBIBYTE:.1f} GiB"


def _storage(report: ReportRow | None) -> Body:
    disks = report.disks if report else []
    shaped = [_disk(one) for one in disks if one["lun"] != OS_DISK_LUN]
    system = next((_disk(one) for one in disks if one["lun"] == OS_DISK_LUN), None)
    if system is not None:
        del system["lun"]
        system["osType"] = report.os_type if report else "Unknown"
    return {"osDisk": system, "dataDisks": shaped}


def _disk(one: Body) -> Body:
    return {
        "lun": one["lun"],
        "name": one["name"],
        "createOption": "Attach",
        "diskSizeGB": -(-one["sizeBytes"] // GIBIBYTE),
    }


def _ours(view: MachineView, group: str) -> Body:
    row, report = view.row, view.report
    vault = f"/subscriptions/{row.subscription_id}/resourceGroups/{group}/providers"
    reason = ""
    if view.claim != "Present":
        reason = claim_error(view.claim, row.name, view.host_names).message
    item = view.item
    return {
        "vaultId": f"{vault}/Microsoft.RecoveryServices/vaults/{view.vault.name}",
        "state": view.claim,
        "reason": reason,
        "hosts": view.host_names,
        "displayName": report.name if report else row.name,
        "hypervisor": report.hypervisor if report else "",
        "powerState": report.power_state if report else "unknown",
        "agentState": report.agent_state if report else "unknown",
        "osType": report.os_type if report else "Unknown",
        "disks": report.disks if report else [],
        "reportedAt": stamp(report.reported_at) if report else None,
        "protectionState": _protection(view),
        "runsFromVault": _running(report),
        "lastRecoveryPoint": stamp(item.latest_point_at) if item is not None else None,
    }


def _running(report: ReportRow | None) -> Body | None:
    """Of a machine that was restored instantly and needs the vault: from where."""
    tags = report.tags if report else {}
    if TAG_POINT not in tags:
        return None
    return {
        "machine": tags.get(TAG_OF, ""),
        "recoveryPointId": tags[TAG_POINT],
        "jobId": tags.get(TAG_JOB, ""),
    }


def _protection(view: MachineView) -> str:
    return "NotProtected" if view.item is None else view.item.life_state


def _instance(report: ReportRow | None) -> Body:
    power = report.power_state if report else "unknown"
    agent = report.agent_state if report else "unknown"
    return {
        "statuses": [
            _status("ProvisioningState/succeeded", "Provisioning succeeded"),
            _status(f"PowerState/{power}", POWER.get(power, "Unknown")),
        ],
        "vmAgent": {
            "vmAgentVersion": "Unknown",
            "statuses": [
                _status(f"ProvisioningState/{agent}", AGENT.get(agent, "Unknown")),
            ],
        },
    }


def _status(code: str, shown: str) -> Body:
    return {"code": code, "level": "Info", "displayStatus": shown}


def protectable_body(view: MachineView, vault: str, group: str) -> Body:
    """A machine that could be protected, as discovery lists it: its item's name in the address has
    a small first letter, and none in ``name``, as clients expect."""
    row = view.row
    holder = container_name(group, row.name)
    item = f"vm;{item_name(group, row.name).partition(';')[2]}"
    holder_id = f"{vault}/backupFabrics/Azure/protectionContainers/{holder}"
    return {
        "id": f"{holder_id}/protectableItems/{item}",
        "name": f"{FAMILY};{group};{row.name}",
        "type": "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers"
        "/protectableItems",
        "properties": {
            "protectableItemType": COMPUTE,
            "backupManagementType": MANAGEMENT,
            "workloadType": WORKLOAD,
            "friendlyName": row.name,
            "protectionState": "NotProtected",
            "virtualMachineId": machine_id(row.subscription_id, group, row.name),
            "virtualMachineVersion": "Compute",
            "resourceGroup": group,
            "holdfast": {"state": view.claim, "hosts": view.host_names},
        },
    }
