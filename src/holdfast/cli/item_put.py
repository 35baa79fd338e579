"""How commands change an item, and how items look in tables."""

from __future__ import annotations

from typing import Any

from holdfast.cli import follow, show
from holdfast.cli.api import Scope


def _state(row: show.Body) -> Any:
    deleted = show.prop("isScheduledForDeferredDelete")(row)
    return "SoftDeleted" if deleted else show.prop("protectionState")(row)


def _machine(row: show.Body) -> Any:
    guest = show.prop("workloadType")(row) == "VM"
    return "(virtual machine)" if guest else show.prop("computerName")(row)


COLUMNS: list[show.Column] = [
    ("item", show.prop("friendlyName")),
    ("machine", _machine),
    ("policy", show.prop("policyName")),
    ("state", _state),
    ("last backup", show.prop("lastBackupStatus")),
    ("latest point (UTC)", show.when("lastRecoveryPoint")),
    ("points", show.prop("extendedInfo", "recoveryPointCount")),
    ("health", show.prop("holdfast", "health")),
    ("gone for good (UTC)", show.when("deferredDeleteTimeInUTC")),
]


FILES = ("MabFileFolderProtectedItem", "MAB")


def put_item(scope: Scope, container: str, name: str, properties: dict[str, Any]) -> show.Body:
    """Ask for a change; the item after it, with what its job says of recovery points."""
    machine = container.lower().startswith("iaasvmcontainer;")
    kinds = ("Microsoft.Compute/virtualMachines", "AzureIaasVM") if machine else FILES
    body = {
        "properties": {
            "protectedItemType": kinds[0],
            "backupManagementType": kinds[1],
            "friendlyName": name.rpartition(";")[2],
            **properties,
        }
    }
    answer = scope.api.call("PUT", scope.item(container, name), body)
    if answer.body is not None:
        changed: show.Body = answer.body
        return changed
    job = scope.api.get(scope.job(follow.job_id_of(scope, answer.headers)))
    found: show.Body = scope.api.get(scope.item(container, name))
    change = show.prop("holdfast", "result", "retentionChange")(job)
    if change:
        found["properties"]["holdfast"]["retentionChange"] = change
    return found
