"""Bad input over REST: a status, a code, what happened, what to do; no 500 and no traceback."""

from __future__ import annotations

import json
import socket
import ssl
import uuid
from typing import Any

import httpx2
import pytest

from holdfast.arm.app import MAX_BODY
from holdfast.testing.api_routes import Route, all_routes
from holdfast.testing.live_server import LiveServer

ALL = all_routes()


def refused(answer: httpx2.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code, error
    assert error["message"]
    assert error["hint"], error
    assert "Traceback" not in answer.text
    assert answer.headers["x-ms-request-id"]


def policy(live: LiveServer, **daily: Any) -> dict[str, Any]:
    found = live.ok("GET", f"{live.vault()}/backupPolicies/DefaultPolicy")
    found["properties"]["retentionPolicy"]["dailySchedule"]["retentionDuration"].update(daily)
    result: dict[str, Any] = found
    return result


def test_what_is_asked_without_a_version(live: LiveServer) -> None:
    headers = {"Authorization": f"Bearer {live.token()}"}
    answer = live.raw("GET", live.vault(), headers=headers)
    refused(answer, 400, "MissingApiVersionParameter")
    answer = live.raw("GET", f"{live.vault()}?api-version=", headers=headers)
    refused(answer, 400, "MissingApiVersionParameter")
    answer = live.raw("GET", f"{live.vault()}?API-Version=anything", headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/nowhere", "InvalidResourceType"),
        ("{group}/providers/Microsoft.Compute/virtualMachines/vm1", "ResourceNotFound"),
        ("{group}/providers/Microsoft.Compute/disks/d1", "InvalidResourceType"),
        ("{group}/providers/Microsoft.RecoveryServices/vaults/none", "ResourceNotFound"),
        ("{nogroup}/providers/Microsoft.RecoveryServices/vaults/v1", "ResourceGroupNotFound"),
        ("{vault}/backupPolicies/none", "BMSUserErrorPolicyNotFound"),
        ("{vault}/backupJobs/none", "JobNotFound"),
        ("{vault}/backupOperations/none", "OperationNotFound"),
        ("{vault}/backupFabrics/Azure/protectionContainers/Linux;no", "ContainerNotFound"),
        ("/providers/Holdfast.Backup/regions/none", "RegionNotFound"),
    ],
)
def test_what_is_not_there(live: LiveServer, path: str, code: str) -> None:
    names = {"group": live.group("rg1"), "nogroup": live.group("none"), "vault": live.vault()}
    refused(live.get(path.format(**names)), 404, code)


def test_methods_that_are_not_served(live: LiveServer) -> None:
    refused(live.call("PATCH", live.group("rg1"), {}), 405, "MethodNotAllowed")


@pytest.mark.parametrize("text", ["{", "", "[1]", "3", "null", '"x"', "\x00", "{}}", "NaN"])
def test_bodies_that_are_no_object(live: LiveServer, text: str) -> None:
    headers = {"Authorization": f"Bearer {live.token()}", "Content-Type": "application/json"}
    address = f"{live.vault('none')}?api-version=1"
    answer = live.raw("PUT", address, content=text.encode(), headers=headers)
    refused(answer, 400, "InvalidRequestContent")


def test_a_body_nested_too_deep(live: LiveServer) -> None:
    headers = {"Authorization": f"Bearer {live.token()}", "Content-Type": "application/json"}
    text = '{"properties":' * 100_000 + "1" + "}" * 100_000
    answer = live.raw("PUT", f"{live.vault()}?api-version=1", content=text, headers=headers)
    refused(answer, 400, "InvalidRequestContent")


