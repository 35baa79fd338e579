"""Backup policies of a vault."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get, put

from holdfast.arm import wire
from holdfast.arm.filters import parse_filter
from holdfast.arm.http import PAGE_ROWS, ArmRequest, Body, listed, properties_of, threaded
from holdfast.arm.policy_check import check_policy
from holdfast.arm.vaults import RS, VAULT, VaultCall, vault_call
from holdfast.catalog import listing, policies
from holdfast.catalog.policies import PolicyRow
from holdfast.domain import names
from holdfast.services import policies as service
from holdfast.services.point_changes import changes_body
from holdfast.services.rates import POLICY_CHANGES, within

KIND = f"{RS}/backupPolicies"
POLICY = VAULT + "/backupPolicies/{policy:str}"


def _body(found: VaultCall, row: PolicyRow) -> Body:
    with found.call.platform.catalog.read() as connection:
        return wire.policy_body(row, found.id, policies.count_items(connection, row.id))


@get(VAULT + "/backupPolicies", opt={"action": f"{KIND}/read"})
@threaded
def list_policies(request: ArmRequest, sub: str, group: str, vault: str) -> Body:
    """Policies of a vault; ``$filter``: backupManagementType, workloadType."""
    found = vault_call(request, sub, group, vault)
    wanted = parse_filter(found.call.query("$filter"))
    with found.call.platform.catalog.read() as connection:
        page = policies.page_policies(
            connection,
            found.row.id,
            kind=wanted.get("backupmanagementtype", ""),
            limit=PAGE_ROWS,
            token=found.call.skip_token,
        )
        counts = listing.items_under(connection, (row.id for row in page.rows))
    rows = [
        wire.policy_body(row, found.id, counts.get(row.id, 0))
        for row in page.rows
        if _is_wanted(row, wanted.get("workloadtype", ""))
    ]
    return listed(rows, found.call, page.next_token)


def _is_wanted(row: PolicyRow, workload: str) -> bool:
    """Policies of machines and folders have no workload type: they are theirs alone."""
    own = str(row.properties.get("workLoadType") or "").lower()
    return not own or workload.lower() in ("", own)


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
    names.check_policy(policy)
    properties = {key: value for key, value in properties_of(data).items() if key != "holdfast"}
    check_policy(properties)
    call = found.call
    with within(call.platform, POLICY_CHANGES, found.row.id):
        by = call.principal.name
        saved = service.put_policy(call.platform, found.row, policy, properties, call.if_match, by)
    body = _body(found, saved.row)
    if saved.changes is not None:
        body["properties"]["holdfast"] = {"retentionChange": changes_body(saved.changes)}
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
