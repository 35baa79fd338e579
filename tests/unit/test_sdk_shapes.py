"""The check of shapes itself: a wrong answer must not pass it."""

from __future__ import annotations

from typing import Any

import pytest
from azure.mgmt.recoveryservices.models import Vault
from azure.mgmt.recoveryservicesbackup.models import JobResource, ProtectedItemResource

from holdfast.testing.sdk_shapes import check_shape

RIGHT: dict[str, Any] = {
    "id": "/x",
    "name": "x",
    "properties": {
        "protectedItemType": "MabFileFolderProtectedItem",
        "backupManagementType": "MAB",
        "workloadType": "FileFolder",
        "lastRecoveryPoint": "2026-01-31T10:00:00Z",
        "extendedInfo": {"recoveryPointCount": 3},
        "holdfast": {"anything": 1},
    },
}


def changed(**properties: Any) -> ProtectedItemResource:
    return ProtectedItemResource({**RIGHT, "properties": {**RIGHT["properties"], **properties}})


def test_a_right_answer() -> None:
    check_shape(changed())
    check_shape(Vault({"location": "local", "properties": {"provisioningState": "Succeeded"}}))


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"workloadType": "Folder"}, "workload_type"),
        ({"friendlyName": 7}, "friendly_name"),
        ({"lastBackUpStatus": "Failed"}, "lastBackUpStatus is not declared"),
        ({"extendedInfo": {"recoveryPointCount": "three"}}, "recovery_point_count"),
        ({"extendedInfo": {"count": 3}}, "count is not declared"),
        ({"isArchiveEnabled": "yes"}, "is_archive_enabled"),
    ],
)
def test_a_wrong_one_is_named(properties: dict[str, Any], named: str) -> None:
    with pytest.raises(AssertionError, match=named):
        check_shape(changed(**properties))


def test_items_of_lists_are_looked_at() -> None:
    job = {"jobType": "MabJob", "actionsInfo": ["Cancellable", "Stoppable"]}
    with pytest.raises(AssertionError, match=r"actions_info\[1\]"):
        check_shape(JobResource({"properties": job}))


def test_what_is_always_there_must_be_there() -> None:
    with pytest.raises(AssertionError, match="job_type: is missing"):
        check_shape(JobResource({"properties": {"operation": "Backup"}}))
    with pytest.raises(AssertionError, match="location: is missing"):
        check_shape(Vault({"properties": {}}))
