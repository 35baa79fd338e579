"""ARM resources over TLS: shapes, codes and headers the clients of Azure Backup rely on."""

from __future__ import annotations

import re
import ssl
import uuid
import warnings
from typing import Any

import httpx2
import pytest

from holdfast.testing.live_server import LiveServer

GUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


def test_only_modern_tls(live: LiveServer) -> None:
    old = ssl.create_default_context(cafile=str(live.ca))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{live.url}/healthz", verify=old, trust_env=False)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{live.url}/healthz", trust_env=False)
    assert live.raw("GET", "/healthz").json() == {"status": "healthy", "problems": []}


def test_subscriptions_tenants_locations_providers(live: LiveServer) -> None:
    row = live.ok("GET", "/subscriptions")["value"][0]
    assert row["state"] == "Enabled"
    assert row["id"] == f"/subscriptions/{row['subscriptionId']}" == live.subscription
    assert live.ok("GET", "/tenants")["value"][0]["tenantId"] == row["tenantId"]
    locations = live.ok("GET", f"{live.subscription}/locations")["value"]
    assert locations[0]["name"] == "local"
    provider = live.ok("GET", f"{live.subscription}/providers/microsoft.recoveryservices")
    assert provider["registrationState"] == "Registered"
    named = f"{live.subscription}/providers/microsoft.recoveryservices/register"
    assert live.ok("POST", named) == provider
    assert live.get(f"{live.subscription}/providers/Microsoft.Nothing").status_code == 404
    other = live.get(f"/subscriptions/{uuid.uuid4()}/resourceGroups")
    assert other.json()["error"]["code"] == "SubscriptionNotFound"


def test_resource_groups(live: LiveServer) -> None:
    address = live.group("rg-passing")
    assert live.call("PUT", address, {"location": "local", "tags": {"a": "b"}}).status_code == 201
    assert live.call("PUT", address, {"location": "local"}).status_code == 200
    moved = live.call("PUT", address, {"location": "elsewhere"})
    assert (moved.status_code, moved.json()["error"]["code"]) == (
        409,
        "InvalidResourceGroupLocation",
    )
    assert live.ok("GET", address)["tags"] == {"a": "b"}
    assert live.call("HEAD", address).status_code == 204
    names = [row["name"] for row in live.ok("GET", f"{live.subscription}/resourcegroups")["value"]]
    assert {"rg1", "rg-passing"} <= set(names)
    assert live.call("DELETE", live.group("rg1")).json()["error"]["code"] == "ResourceGroupNotEmpty"
    assert live.call("DELETE", address).status_code == 200
    assert live.call("HEAD", address).status_code == 404


def test_vault_life(live: LiveServer) -> None:
    address = live.vault("passing")
    missing = live.get(address)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "ResourceNotFound")
    body = {"location": "On Prem 1", "sku": {"name": "Standard"}, "properties": {}}
    made = live.call("PUT", address, body)
    assert made.status_code == 201
    vault = made.json()
    assert vault["location"] == "On Prem 1"
    assert vault["properties"]["provisioningState"] == "Succeeded"
    assert "export-key" in vault["properties"]["holdfast"]["warnings"][0]
    for key in ("redundancySettings", "monitoringSettings", "securitySettings", "restoreSettings"):
        assert isinstance(vault["properties"][key], dict)
    assert vault["id"] == address
    assert live.call("PUT", address, body | {"location": "onprem 1"}).status_code == 200
    moved = live.call("PUT", address, body | {"location": "local"})
    assert (moved.status_code, moved.json()["error"]["code"]) == (409, "InvalidResourceLocation")
    names = [p["name"] for p in live.ok("GET", f"{address}/backupPolicies")["value"]]
    assert names == ["DefaultPolicy", "EnhancedPolicy", "HourlyLogBackup"]
    gone = live.call("DELETE", address)
    assert gone.status_code == 202
    assert live.finish(gone)["status"] == "Succeeded", "an operation outlives its vault"
    assert live.get(address).status_code == 404
    assert live.call("DELETE", address).status_code == 204


