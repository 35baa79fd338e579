"""Clients that log in by secret, and the audit record."""

from __future__ import annotations

from litestar import delete, get, post, put

from holdfast.arm.filters import parse_date, parse_filter
from holdfast.arm.guard import needs_on_installation
from holdfast.arm.http import (
    PAGE_ROWS,
    ArmRequest,
    Body,
    call_of,
    listed,
    stamp,
    threaded,
)
from holdfast.catalog import audit
from holdfast.catalog.access import PrincipalRow
from holdfast.catalog.audit import AuditRow
from holdfast.services import clients as service

HB = "Holdfast.Backup"
CLIENTS = f"/providers/{HB}/clients"


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
    list_audit,
]
