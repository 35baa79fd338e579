"""Roles over Microsoft.Authorization in Azure's shape, and lists that show no more than allowed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from holdfast.testing.in_process import InProcess, Reply, in_process

AUTH = "/providers/Microsoft.Authorization"
VAULTS = "/providers/Microsoft.RecoveryServices/vaults"
AZURES = {  # as Azure's documentation of built-in roles has them
    "Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Reader": "acdd72a7-3385-48ef-bd42-f606fba81ae7",
    "Backup Contributor": "5e467623-bb1f-42f4-a55d-6e525e11384b",
    "Backup Operator": "00c29273-979b-4161-815c-10b084fb9324",
    "Backup Reader": "a795c7a0-d4a2-40c1-ae25-d81f01202912",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """Vaults a1 and a2 in the group a, b1 in b; the group c is empty."""
    with in_process(tmp_path_factory.mktemp("roles") / "server") as made:
        admin = made.holder("Owner", made.subscription)
        for group, vaults in (("a", ("a1", "a2")), ("b", ("b1",)), ("c", ())):
            home = f"{made.subscription}/resourceGroups/{group}"
            made.call("PUT", home, {"location": "local"}, token=admin)
            for name in vaults:
                body = {"location": "local", "properties": {}}
                assert made.call("PUT", made.vault(name, group), body, token=admin).status == 201
        yield made


@pytest.fixture(scope="module")
def admin(server: InProcess) -> str:
    return server.holder("Owner", server.subscription)


def names(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.content
    return [row["name"] for row in reply.json["value"]]


@pytest.mark.parametrize(
    ("scope", "everywhere", "in_a", "groups"),
    [
        ("", ["a1", "a2", "b1"], ["a1", "a2"], ["a", "b", "c"]),
        ("/resourceGroups/a", ["a1", "a2"], ["a1", "a2"], ["a"]),
        ("/resourceGroups/c", [], None, ["c"]),
        (f"/resourceGroups/a{VAULTS}/a1", ["a1"], ["a1"], ["a"]),
        (f"/resourceGroups/b{VAULTS}/b1", ["b1"], None, ["b"]),
    ],
)
def test_lists_hold_what_the_caller_may_read(
    server: InProcess, scope: str, everywhere: list[str], in_a: list[str] | None, groups: list[str]
) -> None:
    token, sub = server.holder("Backup Reader", server.subscription + scope), server.subscription
    assert names(server.call("GET", f"{sub}{VAULTS}", token=token)) == everywhere
    group = server.call("GET", f"{sub}/resourceGroups/a{VAULTS}", token=token)
    assert (names(group) if group.status == 200 else None) == in_a
    assert names(server.call("GET", f"{sub}/resourceGroups", token=token)) == groups
    assert names(server.call("GET", f"{sub}/locations", token=token)) == ["local"]
    (seen,) = server.call("GET", "/subscriptions", token=token).json["value"]
    assert seen["id"] == sub


def assign(server: InProcess, token: str, scope: str, role: str, principal: str) -> Reply:
    """As `az role assignment create` sends it."""
    role_id = f"{server.subscription}{AUTH}/roleDefinitions/{AZURES.get(role, role)}"
    body = {"properties": {"roleDefinitionId": role_id, "principalId": principal,
                           "principalType": "ServicePrincipal"}}  # fmt: skip
    address = f"{scope}{AUTH}/roleAssignments/{uuid.uuid4()}?api-version=2022-04-01"
    return server.call("PUT", address, body, token=token)


def client(server: InProcess, admin: str) -> str:
    """The id of a new client."""
    path = f"/providers/Holdfast.Backup/clients/c-{uuid.uuid4()}"
    made = server.call("PUT", path, token=admin)
    found: str = made.json["properties"]["clientId"]
    return found


def test_an_assignment_in_azures_shape(server: InProcess, admin: str) -> None:
    who, vault = client(server, admin), server.vault("a1", "a")
    made = assign(server, admin, vault, "Backup Reader", who)
    assert made.status == 201
    properties: dict[str, Any] = made.json["properties"]
    assert made.json["type"] == "Microsoft.Authorization/roleAssignments"
    assert made.json["id"] == f"{vault}{AUTH}/roleAssignments/{made.json['name']}"
    assert properties["scope"] == vault
    assert properties["principalType"] == "ServicePrincipal"
    assert properties["roleDefinitionId"].endswith(f"/{AZURES['Backup Reader']}")
    again = assign(server, admin, vault, "Backup Reader", who)
    assert (again.status, again.code) == (409, "RoleAssignmentExists")
    address = made.json["id"]
    assert server.call("GET", address, token=admin).json == made.json
    above = address.replace(VAULTS + "/a1", "")
    assert server.call("GET", above, token=admin).code == "RoleAssignmentNotFound"
    assert server.call("DELETE", above, token=admin).status == 204, "it is not there"
    assert server.call("DELETE", address, token=admin).json["name"] == made.json["name"]
    assert server.call("DELETE", address, token=admin).status == 204


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"", "/resourceGroups/a", f"/resourceGroups/a{VAULTS}/a1"}),
        ("atScope()", {"", "/resourceGroups/a"}),
        ("principalId eq '{who}'", {"", "/resourceGroups/a", f"/resourceGroups/a{VAULTS}/a1"}),
        ("assignedTo('{who}')", {"", "/resourceGroups/a", f"/resourceGroups/a{VAULTS}/a1"}),
        ("atScope() and assignedTo('{who}')", {"", "/resourceGroups/a"}),
        ("atScope() and principalId eq 'nobody'", set()),
    ],
)
def test_filters_of_assignments(server: InProcess, admin: str, query: str, found: set[str]) -> None:
    """Given at the subscription, the groups a and b and the vault a1; asked for at the group a."""
    who, sub = client(server, admin), server.subscription
    for scope in ("", "/resourceGroups/a", f"/resourceGroups/a{VAULTS}/a1", "/resourceGroups/b"):
        assert assign(server, admin, sub + scope, "Reader", who).status == 201
    text = quote(query.replace("{who}", who))
    address = f"{sub}/resourceGroups/a{AUTH}/roleAssignments?api-version=1&$filter={text}"
    rows = server.call("GET", address, token=admin).json["value"]
    mine = {row["properties"]["scope"] for row in rows if row["properties"]["principalId"] == who}
    assert mine == {sub + scope for scope in found}


def test_definitions_are_azures(server: InProcess, admin: str) -> None:
    address = f"{server.vault('a1', 'a')}{AUTH}/roleDefinitions"
    rows = server.call("GET", address, token=admin).json["value"]
    listed = {row["properties"]["roleName"]: row for row in rows}
    assert {name: listed[name]["name"] for name in AZURES} == AZURES
    query = quote("roleName eq 'Backup Operator'")
    asked = server.call("GET", f"{address}?api-version=1&$filter={query}", token=admin)
    (one,) = asked.json["value"]
    assert one["id"] == (f"{server.subscription}{AUTH}/roleDefinitions/{AZURES['Backup Operator']}")
    assert set(one["properties"]["permissions"][0]) == {
        "actions", "notActions", "dataActions", "notDataActions"
    }  # fmt: skip
    nobody = server.holder("", "")
    assert server.call("GET", one["id"], token=admin).json == one
    same = f"{AUTH}/roleDefinitions/{AZURES['Backup Operator']}"
    assert server.call("GET", same, token=nobody).json == one
    unknown = server.call("GET", f"{AUTH}/roleDefinitions/{uuid.UUID(int=1)}", token=nobody)
    assert (unknown.status, unknown.code) == (404, "RoleDefinitionDoesNotExist")


def test_custom_roles_are_refused_with_a_reason(server: InProcess, admin: str) -> None:
    """As `az role definition create` and `delete` send them."""
    address = f"{server.subscription}{AUTH}/roleDefinitions/{uuid.UUID(int=4)}"
    asked = {"properties": {"roleName": "x", "type": "CustomRole", "permissions": [
        {"actions": ["*/read"]}], "assignableScopes": [server.subscription]}}  # fmt: skip
    for method, body in (("PUT", asked), ("DELETE", None)):
        refused = server.call(method, address, body, token=admin)
        assert (refused.status, refused.code) == (400, "UserErrorNotSupported")
        assert "custom roles" in refused.json["error"]["message"]


def graph(server: InProcess, token: str, path: str, text: str = "") -> Reply:
    """As az asks, which calls our address a directory's."""
    query = f"?$filter={quote(text)}" if text else "?x=1"
    return server.call("GET", f"/v1.0/{path}{query}", token=token)


