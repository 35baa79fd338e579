"""How many of each there may be, as the operator set it; and what a vault always has."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from holdfast.domain.default_policies import default_policies
from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.scripted_agent import ScriptedAgent

SMALL = {
    "HOLDFAST_RESERVE_BYTES": "0",
    "HOLDFAST_MAX_VAULTS": "2",
    "HOLDFAST_MAX_VAULT_POLICIES": "5",
    "HOLDFAST_MAX_VAULT_ITEMS": "2",
    "HOLDFAST_MAX_VAULT_MACHINES": "1",
    "HOLDFAST_MAX_POLICY_ITEMS": "1",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("small") / "server", SMALL) as server:
        server.make_vault()
        yield server


def refused(answer: httpx2.Response, setting: str) -> None:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "QuotaExceeded"), answer.text
    assert setting in error["hint"]


def policy(server: LiveServer, name: str) -> Any:
    return server.ok("GET", f"{server.vault()}/backupPolicies/{name}")["properties"]


def test_one_vault_too_many(small: LiveServer) -> None:
    small.make_vault("v2")
    body = {"location": "local", "properties": {}}
    refused(small.call("PUT", small.vault("v3"), body), "max_vaults")
    assert small.get(small.vault("v3")).status_code == 404
    assert small.call("PUT", small.vault("v2"), body).status_code == 200, "one that exists"


def test_one_policy_too_many(small: LiveServer) -> None:
    body = {"properties": policy(small, "DefaultPolicy")}
    for name in ("four", "five"):
        assert small.call("PUT", f"{small.vault()}/backupPolicies/{name}", body).status_code == 200
    refused(small.call("PUT", f"{small.vault()}/backupPolicies/six", body), "max_vault_policies")
    again = small.call("PUT", f"{small.vault()}/backupPolicies/five", body)
    assert again.status_code == 200, "one that exists"


def test_one_machine_and_one_item_too_many(small: LiveServer) -> None:
    now = datetime.now(UTC)
    ScriptedAgent(small, small.vault(), "web1", now)
    with pytest.raises(AssertionError, match="max_vault_machines"):
        ScriptedAgent(small, small.vault(), "web2", now)
    items = f"{small.vault()}/backupFabrics/Azure/protectionContainers/Linux;web1/protectedItems"

    def protect(name: str, policy: str) -> httpx2.Response:
        kind = {"protectedItemType": "MabFileFolderProtectedItem"}
        given = {**kind, "policyId": f"{small.vault()}/backupPolicies/{policy}"}
        body = {"properties": {**given, "holdfast": {"includePaths": ["/srv"]}}}
        return small.call("PUT", f"{items}/FileFolder;{name}", body)

    assert protect("one", "DefaultPolicy").status_code == 202
    assert protect("one", "DefaultPolicy").status_code == 202, "it counts once"
    refused(protect("two", "DefaultPolicy"), "max_policy_items")
    assert protect("two", "EnhancedPolicy").status_code == 202, "hourly policies protect files"
    refused(protect("two", "DefaultPolicy"), "max_policy_items")
    refused(protect("three", "EnhancedPolicy"), "max_vault_items")


@pytest.mark.parametrize("name", default_policies())
def test_a_deleted_default_policy_comes_back_as_it_was(small: LiveServer, name: str) -> None:
    address = f"{small.make_vault('v2')}/backupPolicies/{name}"
    first = small.ok("GET", address)["properties"]
    changed = copy.deepcopy(first)
    changed.get("settings", changed)["timeZone"] = "Europe/Rome"  # where its kind has it
    assert small.ok("PUT", address, {"properties": changed})["properties"] != first
    assert small.call("DELETE", address).status_code == 200
    assert small.ok("GET", address)["properties"] == first
