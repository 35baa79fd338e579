"""Clients (people's and services' logins): make, renew, disable; and give or take their roles."""

from __future__ import annotations

import re
import uuid

from sqlalchemy import Connection

from holdfast.catalog import access
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow
from holdfast.domain.access import AGENT, ROLES, Role, covers
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


def client_names(platform: Platform) -> dict[str, str]:
    """id -> name, disabled ones too."""
    return {row.id: row.name for row in list_clients(platform)}


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
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:100]!r} is no name for a client",
            code="InvalidName",
            hint="1 to 100 letters, digits, spaces and ._@-",
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


def find_role(role: str) -> Role:
    """By id, definition address or name. UsageError (RoleDefinitionNotFound)."""
    wanted = role.rstrip("/").rpartition("/")[2].lower()
    for one in ROLES.values():
        if wanted in (one.id, one.name.lower()) and one is not AGENT:
            return one
    raise UsageError(
        f"there is no role {role[:100]!r}",
        code="RoleDefinitionNotFound",
        hint="roles are " + ", ".join(one.name for one in ROLES.values() if one is not AGENT),
    )


def assign_role(
    platform: Platform, assignment_id: str, scope: str, role: str, principal: str
) -> tuple[RoleAssignmentRow, bool]:
    """The assignment and whether it is new. ``scope``: an ARM id. UsageError, NotFoundError
    (ClientNotFound), ConflictError (RoleAssignmentExists)."""
    name, found = _guid(assignment_id), find_role(role)
    with platform.catalog.write() as connection:
        client = find_client(connection, principal)
        row = RoleAssignmentRow(name, client.id, found.id, scope.lower(), platform.now())
        old = access.get_assignment(connection, name)
        if old is not None and (old.principal_id, old.role, old.scope) == (
            row.principal_id,
            row.role,
            row.scope,
        ):
            return old, False
        for other in access.assignments_of(connection, client.id):
            same = (other.role, other.scope) == (row.role, row.scope)
            if same or other.id == name or old is not None:
                raise _exists(other if old is None else old)
        access.add_assignment(connection, row)
    return row, True


def _exists(row: RoleAssignmentRow) -> ConflictError:
    return ConflictError(
        f"the role assignment already exists ({row.id})",
        code="RoleAssignmentExists",
        hint="use that one, or remove it first",
    )


def _guid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise UsageError(
            f"{text[:100]!r} is no name for a role assignment",
            code="InvalidRoleAssignmentId",
            hint="name it by a new GUID",
        ) from error


def assignments_below(platform: Platform, scope: str) -> list[RoleAssignmentRow]:
    """Assignments at ``scope``, above it and below it."""
    with platform.catalog.read() as connection:
        rows = access.list_assignments(connection)
    return [row for row in rows if covers(scope, row.scope) or covers(row.scope, scope)]


def find_assignment(platform: Platform, scope: str, assignment_id: str) -> RoleAssignmentRow:
    """NotFoundError (RoleAssignmentNotFound)."""
    with platform.catalog.read() as connection:
        row = access.get_assignment(connection, assignment_id.lower())
    if row is None or row.scope != scope.lower():
        raise NotFoundError(
            f"there is no role assignment {assignment_id} at this scope",
            code="RoleAssignmentNotFound",
            hint="list the role assignments to see which",
        )
    return row


def remove_assignment(platform: Platform, scope: str, assignment_id: str) -> bool:
    """Take a role away; False when there was no such assignment."""
    try:
        row = find_assignment(platform, scope, assignment_id)
    except NotFoundError:
        return False
    with platform.catalog.write() as connection:
        return access.remove_assignment(connection, row.id) > 0