def test_a_body_that_is_too_large(live: LiveServer) -> None:
    body = {"location": "local", "tags": {"a": "x" * MAX_BODY}}
    refused(live.call("PUT", live.vault("large"), body), 413, "RequestTooLarge")
    assert live.get(live.vault("large")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("{vault}", {"tags": "x"}, "InvalidRequestContent"),
        ("{vault}", {"tags": {"a": 1}}, "InvalidRequestContent"),
        ("{vault}", {"properties": [1]}, "InvalidRequestContent"),
        ("{vault}", {"properties": {"securitySettings": 5}}, "InvalidRequestContent"),
        ("{newvault}", {"properties": {}}, "LocationRequired"),
        ("{newvault}", {"location": 5}, "InvalidRequestContent"),
        ("{badvault}", {"location": "local"}, "InvalidName"),
        ("{badgroup}", {"location": "local"}, "InvalidName"),
        ("{vault}/backupPolicies/p-1", {"properties": {}}, "UserErrorInvalidPolicyInput"),
        ("{vault}/backupPolicies/1", {"properties": {}}, "InvalidName"),
        ("/providers/Holdfast.Backup/regions/x", {"properties": {"store": 1}}, "InvalidParameter"),
        (
            "/providers/Holdfast.Backup/regions/_",
            {"properties": {"store": "file:///x"}},
            "InvalidName",
        ),
    ],
)
def test_bodies_of_the_wrong_kind(live: LiveServer, path: str, body: Any, code: str) -> None:
    names = {
        "vault": live.vault(),
        "newvault": live.vault("new-one"),
        "badvault": live.vault("1-bad_name"),
        "badgroup": live.group("ends-with."),
    }
    refused(live.call("PUT", path.format(**names), body), 400, code)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"location": "local", "sku": {"name": "Gold"}}, "RS0 or Standard"),
        ({"location": "local", "sku": {"name": "rs0"}}, "RS0 or Standard"),
        (
            {"properties": {"securitySettings": {"immutabilitySettings": {"state": "locked"}}}},
            "Disabled or Locked or Unlocked",
        ),
    ],
)
def test_who_sends_an_unknown_word_is_told_which_there_are(
    live: LiveServer, body: Any, words: str
) -> None:
    answer = live.call("PUT", live.vault(), body)
    refused(answer, 400, "InvalidRequestContent")
    assert words in answer.json()["error"]["hint"]


def test_copies_that_are_not_made_are_refused_with_the_word_to_send(live: LiveServer) -> None:
    address = f"{live.vault()}/backupstorageconfig/vaultstorageconfig"
    answer = live.call("PUT", address, {"properties": {"storageModelType": "GeoRedundant"}})
    refused(answer, 400, "UserErrorNotSupported")
    word = answer.json()["error"]["hint"].split("'")[1]
    taken = live.call("PUT", address, {"properties": {"storageModelType": word}})
    assert taken.status_code == 200


@pytest.mark.parametrize("store", ["file:///proc/nowhere", "file:///dev/null/x"])
def test_a_region_whose_store_cannot_be_used(live: LiveServer, store: str) -> None:
    address = "/providers/Holdfast.Backup/regions/unusable"
    refused(live.call("PUT", address, {"properties": {"store": store}}), 400, "StoreUnusable")
    refused(live.get(address), 404, "RegionNotFound")


def test_policies_out_of_range(live: LiveServer) -> None:
    address = f"{live.vault()}/backupPolicies/refused"
    for count in (0, 6, 10_000, -1, "7", 7.5, None, 10**30):
        answer = live.call("PUT", address, policy(live, count=count))
        refused(answer, 400, "UserErrorInvalidPolicyInput")
    zone = policy(live)
    zone["properties"]["timeZone"] = "Mars/Olympus"
    assert live.call("PUT", address, zone).status_code == 400
    half = policy(live)
    half["properties"]["schedulePolicy"]["scheduleRunTimes"] = ["2026-01-01T22:17:00Z"]
    assert live.call("PUT", address, half).status_code == 400
    refused(live.get(address), 404, "BMSUserErrorPolicyNotFound")


def test_a_misspelt_receiver_clears_no_receivers(live: LiveServer) -> None:
    address = f"{live.vault()}/providers/Holdfast.Backup/alertSettings"
    told = {"emails": ["ann@example.org"], "webhooks": [], "severity": 2}
    live.ok("PUT", address, {"properties": told})
    wrong = {"properties": {"mail": ["bob@example.org"]}}
    refused(live.call("PUT", address, wrong), 400, "InvalidRequestContent")
    for name in ("emails", "webhooks"):
        empty = {"properties": {**told, name: {}}}
        refused(live.call("PUT", address, empty), 400, "InvalidAlertSettings")
    assert live.ok("GET", address)["properties"] == told


def test_a_vault_that_is_not_empty(live: LiveServer) -> None:
    refused(live.call("DELETE", live.group("rg1")), 409, "ResourceGroupNotEmpty")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"$filter": "status eq"}, "InvalidFilter"),
        ({"$filter": "startTime eq 'soon'"}, "InvalidFilter"),
        ({"$skipToken": "!"}, "InvalidSkipToken"),
    ],
)
def test_queries_that_cannot_be_read(live: LiveServer, query: dict[str, str], code: str) -> None:
    refused(live.get(f"{live.vault()}/backupJobs", **query), 400, code)