def test_vault_patch_merges_and_minds_the_etag(live: LiveServer) -> None:
    address = live.make_vault("patched")
    first = live.ok("GET", address)
    settings = {"azureMonitorAlertSettings": {"alertsForAllJobFailures": "Disabled"}}
    live.ok("PATCH", address, {"properties": {"monitoringSettings": settings}, "tags": {"a": "1"}})
    state = {"crossSubscriptionRestoreState": "Disabled"}
    restoring = {"restoreSettings": {"crossSubscriptionRestoreSettings": state}}
    live.ok("PATCH", address, {"properties": restoring, "tags": None})
    found = live.ok("GET", address)
    monitoring = found["properties"]["monitoringSettings"]
    assert monitoring["azureMonitorAlertSettings"]["alertsForAllJobFailures"] == "Disabled"
    assert monitoring["classicAlertSettings"]["alertsForCriticalOperations"] == "Enabled"
    assert found["properties"]["restoreSettings"] == restoring["restoreSettings"]
    assert found["tags"] == {"a": "1"}
    stale = {"If-Match": first["etag"]}
    answer = live.call("PATCH", address, {"tags": {}}, headers=stale)
    assert (answer.status_code, answer.json()["error"]["code"]) == (412, "PreconditionFailed")
    fresh = {"If-Match": found["etag"]}
    assert live.call("PATCH", address, {"tags": {}}, headers=fresh).json()["tags"] == {}


def test_soft_delete_is_set_by_both_ways_and_shown_by_both(live: LiveServer) -> None:
    address = live.make_vault("softly")
    config = f"{address}/backupconfig/vaultconfig"

    def shown() -> tuple[str, int]:
        vault = live.ok("GET", address)["properties"]["securitySettings"]["softDeleteSettings"]
        same = live.ok("GET", config)["properties"]
        assert same["softDeleteFeatureState"] == vault["softDeleteState"]
        days = same["softDeleteRetentionPeriodInDays"]
        assert days == vault["softDeleteRetentionPeriodInDays"]
        assert same["isSoftDeleteFeatureStateEditable"] == (vault["softDeleteState"] != "AlwaysON")
        return vault["softDeleteState"], days

    def on_vault(**settings: Any) -> Any:
        soft = {"securitySettings": {"softDeleteSettings": settings}}
        return live.call("PATCH", address, {"properties": soft})

    def on_config(**settings: Any) -> Any:
        return live.call("PATCH", config, {"properties": settings})

    assert shown() == ("Enabled", 14), "on unless somebody turns it off"
    answer = on_config(softDeleteFeatureState="Disabled", enhancedSecurityState="Enabled")
    assert answer.json()["properties"]["softDeleteFeatureState"] == "Disabled"
    assert shown() == ("Disabled", 14)
    on_vault(softDeleteState="Enabled", softDeleteRetentionPeriodInDays=30)
    assert shown() == ("Enabled", 30)
    on_config(softDeleteRetentionPeriodInDays=180)
    assert shown() == ("Enabled", 180)
    for days in (13, 181, "20", 15.5):
        for asked in (
            on_vault(softDeleteRetentionPeriodInDays=days),
            on_config(softDeleteRetentionPeriodInDays=days),
        ):
            assert (asked.status_code, asked.json()["error"]["code"]) == (
                400,
                "BMSUserErrorInvalidInput",
            )
    odd = on_vault(softDeleteState="Sometimes")
    assert (odd.status_code, odd.json()["error"]["code"]) == (400, "InvalidRequestContent")
    on_vault(softDeleteState="AlwaysOn")
    for asked in (
        on_vault(softDeleteState="Disabled"),
        on_config(softDeleteFeatureState="Enabled"),
        live.call(
            "PUT",
            address,
            {
                "location": "local",
                "properties": {
                    "securitySettings": {"softDeleteSettings": {"softDeleteState": "Disabled"}}
                },
            },
        ),
    ):
        assert asked.json()["error"]["code"] == "BMSUserErrorSoftDeleteStateNotSetToAlwaysON"
    assert on_vault(softDeleteState=None).status_code == 200
    assert on_config(softDeleteRetentionPeriodInDays=20).status_code == 200
    assert shown() == ("AlwaysON", 20)


