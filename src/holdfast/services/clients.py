"""Clients (services' logins by secret): make, renew, disable."""

from __future__ import annotations

import re

from sqlalchemy import Connection

from holdfast.catalog import access
from holdfast.catalog.access import PrincipalRow
from holdfast.catalog.identifiers import is_id
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.identity.authority import Principal
from holdfast.identity.installation import add_client
from holdfast.identity.secrets import hash_secret, new_secret
from holdfast.services.platform import Platform

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}")


def list_clients(platform: Platform) -> list[PrincipalRow]:
    """Those that may log in by secret, by name."""
    with platform.catalog.read() as connection:
        rows = access.list_principals(connection)
    return sorted((row for row in rows if row.kind == "service"), key=lambda row: row.name.lower())


def find_client(connection: Connection, name: str) -> PrincipalRow:
    """A client that may log in, by name or id. NotFoundError (ClientNotFound)."""
    for row in access.list_principals(connection):
        live = row.kind == "service" and row.disabled_at is None
        if live and name.lower() in (row.name.lower(), row.id):
            return row
    raise NotFoundError(
        f"there is no client {name}", code="ClientNotFound", hint="list the clients to see which"
    )


def make_client(platform: Platform, name: str) -> tuple[PrincipalRow, str]:
    """A client without any role yet, and its secret, shown this once. ConflictError
    (ClientExists), UsageError (InvalidName)."""
    if not _NAME.fullmatch(name) or is_id(name):
        raise UsageError(
            f"{name[:100]!r} is no name for a client",
            code="InvalidName",
            hint="1 to 100 letters, digits, spaces and ._@-, and no GUID",
        )
    secret = new_secret(platform.rng)
    with platform.catalog.write() as connection:
        for row in access.list_principals(connection):
            if row.name.lower() == name.lower() and row.disabled_at is None:
                raise ConflictError(
                    f"there is a client {name}",
                    code="ClientExists",
                    hint="choose another name, or renew its secret",
                )
        clock, rng = platform.clock, platform.rng
        return add_client(connection, clock, rng, platform.new_id(), name, secret), secret


def renew_secret(platform: Platform, name: str) -> tuple[PrincipalRow, str]:
    """A new secret; the old one is refused from now on."""
    secret = new_secret(platform.rng)
    hashed = hash_secret(secret, platform.rng)
    with platform.catalog.write() as connection:
        row = find_client(connection, name)
        access.change_principal(connection, row.id, secret_hash=hashed)
        return row, secret


def disable_client(platform: Platform, name: str, by: Principal) -> None:
    """Refuse it at once, tokens included. ConflictError (CannotDisableYourself)."""
    with platform.catalog.write() as connection:
        row = find_client(connection, name)
        if row.id == by.id:
            raise ConflictError(
                "a client cannot disable itself",
                code="CannotDisableYourself",
                hint="let another owner do it",
            )
        access.change_principal(connection, row.id, disabled_at=platform.now())
        access.remove_assignments_of(connection, row.id)
