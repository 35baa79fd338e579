"""What bit clients of Azure Backup that nobody here wrote: one test for each odd part of the API,
asked for in plain HTTP as those clients ask for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from holdfast.testing.arm_place import ArmPlace, operation_of

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z")
ODD = "Ärger & 日本"  # blanks and letters beyond latin-1
NOWHERE = "0001-01-01T00:00:00"


@pytest.fixture(scope="module")
def spare(place: ArmPlace) -> ArmPlace:
    """For deletions."""
    return ArmPlace(place.server, "spare", point=False)


# names


def test_names_are_paths_of_semicolons(place: ArmPlace) -> None:
    found = place.server.ok("GET", place.item)
    assert (found["id"], found["name"]) == (place.item, "FileFolder;docs")
    machine = place.rows("backupProtectionContainers")[0]
    assert (machine["id"], machine["name"]) == (place.container, "Linux;Web1")
    assert found["properties"]["friendlyName"] == "docs"


def test_addresses_match_in_any_case_and_answers_have_one(place: ArmPlace) -> None:
    """Clients take ids apart with patterns that mind the case."""
    for asked in (
        place.item.lower(),
        place.item.upper(),
        f"{place.item.replace('/prot', '//prot')}/",
    ):
        assert place.server.ok("GET", asked)["id"] == place.item, asked
    for row in place.rows("BACKUPprotectedITEMS"):
        assert "/resourceGroups/rg1/providers/Microsoft.RecoveryServices/vaults/place/" in row["id"]
        assert "/backupFabrics/Azure/protectionContainers/Linux;" in row["id"]
        assert "/protectedItems/FileFolder;" in row["id"]
    started = place.server.call(
        "POST", f"{place.vault.lower()}/backupfabrics/azure/refreshcontainers"
    )
    assert started.headers["Location"].startswith(
        f"{place.server.url}{place.vault}/backupFabrics/Azure/"
    )
    policy = f"{place.vault}/backupPolicies/DefaultPolicy".upper()
    assert place.protect("docs", policyId=policy).status_code == 202
    assert place.server.ok("GET", place.item)["properties"]["policyName"] == "DefaultPolicy"


def test_semicolons_come_encoded_and_go_plain(place: ArmPlace) -> None:
    encoded = place.item.replace(";", "%3B")
    assert place.server.ok("GET", encoded)["id"] == place.item
    started = place.start_backup("encoded")
    for name in ("Azure-AsyncOperation", "Location"):
        assert ";encoded/" in started.headers[name]
        assert "%3B" not in started.headers[name]


def test_names_beyond_latin_letters_keep_headers_whole(place: ArmPlace) -> None:
    name = ODD.replace("&", "and")
    made = place.protect(name)
    assert made.status_code == 202, made.text
    shown = place.server.ok("GET", quote(place.named(name), safe="/;"))
    assert shown["properties"]["friendlyName"] == name
    assert shown["name"] == f"FileFolder;{name}"
    status = made.headers["Azure-AsyncOperation"]
    assert status.isascii()
    assert " " not in status
    headers = {"Authorization": f"Bearer {place.server.token()}"}
    assert place.server.raw("GET", status, headers=headers).json()["status"] == "Succeeded"
    assert place.server.raw("GET", made.headers["Location"], headers=headers).is_success
    assert unquote(urlsplit(status).path).startswith(place.named(name))


def test_an_item_names_its_container_and_source(place: ArmPlace) -> None:
    """Later commands of a client take them from here."""
    found = place.server.ok("GET", place.item)["properties"]
    assert found["containerName"] == "Linux;Web1", "whole: only machines of Azure lose a part"
    assert {"sourceResourceId", "policyId", "policyName"} <= set(found)
    assert found["policyId"] == f"{place.vault}/backupPolicies/DefaultPolicy"


def test_a_policy_of_another_vault_is_not_taken_for_ones_own(
    place: ArmPlace, spare: ArmPlace
) -> None:
    """Both have a DefaultPolicy."""
    foreign = place.protect("docs", policyId=f"{spare.vault}/backupPolicies/DefaultPolicy")
    assert foreign.status_code == 404
    assert foreign.json()["error"]["code"] == "BMSUserErrorPolicyNotFound"


def test_a_stopped_item_has_empty_texts_for_its_policy(place: ArmPlace) -> None:
    assert place.protect("stopping").is_success
    stop = {"protectionState": "ProtectionStopped", "policyId": ""}
    assert place.protect("stopping", **stop).is_success
    found = place.server.ok("GET", place.named("stopping"))["properties"]
    assert (found["policyId"], found["policyName"]) == ("", "")
    assert found["protectionState"] == "ProtectionStopped"
    listed = place.server.ok("GET", f"{place.vault}/backupPolicies/")
    assert len(listed["value"]) >= 3, "asked for the policy without a name, as resuming does"
    assert place.protect("stopping").is_success, "resumed"


# operations


def test_one_operation_answers_wherever_a_client_looks(place: ArmPlace) -> None:
    started = place.start_backup("answering")
    assert started.content == b""
    assert int(started.headers["Retry-After"]) <= 2
    name = operation_of(started)
    fabric = f"{place.vault}/backupFabrics/Azure"
    for holder, words in (
        (place.vault, "backupOperations"),
        (place.vault, "operationStatus"),
        (place.item, "operationsStatus"),
        (place.container, "operationsStatus"),
        (fabric, "operationsStatus"),
    ):
        answer = place.server.get(f"{holder}/{words}/{name}")
        assert answer.json()["status"] == "Succeeded", words
        assert answer.headers["Retry-After"], "without it an SDK waits thirty seconds"
    for holder, words in (
        (place.vault, "backupOperationResults"),
        (place.item, "operationResults"),
        (place.container, "operationResults"),
        (fabric, "operationResults"),
    ):
        assert place.server.get(f"{holder}/{words}/{name}").status_code == 204, words
    assert place.server.ok("GET", f"{place.vault}/operationResults/{name}")["id"] == place.vault


def test_every_change_of_an_item_says_where_it_is_followed(spare: ArmPlace) -> None:
    changed = spare.protect("followed")
    stopped = spare.protect("followed", protectionState="ProtectionStopped", policyId="")
    deleted = spare.server.call("DELETE", spare.named("followed"))
    for answer in (changed, stopped, deleted):
        assert answer.status_code in (200, 202)
        path = urlsplit(answer.headers["Azure-AsyncOperation"]).path
        assert "/" not in operation_of(answer)
        assert path.endswith(operation_of(answer))
        found = spare.server.get(f"{spare.vault}/backupOperations/{operation_of(answer)}")
        assert found.is_success


def test_an_operation_of_a_backup_has_ended_and_names_its_job(place: ArmPlace) -> None:
    started = place.start_backup("named")
    body = place.server.ok("GET", f"{place.vault}/backupOperations/{operation_of(started)}")
    assert {"id", "name", "status", "startTime", "endTime", "properties"} <= set(body)
    assert body["properties"]["objectType"] == "OperationStatusJobExtendedInfo"
    job = place.server.ok("GET", f"{place.vault}/backupJobs/{body['properties']['jobId']}")
    assert job["properties"]["status"] == "InProgress"


def test_discovery_is_a_dance_that_ends(place: ArmPlace) -> None:
    assert place.rows("backupProtectableItems", **{"$filter": "workloadType eq 'VM'"}) == []
    started = place.server.call("POST", f"{place.vault}/backupFabrics/Azure/refreshContainers")
    assert started.status_code == 202
    token = {"Authorization": f"Bearer {place.server.token()}"}
    assert place.server.raw("GET", started.headers["Location"], headers=token).status_code == 204
    assert place.rows("backupFabrics/Azure/protectableContainers") == []
    asked = place.server.call("POST", f"{place.container}/inquire")
    assert asked.status_code == 202
    results = f"{place.container}/operationResults/{operation_of(asked)}"
    assert place.server.get(results).status_code == 204


# vaults and policies


def test_a_new_vault_has_the_policies_clients_look_for(place: ArmPlace) -> None:
    rows = {row["name"]: row["properties"] for row in place.rows("backupPolicies")}
    default, enhanced = rows["DefaultPolicy"], rows["EnhancedPolicy"]
    assert default["backupManagementType"] == "AzureIaasVM"
    assert default["retentionPolicy"]["dailySchedule"]["retentionDuration"]["count"] == 30
    assert enhanced["policyType"] == "V2"
    hourly = enhanced["schedulePolicy"]["hourlySchedule"]
    assert (hourly["interval"], hourly["scheduleWindowDuration"]) == (4, 12)
    logs = {sub["policyType"]: sub for sub in rows["HourlyLogBackup"]["subProtectionPolicy"]}
    assert logs["Log"]["schedulePolicy"]["scheduleFrequencyInMins"] == 60
    for row in rows.values():
        assert type(row["protectedItemsCount"]) is int


def test_no_guard_stands_before_a_critical_change(place: ArmPlace) -> None:
    assert place.rows("backupResourceGuardProxies") == []
    assert (
        place.server.get(f"{place.vault}/backupResourceGuardProxies/VaultProxy").status_code == 404
    )


def test_filters_as_clients_write_them(place: ArmPlace) -> None:
    place.start_backup("filtered")
    files = "backupManagementType eq 'MAB' and itemType eq 'FileFolder' and unknownKey eq 'x'"
    assert place.rows("backupProtectedItems", **{"$filter": files})
    machines = "backupManagementType eq 'AzureIaasVM' and itemType eq 'VM'"
    for name in ("backupProtectedItems", "backupProtectionContainers", "backupJobs"):
        assert place.rows(name, **{"$filter": machines}) == [], name
    policy = "backupManagementType eq 'MAB' and policyName eq '{}'"
    assert place.rows("backupProtectedItems", **{"$filter": policy.format("defaultPOLICY")})
    assert place.rows("backupProtectedItems", **{"$filter": policy.format("EnhancedPolicy")}) == []
    shown = "%Y-%m-%d %I:%M:%S %p"
    now = datetime.now(UTC)
    for hours, found in ((-1, True), (1, False)):
        since = (now + timedelta(hours=hours)).strftime(shown)
        for name, key in (
            ("backupJobs", "startTime"),
            (f"{below(place)}/recoveryPoints", "startDate"),
        ):
            rows = place.rows(name, **{"$filter": f"{key} eq '{since}'"})
            assert bool(rows) is found, (name, since)
    workload = "backupManagementType eq 'AzureWorkload' and workloadType eq '{}'"
    assert place.rows("backupPolicies", **{"$filter": workload.format("SQLDataBase")})
    assert place.rows("backupPolicies", **{"$filter": workload.format("SAPHanaDatabase")}) == []
    plus = f"{place.vault}/backupJobs?api-version=1&%24filter=operation+eq+%27Backup%27"
    headers = {"Authorization": f"Bearer {place.server.token()}"}
    assert place.server.raw("GET", plus, headers=headers).json()["value"]


def below(place: ArmPlace) -> str:
    """The item's address below its vault."""
    return place.item.removeprefix(f"{place.vault}/")


