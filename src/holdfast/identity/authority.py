"""Who is calling, and whether they may: tokens and role assignments, checked on every request."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from holdfast.catalog import access as rows
from holdfast.catalog import people
from holdfast.catalog.database import Catalog
from holdfast.domain.access import Assignment, allowed, allowed_below, check_access, refusal
from holdfast.errors import AuthenticationError
from holdfast.identity.secrets import stamp_of
from holdfast.identity.tokens import Caller, Tokens


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

    def may_below(self, action: str, holder: str) -> bool:
        """At ``holder``, above it or anywhere below it."""
        return allowed_below(self.assignments, action, holder)

    def check(self, action: str, scope: str) -> None:
        """AccessError (AuthorizationFailed)."""
        check_access(self.assignments, action, scope, self._shown)

    def check_below(self, action: str, holder: str) -> None:
        """AccessError (AuthorizationFailed)."""
        if not self.may_below(action, holder):
            raise refusal(action, holder, self._shown)

    @property
    def _shown(self) -> str:
        return f"the {'user' if self.kind == 'user' else 'client'} '{self.name}' ({self.id})"


class Authority:
    """Turns a bearer token into a Principal, asking the catalog again after every change: a revoked
    client or role is refused at once."""

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
        found = self._catalog.recall(("principal", caller), lambda asked: _principal(asked, caller))
        if found is None:
            raise AuthenticationError(
                "the login of this token has ended", hint="log in again, or ask an administrator"
            )
        return found


def _principal(connection: Connection, caller: Caller) -> Principal | None:
    """Who calls, with its roles; None when its login has ended."""
    found = rows.get_principal(connection, caller.client_id)
    if found is None or found.disabled_at is not None:
        return None
    if rows.is_spent(connection, caller.token_id) or not _is_current(connection, found, caller):
        return None
    assigned = rows.assignments_of(connection, caller.client_id)
    roles = tuple(Assignment(row.role, row.scope) for row in assigned)
    return Principal(found.id, found.kind, found.name, found.agent_id or "", roles)


def _is_current(connection: Connection, found: rows.PrincipalRow, caller: Caller) -> bool:
    """Whether a token is of after the last change of the secret, or the password, or the end of a
    person's sessions."""
    if found.kind == "user":
        user = people.get_user(connection, found.id)
        return user is not None and user.stamp == caller.stamp
    return stamp_of(found.secret_hash) == caller.stamp
