"""Principals, role assignments, spent tokens and vault credentials."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, or_

from holdfast.catalog import tables as t
from holdfast.catalog.rows import insert, many, one, remove, selecting, update


@dataclass(frozen=True, slots=True)
class PrincipalRow:
    """Who may ask for tokens. ``id`` is the client id; ``kind``: service | agent. Either
    ``secret_hash`` or ``public_key`` (PEM) is set, the other is ""."""

    id: str
    kind: str
    name: str
    secret_hash: str
    public_key: str
    agent_id: str | None
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class RoleAssignmentRow:
    """A role of a principal over everything below ``scope`` (a lower-case ARM id or "/")."""

    id: str
    principal_id: str
    role: str
    scope: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class SpentToken:
    """A token that must not be accepted (again): "revoked" or "used" (assertions)."""

    jti: str
    kind: str
    expires_at: datetime
    spent_at: datetime


@dataclass(frozen=True, slots=True)
class VaultCredentialsRow:
    """An enrolment credential of one vault; only the hash of its secret is kept."""

    id: str
    vault_id: str
    secret_hash: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


def add_principal(connection: Connection, row: PrincipalRow) -> None:
    insert(connection, t.principals, row)


def get_principal(connection: Connection, client_id: str) -> PrincipalRow | None:
    query = selecting(t.principals, PrincipalRow).where(t.principals.c.id == client_id)
    return one(connection, PrincipalRow, query)


def list_principals(connection: Connection) -> list[PrincipalRow]:
    query = selecting(t.principals, PrincipalRow).order_by(t.principals.c.id)
    return many(connection, PrincipalRow, query)


def change_principal(connection: Connection, client_id: str, **values: Any) -> int:
    return update(connection, t.principals, values, t.principals.c.id == client_id)


def add_assignment(connection: Connection, row: RoleAssignmentRow) -> None:
    insert(connection, t.role_assignments, row)


def assignments_of(connection: Connection, principal_id: str) -> list[RoleAssignmentRow]:
    assigned = t.role_assignments.c
    query = selecting(t.role_assignments, RoleAssignmentRow).where(
        assigned.principal_id == principal_id
    )
    return many(connection, RoleAssignmentRow, query.order_by(assigned.id))


def get_assignment(connection: Connection, assignment_id: str) -> RoleAssignmentRow | None:
    query = selecting(t.role_assignments, RoleAssignmentRow)
    return one(connection, RoleAssignmentRow, query.where(t.role_assignments.c.id == assignment_id))


def list_assignments(connection: Connection) -> list[RoleAssignmentRow]:
    """All of them, by id."""
    query = selecting(t.role_assignments, RoleAssignmentRow)
    return many(connection, RoleAssignmentRow, query.order_by(t.role_assignments.c.id))


def lock_assignments(connection: Connection, role: str) -> list[RoleAssignmentRow]:
    """Those of a role, by id; nobody else changes them until the transaction ends."""
    query = selecting(t.role_assignments, RoleAssignmentRow)
    query = query.where(t.role_assignments.c.role == role).order_by(t.role_assignments.c.id)
    return many(connection, RoleAssignmentRow, query.with_for_update())


def remove_assignment(connection: Connection, assignment_id: str) -> int:
    return remove(connection, t.role_assignments, t.role_assignments.c.id == assignment_id)


def remove_assignments_of(connection: Connection, principal_id: str) -> int:
    where = t.role_assignments.c.principal_id == principal_id
    return remove(connection, t.role_assignments, where)


def remove_assignments_below(connection: Connection, scope: str) -> int:
    """Of a resource that is gone: a new one of the same name starts without them."""
    at, gone = t.role_assignments.c.scope, scope.lower()
    where = or_(at == gone, at.startswith(gone + "/", autoescape=True))
    return remove(connection, t.role_assignments, where)


def spend_token(connection: Connection, row: SpentToken) -> None:
    """ConflictError (CatalogConflict) at the end of the transaction when it was spent before."""
    insert(connection, t.spent_tokens, row)


def is_spent(connection: Connection, jti: str) -> bool:
    query = selecting(t.spent_tokens, SpentToken).where(t.spent_tokens.c.jti == jti)
    return one(connection, SpentToken, query) is not None


def forget_spent_tokens(connection: Connection, now: datetime) -> int:
    """Drop the rows of tokens that have expired by themselves."""
    return remove(connection, t.spent_tokens, t.spent_tokens.c.expires_at < now)


def add_vault_credentials(connection: Connection, row: VaultCredentialsRow) -> None:
    insert(connection, t.vault_credentials, row)


def get_vault_credentials(connection: Connection, credential_id: str) -> VaultCredentialsRow | None:
    query = selecting(t.vault_credentials, VaultCredentialsRow)
    return one(
        connection, VaultCredentialsRow, query.where(t.vault_credentials.c.id == credential_id)
    )


def change_vault_credentials(connection: Connection, credential_id: str, **values: Any) -> int:
    where = t.vault_credentials.c.id == credential_id
    return update(connection, t.vault_credentials, values, where)