def test_what_is_read_can_be_written_back_with_nulls_and_odd_spelling(place: ArmPlace) -> None:
    for name in ("DefaultPolicy", "EnhancedPolicy", "HourlyLogBackup"):
        found = place.server.ok("GET", f"{place.vault}/backupPolicies/{name}")
        sent = {**found, "eTag": None, "location": None, "tags": None}
        sent["properties"] = {**found["properties"], "resourceGuardOperationRequests": None}
        if name != "HourlyLogBackup":
            sent["properties"] |= {"instantRpDetails": {}, "tieringPolicy": None}
            times = found["properties"]["retentionPolicy"]["dailySchedule"]["retentionTimes"]
            times[:] = [time.replace("Z", "+00:00") for time in times]
        copied = place.server.ok("PUT", f"{place.vault}/backupPolicies/copied-{name}", sent)
        shown = copied["properties"]
        assert "instantRpDetails" not in shown
        assert "null" not in str(shown)
        assert place.server.call("DELETE", copied["id"]).status_code == 200
        assert not re.search(r"\d\d:\d\d:\d\d(\.\d+|\+)", str(shown)), "times end in Z"


def test_tables_read_these_keys(place: ArmPlace) -> None:
    keys = {"lastRecoveryPoint", "lastBackupStatus", "friendlyName", "containerName"}
    keys |= {"workloadType", "backupManagementType", "protectionState", "lastBackupTime"}
    for row in place.rows("backupProtectedItems"):
        assert keys <= set(row["properties"])
    point = place.server.ok("GET", f"{place.item}/recoveryPoints")["value"][0]["properties"]
    assert {"objectType", "recoveryPointType", "recoveryPointTime"} <= set(point)


