"""Roles: who was given which, where; give one, take one away."""

from __future__ import annotations

import uuid
from typing import Literal

from sqlalchemy import Connection

from holdfast.catalog import access
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow
from holdfast.domain.access import AGENT, OWNER, ROLES, Role, covers
from holdfast.errors import ConflictError, NotFoundError, UsageError
from holdfast.services.platform import Platform

Reach = Literal["around", "above"]


def grantable() -> list[Role]:
    """The roles people and clients can be given."""
    return [role for role in ROLES.values() if role is not AGENT]


def find_role(role: str) -> Role:
    """By id, definition address or name. UsageError (RoleDefinitionDoesNotExist)."""
    wanted = role.rstrip("/").rpartition("/")[2].lower()
    for one in grantable():
        if wanted in (one.id, one.name.lower()):
            return one
    raise UsageError(
        f"there is no role {role[:100]!r}",
        code="RoleDefinitionDoesNotExist",
        hint="roles are " + ", ".join(one.name for one in grantable()),
    )


def principal_names(platform: Platform) -> dict[str, PrincipalRow]:
    """Everybody by id, disabled ones too; agents are not among them."""
    with platform.catalog.read() as connection:
        rows = access.list_principals(connection)
    return {row.id: row for row in rows if row.kind != "agent"}


def find_principal(connection: Connection, name: str) -> PrincipalRow:
    """A client or user that may log in, by id or name. UsageError (PrincipalNotFound,
    PrincipalAmbiguous)."""
    wanted = name.lower()
    live = [
        row
        for row in access.list_principals(connection)
        if row.kind != "agent" and row.disabled_at is None
    ]
    found = [row for row in live if row.id == wanted]
    found = found or [row for row in live if row.name.lower() == wanted]
    if len(found) > 1:
        raise UsageError(
            f"{name[:100]!r} is a user and a client",
            code="PrincipalAmbiguous",
            hint="name it by its id: holdfast user show, holdfast client show",
        )
    if not found:
        raise UsageError(
            f"there is no user or client {name[:100]!r}",
            code="PrincipalNotFound",
            hint="see who there is: holdfast user list, holdfast client list",
        )
    return found[0]


def assign_role(
    platform: Platform, assignment_id: str, scope: str, role: str, principal: str
) -> tuple[RoleAssignmentRow, bool]:
    """The assignment and whether it is new. ``scope``: an ARM id. UsageError, ConflictError
    (RoleAssignmentExists)."""
    name, found = _guid(assignment_id), find_role(role)
    with platform.catalog.write() as connection:
        holder = find_principal(connection, principal)
        row = RoleAssignmentRow(name, holder.id, found.id, scope.lower(), platform.now())
        old = access.get_assignment(connection, name)
        if old is not None and (old.principal_id, old.role, old.scope) == (
            row.principal_id,
            row.role,
            row.scope,
        ):
            return old, False
        for other in access.assignments_of(connection, holder.id):
            same = (other.role, other.scope) == (row.role, row.scope)
            if same or other.id == name or old is not None:
                raise _exists(other if old is None else old)
        if old is not None:
            raise _exists(old)
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


def assignments_at(platform: Platform, scope: str, reach: Reach) -> list[RoleAssignmentRow]:
    """Assignments at ``scope`` and above it; "around": below it too. Agents' are not shown."""
    with platform.catalog.read() as connection:
        rows = access.list_assignments(connection)
    return [
        row
        for row in rows
        if row.role != AGENT.id
        and (covers(row.scope, scope) or (reach == "around" and covers(scope, row.scope)))
    ]


def find_assignment(platform: Platform, scope: str, assignment_id: str) -> RoleAssignmentRow:
    """NotFoundError (RoleAssignmentNotFound)."""
    with platform.catalog.read() as connection:
        row = access.get_assignment(connection, assignment_id.lower())
    if row is None or row.scope != scope.lower() or row.role == AGENT.id:
        raise NotFoundError(
            f"there is no role assignment {assignment_id} at this scope",
            code="RoleAssignmentNotFound",
            hint="list the role assignments to see which",
        )
    return row


def remove_assignment(
    platform: Platform, scope: str, assignment_id: str
) -> RoleAssignmentRow | None:
    """Take a role away; None when there was no such assignment. ConflictError
    (CannotDeleteLastRbacAdminAssignment)."""
    try:
        row = find_assignment(platform, scope, assignment_id)
    except NotFoundError:
        return None
    with platform.catalog.write() as connection:
        if row.role == OWNER.id:
            _check_another_owner(connection, platform, row)
        return row if access.remove_assignment(connection, row.id) else None


def _check_another_owner(
    connection: Connection, platform: Platform, row: RoleAssignmentRow
) -> None:
    """Somebody who can log in stays Owner of everything."""
    everything = f"/subscriptions/{platform.subscription_id}"
    owners = [
        one
        for one in access.lock_assignments(connection, OWNER.id)
        if covers(one.scope, everything) and _may_log_in(connection, one.principal_id)
    ]
    if [one.id for one in owners] == [row.id]:
        raise ConflictError(
            "this is the last Owner of the whole installation",
            code="CannotDeleteLastRbacAdminAssignment",
            hint="make somebody else one: holdfast role assign Owner --user NAME --everywhere",
        )


def _may_log_in(connection: Connection, principal_id: str) -> bool:
    found = access.get_principal(connection, principal_id)
    return found is not None and found.disabled_at is None
