"""Tokens of people: access tokens, id tokens, and refresh tokens that change at every use.

A refresh token is kept as its hash. Used once more within a minute it is taken for a program that
runs twice; later it is taken for stolen, and its whole family ends.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import people
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import new_id
from holdfast.catalog.people import RefreshTokenRow
from holdfast.errors import AuthenticationError
from holdfast.identity.accounts import Person, living
from holdfast.identity.secrets import new_secret
from holdfast.identity.tokens import Tokens
from holdfast.ports.clock import Clock, Random

AGAIN = timedelta(minutes=1)
LONGEST = timedelta(days=90)
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a program asked tokens for. ``issuer``: our address as it knows it."""

    client_id: str
    issuer: str
    nonce: str = ""


class Sessions:
    """Issues and follows tokens of people. Thread safe."""

    def __init__(
        self, catalog: Catalog, tokens: Tokens, clock: Clock, rng: Random, days: float
    ) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._clock = clock
        self._rng = rng
        self._life = timedelta(days=days)

    def begin(self, person: Person, asked: Asked) -> Body:
        """The token endpoint's answer for somebody who has just signed in."""
        with self._catalog.write() as connection:
            return self._answer(connection, person, asked, None)

    def follow(self, refresh_token: str, asked: Asked) -> Body:
        """The next tokens. AuthenticationError (invalid_grant)."""
        now = self._clock.now()
        with self._catalog.write() as connection:
            row = people.lock_refresh_token(connection, digest(refresh_token))
            user = people.get_user(connection, row.principal_id) if row else None
            person = living(connection, user) if user else None
            good = row is not None and row.revoked_at is None and row.expires_at > now
            if row is None or person is None or not good or row.stamp != person.user.stamp:
                raise _over()
            stolen = row.used_at is not None and now - row.used_at > AGAIN
            if stolen or row.client_id != asked.client_id:
                people.revoke_family(connection, row.family, now)
                answer = None
            else:
                people.mark_used(connection, row.id, now)
                answer = self._answer(connection, person, asked, row)
        if answer is None:
            raise _over()
        return answer

    def end(self, refresh_token: str) -> None:
        """Revoke a token with all that followed it; unknown ones are ended already."""
        with self._catalog.write() as connection:
            row = people.lock_refresh_token(connection, digest(refresh_token))
            if row is not None:
                people.revoke_family(connection, row.family, self._clock.now())

    def _answer(
        self, connection: Connection, person: Person, asked: Asked, before: RefreshTokenRow | None
    ) -> Body:
        user, now = person.user, self._clock.now()
        token = new_secret(self._rng)
        started = before.started_at if before else now
        row = RefreshTokenRow(
            id=digest(token),
            family=before.family if before else new_id(self._rng),
            principal_id=user.principal_id,
            client_id=asked.client_id,
            stamp=user.stamp,
            started_at=started,
            expires_at=min(now + self._life, started + LONGEST),
            used_at=None,
            revoked_at=None,
        )
        people.add_refresh_token(connection, row)
        names = {"upn": person.name, "unique_name": person.name, "name": user.display_name}
        client = {"uid": user.principal_id, "utid": self._tokens.tenant_id}
        return {
            "token_type": "Bearer",
            "expires_in": self._tokens.seconds,
            "access_token": self._tokens.issue(
                user.principal_id, "user", stamp=user.stamp, more=names
            ),
            "refresh_token": token,
            "id_token": self._tokens.identify(
                user.principal_id, asked.client_id, asked.issuer, asked.nonce, names
            ),
            "client_info": base64.urlsafe_b64encode(json.dumps(client).encode())
            .decode()
            .rstrip("="),
        }


def digest(secret: str) -> str:
    """How a secret of 256 random bits is kept: it needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _over() -> AuthenticationError:
    return AuthenticationError(
        "this session has ended", code="invalid_grant", hint="log in again: holdfast login"
    )