def test_a_vault_in_use_is_refused_with_the_words_clients_look_for(place: ArmPlace) -> None:
    refused = place.server.call("DELETE", place.vault)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (
        400,
        "ServiceResourceNotEmptyWithBackendMessage",
    )
    assert "existing resources within the vault" in error["message"]


def test_states_are_spelt_as_azure_spells_them(place: ArmPlace) -> None:
    found = place.server.ok("GET", place.vault)["properties"]
    security = found["securitySettings"]
    assert security["immutabilitySettings"]["state"] in ("Disabled", "Unlocked", "Locked")
    state = security["softDeleteSettings"]["softDeleteState"]
    assert state in ("Enabled", "Disabled", "AlwaysON")
    config = place.server.ok("GET", f"{place.vault}/backupconfig/vaultconfig")["properties"]
    assert config["softDeleteFeatureState"] in ("Enabled", "Disabled", "AlwaysON")
    asked = {
        "location": "local",
        "sku": {"name": "Standard"},
        "properties": {
            "publicNetworkAccess": "Enabled",
            "securitySettings": {
                "softDeleteSettings": {
                    "softDeleteState": "AlwaysOn",
                    "softDeleteRetentionPeriodInDays": 14,
                }
            },
            "costManagementSettings": {"granularityLevel": "VaultLevel"},
        },
    }
    made = place.server.call("PUT", place.server.vault("as-az-makes-it"), asked)
    assert made.status_code == 201, made.text


