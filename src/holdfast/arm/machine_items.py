"""Protected virtual machines as ARM bodies: what they have beside what all items have."""

from __future__ import annotations

from typing import Any

from holdfast.arm.http import stamp
from holdfast.arm.machine_bodies import COMPUTE, machine_id
from holdfast.catalog.containers import ContainerRow
from holdfast.catalog.points import PointRow
from holdfast.domain.consistency import KEY as CONSISTENCY
from holdfast.domain.consistency import LEAST, WISH, in_force, own_wish
from holdfast.domain.lifecycle import STOPPED
from holdfast.domain.virtual_machines import (
    MANAGEMENT,
    WORKLOAD,
    container_name,
    names_in,
)
from holdfast.services.item_views import ItemView
from holdfast.services.kept_copies import LOCAL_ONLY
from holdfast.services.machine_items import EXCLUSION

Body = dict[str, Any]


def _resource(vault: str, name: str) -> tuple[str, str, str]:
    """(id of the virtual machine, its group, its name) of a container's or item's full name."""
    group, machine = names_in(name) or ("", name)
    return machine_id(vault.split("/")[2], group, machine), group, machine


def machine_container(row: ContainerRow, vault: str) -> Body:
    resource, group, _ = _resource(vault, row.name)
    return {
        "friendlyName": row.friendly_name,
        "backupManagementType": MANAGEMENT,
        "containerType": COMPUTE,
        "registrationStatus": row.registration_status,
        "healthStatus": "Healthy",
        "protectableObjectType": COMPUTE,
        "virtualMachineId": resource,
        "virtualMachineVersion": "Compute",
        "resourceGroup": group,
        "holdfast": {},
    }


def machine_item(view: ItemView, vault: str) -> Body:
    row = view.item
    resource, group, machine = _resource(vault, row.name)
    failed = row.last_backup_status == "Failed"
    enhanced = view.policy is not None and view.policy.properties.get("policyType") == "V2"
    return {
        "protectedItemType": COMPUTE,
        "backupManagementType": MANAGEMENT,
        "workloadType": WORKLOAD,
        "containerName": container_name(group, machine).partition(";")[2],
        "sourceResourceId": resource,
        "virtualMachineId": resource,
        "protectionStatus": "Unhealthy" if failed else "Healthy",
        "healthStatus": "ActionRequired" if failed else "Passed",
        "healthDetails": [],
        "policyType": "V2" if enhanced else "V1",
        "isArchiveEnabled": False,
        "extendedInfo": {
            "oldestRecoveryPoint": stamp(view.oldest),
            "recoveryPointCount": view.points,
            "policyInconsistent": False,
        },
        "extendedProperties": {"diskExclusionProperties": row.properties.get(EXCLUSION)},
        "holdfast": {
            "uuid": row.properties.get("uuid"),
            CONSISTENCY: row.properties.get(CONSISTENCY),
            "consistencyInForce": _in_force(view),
            "stopped": row.protection_state in STOPPED,
            "remarks": [],
        },
    }


def _in_force(view: ItemView) -> Body:
    """What counts for the next backup: the machine's own minimum, or the one of its policy."""
    policy = view.policy.properties if view.policy is not None else {}
    found = in_force(own_wish(view.item.properties), policy)
    return {WISH: found.wish, LEAST: found.minimum, f"{LEAST}By": found.by}


def machine_point(row: PointRow, *, mounted: bool, local: bool) -> Body:
    """What a recovery point of a machine has beside what all have. ``local``: its host has copies
    of its disks."""
    machine = row.details.get("machine") or {}
    disks = machine.get("disks") or []
    encryption = row.details.get("encryption")
    return {
        "objectType": "IaasVMRecoveryPoint",
        "osType": machine.get("osType", "Unknown"),
        "sourceVMStorageType": "NormalStorage",
        "isSourceVMEncrypted": encryption is not None,
        **_key_and_secret(encryption),
        "isInstantIlrSessionActive": mounted,
        "isManagedVirtualMachine": True,
        "originalStorageAccountOption": False,
        "isPrivateAccessEnabledOnAnyDisk": False,
        "recoveryPointTierDetails": _tiers(row, local=local),
        "recoveryPointDiskConfiguration": _configuration(disks),
        "zones": None,
    }


def _tiers(row: PointRow, *, local: bool) -> list[Body]:
    """As in Azure: the tier a point never was in is not named, one it has left is Deleted."""
    instant = (row.details.get("measured") or {}).get("instant") or {}
    tiers = [{"type": "HardenedRP", "status": "Valid"}]
    if LOCAL_ONLY in row.details:
        return [{"type": "InstantRP", "status": "Valid"}]
    if local or instant.get("kept"):
        tiers.insert(0, {"type": "InstantRP", "status": "Valid" if local else "Deleted"})
    return tiers


def _key_and_secret(encryption: Body | None) -> Body:
    """The first key as Azure names one, NAME/VERSION of the host's key vault; values are never
    told."""
    keys = (encryption or {}).get("keys") or []
    if not keys:
        return {}
    named = f"{keys[0]['name']}/{keys[0]['version']}"
    return {
        "keyAndSecret": {"encryptionMechanism": "GuestVolumes", "bekDetails": {"secretUrl": named}}
    }


def without_screenshot(details: Body) -> Body:
    """What lists show of a point: pictures are large."""
    told = details.get("restoreTest")
    shown = {key: one for key, one in details.items() if key != LOCAL_ONLY}
    if not told:
        return shown
    return {
        **shown,
        "restoreTest": {key: one for key, one in told.items() if key != "screenshot"},
    }


def _configuration(disks: list[Body]) -> Body:
    return {
        "numberOfDisksAttachedToVm": len(disks),
        "numberOfDisksIncludedInBackup": sum(disk["included"] for disk in disks),
        "includedDiskList": [_disk(disk) for disk in disks if disk["included"]],
        "excludedDiskList": [_disk(disk) for disk in disks if not disk["included"]],
    }


def _disk(disk: Body) -> Body:
    return {"lun": disk["lun"], "name": disk["name"]}
