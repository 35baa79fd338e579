"""Backup policies of a vault."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, put

from holdfast.arm import wire
from holdfast.arm.filters import parse_filter
from holdfast.arm.http import ArmRequest, Body, listed, properties_of, threaded
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog import policies
from holdfast.catalog.policies import PolicyRow
from holdfast.services import policies as service

KIND = f"{RS}/backupPolicies"
POLICY = VAULT + "/backupPolicies/{policy:str}"


def _body(found: VaultCall, row: PolicyRow) -> Body:
    with found.call.platform.catalog.read() as connection:
        return wire.policy_body(row, found.id, policies.count_items(connection, row.id))


@get(VAULT + "/backupPolicies", opt={"action": f"{KIND}/read"})
@threaded
def list_policies(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Policies of a vault; ``$filter``: backupManagementType."""
    found = vault_call(request, sub, group, vault)
    wanted = parse_filter(found.call.query("$filter"))
    kind = wanted.get("backupmanagementtype", "").lower()
    with found.call.platform.catalog.read() as connection:
        rows = policies.list_policies(connection, found.row.id)
    chosen = [row for row in rows if not kind or row.management_type.lower() == kind]
    return listed([_body(found, row) for row in chosen], found.call)


@get(POLICY, opt={"action": f"{KIND}/read"})
@threaded
def get_policy(request: ArmRequest, sub: str, group: str, vault: str, policy: str) -> Body:
    """One policy, with the number of items it protects."""
    found = vault_call(request, sub, group, vault)
    with found.call.platform.catalog.read() as connection:
        row = service.find_policy(connection, found.row, policy)
    return _body(found, row)


@put(POLICY, opt={"action": f"{KIND}/write"})
@threaded
def put_policy(
    request: ArmRequest, sub: str, group: str, vault: str, policy: str, data: dict[str, Any]
) -> Body:
    """Create or change a policy; a change says how many recovery points it touches."""
    found = vault_call(request, sub, group, vault)
    properties = properties_of(data)
    call = found.call
    saved = service.put_policy(call.platform, found.row, policy, properties, call.if_match)
    body = _body(found, saved.row)
    if saved.changes is not None:
        body["properties"]["holdfast"] = {"retentionChange": wire.changes_body(saved.changes)}
    return body


@delete(POLICY, opt={"action": f"{KIND}/delete"}, status_code=200)
@threaded
def delete_policy(
    request: ArmRequest, sub: str, group: str, vault: str, policy: str
) -> Response[None]:
    """Delete a policy nothing is protected by."""
    found = vault_call(request, sub, group, vault)
    gone = service.delete_policy(found.call.platform, found.row, policy)
    return Response(content=None, status_code=200 if gone else 204)


ROUTES = [list_policies, get_policy, put_policy, delete_policy]