def test_what_a_vault_does_not_do_is_not_shown(place: ArmPlace) -> None:
    """Clients ask for it as they are used to; the vault says what is."""
    geo = {"standardTierStorageRedundancy": "GeoRedundant", "crossRegionRestore": "Enabled"}
    asked = {"location": "local", "properties": {"redundancySettings": geo}}
    made = place.server.ok("PUT", place.server.vault("asked-for-more"), asked)["properties"]
    assert made["redundancySettings"]["standardTierStorageRedundancy"] == "LocallyRedundant"
    guarded = {"securitySettings": {"multiUserAuthorization": "Enabled"}}
    shown = place.server.ok("PATCH", place.vault, {"properties": guarded})["properties"]
    assert shown["securitySettings"]["multiUserAuthorization"] == "Disabled", "nothing guards it"
    closed = {"location": "local", "properties": {"publicNetworkAccess": "Disabled"}}
    for method, address in (("PATCH", place.vault), ("PUT", place.server.vault("closed"))):
        refused = place.server.call(method, address, closed)
        assert refused.json()["error"]["code"] == "UserErrorNotSupported", "it is open"
    assert place.server.get(place.server.vault("closed")).status_code == 404


def test_what_azure_lets_nobody_take_back_stays(spare: ArmPlace) -> None:
    def restoring(state: str | None) -> dict[str, Any]:
        setting = {"crossSubscriptionRestoreState": state}
        return {"restoreSettings": {"crossSubscriptionRestoreSettings": setting}}

    for state in ("Disabled", "Enabled", "PermanentlyDisabled", "PermanentlyDisabled"):
        spare.server.ok("PATCH", spare.vault, {"properties": restoring(state)})
    for state in ("Enabled", "Disabled"):
        for method in ("PUT", "PATCH"):
            body = {"location": "local", "properties": restoring(state)}
            back = spare.server.call(method, spare.vault, body)
            assert (back.status_code, back.json()["error"]["code"]) == (
                400,
                "BMSUserErrorInvalidInput",
            )
    for silent in (restoring(None), {"restoreSettings": None}):
        spare.server.ok("PATCH", spare.vault, {"properties": silent})
    shown = spare.server.ok("GET", spare.vault)["properties"]["restoreSettings"]
    assert shown == restoring("PermanentlyDisabled")["restoreSettings"]


