"""Who may do what: clients, role assignments in Azure's shape, and the audit record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar import Response, delete, get, post, put

from holdfast.arm.filters import parse_date, parse_filter
from holdfast.arm.guard import needs, needs_on_installation
from holdfast.arm.http import (
    PAGE_ROWS,
    ArmRequest,
    Body,
    call_of,
    listed,
    properties_of,
    stamp,
    text_of,
    threaded,
)
from holdfast.arm.subscriptions import GROUP_PATH, SUB, check_subscription
from holdfast.arm.vaults import VAULT
from holdfast.catalog import audit
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow
from holdfast.catalog.audit import AuditRow
from holdfast.domain.access import AGENT, ROLES, Role
from holdfast.errors import UsageError
from holdfast.services import clients as service

HB, AUTH = "Holdfast.Backup", "Microsoft.Authorization"
CLIENTS = f"/providers/{HB}/clients"
ASSIGNMENTS = f"/providers/{AUTH}/roleAssignments"
SCOPES = (SUB, GROUP_PATH, VAULT)


def _client_body(row: PrincipalRow) -> Body:
    properties: Body = {
        "clientId": row.id,
        "createdAt": stamp(row.created_at),
        "disabledAt": stamp(row.disabled_at),
    }
    return {
        "id": f"{CLIENTS}/{row.name}",
        "name": row.name,
        "type": f"{HB}/clients",
        "properties": properties,
    }


def _with_secret(request: ArmRequest, row: PrincipalRow, secret: str) -> Body:
    """The client and, this once, what its credentials file holds."""
    body, platform = _client_body(row), call_of(request).platform
    body["properties"]["credentials"] = {
        "client_id": row.id,
        "client_secret": secret,
        "tenant_id": platform.tenant_id,
        "subscription_id": platform.subscription_id,
    }
    return body


@get(CLIENTS, opt=needs_on_installation(f"{HB}/clients/read"))
@threaded
def list_clients(request: ArmRequest) -> Body:
    """Logins of people and services; agents are not among them."""
    call = call_of(request)
    return listed([_client_body(row) for row in service.list_clients(call.platform)], call)


@get(CLIENTS + "/{client:str}", opt=needs_on_installation(f"{HB}/clients/read"))
@threaded
def get_client(request: ArmRequest, client: str) -> Body:
    """One client."""
    with call_of(request).platform.catalog.read() as connection:
        return _client_body(service.find_client(connection, client))


@put(CLIENTS + "/{client:str}", opt=needs_on_installation(f"{HB}/clients/write"), status_code=201)
@threaded
def put_client(request: ArmRequest, client: str) -> Body:
    """Make a client; its secret is in this answer only."""
    row, secret = service.make_client(call_of(request).platform, client)
    return _with_secret(request, row, secret)


@post(
    CLIENTS + "/{client:str}/renewSecret",
    opt=needs_on_installation(f"{HB}/clients/write"),
    status_code=200,
)
@threaded
def renew_secret(request: ArmRequest, client: str) -> Body:
    """Replace a client's secret."""
    row, secret = service.renew_secret(call_of(request).platform, client)
    return _with_secret(request, row, secret)


@delete(
    CLIENTS + "/{client:str}",
    opt=needs_on_installation(f"{HB}/clients/delete"),
    status_code=200,
)
@threaded
def delete_client(request: ArmRequest, client: str) -> None:
    """Disable a client and take its roles; it stays in the audit record."""
    call = call_of(request)
    service.disable_client(call.platform, client, call.principal)


# roles


def _scope(request: ArmRequest, sub: str) -> str:
    """The ARM id the address is about. NotFoundError for another subscription."""
    check_subscription(call_of(request), sub)
    path: str = request.scope["path"]
    return path[: path.index(f"/providers/{AUTH}")]


def _definition_id(role: str) -> str:
    return f"/providers/{AUTH}/roleDefinitions/{role}"


def _assignment_body(row: RoleAssignmentRow, names: Mapping[str, str]) -> Body:
    scope = row.scope.rstrip("/")
    role = ROLES.get(row.role)
    return {
        "id": f"{scope}{ASSIGNMENTS}/{row.id}",
        "name": row.id,
        "type": f"{AUTH}/roleAssignments",
        "properties": {
            "roleDefinitionId": _definition_id(row.role),
            "roleDefinitionName": role.name if role else row.role,
            "principalId": row.principal_id,
            "principalName": names.get(row.principal_id, row.principal_id),
            "principalType": "ServicePrincipal",
            "scope": scope or "/",
            "createdOn": stamp(row.created_at),
        },
    }


