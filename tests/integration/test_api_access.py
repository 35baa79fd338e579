"""Who may call what: every route names its action and refuses those who may not."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast.arm.edge import AGENTS
from holdfast.testing.api_routes import Route, all_routes
from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.scripted_agent import ScriptedAgent

AUTH = "/providers/Microsoft.Authorization/roleAssignments"
DEFINITIONS = "/providers/Microsoft.Authorization/roleDefinitions"
LOGGED_IN_ONLY = {
    "/subscriptions",
    "/tenants",
    DEFINITIONS,
    f"{DEFINITIONS}/{{role}}",
    "/providers/Holdfast.Backup/changePassword",
    "/v1.0/me",
}


ALL = all_routes()
GUARDED = [route for route in ALL if not route.is_public]


def client_with_role(live: LiveServer, role: str, scope: str) -> str:
    """The token of a new client."""
    name = f"test {uuid.uuid4()}"
    made = live.ok("PUT", f"/providers/Holdfast.Backup/clients/{name}")["properties"]["credentials"]
    if role:
        body = {"properties": {"roleDefinitionId": role, "principalId": made["client_id"]}}
        live.ok("PUT", f"{scope}{AUTH}/{uuid.uuid4()}", body)
    answer = live.log_in(made["client_id"], made["client_secret"])
    token: str = answer.json()["access_token"]
    return token


def test_every_route_names_its_action() -> None:
    unnamed = {route.path for route in GUARDED if route.action is None}
    assert unnamed == LOGGED_IN_ONLY


def test_every_route_says_what_it_does() -> None:
    assert [str(route) for route in ALL if not route.doc] == []


def test_public_routes_are_the_known_ones() -> None:
    public = {route.path for route in ALL if route.is_public}
    assert public == {
        "/metadata/endpoints",
        "/adfs/.well-known/openid-configuration",
        "/{tenant}/v2.0/.well-known/openid-configuration",
        "/adfs/discovery/keys",
        "/adfs/oauth2/authorize",
        "/adfs/oauth2/callback",
        "/adfs/oauth2/deviceauth",
        "/adfs/oauth2/devicecode",
        "/adfs/oauth2/external",
        "/adfs/oauth2/revoke",
        "/adfs/oauth2/token",
        "/adfs/{tenant}/oauth2/v2.0/token",
        "/healthz",
        "/openapi.json",
        f"{AGENTS}/enroll",
        "/providers/Holdfast.Backup/itemRecoveries/{recovery}",  # by a password of their own
        "/providers/Holdfast.Backup/itemRecoveries/{recovery}/disks/{lun}",
    }


@pytest.mark.parametrize("route", GUARDED, ids=str)
def test_without_or_with_a_wrong_token(live: LiveServer, route: Route) -> None:
    address, body = route.filled(**live.names), None if route.reads else {}
    for token in ("", "nonsense", forged(live)):
        answer = live.call(route.method, address, body, token=token)
        assert answer.status_code == 401, answer.text
        if route.method != "HEAD":
            assert answer.json()["error"]["code"] in (
                "AuthenticationFailed",
                "InvalidAuthenticationToken",
            )


@pytest.fixture(scope="session")
def machines(live: LiveServer) -> str:
    """A vault of its own with the machines web1 and web2 and the item docs on web1."""
    vault = live.make_vault("roles")
    for host in ("web1", "web2"):
        ScriptedAgent(live, vault, host, datetime.now(UTC))
    item = f"{vault}/backupFabrics/Azure/protectionContainers/Linux;web1/protectedItems/docs"
    live.ok("PUT", item, {"properties": PROTECT | {"policyId": "DefaultPolicy"}})
    return vault


FILES = {"protectedItemType": "MabFileFolderProtectedItem"}
PROTECT: dict[str, Any] = {**FILES, "holdfast": {"includePaths": ["/srv"]}}
ITEM = "backupFabrics/Azure/protectionContainers/Linux;web1/protectedItems/docs"
OWNER, CONTRIBUTOR, OPERATOR, READER = (
    "Owner",
    "Backup Contributor",
    "Backup Operator",
    "Backup Reader",
)
ELSEWHERE = {"recoveryType": "OriginalLocation", "targetContainerName": "web2"}
EVERYONE = {OWNER, CONTRIBUTOR, OPERATOR, READER}
MATRIX = [
    ("GET", "", None, EVERYONE),
    ("GET", ITEM, None, EVERYONE),
    ("GET", "backupJobs", None, EVERYONE),
    ("PUT", ITEM, PROTECT, {OWNER, CONTRIBUTOR, OPERATOR}),
    ("POST", f"{ITEM}/recoveryPoints/1/restore", {"recoveryType": "OriginalLocation"},
     {OWNER, CONTRIBUTOR, OPERATOR}),
    ("POST", f"{ITEM}/recoveryPoints/1/restore", ELSEWHERE, {OWNER}),
    ("POST", "backupJobs/none/cancel", {}, {OWNER, CONTRIBUTOR, OPERATOR}),
    ("PUT", ITEM, {**FILES, "protectionState": "BackupsSuspended"}, {OWNER, CONTRIBUTOR}),
    ("DELETE", f"{ITEM}-none", None, {OWNER, CONTRIBUTOR}),
    ("DELETE", "backupFabrics/Azure/protectionContainers/Linux;none", None, {OWNER, CONTRIBUTOR}),
    ("PUT", "backupPolicies/p-1", {}, {OWNER, CONTRIBUTOR}),
    ("DELETE", "backupPolicies/none", None, {OWNER, CONTRIBUTOR}),
    ("PATCH", "", {}, {OWNER, CONTRIBUTOR}),
    ("POST", "providers/Holdfast.Backup/createVaultCredentials", {},
     {OWNER, CONTRIBUTOR, OPERATOR}),
    ("POST", "providers/Holdfast.Backup/planPolicyChange", {}, {OWNER, CONTRIBUTOR, OPERATOR}),
    ("POST", "providers/Holdfast.Backup/exportKey", {}, {OWNER}),
    ("POST", "providers/Holdfast.Backup/expire", {"planOnly": True}, {OWNER, CONTRIBUTOR}),
    ("PUT", f"providers/Microsoft.Authorization/roleAssignments/{uuid.UUID(int=7)}", {}, {OWNER}),
]  # fmt: skip


@pytest.fixture(scope="session")
def tokens(live: LiveServer, machines: str) -> dict[str, str]:
    return {role: client_with_role(live, role, machines) for role in sorted(EVERYONE)}


@pytest.mark.parametrize(("method", "path", "properties", "may"), MATRIX)
def test_what_each_role_may_do(
    live: LiveServer,
    machines: str,
    tokens: dict[str, str],
    method: str,
    path: str,
    properties: dict[str, Any] | None,
    may: set[str],
) -> None:
    """Refused with 403, or answered in any other way."""
    address = f"{machines}/{path}".rstrip("/")
    body = None if properties is None else {"properties": properties}
    for role, token in tokens.items():
        answer = live.call(method, address, body, token=token)
        assert (answer.status_code != 403) == (role in may), (role, answer.text)
        assert answer.status_code < 500


def test_a_client_without_roles_sees_no_subscription_and_no_vault(live: LiveServer) -> None:
    token = client_with_role(live, "", "")
    assert live.get("/subscriptions", token=token).json() == {"value": []}
    assert live.get(live.subscription, token=token).status_code == 403
    assert live.get(live.vault(), token=token).status_code == 403


def test_a_role_reaches_below_its_scope_only(live: LiveServer) -> None:
    live.make_vault("other", "rg-other")
    token = client_with_role(live, "Backup Contributor", live.group("rg-other"))
    assert live.get(live.vault("other", "rg-other"), token=token).status_code == 200
    assert live.get(live.vault(), token=token).status_code == 403
    patched = live.call("PATCH", live.vault("other", "rg-other"), {"tags": {"a": "b"}}, token=token)
    assert patched.json()["tags"] == {"a": "b"}
    key = {"properties": {"passphrase": "a long passphrase"}}
    ours = f"{live.vault('other', 'rg-other')}/providers/Holdfast.Backup/exportKey"
    assert live.call("POST", ours, key, token=token).status_code == 403
    grant = f"{live.group('rg-other')}{AUTH}/{uuid.uuid4()}"
    body = {"properties": {"roleDefinitionId": "Owner", "principalId": "administrator"}}
    assert live.call("PUT", grant, body, token=token).status_code == 403


def forged(live: LiveServer, **claims: Any) -> str:
    """A token of the right shape signed by a stranger."""
    body = {"aud": "holdfast", "sub": live.admin["client_id"], "exp": 2**33, "tid": "x", **claims}
    return jwt.encode(body, Ed25519PrivateKey.generate(), algorithm="EdDSA")


def test_an_unsigned_token_is_refused(live: LiveServer) -> None:
    claims = jwt.decode(live.token(), options={"verify_signature": False})
    unsigned = jwt.encode(claims, None, algorithm="none")
    assert live.get(live.vault(), token=unsigned).status_code == 401
    head, body, signature = live.token().split(".")
    assert live.get(live.vault(), token=f"{head}.{body}A.{signature}").status_code == 401


def test_a_disabled_client_is_refused_at_once(live: LiveServer) -> None:
    name = "/providers/Holdfast.Backup/clients/passing"
    made = live.ok("PUT", name)["properties"]["credentials"]
    token = live.log_in(made["client_id"], made["client_secret"]).json()["access_token"]
    assert live.get("/subscriptions", token=token).status_code == 200
    live.ok("DELETE", name)
    assert live.get("/subscriptions", token=token).status_code == 401
    assert live.log_in(made["client_id"], made["client_secret"]).status_code == 401
    assert live.call("PUT", name).status_code == 201, "the name is free again"


def test_a_renewed_secret_replaces_the_old(live: LiveServer) -> None:
    name = "/providers/Holdfast.Backup/clients/renewed"
    first = live.ok("PUT", name)["properties"]["credentials"]
    assert live.call("PUT", name).json()["error"]["code"] == "ClientExists"
    second = live.ok("POST", f"{name}/renewSecret")["properties"]["credentials"]
    assert first["client_id"] == second["client_id"]
    assert live.log_in(first["client_id"], first["client_secret"]).status_code == 401
    assert live.log_in(second["client_id"], second["client_secret"]).status_code == 200
    assert second["client_secret"] not in live.log()


def test_failed_logins_are_slowed_down(live: LiveServer) -> None:
    client = str(uuid.uuid4())
    codes = [live.log_in(client, "wrong").status_code for _ in range(12)]
    assert codes[:10] == [401] * 10
    assert codes[10:] == [429] * 2
    assert live.log_in().status_code == 200, "others are not locked out"


def test_the_login_endpoints(live: LiveServer) -> None:
    metadata = live.raw("GET", f"{live.url}//metadata/endpoints?api-version=1").json()
    assert metadata["authentication"]["loginEndpoint"] == f"{live.url}/adfs"
    found = live.raw("GET", "/adfs/.well-known/openid-configuration").json()
    form = {
        "grant_type": "client_credentials",
        "client_id": live.admin["client_id"],
        "client_secret": live.admin["client_secret"],
    }
    answer = live.raw("POST", found["token_endpoint"], data=form)
    assert answer.json()["token_type"] == "Bearer"
    assert answer.json()["expires_in"] == 3600
    assert answer.headers["cache-control"] == "no-store"
    tenant = live.admin["tenant_id"]
    assert live.raw("POST", f"/adfs/{tenant}/oauth2/v2.0/token", data=form).status_code == 200
    wrong = live.raw("POST", found["token_endpoint"], data=form | {"client_secret": "no"})
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.json()["error_codes"] == [7000215]
    grant = live.raw("POST", found["token_endpoint"], data=form | {"grant_type": "magic"})
    assert (grant.status_code, grant.json()["error"]) == (400, "unsupported_grant_type")


def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    environment = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TOKEN_SECONDS": "60"}
    clock = tmp_path / "clock"
    clock.write_text("2026-01-01T00:00:00+00:00")
    environment["HOLDFAST_TEST_CLOCK"] = str(clock)
    with live_server(tmp_path / "server", environment, test_mode=True) as server:
        token = server.token()
        assert server.get("/subscriptions", token=token).status_code == 200
        clock.write_text("2026-01-01T00:01:01+00:00")
        answer = server.get("/subscriptions", token=token)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "ExpiredAuthenticationToken"
        assert "holdfast login" in answer.json()["error"]["hint"]