def test_a_deleted_vault_is_listed_and_comes_back(live: LiveServer) -> None:
    group = live.group("leaving")
    address = live.make_vault("left", "leaving")
    live.finish(live.call("DELETE", address))
    assert live.get(address).status_code == 404
    places = f"{live.subscription}/providers/Microsoft.RecoveryServices/locations"
    listed = live.ok("GET", f"{places}/LOCAL/deletedVaults")["value"]
    (row,) = [one for one in listed if one["properties"]["vaultId"] == address]
    assert live.ok("GET", row["id"]) == row
    assert row["properties"]["purgeAt"] > row["properties"]["vaultDeletionTime"]
    assert live.call("DELETE", group).status_code == 200, "it does not hold the group"
    back = {"properties": {"recoveryResourceGroupId": group}}
    answer = live.call("POST", f"{row['id']}/undelete", back)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ResourceGroupNotFound")
    for body in ({}, {"properties": {"recoveryResourceGroupId": "/subscriptions/x"}}):
        answer = live.call("POST", f"{row['id']}/undelete", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            400,
            "InvalidRequestContent",
        )
    live.ok("PUT", live.group("Other"), {"location": "local"})
    back = {"properties": {"recoveryResourceGroupId": live.group("Other")}}
    ended = live.finish(live.call("POST", f"{row['id']}/undelete", back))
    assert ended["status"] == "Succeeded"
    assert live.ok("GET", live.vault("left", "other"))["id"] == live.vault("left", "Other")
    assert live.get(row["id"]).json()["error"]["code"] == "DeletedVaultNotFound"
    assert live.get(f"{row['id']}/operations/{uuid.uuid4()}").status_code == 404


def test_immutability_as_az_asks_for_it(live: LiveServer) -> None:
    """The requests of ``az backup vault update --immutability-state``."""
    address = live.make_vault("asking")

    def ask(state: object, kind: str = "AsPerPolicy") -> httpx2.Response:
        soft = {"enhancedSecurityState": "AlwaysOn", "softDeleteState": "AlwaysOn"}
        settings = {
            "softDeleteSettings": {**soft, "softDeleteRetentionPeriodInDays": 14},
            "immutabilitySettings": {"state": state, "configuration": {"type": kind}},
        }
        return live.call("PATCH", address, {"properties": {"securitySettings": settings}})

    change = "UserErrorUnsupportedVaultImmutabilityStateChange"
    assert ask("Locked").json()["error"]["code"] == change
    assert ask("Unlocked", "Fixed").json()["error"]["code"] == "UserErrorNotSupported"
    for state in ("Unlocked", "Locked"):
        assert ask(state).status_code in {200, 202}
        shown = live.ok("GET", address)["properties"]["securitySettings"]
        assert shown["immutabilitySettings"] == {"state": state}
    for state in ("Unlocked", "Disabled"):
        answer = ask(state)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, change)
    for odd in (5, {}, "Open"):
        assert ask(odd).status_code == 400
    config = f"{address}/backupconfig/vaultconfig"
    lower = {"properties": {"softDeleteRetentionPeriodInDays": 15}}
    assert live.call("PATCH", config, lower).status_code == 200, "longer is fine"
    lower["properties"]["softDeleteRetentionPeriodInDays"] = 14
    kept = live.call("PATCH", config, lower)
    assert kept.json()["error"]["code"] == "UserErrorVaultImmutable"


def test_a_vault_that_is_not_immutable_says_so(live: LiveServer) -> None:
    address = live.make_vault("plain")
    shown = live.ok("GET", address)["properties"]["securitySettings"]
    assert shown["immutabilitySettings"] == {"state": "Disabled"}


def test_our_own_part_of_a_vault_is_ours_to_say(live: LiveServer) -> None:
    body = {"location": "local", "properties": {"holdfast": 5}}
    address = f"{live.group('rg1')}/providers/Microsoft.RecoveryServices/vaults/echo1"
    assert live.call("PUT", address, body).status_code in {200, 201}
    shown = live.ok("GET", f"{live.group('rg1')}/providers/Microsoft.RecoveryServices/vaults")
    (row,) = [row for row in shown["value"] if row["name"] == "echo1"]
    assert "holdfast" not in row["properties"]
    assert isinstance(live.ok("GET", address)["properties"]["holdfast"], dict)


