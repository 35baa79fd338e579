"""Whom `az role assignment` looks up in a directory before it asks us: people by name, clients by
name or id, and the names of ids. Nothing more of Microsoft Graph is served.

`az` takes a name without an at sign for a client's, so people are found among those too.
"""

from __future__ import annotations

import re
from typing import Any

from litestar import get, post

from holdfast.arm.filters import parse_filter
from holdfast.arm.guard import needs_anywhere, needs_on_installation
from holdfast.arm.http import ArmRequest, Body, call_of, threaded
from holdfast.catalog.access import PrincipalRow
from holdfast.errors import NotFoundError, UsageError
from holdfast.services import directory as service
from holdfast.services import users as people
from holdfast.services.users import User

GRAPH = "/v1.0"
HB = "Holdfast.Backup"
READ = f"{HB}/users/read"
MAX_IDS = 1000
_NAMED = re.compile(
    r"\s*servicePrincipalNames/any\(\s*\w+\s*:\s*\w+\s+eq\s+'((?:[^']|'')*)'\s*\)\s*", re.IGNORECASE
)


def _user(user: User) -> Body:
    return {
        "@odata.type": "#microsoft.graph.user",
        "id": user.principal.id,
        "userPrincipalName": user.principal.name,
        "displayName": user.row.display_name,
        "mail": None,
    }


def _principal(row: PrincipalRow) -> Body:
    """As a service principal, of which `az` shows the first name."""
    return {
        "@odata.type": "#microsoft.graph.servicePrincipal",
        "id": row.id,
        "appId": row.id,
        "displayName": row.name,
        "servicePrincipalNames": [row.name, row.id],
        "servicePrincipalType": "Application" if row.kind == "service" else "User",
    }


def _stub(row: PrincipalRow) -> Body:
    if row.kind != "user":
        return _principal(row)
    return {"@odata.type": "#microsoft.graph.user", "id": row.id, "displayName": row.name,
            "userPrincipalName": row.name}  # fmt: skip


@get(GRAPH + "/users", opt=needs_on_installation(READ))
@threaded
def find_users(request: ArmRequest) -> Body:
    """People; ``$filter``: userPrincipalName eq '...'."""
    call = call_of(request)
    wanted = parse_filter(call.query("$filter"))
    if wanted.keys() - {"userprincipalname"}:
        raise UsageError(
            "people are found by userPrincipalName alone",
            code="Request_UnsupportedQuery",
            hint="az ad user list --upn NAME; or holdfast user list",
        )
    name = wanted.get("userprincipalname", "").lower()
    found = [one for one in people.list_users(call.platform) if one.row.name_key]
    return {"value": [_user(one) for one in found if name in ("", one.row.name_key)]}


@get(GRAPH + "/users/{user:str}", opt=needs_on_installation(READ))
@threaded
def show_user(request: ArmRequest, user: str) -> Body:
    """Somebody by name or id."""
    with call_of(request).platform.catalog.read() as connection:
        return _user(people.find_user(connection, user))


@get(GRAPH + "/servicePrincipals", opt=needs_on_installation(f"{HB}/clients/read"))
@threaded
def find_principals(request: ArmRequest) -> Body:
    """Clients; ``$filter``: servicePrincipalNames/any(c:c eq '...'), by name or id."""
    call = call_of(request)
    text = call.query("$filter")
    named = _NAMED.fullmatch(text)
    if text and named is None:
        raise UsageError(
            "clients are found by servicePrincipalNames alone",
            code="Request_UnsupportedQuery",
            hint="az ad sp list --spn NAME; or holdfast client list",
        )
    rows = service.living(call.platform)
    if named is None:
        return {"value": [_principal(row) for row in rows if row.kind == "service"]}
    wanted = named[1].replace("''", "'").lower()
    return {
        "value": [
            _principal(row)
            for row in rows
            if wanted == row.name.lower() or (wanted == row.id and row.kind == "service")
        ]
    }


@post(
    GRAPH + "/directoryObjects/getByIds",
    opt=needs_anywhere("Microsoft.Authorization/roleAssignments/read"),
    status_code=200,
)
@threaded
def get_by_ids(request: ArmRequest, data: dict[str, Any]) -> Body:
    """The names of up to 1,000 ids; unknown ones are left out."""
    ids = data.get("ids")
    if not isinstance(ids, list) or len(ids) > MAX_IDS:
        raise UsageError(
            f"ids is no list of up to {MAX_IDS}", code="Request_BadRequest", hint="ask for fewer"
        )
    wanted = {str(one).lower() for one in ids}
    rows = service.living(call_of(request).platform)
    return {"value": [_stub(row) for row in rows if row.id in wanted]}


@get(GRAPH + "/me", opt={"action": None})
@threaded
def me(request: ArmRequest) -> Body:
    """Who is signed in, when it is a person."""
    call = call_of(request)
    if call.principal.kind != "user":
        raise NotFoundError(
            "no person is signed in, but a client",
            code="Request_ResourceNotFound",
            hint="log in as a person: az login --use-device-code",
        )
    with call.platform.catalog.read() as connection:
        return _user(people.find_user(connection, call.principal.id))


ROUTES = [find_users, show_user, find_principals, get_by_ids, me]
