"""The audit record: appended, listed, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import tables as t
from holdfast.catalog.rows import Page, insert_many, page, selecting


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One mutating call. ``status`` is the HTTP status (0 for what the server did by itself),
    ``result_code`` the error code or ""."""

    at: datetime
    principal_id: str
    principal_name: str
    operation: str
    resource: str
    client_address: str
    request_id: str
    status: int
    result_code: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An entry with its number."""

    id: int
    at: datetime
    principal_id: str
    principal_name: str
    operation: str
    resource: str
    client_address: str
    request_id: str
    status: int
    result_code: str
    details: dict[str, Any]


SERVER = "holdfast server"


def by_server(
    at: datetime, operation: str, resource: str, details: dict[str, Any], code: str = ""
) -> AuditEntry:
    """An entry about what the server did by itself."""
    return AuditEntry(
        at=at,
        principal_id="",
        principal_name=SERVER,
        operation=operation,
        resource=resource,
        client_address="",
        request_id="",
        status=0,
        result_code=code,
        details=details,
    )


def append(connection: Connection, entry: AuditEntry) -> None:
    values = {name: getattr(entry, name) for name in AuditEntry.__slots__}
    insert_many(connection, t.audit, [values])


def page_audit(
    connection: Connection,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    token: str = "",
) -> Page[AuditRow]:
    """Newest first."""
    query = selecting(t.audit, AuditRow)
    if since is not None:
        query = query.where(t.audit.c.at >= since)
    if until is not None:
        query = query.where(t.audit.c.at <= until)
    return page(
        connection, AuditRow, query, keys=[t.audit.c.id], descending=True, limit=limit, token=token
    )
