"""Everybody a role can be given to."""

from __future__ import annotations

from holdfast.catalog import access
from holdfast.catalog.access import PrincipalRow
from holdfast.services.platform import Platform


def living(platform: Platform) -> list[PrincipalRow]:
    """Clients and people who may log in, by id; agents are not among them."""
    with platform.catalog.read() as connection:
        rows = access.list_principals(connection)
    return [row for row in rows if row.kind != "agent" and row.disabled_at is None]
