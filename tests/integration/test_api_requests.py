"""Requests as clients of Azure Backup write them are taken, and what is answered has the kinds that
are written down (arm/schemas/shown.py), read strictly."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.arm.schemas.table import response_of
from holdfast.testing.api_routes import all_routes
from holdfast.testing.arm_place import ArmPlace, operation_of

AT = ["2026-01-24T10:00:00Z"]
SUNDAY = {"daysOfTheWeek": ["Sunday"], "weeksOfTheMonth": ["First"]}
MONTHLY = {
    "retentionScheduleFormatType": "Weekly",
    "retentionScheduleDaily": None,
    "retentionScheduleWeekly": SUNDAY,
    "retentionTimes": AT,
    "retentionDuration": {"count": 60, "durationType": "Months"},
}


def kept(count: int, unit: str, **more: Any) -> dict[str, Any]:
    duration = {"count": count, "durationType": unit}
    return {"retentionTimes": AT, "retentionDuration": duration, **more}


def long_term(**ranges: Any) -> dict[str, Any]:
    found = {f"{name}Schedule": value for name, value in ranges.items()}
    return {"retentionPolicyType": "LongTermRetentionPolicy", **found}


def simple(frequency: str, **more: Any) -> dict[str, Any]:
    common = {"scheduleRunFrequency": frequency, "scheduleRunTimes": AT}
    return {"schedulePolicyType": "SimpleSchedulePolicy", **common, **more}


ALL_RANGES = long_term(
    daily=kept(180, "Days"),
    weekly=kept(12, "Weeks", daysOfTheWeek=["Sunday"]),
    monthly=MONTHLY,
    yearly={**MONTHLY, "monthsOfYear": ["January"]} | kept(10, "Years"),
)
SHORT = {
    "retentionPolicyType": "SimpleRetentionPolicy",
    "retentionDuration": {"count": 30, "durationType": "Days"},
}
MACHINE = {"backupManagementType": "AzureIaasVM", "timeZone": "Pacific Standard Time"}
SHARE = {"backupManagementType": "AzureStorage", "workLoadType": "AzureFileShare"}
HOURS = {
    "interval": 4,
    "scheduleWindowStartTime": "2026-12-17T08:00:00.000Z",
    "scheduleWindowDuration": 12,
}
WEEKLY_DAYS = {"scheduleRunDays": ["Monday", "Thursday"]}
POLICIES: dict[str, dict[str, Any]] = {
    "machine-daily": {
        **MACHINE,
        "schedulePolicy": simple("Daily"),
        "retentionPolicy": ALL_RANGES,
        "instantRpRetentionRangeInDays": 2,
        "instantRpDetails": {"azureBackupRGNamePrefix": "p", "azureBackupRGNameSuffix": None},
        "tieringPolicy": {"ArchivedRP": {"tieringMode": "DoNotTier", "duration": 0}},
    },
    "machine-weekly": {
        **MACHINE,
        "schedulePolicy": simple("Weekly", **WEEKLY_DAYS),
        "retentionPolicy": long_term(weekly=kept(4, "Weeks", daysOfTheWeek=["Monday", "Thursday"])),
        "instantRpRetentionRangeInDays": 5,
    },
    "machine-v2-daily": {
        **MACHINE,
        "policyType": "V2",
        "snapshotConsistencyType": "OnlyCrashConsistent",
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicyV2",
            "scheduleRunFrequency": "Daily",
            "dailySchedule": {"scheduleRunTimes": AT},
        },
        "retentionPolicy": ALL_RANGES,
        "instantRpRetentionRangeInDays": 30,
    },
    "machine-v2-hourly": {
        **MACHINE,
        "policyType": "V2",
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicyV2",
            "scheduleRunFrequency": "Hourly",
            "hourlySchedule": HOURS,
        },
        "retentionPolicy": ALL_RANGES,
        "instantRpRetentionRangeInDays": 17,
    },
    "agent-weekly": {
        "backupManagementType": "MAB",
        "schedulePolicy": simple("Weekly", **WEEKLY_DAYS, scheduleWeeklyFrequency=2),
        "retentionPolicy": long_term(weekly=kept(8, "Weeks", daysOfTheWeek=["Monday", "Thursday"])),
    },
    "share-daily": {
        **SHARE,
        "timeZone": "UTC",
        "schedulePolicy": simple("Daily"),
        "retentionPolicy": long_term(daily=kept(5, "Days")),
    },
    "share-hourly": {
        **SHARE,
        "timeZone": "UTC",
        "schedulePolicy": {
            "schedulePolicyType": "SimpleSchedulePolicy",
            "scheduleRunFrequency": "Hourly",
            "hourlySchedule": HOURS,
        },
        "retentionPolicy": long_term(daily=kept(5, "Days")),
    },
    "share-vaulted": {
        **SHARE,
        "timeZone": "UTC",
        "schedulePolicy": simple("Daily"),
        "vaultRetentionPolicy": {"vaultRetention": ALL_RANGES, "snapshotRetentionInDays": 5},
    },
    "database": {
        "backupManagementType": "AzureWorkload",
        "workLoadType": "SQLDataBase",
        "settings": {"timeZone": "Pacific Standard Time", "issqlcompression": False},
        "subProtectionPolicy": [
            {
                "policyType": "Full",
                "schedulePolicy": simple("Weekly", scheduleRunDays=["Sunday"]),
                "retentionPolicy": long_term(
                    weekly=kept(104, "Weeks", daysOfTheWeek=["Sunday"]), monthly=MONTHLY
                ),
            },
            {
                "policyType": "Differential",
                "schedulePolicy": simple("Weekly", scheduleRunDays=["Friday"]),
                "retentionPolicy": SHORT,
            },
            {
                "policyType": "Log",
                "schedulePolicy": {
                    "schedulePolicyType": "LogSchedulePolicy",
                    "scheduleFrequencyInMins": 60,
                },
                "retentionPolicy": SHORT,
            },
        ],
    },
}
ASSIGNED = "/providers/Microsoft.Authorization/roleAssignments/{assignment}"
GROUP = "/subscriptions/{sub}/resourceGroups/{group}"
VAULT = GROUP + "/providers/Microsoft.RecoveryServices/vaults/{vault}"
POINT = "/backupFabrics/{fabric}/protectionContainers/{container}/protectedItems/{item}"
# the one role is at the top; the point has no content in the store
ELSEWHERE = {
    *(scope + ASSIGNED for scope in ("/subscriptions/{sub}", GROUP, VAULT)),
    VAULT + POINT + "/recoveryPoints/{point}/providers/Holdfast.Backup/files",
    "/subscriptions/{sub}/providers/Microsoft.RecoveryServices/locations/{location}"
    "/deletedVaults/{deleted}/operations/{operation}",
    "/subscriptions/{sub}/resourceGroups/{group}/providers/Microsoft.Compute/virtualMachines"
    "/{machine}",
    "/subscriptions/{sub}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts"
    "/{account}",
    VAULT + "/providers/Holdfast.Backup/virtualMachines/{machine}",
    VAULT + "/providers/Holdfast.Backup/virtualMachines/{machine}/restoreTests/{point}",
}
ON = "Enabled"
VAULTS: dict[str, dict[str, Any]] = {
    "as-az-makes-it": {
        "properties": {
            "publicNetworkAccess": ON,
            "securitySettings": {
                "softDeleteSettings": {
                    "enhancedSecurityState": "AlwaysOn",
                    "softDeleteState": "AlwaysOn",
                    "softDeleteRetentionPeriodInDays": 14,
                }
            },
            "costManagementSettings": {"granularityLevel": "VaultLevel"},
        },
    },
    "as-az-assigns-it": {"identity": {"type": "systemassigned"}},
}


@pytest.mark.parametrize("name", POLICIES)
def test_policies_of_each_kind(place: ArmPlace, name: str) -> None:
    server, address = place.server, f"{place.vault}/backupPolicies/{name}"
    body = {"properties": {**POLICIES[name], "protectedItemsCount": 0}}
    made = server.ok("PUT", address, body)
    again = server.ok("PUT", address, made)
    del again["properties"]["holdfast"]  # what the change does to recovery points
    assert again["properties"] == server.ok("GET", address)["properties"]
    assert made["properties"]["backupManagementType"] == POLICIES[name]["backupManagementType"]


TIERED = {"ArchivedRP": {"tieringMode": "TierAfter", "duration": 3, "durationType": "Months"}}
ADVISED = {"ArchivedRP": {"tieringMode": "TierRecommended"}}
FULL = {**POLICIES["database"]["subProtectionPolicy"][0], "tieringPolicy": TIERED}


@pytest.mark.parametrize(
    "asked",
    [
        {**POLICIES["machine-weekly"], "tieringPolicy": TIERED},
        {**POLICIES["machine-weekly"], "tieringPolicy": ADVISED},
        {**POLICIES["database"], "subProtectionPolicy": [FULL]},
    ],
)
def test_an_archive_tier_is_not_promised(place: ArmPlace, asked: dict[str, Any]) -> None:
    address = f"{place.vault}/backupPolicies/tiered"
    plan = f"{place.vault}/providers/Holdfast.Backup/previewPolicy"
    for answer in (
        place.server.call("PUT", address, {"properties": asked}),
        place.server.call("POST", plan, {"properties": asked}),
    ):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "UserErrorNotSupported"
        assert "no archive tier" in error["message"]
        assert "DoNotTier" in str(error)
    assert place.server.call("GET", address).status_code == 404


@pytest.mark.parametrize("name", VAULTS)
def test_vaults_as_they_are_asked_for(place: ArmPlace, name: str) -> None:
    server = place.server
    body = {"location": "local", "sku": {"name": "Standard"}, "tags": {"a": "b"}, **VAULTS[name]}
    made = server.ok("PUT", server.vault(f"vault-{name}"), body)
    assert made["properties"]["provisioningState"] == "Succeeded"
    changed = server.ok("PATCH", server.vault(f"vault-{name}"), VAULTS[name])
    assert changed["tags"] == {"a": "b"}


@pytest.mark.parametrize(
    "kind", ["IaasVMBackupRequest", "AzureFileShareBackupRequest", "FilesBackupRequest", None]
)
def test_a_backup_is_started_by_any_of_the_requests(place: ArmPlace, kind: str | None) -> None:
    asked = {"objectType": kind, "recoveryPointExpiryTimeInUTC": "2040-01-01T00:00:00+00:00"}
    name = f"for-{kind}"
    assert place.protect(name).is_success
    address = f"{place.named(name)}/backup"
    answer = place.server.call("POST", address, {"properties": asked})
    assert answer.status_code == 202, answer.text


def test_what_is_about_machines_is_refused_where_there_are_none(place: ArmPlace) -> None:
    machine = "IaasVMContainer;iaasvmcontainerv2;rg1;vm1"
    container = place.container.replace("Linux;Web1", machine)
    address = f"{container}/protectedItems/VM;iaasvmcontainerv2;rg1;vm1"
    asked = {
        "protectedItemType": "Microsoft.Compute/virtualMachines",
        "policyId": f"{place.vault}/backupPolicies/DefaultPolicy",
        "sourceResourceId": "/subscriptions/s/resourceGroups/rg1/providers/x/vm1",
    }
    restore = {"objectType": "IaasVMRestoreRequest", "recoveryType": "RestoreDisks"}
    point = f"{place.item}/recoveryPoints/{place.point}/restore"
    unknown = place.server.call("PUT", address, {"properties": asked})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "UserErrorVmNotFoundV2")
    folder = place.server.call("POST", point, {"properties": restore})
    assert (folder.status_code, folder.json()["error"]["code"]) == (400, "UserErrorNotSupported")


def test_every_answer_has_the_kinds_that_are_written_down(place: ArmPlace) -> None:
    started = place.start_backup("followed")
    names = {
        **place.names,
        "operation": operation_of(started),
        "job": place.rows("backupJobs")[0]["name"],
    }
    seen = set()
    for route in all_routes():
        kind = response_of(route.method, route.path.replace("}", ":str}"))
        if kind is None or route.method != "GET" or route.path in ELSEWHERE:
            continue
        answer = place.server.get(route.filled(**names))
        assert answer.status_code == 200, f"{route}: {answer.text}"
        msgspec.json.decode(answer.content, type=kind)
        seen.add(kind)
    assert len(seen) >= 25
