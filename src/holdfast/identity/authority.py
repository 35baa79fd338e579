"""Who is calling, and whether they may: tokens and role assignments, checked on every request."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.catalog import access as rows
from holdfast.catalog.database import Catalog
from holdfast.domain.access import Assignment, allowed, check_access
from holdfast.errors import AuthenticationError
from holdfast.identity.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller with its roles. ``agent_id`` is "" for people and services."""

    id: str
    kind: str
    name: str
    agent_id: str
    assignments: tuple[Assignment, ...]

    def may(self, action: str, scope: str) -> bool:
        return allowed(self.assignments, action, scope)

    def check(self, action: str, scope: str) -> None:
        """AccessError (AuthorizationFailed)."""
        check_access(self.assignments, action, scope, f"the client '{self.name}' ({self.id})")


class Authority:
    """Turns a bearer token into a Principal, asking the catalog each time: a revoked client or
    role is refused at once."""

    def __init__(self, catalog: Catalog, tokens: Tokens) -> None:
        self._catalog = catalog
        self._tokens = tokens

    def authenticate(self, header: str | None) -> Principal:
        """The caller of an ``Authorization`` header. AuthenticationError."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthenticationError(
                "the request carries no access token",
                code="AuthenticationFailed",
                hint="log in first: holdfast login",
            )
        caller = self._tokens.read(token.strip())
        with self._catalog.read() as connection:
            found = rows.get_principal(connection, caller.client_id)
            revoked = rows.is_spent(connection, caller.token_id)
            assigned = rows.assignments_of(connection, caller.client_id)
        if found is None or found.disabled_at is not None or revoked:
            raise AuthenticationError(
                "the client of this token is disabled", hint="ask an administrator"
            )
        roles = tuple(Assignment(row.role, row.scope) for row in assigned)
        return Principal(found.id, found.kind, found.name, found.agent_id or "", roles)