def test_expiry_and_keys_of_nonsense(live: LiveServer) -> None:
    ours = f"{live.vault()}/providers/Holdfast.Backup"
    for seconds in (-1, "x", 10**9, None):
        body = {"properties": {"expiresInSeconds": seconds}}
        answer = live.call("POST", f"{ours}/createVaultCredentials", body)
        assert answer.status_code == (200 if seconds is None else 400), answer.text
    base = live.group("rg1") + "/providers/Holdfast.Backup/importVault"
    for body in (
        {},
        {"keyFile": "?"},
        {"keyFile": "é"},
        {"keyFile": "AAAA", "passphrase": "x", "path": "/nowhere"},
    ):
        answer = live.call("POST", base, {"properties": body})
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["error"]["code"] != "InternalError"


BODIES: list[Any] = [
    {},
    {"properties": None},
    {"properties": {}},
    {"properties": 7},
    {"properties": {"a": [{}] * 3}},
    {"properties": {"policyId": 5, "holdfast": 5, "protectionState": {}}},
    {"properties": {"store": {}, "credentials": "x", "passphrase": [], "planOnly": "x"}},
    {"properties": {"backupManagementType": "AzureIaasVM", "schedulePolicy": [], "timeZone": 4}},
    {"name": {}, "location": [], "tags": [], "sku": "x", "identity": 4},
]
CHANGES = [route for route in ALL if not (route.reads or route.is_public or route.is_agents)]


@pytest.mark.parametrize("route", CHANGES, ids=str)
def test_no_body_makes_a_defect(live: LiveServer, route: Route) -> None:
    """Against things that exist, and beside them."""
    deletes = route.method == "DELETE"
    for body, vault in [*((body, "v1") for body in BODIES), (BODIES[-1], "not-there")]:
        if deletes and vault == "v1":
            continue
        address = route.filled(**{**live.names, "vault": vault})
        answer = live.call(route.method, address, None if deletes else body)
        assert answer.status_code < 500, (address, body, answer.text)
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert error["code"]
            assert error["message"]


@pytest.mark.parametrize("route", [route for route in ALL if route.method == "GET"], ids=str)
def test_no_query_makes_a_defect(live: LiveServer, route: Route) -> None:
    names = ("$top", "$skipToken", "$filter", "path", "frames")
    for value in ("", "x", "-1", "9" * 400, "'", "%00", "\x00é"):
        answer = live.get(route.filled(**live.names), **dict.fromkeys(names, value))
        assert answer.status_code < 500, (value, answer.text)


def raw_bytes(live: LiveServer, data: bytes) -> bytes:
    context = ssl.create_default_context(cafile=str(live.ca))
    with (
        socket.create_connection(("127.0.0.1", live.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(data)
        return sock.recv(65536)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /subscriptions/%ff%fe?api-version=1 HTTP/1.1",
        b"GET /subscriptions/\xc3\xa9?api-version=1 HTTP/1.1",
        b"GET /%00 HTTP/1.1",
        b"GET nonsense HTTP/1.1",
        b"FLY / HTTP/1.1",
        b"\x16\x03\x01",
    ],
)
def test_broken_http(live: LiveServer, line: bytes) -> None:
    answer = raw_bytes(live, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer[:200]
    assert b"Traceback" not in answer
    assert live.raw("GET", "/healthz").status_code == 200


def test_tokens_of_odd_shapes(live: LiveServer) -> None:
    for header in ("Bearer", "Basic YTpi", "Bearer a.b.c", "Bearer " + "x" * 20_000, "é"):
        answer = live.raw(
            "GET",
            f"{live.vault()}?api-version=1",
            headers={"Authorization": header.encode("latin-1")},
        )
        assert answer.status_code in (400, 401, 431), answer.text
    wrong = live.raw(
        "GET", f"{live.vault()}?api-version=1", headers={"Authorization": "Bearer a.b.c"}
    )
    refused(wrong, 401, "InvalidAuthenticationToken")
    assert "holdfast login" in wrong.json()["error"]["hint"]
    for form in ({}, {"grant_type": "client_credentials"}, {"grant_type": ["a", "b"]}):
        answer = live.raw("POST", "/adfs/oauth2/token", data=form)
        assert answer.status_code in (400, 401), answer.text
    assertion = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "a.b.c",
    }
    assert live.raw("POST", "/adfs/oauth2/token", data=assertion).status_code == 401
    unknown = {**assertion, "client_id": str(uuid.uuid4())}
    assert live.raw("POST", "/adfs/oauth2/token", data=unknown).status_code == 401
    broken = live.raw("POST", "/adfs/oauth2/token", content=b"\xff\x00=%", headers={
        "Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert broken.status_code in (400, 401)


def test_the_log_holds_no_defect(live: LiveServer) -> None:
    """Runs last in this module: none of the above was a surprise to the server."""
    for line in live.log().splitlines():
        if line.startswith("{"):
            assert json.loads(line)["level"] not in ("error", "critical"), line