def test_standing_configuration(live: LiveServer) -> None:
    vault = live.vault()
    config = live.ok("GET", f"{vault}/backupconfig/vaultconfig")
    assert (config["name"], config["properties"]["softDeleteFeatureState"]) == (
        "vaultconfig",
        "Enabled",
    )
    storage = f"{vault}/backupstorageconfig/vaultstorageconfig"
    assert live.ok("GET", storage)["properties"]["storageModelType"] == "LocallyRedundant"
    same = {"properties": {"storageModelType": "LocallyRedundant"}}
    assert live.call("PATCH", storage, same).status_code == 204
    other = {"properties": {"storageModelType": "GeoRedundant"}}
    assert live.call("PUT", storage, other).status_code == 400
    encryption = f"{vault}/backupEncryptionConfigs/backupResourceEncryptionConfig"
    assert live.ok("GET", encryption)["properties"]["encryptionAtRestType"] == "MicrosoftManaged"
    for name in ("backupResourceGuardProxies", "backupProtectionIntents", "backupProtectableItems"):
        assert live.ok("GET", f"{vault}/{name}") == {"value": []}
    assert live.get(f"{vault}/backupResourceGuardProxies/VaultProxy").status_code == 404
    assert live.ok("GET", f"{vault}/usages")["value"][0]["unit"] == "Count"
    refreshed = live.call("POST", f"{vault}/backupFabrics/Azure/refreshContainers")
    assert refreshed.status_code == 202
    headers = {"Authorization": f"Bearer {live.token()}"}
    assert live.raw("GET", refreshed.headers["location"], headers=headers).status_code == 204


def test_policies(live: LiveServer) -> None:
    vault = live.vault()
    default = live.ok("GET", f"{vault}/backupPolicies/DefaultPolicy")
    assert default["properties"]["backupManagementType"] == "AzureIaasVM"
    assert default["properties"]["protectedItemsCount"] == 0
    assert live.ok("GET", f"{vault}/backupPolicies/")["value"], "the empty name is the list"
    draft = dict(default["properties"], instantRpDetails=None, somethingUnknown={"a": 1})
    made = live.call("PUT", f"{vault}/backupPolicies/copy", {"eTag": None, "properties": draft})
    assert made.status_code == 200
    assert made.json()["name"] == "copy"
    listed = live.ok(
        "GET", f"{vault}/backupPolicies", **{"$filter": "backupManagementType eq 'MAB'"}
    )
    assert listed["value"] == []
    assert live.call("DELETE", f"{vault}/backupPolicies/copy").status_code == 200
    assert live.call("DELETE", f"{vault}/backupPolicies/copy").status_code == 204
    missing = live.get(f"{vault}/backupPolicies/copy")
    assert missing.json()["error"]["code"] == "BMSUserErrorPolicyNotFound"


