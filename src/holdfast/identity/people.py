"""Everything about people's logins, built once by bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.catalog import people
from holdfast.catalog.database import Catalog
from holdfast.errors import AuthenticationError
from holdfast.identity.accounts import Accounts, Person, living
from holdfast.identity.provider import Provider, ProviderSettings
from holdfast.identity.sessions import Sessions
from holdfast.identity.sign_ins import SignIns
from holdfast.identity.tokens import Tokens
from holdfast.identity.totp import TotpSeal
from holdfast.ports.clock import Clock, Random


@dataclass(frozen=True, slots=True)
class People:
    """Accounts, sessions and sign-ins under way."""

    catalog: Catalog
    accounts: Accounts
    sessions: Sessions
    sign_ins: SignIns
    tokens: Tokens
    provider: Provider | None

    @classmethod
    def build(
        cls,
        catalog: Catalog,
        tokens: Tokens,
        clock: Clock,
        rng: Random,
        platform_key: bytes,
        days: float,
        provider: ProviderSettings | None = None,
    ) -> People:
        sign_ins = SignIns(catalog, clock, rng)
        return cls(
            catalog,
            Accounts(catalog, clock, rng, TotpSeal(platform_key, rng)),
            Sessions(catalog, tokens, clock, rng, days),
            sign_ins,
            tokens,
            Provider(provider, sign_ins, clock, rng) if provider else None,
        )

    def person(self, principal_id: str) -> Person:
        """Somebody who signed in a moment ago. AuthenticationError (invalid_grant)."""
        with self.catalog.read() as connection:
            user = people.get_user(connection, principal_id)
            found = living(connection, user) if user else None
        if found is None:
            raise AuthenticationError(
                "this account was deleted", code="invalid_grant", hint="ask an administrator"
            )
        return found