def test_a_key_of_the_customers_is_refused_wherever_it_is_asked_for(place: ArmPlace) -> None:
    """A vault that took it would be encrypted under another key than its owner believes."""
    key = {"keyVaultProperties": {"keyUri": "https://kv.example/keys/k1"}}
    asked = {"location": "local", "properties": {"encryption": key}}
    config = f"{place.vault}/backupEncryptionConfigs/backupResourceEncryptionConfig"
    own = {"encryptionAtRestType": "CustomerManaged", "keyUri": "https://kv.example/keys/k1"}
    new = place.server.vault("under-own-key")
    answers = [
        place.server.call("PUT", new, asked),
        place.server.call("PUT", place.vault, asked),
        place.server.call("PATCH", place.vault, {"properties": {"encryption": key}}),
        place.server.call("PUT", config, {"properties": own}),
        place.server.call("PUT", config, {"properties": {"keyUri": own["keyUri"]}}),
    ]
    for answer in answers:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "UserErrorNotSupported"), answer.text
        assert "key of your own" in error["message"]
        assert "export-key" in str(error)
    assert place.server.get(new).status_code == 404, "nothing was made"
    ours = {"properties": {"encryptionAtRestType": "MicrosoftManaged"}}
    assert place.server.call("PUT", config, ours).is_success


def test_what_is_not_protected_has_no_vault(place: ArmPlace) -> None:
    address = f"{place.server.subscription}/providers/Microsoft.RecoveryServices/locations/local"
    share = f"{place.server.group('rg1')}/providers/Microsoft.Storage/storageAccounts/shares1"
    asked = {"resourceType": "VM", "resourceId": share, "poLogicalName": None}
    for odd in ("", "vm1", "/subscriptions/x/vm1", f"{share}/fileServices"):
        answer = place.server.call("POST", f"{address}/backupStatus", {**asked, "resourceId": odd})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "InvalidRequestContent"), odd
        assert "/resourceGroups/GROUP/providers/" in str(error)
    found = place.server.ok("POST", f"{address}/backupStatus", asked)
    assert found["protectionStatus"] == "NotProtected"
    assert "vaultId" not in found


WRITTEN_INTO = ("redundancySettings", "monitoringSettings", "securitySettings", "restoreSettings")


def test_parts_of_a_vault_that_updates_write_into_are_always_objects(place: ArmPlace) -> None:
    address = place.server.make_vault("written-into")

    def check() -> dict[str, Any]:
        found: dict[str, Any] = place.server.ok("GET", address)
        assert found["identity"] is None
        for name in WRITTEN_INTO:
            assert isinstance(found["properties"][name], dict), name
        monitoring = found["properties"]["monitoringSettings"]
        assert isinstance(monitoring["azureMonitorAlertSettings"], dict)
        assert isinstance(monitoring["classicAlertSettings"], dict)
        restoring = found["properties"]["restoreSettings"]
        assert isinstance(restoring["crossSubscriptionRestoreSettings"], dict)
        return found

    check()
    place.server.ok("PATCH", address, {"properties": dict.fromkeys(WRITTEN_INTO)})
    check()
    nulls = {"azureMonitorAlertSettings": None, "classicAlertSettings": None}
    place.server.ok("PATCH", address, {"properties": {"monitoringSettings": nulls}})
    check()
    part = {"classicAlertSettings": {"alertsForCriticalOperations": "Disabled"}}
    place.server.ok("PATCH", address, {"properties": {"monitoringSettings": part}})
    monitoring = check()["properties"]["monitoringSettings"]
    assert monitoring["classicAlertSettings"]["alertsForCriticalOperations"] == "Disabled"
    assert monitoring["azureMonitorAlertSettings"]["alertsForAllJobFailures"] == "Enabled"
    place.server.ok("PUT", address, {"location": "local", "properties": {}, "identity": None})
    check()


# points, jobs, times


