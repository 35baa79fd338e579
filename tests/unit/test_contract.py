"""The check of answers against Azure's description: a wrong answer must not pass it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.contract import Contract
from holdfast.testing.departures import DEPARTURES, undeparted

CONTRACT = Contract(Path(__file__).parents[1] / "facts" / "recovery_services.json")
VAULT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.RecoveryServices/vaults/v"
ITEM = VAULT + "/backupFabrics/Azure/protectionContainers/c;1/protectedItems/i;1"
RIGHT: dict[str, Any] = {
    "protectedItemType": "MabFileFolderProtectedItem",
    "workloadType": "FileFolder",
    "lastRecoveryPoint": "2026-01-31T10:00:00.123456Z",
    "extendedInfo": {"recoveryPointCount": 3},
    "policyId": None,
    "holdfast": {"anything": 1},
}


def wrong(method: str, path: str, status: int, body: Any, **headers: str) -> list[str]:
    operation = CONTRACT.find(method, path)
    assert operation is not None
    content = b"" if body is None else json.dumps(body).encode()
    return [str(one) for one in undeparted(operation.deviations(status, headers, content))]


def test_a_right_answer() -> None:
    assert wrong("GET", ITEM, 200, {"id": "/i", "properties": RIGHT}) == []
    assert wrong("GET", ITEM.upper(), 404, {"error": {"code": "X", "hint": "do"}}) == []
    assert wrong("PUT", ITEM, 202, None, Location="/there") == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"workloadType": "Folder"}, "ProtectedItem.workloadType"),
        ({"friendlyName": 7}, "friendlyName: is no string"),
        ({"lastBackUpStatus": "Failed"}, "lastBackUpStatus: is not declared"),
        ({"extendedInfo": {"recoveryPointCount": True}}, "recoveryPointCount: is no integer"),
        ({"extendedInfo": [1]}, "extendedInfo: is no object"),
        ({"lastRecoveryPoint": "2026-01-31 10:00"}, "lastRecoveryPoint: is no date-time"),
        ({"protectedItemType": "Folder"}, "protectedItemType: names no kind"),
        ({"protectedItemType": None}, "protectedItemType"),
        ({"virtualMachineId": "/of/another/kind"}, "virtualMachineId: is not declared"),
    ],
)
def test_a_wrong_body_is_named(change: dict[str, Any], named: str) -> None:
    found = wrong("GET", ITEM, 200, {"properties": {**RIGHT, **change}})
    assert any(named in one for one in found), found


def test_items_of_lists_are_looked_at() -> None:
    rows = [{"properties": RIGHT}, {"properties": {**RIGHT, "color": "red"}}]
    assert len(wrong("GET", f"{VAULT}/backupProtectedItems", 200, {"value": rows})) == 1


def test_statuses_and_ways_to_follow() -> None:
    assert wrong("GET", ITEM, 204, None) == ["ProtectedItems_Get.status: 204 is not declared"]
    assert len(wrong("GET", ITEM, 200, None)) == 1
    restore = f"{ITEM}/recoveryPoints/1/restore"
    assert wrong("POST", restore, 202, None, **{"azure-asyncoperation": "/there"}) == []
    assert len(wrong("POST", restore, 202, None)) == 1
    assert len(wrong("POST", restore, 202, {"a": 1}, Location="/there")) == 1


def test_what_is_not_azures_is_left_alone() -> None:
    assert CONTRACT.find("GET", "/providers/Holdfast.Backup/regions") is None
    assert CONTRACT.find("PATCH", ITEM) is None


def test_each_departure_is_about_something_that_is_described() -> None:
    known = {name for one in CONTRACT.operations.values() for name in one.reader.known}
    known |= set(CONTRACT.operations) | {"*.error"}
    assert {one.of for one in DEPARTURES} <= known
