"""Who may do what: role definitions and role assignments in Azure's shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from litestar import Response, delete, get, put

from holdfast.arm.filters import parse_filter
from holdfast.arm.guard import needs
from holdfast.arm.http import (
    ArmRequest,
    Body,
    Call,
    call_of,
    listed,
    properties_of,
    stamp,
    text_of,
    threaded,
)
from holdfast.arm.subscriptions import GROUP_PATH, SUB, check_subscription
from holdfast.arm.vaults import VAULT
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow
from holdfast.domain.access import ROLES, Role
from holdfast.errors import NotFoundError, UsageError
from holdfast.services import roles as service

AUTH = "Microsoft.Authorization"
ASSIGNMENTS = f"/providers/{AUTH}/roleAssignments"
DEFINITIONS = f"/providers/{AUTH}/roleDefinitions"
SCOPES = (SUB, GROUP_PATH, VAULT)
KINDS = {"service": "ServicePrincipal", "user": "User"}
_WORDS = {"resourcegroups": "resourceGroups", "microsoft.recoveryservices": (
    "Microsoft.RecoveryServices")}  # fmt: skip
_ABOUT = re.compile(r"\s*assignedTo\(\s*'([^']*)'\s*\)\s*", re.IGNORECASE)
_AT = re.compile(r"\s*atScope(?:AndBelow)?\(\s*\)\s*(?:and\b)?", re.IGNORECASE)
Principals = Mapping[str, PrincipalRow]


def _scope(call: Call, sub: str, word: str) -> str:
    """The ARM id the address is about. NotFoundError for another subscription."""
    check_subscription(call, sub)
    path: str = call.request.scope["path"]
    return path[: path.index(word)]


def _shown(scope: str) -> str:
    """A scope as kept (lower case) in ARM's form."""
    return "/".join(_WORDS.get(part, part) for part in scope.split("/")) or "/"


# definitions


def _definition_id(call: Call, role: str) -> str:
    return f"/subscriptions/{call.platform.subscription_id}{DEFINITIONS}/{role}"


def _role_body(call: Call, role: Role) -> Body:
    permissions = {
        "actions": list(role.actions),
        "notActions": list(role.not_actions),
        "dataActions": [],
        "notDataActions": [],
    }
    return {
        "id": _definition_id(call, role.id),
        "name": role.id,
        "type": f"{AUTH}/roleDefinitions",
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": role.name,
            "permissions": [permissions],
            "assignableScopes": ["/"],
        },
    }


def _roles(request: ArmRequest) -> Body:
    call = call_of(request)
    wanted = parse_filter(call.query("$filter"), lenient=True)
    name, kind = wanted.get("rolename", "").lower(), wanted.get("type", "builtinrole").lower()
    rows = [
        _role_body(call, role)
        for role in service.grantable()
        if name in ("", role.name.lower()) and kind == "builtinrole"
    ]
    return listed(rows, call)


def _role(request: ArmRequest, role: str) -> Body:
    for one in service.grantable():
        if one.id == role.lower():
            return _role_body(call_of(request), one)
    raise NotFoundError(
        f"the role definition {role[:100]!r} does not exist",
        code="RoleDefinitionDoesNotExist",
        hint="list the role definitions to see which",
    )


@get([scope + DEFINITIONS for scope in SCOPES], opt=needs(f"{AUTH}/roleDefinitions/read"))
async def list_roles(request: ArmRequest, sub: str, group: str = "", vault: str = "") -> Body:
    """The roles that can be given; ``$filter``: roleName."""
    check_subscription(call_of(request), sub)
    return _roles(request)


@get(
    [scope + DEFINITIONS + "/{role:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleDefinitions/read"),
)
async def get_role(
    request: ArmRequest, sub: str, role: str, group: str = "", vault: str = ""
) -> Body:
    """One role: what it allows."""
    check_subscription(call_of(request), sub)
    return _role(request, role)


def _custom() -> UsageError:
    return UsageError(
        "custom roles are not supported by this release: the roles are the built-in ones",
        code="UserErrorNotSupported",
        hint="see what each allows (holdfast role list), and give the one that fits at a narrow "
        "scope",
    )


@put(
    [scope + DEFINITIONS + "/{role:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleDefinitions/write"),
)
async def put_role(
    request: ArmRequest,
    sub: str,
    role: str,
    data: dict[str, Any],
    group: str = "",
    vault: str = "",
) -> Body:
    """Refused: there are no custom roles."""
    raise _custom()


@delete(
    [scope + DEFINITIONS + "/{role:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleDefinitions/delete"),
    status_code=200,
)
async def delete_role(
    request: ArmRequest, sub: str, role: str, group: str = "", vault: str = ""
) -> Body:
    """Refused: built-in roles stay."""
    raise _custom()