def test_what_a_restore_reads_beside_the_point(place: ArmPlace) -> None:
    point = place.server.ok("GET", f"{place.item}/recoveryPoints/{place.point}")
    assert point["name"] == place.point
    assert "/" not in point["name"]
    config = f"{place.vault}/backupEncryptionConfigs/backupResourceEncryptionConfig"
    assert (
        place.server.ok("GET", config)["properties"]["encryptionAtRestType"] == "MicrosoftManaged"
    )
    for kind in ("Microsoft.ClassicStorage", "Microsoft.Storage"):
        asked = f"{place.server.group('rg1')}/providers/{kind}/storageAccounts//account1"
        answer = place.server.get(asked.replace("resourceGroups", "resourcegroups"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceNotFound")


def test_mounting_a_point_is_refused_in_a_shape_clients_read(place: ArmPlace) -> None:
    address = f"{place.item}/recoveryPoints/{place.point}"
    for verb in ("provisionInstantItemRecovery", "revokeInstantItemRecovery"):
        answer = place.server.call("POST", f"{address}/{verb}", {"properties": {}})
        assert 400 <= answer.status_code < 500
        assert answer.json()["error"]["message"]


def test_one_job_has_its_tasks_and_a_list_has_none(place: ArmPlace) -> None:
    place.start_backup("with-tasks")
    listed = place.rows("backupJobs")
    assert listed
    assert all("extendedInfo" not in row["properties"] for row in listed)
    for row in listed:
        found = place.server.ok("GET", row["id"])["properties"]
        assert found["jobType"] in ("MabJob", "VaultJob")
        assert isinstance(found["extendedInfo"]["tasksList"], list)
        assert re.fullmatch(r"PT\d+(\.\d+)?S", found["duration"])
        running = found["status"] == "InProgress"
        assert (found["actionsInfo"] == ["Cancellable"]) or not running
        assert bool(found["endTime"]) is (not running)
    running = [row for row in listed if row["properties"]["status"] == "InProgress"]
    cancelled = place.server.call("POST", f"{running[0]['id']}/cancel")
    assert cancelled.status_code == 202
    results = f"{running[0]['id']}/operationResults/{operation_of(cancelled)}"
    assert place.server.get(results).status_code == 204


def test_times_are_utc_and_never_has_a_time_of_its_own(place: ArmPlace, spare: ArmPlace) -> None:
    spare.protect("never")
    found = spare.server.ok("GET", spare.named("never"))["properties"]
    assert found["lastBackupTime"] == "2001-01-01T00:00:00Z"
    assert found["lastRecoveryPoint"] is None
    point = place.server.ok("GET", f"{place.item}/recoveryPoints/{place.point}")["properties"]
    assert TIME.fullmatch(point["recoveryPointTime"])
    deleted = spare.server.call("DELETE", spare.named("never"))
    status = spare.server.ok("GET", f"{spare.vault}/backupOperations/{operation_of(deleted)}")
    assert TIME.fullmatch(status["startTime"])
    assert status["endTime"] == NOWHERE or TIME.fullmatch(status["endTime"])


@pytest.mark.parametrize("state", ["ProtectionPaused", "Invalid"])
def test_a_pause_is_refused_and_not_passed_over(place: ArmPlace, state: str) -> None:
    """Whoever asked for it would believe that no backup runs."""
    before = place.server.ok("GET", place.item)
    asked = place.protect("docs", protectionState=state, policyId="")
    error = asked.json()["error"]
    assert (asked.status_code, error["code"]) == (400, "UserErrorNotSupported")
    assert "BackupsSuspended" in error["hint"]
    assert place.server.ok("GET", place.item) == before


def test_an_item_waits_for_its_first_backup(place: ArmPlace) -> None:
    made = place.protect("new")
    assert made.is_success
    found = place.server.ok("GET", place.named("new"))["properties"]
    assert found["protectionState"] == "IRPending"
    assert found["lastBackupStatus"] in ("", "IRPending")


def test_points_of_databases_are_not_those_of_folders(place: ArmPlace) -> None:
    points, asked = f"{below(place)}/recoveryPoints", "restorePointQueryType eq '{}'"
    assert place.rows(points, **{"$filter": asked.format("Full")})
    for kind in ("Log", "differential", "Incremental"):
        assert place.rows(points, **{"$filter": asked.format(kind)}) == [], kind
