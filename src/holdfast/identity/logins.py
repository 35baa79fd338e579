"""Exchanging credentials for access tokens, with a brake on guessing."""

from __future__ import annotations

import threading
from collections import OrderedDict

from holdfast.catalog import access
from holdfast.catalog.database import Catalog
from holdfast.errors import AuthenticationError, LimitError
from holdfast.identity.secrets import check_secret, hash_secret
from holdfast.identity.tokens import Tokens, assertion_subject, read_assertion
from holdfast.ports.clock import Clock, Random

MAX_FAILURES, FAILURE_SECONDS, MAX_TRACKED = 10, 60.0, 10_000


class Logins:
    """The token endpoint's logic. Thread safe."""

    def __init__(self, catalog: Catalog, tokens: Tokens, clock: Clock, rng: Random) -> None:
        self._catalog = catalog
        self._tokens = tokens
        self._clock = clock
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()
        self._hashing = threading.Lock()  # a flood of guesses costs one core, not all
        self._nobody = hash_secret("nobody", rng)  # so that unknown clients cost the same time

    def by_secret(self, client_id: str, secret: str, address: str) -> str:
        """A token. AuthenticationError (invalid_client), LimitError (TooManyAttempts): failures
        are counted per client and address, so that nobody can lock somebody else out."""
        who = f"{client_id[:64]} {address}"
        self._brake(who)
        with self._catalog.read() as connection:
            principal = access.get_principal(connection, client_id)
        stored = principal.secret_hash if principal and principal.secret_hash else self._nobody
        with self._hashing:
            right = check_secret(secret, stored)
        if not right or principal is None or principal.disabled_at is not None:
            self._failed(who)
            raise _refused("the client id or secret is wrong")
        return self._tokens.issue(principal.id, principal.kind)

    def by_assertion(self, assertion: str, address: str) -> str:
        """A token for an agent. AuthenticationError for a revoked one, a forged or a used claim."""
        client_id = assertion_subject(assertion)
        who = f"{client_id[:64]} {address}"
        self._brake(who)
        with self._catalog.read() as connection:
            principal = access.get_principal(connection, client_id)
        if principal is None or not principal.public_key or principal.disabled_at is not None:
            self._failed(who)
            raise AuthenticationError(
                "this agent is not enrolled any more",
                code="AgentRevoked",
                hint="enrol it again: holdfast agent enroll --replace",
            )
        try:
            claim = read_assertion(assertion, principal.public_key, self._clock)
        except AuthenticationError:
            self._failed(who)
            raise
        with self._catalog.write() as connection:
            if access.is_spent(connection, claim.token_id):
                raise _refused("the client assertion was used before")
            now = self._clock.now()
            spent = access.SpentToken(claim.token_id, "used", claim.expires_at, now)
            access.spend_token(connection, spent)
        return self._tokens.issue(principal.id, "agent", principal.agent_id or "")

    def _brake(self, who: str) -> None:
        now = self._clock.monotonic()
        with self._lock:
            recent = [at for at in self._failures.get(who, []) if now - at < FAILURE_SECONDS]
            if len(recent) >= MAX_FAILURES:
                raise LimitError(
                    "too many failed logins for this client",
                    code="TooManyAttempts",
                    hint="wait a minute and use the right credentials",
                )

    def _failed(self, who: str) -> None:
        now = self._clock.monotonic()
        with self._lock:
            recent = [at for at in self._failures.pop(who, []) if now - at < FAILURE_SECONDS]
            self._failures[who] = [*recent, now]
            while len(self._failures) > MAX_TRACKED:
                self._failures.popitem(last=False)


def _refused(message: str) -> AuthenticationError:
    return AuthenticationError(
        message, code="invalid_client", hint="check the credentials file and log in again"
    )
