"""Exchanging credentials for access tokens, with a brake on guessing."""

from __future__ import annotations

import threading

from holdfast.catalog import access
from holdfast.catalog.database import Catalog
from holdfast.errors import AuthenticationError
from holdfast.identity.attempts import Attempts
from holdfast.identity.secrets import check_secret, hash_secret, stamp_of
from holdfast.identity.tokens import Tokens, assertion_subject, read_assertion
from holdfast.ports.clock import Clock, Random


class Logins:
    """The token endpoint's logic. Thread safe."""

    def __init__(self, catalog: Catalog, tokens: Tokens, clock: Clock, rng: Random) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._clock = clock
        self._attempts = Attempts(clock, 10, 60.0)
        self._hashing = threading.Lock()  # a flood of guesses costs one core, not all
        self._nobody = hash_secret("nobody", rng)  # so that unknown clients cost the same time

    def by_secret(self, client_id: str, secret: str, address: str) -> str:
        """A token. AuthenticationError (invalid_client), LimitError (TooManyAttempts): failures
        are counted per client and address, so that nobody can lock somebody else out."""
        who = f"{client_id[:64]} {address}"
        self._attempts.check(who)
        with self._catalog.read() as connection:
            principal = access.get_principal(connection, client_id)
        stored = principal.secret_hash if principal and principal.secret_hash else self._nobody
        with self._hashing:
            right = check_secret(secret, stored)
        if not right or principal is None or principal.disabled_at is not None:
            self._attempts.failed(who)
            raise _refused("the client id or secret is wrong")
        stamp = stamp_of(principal.secret_hash)
        return self._tokens.issue(principal.id, principal.kind, stamp=stamp)

    def by_assertion(self, assertion: str, address: str) -> str:
        """A token for an agent. AuthenticationError for a revoked one, a forged or a used claim."""
        client_id = assertion_subject(assertion)
        who = f"{client_id[:64]} {address}"
        self._attempts.check(who)
        with self._catalog.read() as connection:
            principal = access.get_principal(connection, client_id)
        if principal is None or not principal.public_key or principal.disabled_at is not None:
            self._attempts.failed(who)
            raise AuthenticationError(
                "this agent is not enrolled any more",
                code="AgentRevoked",
                hint="enrol it again: holdfast agent enroll --replace",
            )
        try:
            claim = read_assertion(assertion, principal.public_key, self._clock)
        except AuthenticationError:
            self._attempts.failed(who)
            raise
        with self._catalog.write() as connection:
            if access.is_spent(connection, claim.token_id):
                raise _refused("the client assertion was used before")
            now = self._clock.now()
            spent = access.SpentToken(claim.token_id, "used", claim.expires_at, now)
            access.spend_token(connection, spent)
        return self._tokens.issue(principal.id, "agent", principal.agent_id or "")


def _refused(message: str) -> AuthenticationError:
    return AuthenticationError(
        message, code="invalid_client", hint="check the credentials file and log in again"
    )