def test_regions(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = "/providers/Holdfast.Backup/regions"
    assert live.ok("GET", f"{base}/LOCAL")["name"] == "local"
    store = tmp_path_factory.mktemp("region").as_uri()
    body = {"properties": {"store": store, "credentials": None}}
    assert live.ok("PUT", f"{base}/second", body)["properties"]["store"] == store
    off = {"securitySettings": {"softDeleteSettings": {"softDeleteState": "Disabled"}}}
    live.ok("PUT", live.vault("in-second"), {"location": "second", "properties": off})
    assert live.ok("GET", live.vault("in-second"))["properties"]["holdfast"]["region"] == "second"
    assert live.call("DELETE", f"{base}/second").json()["error"]["code"] == "RegionInUse"
    live.finish(live.call("DELETE", live.vault("in-second")))
    assert live.call("DELETE", f"{base}/second").status_code == 200
    bad = live.call("PUT", f"{base}/third", {"properties": {"store": "ftp://nowhere"}})
    assert bad.json()["error"]["code"] == "InvalidStoreUrl"


def test_pages_follow_absolute_links(live: LiveServer) -> None:
    for number in range(205):
        live.ok("PUT", live.group(f"page-{number:03}"), {"location": "local"})
    first = live.ok("GET", f"{live.subscription}/resourceGroups", **{"$filter": "a eq 'b'"})
    assert first["nextLink"].startswith(f"{live.url}{live.subscription}/resourceGroups?")
    assert "%24filter" in first["nextLink"] or "$filter" in first["nextLink"]
    headers = {"Authorization": f"Bearer {live.token()}"}
    second = live.raw("GET", first["nextLink"], headers=headers).json()
    names = [row["name"] for row in first["value"] + second["value"]]
    assert "nextLink" not in second
    assert len(names) == len(set(names))
    assert {f"page-{number:03}" for number in range(205)} <= set(names)
    wrong = live.get(f"{live.subscription}/resourceGroups", **{"$skipToken": "forged"})
    assert wrong.json()["error"]["code"] == "InvalidSkipToken"


def test_upkeep_jobs_and_the_ids_of_one_operation(live: LiveServer) -> None:
    vault = live.make_vault("kept")
    ours = f"{vault}/providers/Holdfast.Backup"
    plan = live.ok("POST", f"{ours}/collect", {"properties": {"planOnly": True}})
    assert isinstance(plan["properties"]["plan"], list)
    started = live.call("POST", f"{ours}/collect", {"properties": {}})
    assert started.status_code == 202
    assert started.headers["retry-after"] == "1"
    done = live.finish(started)
    assert done["status"] == "Succeeded"
    job_id = done["properties"]["jobId"]
    job = live.ok("GET", f"{vault}/backupJobs/{job_id}")
    assert job["properties"]["status"] == "Completed"
    assert job["properties"]["endTime"]
    assert re.fullmatch(r"PT[\d.]+S", job["properties"]["duration"])
    assert isinstance(job["properties"]["extendedInfo"]["tasksList"], list)
    assert job["properties"]["holdfast"]["history"]
    listed = live.ok("GET", f"{vault}/backupJobs", **{"$filter": "operation eq 'Collect'"})["value"]
    assert [row["name"] for row in listed] == [job_id]
    assert "extendedInfo" not in listed[0]["properties"]
    operation = done["name"]
    assert GUID.fullmatch(operation)
    for words in ("backupOperations", "operationStatus", "operationsStatus"):
        assert live.ok("GET", f"{vault}/{words}/{operation}")["status"] == "Succeeded"
    assert live.get(f"{vault}/backupOperationResults/{operation}").status_code == 204
    assert live.ok("GET", f"{vault}/operationResults/{operation}")["id"] == vault
    assert live.get(f"{live.vault()}/backupOperations/{operation}").status_code == 404
    ended = live.call("POST", f"{vault}/backupJobs/{job_id}/cancel")
    assert (ended.status_code, ended.json()["error"]["code"]) == (409, "JobEnded")


def test_recovery_key_and_the_warning(live: LiveServer) -> None:
    vault = live.make_vault("exported")
    export = f"{vault}/providers/Holdfast.Backup/exportKey"
    short = live.call("POST", export, {"properties": {"passphrase": "short"}})
    assert short.status_code == 400
    live.ok("POST", export, {"properties": {"passphrase": "a long enough passphrase"}})
    ours = live.ok("GET", vault)["properties"]["holdfast"]
    assert (ours["keyExported"], ours["warnings"]) == (True, [])
    assert "a long enough passphrase" not in live.log()


def test_a_vault_folder_that_was_moved_is_named_and_found_again(live: LiveServer) -> None:
    vault = live.make_vault("moved")
    ours = live.ok("GET", vault)["properties"]["holdfast"]
    folder = live.data / "vaults" / ours["vaultId"]
    folder.rename(folder.with_name("elsewhere"))
    warnings_shown = live.ok("GET", vault)["properties"]["holdfast"]["warnings"]
    assert any("VaultStoreMissing" in text for text in warnings_shown)
    plan = f"{vault}/providers/Holdfast.Backup/collect"
    answer = live.call("POST", plan, {"properties": {"planOnly": True}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "VaultStoreMissing")
    folder.with_name("elsewhere").rename(folder)
    shown = live.ok("GET", vault)["properties"]["holdfast"]
    assert shown["head"] == ours["head"]


def test_the_description_is_openapi(live: LiveServer) -> None:
    document = live.raw("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    paths = {path.lower() for path in document["paths"]}
    assert any(path.endswith("/vaults/{vault}/backuppolicies/{policy}") for path in paths)
    assert len(paths) > 60


def test_the_description_says_what_the_server_does(live: LiveServer) -> None:
    """Every address: the version it asks for, the body of its errors, how work is followed."""
    document = live.raw("GET", "/openapi.json").json()
    schemas = document["components"]["schemas"]
    headers = set(document["components"]["headers"])
    asked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where, responses = f"{method} {path}", operation["responses"]
            if "202" in responses:
                assert set(responses["202"]["headers"]) == headers, where
            names = [part.get("$ref") for part in operation.get("parameters", ())]
            needed = "#/components/parameters/ApiVersion" in names
            answer = live.raw(method, path, json=None if method in ("get", "head") else {})
            unversioned = answer.status_code == 400
            if unversioned and method != "head":
                kind = responses["default"]["$ref"].rpartition("/")[2]
                if kind == "Page":
                    assert answer.headers["content-type"].startswith("text/html"), where
                    continue
                body = answer.json() if kind == "TokenError" else answer.json()["error"]
                schema = schemas["TokenError" if kind == "TokenError" else "ErrorBody"]
                assert set(schema["required"]) <= set(body) <= set(schema["properties"]), where
                unversioned = body.get("code") == "MissingApiVersionParameter"
            assert needed == unversioned, where
            asked += needed
    assert asked > 80


def test_started_work_has_the_headers_described(live: LiveServer) -> None:
    document = live.raw("GET", "/openapi.json").json()
    verify = f"{live.make_vault('described')}/providers/Holdfast.Backup/verify"
    answer = live.call("POST", verify, {"properties": {}})
    assert answer.status_code == 202
    assert all(answer.headers[name] for name in document["components"]["headers"])


def test_request_ids_metrics_and_audit(live: LiveServer) -> None:
    mine = str(uuid.uuid4())
    headers = {"x-ms-correlation-request-id": mine}
    answer = live.call("PUT", live.group("audited"), {"location": "local"}, headers=headers)
    assert answer.headers["x-ms-correlation-request-id"] == mine
    request_id = answer.headers["x-ms-request-id"]
    failed = live.call("PATCH", live.vault("never-there", "audited"), {})
    stranger = live.call("PUT", live.group("audited-not"), {"location": "local"}, token="bad")
    rows = live.ok("GET", "/providers/Holdfast.Backup/audit")["value"]
    by_request = {row["properties"]["requestId"]: row["properties"] for row in rows}
    entry = by_request[request_id]
    assert entry["principalName"] == "administrator"
    assert entry["resource"] == live.group("audited")
    assert entry["operation"].startswith("PUT Microsoft.Resources/")
    assert by_request[failed.headers["x-ms-request-id"]]["resultCode"] == "ResourceNotFound"
    assert stranger.headers["x-ms-request-id"] not in by_request
    metrics = live.get("/metrics").text
    assert 'holdfast_http_requests_total{method="PUT"' in metrics
    assert "holdfast_vault_head" in metrics
    log = live.log()
    assert request_id in log
    assert live.token() not in log
    assert live.admin["client_secret"] not in log


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("{vault}/providers/Holdfast.Backup/report?format=csv", "text/csv"),
        ("{vault}/providers/Holdfast.Backup/report?format=html", "text/html"),
        ("/adfs/oauth2/deviceauth?", "text/html"),
    ],
)
def test_the_character_set_of_a_page_is_told_once(live: LiveServer, what: str, kind: str) -> None:
    headers = {"Authorization": f"Bearer {live.token()}"}
    address = f"{what.format(vault=live.vault())}&api-version=1"
    answer = live.raw("GET", address, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