def test_who_is_looked_up_before_a_role_is_given(server: InProcess, admin: str) -> None:
    made = server.call("PUT", "/providers/Holdfast.Backup/clients/o'brian", token=admin)
    assert made.code == "InvalidName", "no name needs doubling"
    body = {"properties": {"password": "correct horse battery", "displayName": "Zoe"}}
    users = "/providers/Holdfast.Backup/users"
    zoe = server.call("PUT", f"{users}/zoe@x.org", body, token=admin).json["properties"]
    who, nobody = client(server, admin), server.holder("Reader", server.vault("a1", "a"))

    def found(path: str, text: str) -> list[str]:
        return [one["id"] for one in graph(server, admin, path, text).json["value"]]

    assert found("users", "userPrincipalName eq 'ZOE@x.org'") == [zoe["principalId"]]
    assert found("users", "userPrincipalName eq 'zo'") == []
    named = "servicePrincipalNames/any(c:c eq '{}')"
    assert found("servicePrincipals", named.format(who)) == [who]
    assert found("servicePrincipals", named.format("zoe@x.org")) == [zoe["principalId"]]
    assert found("servicePrincipals", named.format(zoe["principalId"])) == [], "asked for as an id"
    ids = {"ids": [zoe["principalId"].upper(), who, str(uuid.UUID(int=5))], "types": ["user"]}
    kinds = {}
    for token in (admin, nobody):
        answer = server.call("POST", "/v1.0/directoryObjects/getByIds", ids, token=token)
        kinds = {one["id"]: one["@odata.type"] for one in answer.json["value"]}
        assert kinds == {zoe["principalId"]: "#microsoft.graph.user",
                         who: "#microsoft.graph.servicePrincipal"}  # fmt: skip
    assert graph(server, nobody, "users").status == 403, "only owners see who there is"
    assert graph(server, nobody, "servicePrincipals").status == 403
    refused = graph(server, admin, "users", "startswith(displayName,'Z')")
    assert refused.status == 400
    assert graph(server, admin, "users/zoe@x.org").json["displayName"] == "Zoe"
    assert graph(server, admin, "me").status == 404, "a client"
    rows = server.call("GET", "/providers/Holdfast.Backup/audit", token=admin).json["value"]
    asked = [row for row in rows if row["properties"]["resource"].startswith("/v1.0/")]
    assert asked == [], "looking up changes nothing"