@get(DEFINITIONS, opt={"action": None})
async def list_all_roles(request: ArmRequest) -> Body:
    """The roles that can be given; every installation has the same."""
    return _roles(request)


@get(DEFINITIONS + "/{role:str}", opt={"action": None})
async def get_any_role(request: ArmRequest, role: str) -> Body:
    """One role: what it allows."""
    return _role(request, role)


# assignments


def _body(call: Call, row: RoleAssignmentRow, principals: Principals) -> Body:
    role, holder = ROLES.get(row.role), principals.get(row.principal_id)
    scope = _shown(row.scope)
    return {
        "id": f"{scope.rstrip('/')}{ASSIGNMENTS}/{row.id}",
        "name": row.id,
        "type": f"{AUTH}/roleAssignments",
        "properties": {
            "roleDefinitionId": _definition_id(call, row.role),
            "roleDefinitionName": role.name if role else row.role,
            "principalId": row.principal_id,
            "principalName": holder.name if holder else row.principal_id,
            "principalType": KINDS.get(holder.kind if holder else "", "Unknown"),
            "scope": scope,
            "condition": None,
            "conditionVersion": None,
            "createdOn": stamp(row.created_at),
            "updatedOn": stamp(row.created_at),
            "createdBy": None,
            "updatedBy": None,
            "delegatedManagedIdentityResourceId": None,
            "description": None,
        },
    }


def _wanted(text: str) -> tuple[service.Reach, str]:
    """How far a list reaches and whose rows it shows. UsageError (InvalidFilter)."""
    at = _AT.match(text)
    reach: service.Reach = "above" if at and "below" not in at[0].lower() else "around"
    rest = text[at.end() :] if at else text
    about = _ABOUT.fullmatch(rest)
    return reach, about[1] if about else parse_filter(rest).get("principalid", "")


@get([scope + ASSIGNMENTS for scope in SCOPES], opt=needs(f"{AUTH}/roleAssignments/read"))
@threaded
def list_assignments(request: ArmRequest, sub: str, group: str = "", vault: str = "") -> Body:
    """Roles given at this scope, above it and below it; ``$filter``: atScope() leaves out those
    below, principalId or assignedTo('...') those of others."""
    call = call_of(request)
    reach, who = _wanted(call.query("$filter"))
    rows = service.assignments_at(call.platform, _scope(call, sub, ASSIGNMENTS), reach)
    names = service.principal_names(call.platform)
    chosen = [row for row in rows if who.lower() in ("", row.principal_id)]
    return listed([_body(call, row, names) for row in chosen], call)


@get(
    [scope + ASSIGNMENTS + "/{assignment:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleAssignments/read"),
)
@threaded
def get_assignment(
    request: ArmRequest, sub: str, assignment: str, group: str = "", vault: str = ""
) -> Body:
    """One role assignment."""
    call = call_of(request)
    row = service.find_assignment(call.platform, _scope(call, sub, ASSIGNMENTS), assignment)
    return _body(call, row, service.principal_names(call.platform))


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
    """Give a user or client a role at this scope."""
    asked = properties_of(data)
    role, principal = text_of(asked, "roleDefinitionId"), text_of(asked, "principalId")
    if not role or not principal:
        raise UsageError(
            "a role assignment needs roleDefinitionId and principalId",
            code="InvalidRequestContent",
            hint="principalId is the id or name of a user or client, roleDefinitionId of a role",
        )
    if asked.get("condition"):
        raise UsageError(
            "conditions of role assignments are not supported by this release",
            code="UserErrorNotSupported",
            hint="leave the condition out, and give the role at a narrower scope",
        )
    call = call_of(request)
    scope = _scope(call, sub, ASSIGNMENTS)
    row, new = service.assign_role(call.platform, assignment, scope, role, principal)
    body = _body(call, row, service.principal_names(call.platform))
    return Response(body, status_code=201 if new else 200)


@delete(
    [scope + ASSIGNMENTS + "/{assignment:str}" for scope in SCOPES],
    opt=needs(f"{AUTH}/roleAssignments/delete"),
    status_code=200,
)
@threaded
def delete_assignment(
    request: ArmRequest, sub: str, assignment: str, group: str = "", vault: str = ""
) -> Response[Any]:
    """Take a role away; answers with what it was, or 204."""
    call = call_of(request)
    row = service.remove_assignment(call.platform, _scope(call, sub, ASSIGNMENTS), assignment)
    if row is None:
        return Response(content=None, status_code=204)
    return Response(_body(call, row, service.principal_names(call.platform)), status_code=200)


ROUTES = [
    list_roles,
    get_role,
    put_role,
    delete_role,
    list_all_roles,
    get_any_role,
    list_assignments,
    get_assignment,
    put_assignment,
    delete_assignment,
]