def _role_body(role: Role) -> Body:
    return {
        "id": _definition_id(role.id),
        "name": role.id,
        "type": f"{AUTH}/roleDefinitions",
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "permissions": [{"actions": list(role.actions), "notActions": list(role.not_actions)}],
            "assignableScopes": ["/"],
        },
    }


@get(SUB + f"/providers/{AUTH}/roleDefinitions", opt=needs(f"{AUTH}/roleDefinitions/read"))
async def list_roles(request: ArmRequest, sub: str) -> Body:
    """The roles a client can be given."""
    check_subscription(call_of(request), sub)
    return {"value": [_role_body(role) for role in ROLES.values() if role is not AGENT]}


@get(
    [scope + ASSIGNMENTS for scope in SCOPES],
    opt=needs(f"{AUTH}/roleAssignments/read"),
)
@threaded
def list_assignments(request: ArmRequest, sub: str, group: str = "", vault: str = "") -> Body:
    """Roles given at this scope, above it and below it."""
    call = call_of(request)
    wanted = parse_filter(call.query("$filter"), lenient=True).get("principalid", "")
    rows = service.assignments_below(call.platform, _scope(request, sub))
    chosen = [row for row in rows if wanted in ("", row.principal_id) and row.role != AGENT.id]
    names = service.client_names(call.platform)
    return listed([_assignment_body(row, names) for row in chosen], call)


@get(
    [scope + ASSIGNMENTS + "/{assignment:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleAssignments/read"),
)
@threaded
def get_assignment(
    request: ArmRequest, sub: str, assignment: str, group: str = "", vault: str = ""
) -> Body:
    """One role assignment."""
    platform, scope = call_of(request).platform, _scope(request, sub)
    row = service.find_assignment(platform, scope, assignment)
    return _assignment_body(row, service.client_names(platform))


@put(
    [scope + ASSIGNMENTS + "/{assignment:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleAssignments/write"),
)
@threaded
def put_assignment(
    request: ArmRequest,
    sub: str,
    assignment: str,
    data: dict[str, Any],
    group: str = "",
    vault: str = "",
) -> Response[Body]:
    """Give a client a role at this scope."""
    asked = properties_of(data)
    role, principal = text_of(asked, "roleDefinitionId"), text_of(asked, "principalId")
    if not role or not principal:
        raise UsageError(
            "a role assignment needs roleDefinitionId and principalId",
            code="InvalidRequestContent",
            hint="principalId is a client's id or name, roleDefinitionId a role's id or name",
        )
    platform, scope = call_of(request).platform, _scope(request, sub)
    row, new = service.assign_role(platform, assignment, scope, role, principal)
    body = _assignment_body(row, service.client_names(platform))
    return Response(body, status_code=201 if new else 200)


@delete(
    [scope + ASSIGNMENTS + "/{assignment:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleAssignments/delete"),
    status_code=200,
)
@threaded
def delete_assignment(
    request: ArmRequest, sub: str, assignment: str, group: str = "", vault: str = ""
) -> Response[None]:
    """Take a role away."""
    platform, scope = call_of(request).platform, _scope(request, sub)
    gone = service.remove_assignment(platform, scope, assignment)
    return Response(content=None, status_code=200 if gone else 204)


# audit


def _audit_body(row: AuditRow) -> Body:
    return {
        "id": f"/providers/{HB}/audit/{row.id}",
        "name": str(row.id),
        "type": f"{HB}/audit",
        "properties": {
            "time": stamp(row.at),
            "principalId": row.principal_id,
            "principalName": row.principal_name,
            "operation": row.operation,
            "resource": row.resource,
            "clientAddress": row.client_address,
            "requestId": row.request_id,
            "status": row.status,
            "resultCode": row.result_code,
            "details": row.details,
        },
    }


@get(f"/providers/{HB}/audit", opt=needs_on_installation(f"{HB}/audit/read"))
@threaded
def list_audit(request: ArmRequest) -> Body:
    """What was changed, newest first; ``$filter``: startTime, endTime."""
    call = call_of(request)
    wanted = parse_filter(call.query("$filter"))
    with call.platform.catalog.read() as connection:
        page = audit.page_audit(
            connection,
            since=parse_date(wanted.get("starttime")),
            until=parse_date(wanted.get("endtime")),
            limit=PAGE_ROWS,
            token=call.skip_token,
        )
    return listed([_audit_body(row) for row in page.rows], call, page.next_token)


ROUTES = [
    list_clients,
    get_client,
    put_client,
    renew_secret,
    delete_client,
    list_roles,
    list_assignments,
    get_assignment,
    put_assignment,
    delete_assignment,
    list_audit,
]