@pytest.mark.parametrize(
    ("role", "principal", "code"),
    [
        ("Backup Reader", "nobody", "PrincipalNotFound"),
        (str(uuid.UUID(int=3)), "administrator", "RoleDefinitionDoesNotExist"),
        ("1d3b8a52-0c7e-4d0f-9a53-6a1f5c0a4e01", "administrator", "RoleDefinitionDoesNotExist"),
    ],
)
def test_assignments_that_are_refused(
    server: InProcess, admin: str, role: str, principal: str, code: str
) -> None:
    """The last is the role of agents, which nobody is given by hand."""
    refused = assign(server, admin, server.subscription, role, principal)
    assert (refused.status, refused.code) == (400, code)


def test_nobody_gives_more_than_they_have(server: InProcess, admin: str) -> None:
    """An owner of a vault gives roles there and nowhere else; others give none at all."""
    who, vault = client(server, admin), server.vault("a1", "a")
    owner = server.holder("Owner", vault)
    assert assign(server, owner, vault, "Backup Reader", who).status == 201
    for scope in (server.vault("a2", "a"), f"{server.subscription}/resourceGroups/a",
                  server.subscription):  # fmt: skip
        assert assign(server, owner, scope, "Backup Reader", who).code == "AuthorizationFailed"
    for role in ("Contributor", "Backup Contributor", "Backup Operator", "Reader"):
        token = server.holder(role, server.subscription)
        assert assign(server, token, vault, "Owner", who).code == "AuthorizationFailed"


def test_the_provider_lists_the_actions_roles_are_made_of(server: InProcess, admin: str) -> None:
    rows = server.call("GET", "/providers/Microsoft.RecoveryServices/operations", token=admin)
    found = {row["name"] for row in rows.json["value"]}
    base = "Microsoft.RecoveryServices/vaults"
    items = f"{base}/backupFabrics/protectionContainers/protectedItems"
    assert {
        f"{base}/read", f"{base}/write", f"{base}/delete", f"{base}/usages/read",
        f"{base}/backupconfig/read", f"{base}/backupconfig/write",
        f"{base}/backupstorageconfig/write", f"{base}/backupPolicies/write",
        f"{base}/backupProtectedItems/read", f"{base}/backupProtectionContainers/read",
        f"{base}/backupJobs/cancel/action", f"{base}/backupOperations/read",
        f"{base}/backupFabrics/refreshContainers/action", f"{base}/registeredIdentities/delete",
        f"{items}/write", f"{items}/backup/action", f"{items}/recoveryPoints/restore/action",
        f"{items}/operationsStatus/read",
    } <= found  # fmt: skip
    assert all(row["display"]["description"] for row in rows.json["value"])


def test_a_new_vault_or_group_of_an_old_name_starts_without_its_roles(
    server: InProcess, admin: str
) -> None:
    home, vault = f"{server.subscription}/resourceGroups/x_y", server.vault("again", "x_y")
    body = {"location": "local", "properties": {}}

    def make() -> None:
        assert server.call("PUT", home, {"location": "local"}, token=admin).status == 201
        assert server.call("PUT", vault, body, token=admin).status == 201

    make()
    at_vault, at_group = server.holder("Reader", vault), server.holder("Reader", home)
    beside = server.holder("Reader", home.replace("x_y", "x-y"))
    assert server.call("GET", vault, token=at_vault).status == 200
    assert server.call("DELETE", vault, token=admin).status == 202
    assert server.call("PUT", vault, body, token=admin).status == 201
    assert server.call("GET", vault, token=at_vault).status == 403
    assert server.call("GET", vault, token=at_group).status == 200
    assert server.call("DELETE", vault, token=admin).status == 202
    assert server.call("DELETE", home, token=admin).status == 200
    make()
    assert server.call("GET", vault, token=at_group).status == 403
    assert server.call("GET", home.replace("x_y", "x-y"), token=beside).status == 404, "kept"
