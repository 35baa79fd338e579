"""Proving who a person is: name, password, code. Every failure looks the same from outside."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import access, audit, people, places
from holdfast.catalog.database import Catalog
from holdfast.catalog.people import UserRow
from holdfast.errors import AuthenticationError, HoldfastError, LimitError
from holdfast.identity.attempts import PersonAttempts
from holdfast.identity.passwords import (
    check_password,
    hash_password,
    is_outdated,
    nobodys_password,
)
from holdfast.identity.totp import TotpSeal, matching_step
from holdfast.identity.vouched import Vouched, external_key
from holdfast.ports.clock import Clock, Random

MAX_WRONG_CODES, LOCKED = 5, timedelta(minutes=15)
MAX_NAME = 100
STAMP_BYTES = 16
STRANGER_NOTE = "last sign-in of a stranger"


@dataclass(frozen=True, slots=True)
class Origin:
    """From where a sign-in comes, for the audit record. ``way``: password | page | provider."""

    address: str
    request_id: str
    way: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who proved who they are."""

    name: str
    user: UserRow


class Accounts:
    """Checks people against the catalog. Thread safe."""

    def __init__(self, catalog: Catalog, clock: Clock, rng: Random, seal: TotpSeal) -> None:
        self._catalog = catalog
        self._clock = clock
        self._rng = rng
        self.seal = seal
        self.attempts = PersonAttempts(clock)
        self._hashing = threading.Lock()  # a flood of guesses costs one core, not all
        self._nobody = nobodys_password(rng)  # unknown names cost the same time

    def new_stamp(self) -> str:
        return self._rng.token(STAMP_BYTES).hex()

    def hash(self, password: str) -> str:
        with self._hashing:
            return hash_password(password, self._rng)

    def prove(self, name: str, password: str, code: str, origin: Origin) -> Person:
        """AuthenticationError (invalid_grant; interaction_required when only the code is missing),
        LimitError (TooManyAttempts)."""
        key = name.strip().lower()[:MAX_NAME]
        self.attempts.check(key, origin.address)
        person = self._find(key)
        try:
            proven = self._check_password(person, password)
            self._check_code(proven, code)
        except HoldfastError as error:
            if error.code != "interaction_required":
                self.attempts.failed(key, origin.address)
                self._record(person, origin, error.code)
            raise
        self.attempts.succeeded(key, origin.address)
        return self.welcome(proven, origin, password)

    def welcome(self, person: Person, origin: Origin, password: str = "") -> Person:
        """Write a sign-in down; a password hashed with old costs is hashed again."""
        values: dict[str, object] = {"signed_in_at": self._clock.now()}
        if password and is_outdated(person.user.password_hash):
            values["password_hash"] = self.hash(password)
        with self._catalog.write() as connection:
            people.change_user(connection, person.user.principal_id, **values)
        self._record(person, origin, "")
        return person

    def vouched(self, whom: Vouched, origin: Origin) -> Person:
        """The account a provider's person has: by subject, or at the first time by name, if that
        account was made for somebody of the provider. AuthenticationError (AccountMissing)."""
        key = external_key(whom.issuer, whom.subject)
        with self._catalog.write() as connection:
            user = people.user_linked(connection, key or "")
            if user is None and (waiting := people.user_named(connection, whom.name)):
                theirs = waiting.issuer == whom.issuer and not waiting.password_hash
                if theirs and waiting.external_key is None:
                    linked = {"subject": whom.subject, "external_key": key}
                    people.change_user(connection, waiting.principal_id, **linked)
                    user = waiting
            person = living(connection, user) if user else None
        if person is None:
            raise AuthenticationError(
                f"nobody here is {whom.name or 'this person'} of the provider",
                code="AccountMissing",
                hint="ask an owner for an account: holdfast user create NAME --external",
            )
        return self.welcome(person, origin)

    def is_password(self, user: UserRow, password: str) -> bool:
        with self._hashing:
            return check_password(password, user.password_hash or self._nobody)

    def _find(self, key: str) -> Person | None:
        with self._catalog.read() as connection:
            user = people.user_named(connection, key)
            return None if user is None else living(connection, user)

    def _check_password(self, person: Person | None, password: str) -> Person:
        stored = person.user.password_hash if person else ""
        with self._hashing:
            right = check_password(password, stored or self._nobody)
        if not right or not stored or person is None:
            raise _wrong()
        return person

    def _check_code(self, person: Person, code: str) -> None:
        user, now = person.user, self._clock.now()
        if not user.totp:
            return
        _check_unlocked(user, now)
        if not code:
            raise AuthenticationError(
                "this account needs a code of its authenticator app",
                code="interaction_required",
                hint="sign in by device code (az login --use-device-code), or give the code",
            )
        step = matching_step(self.seal.open(user.totp, user.principal_id), code, now)
        with self._catalog.write() as connection:
            current = people.lock_user(connection, user.principal_id) or user
            _check_unlocked(current, now)  # others may have guessed at the same time
            if step is not None and people.use_step(connection, user.principal_id, step):
                return
            _count_wrong_code(connection, current, self._locked_from(current))
        raise _wrong()

    def _locked_from(self, user: UserRow) -> UserRow:
        """``user`` after one more wrong code."""
        wrong = user.wrong_codes + 1
        until = self._clock.now() + LOCKED if wrong >= MAX_WRONG_CODES else user.locked_until
        return replace(user, wrong_codes=wrong % MAX_WRONG_CODES, locked_until=until)

    def _record(self, person: Person | None, origin: Origin, code: str) -> None:
        """Strangers are not recorded, as they must not fill the catalog; one row is written all the
        same, so that a failure takes as long as somebody's."""
        if person is None:
            with self._catalog.write() as connection:
                places.set_note(connection, STRANGER_NOTE, self._clock.now().isoformat())
            return
        entry = audit.AuditEntry(
            at=self._clock.now(),
            principal_id=person.user.principal_id,
            principal_name=person.name,
            operation="SIGN-IN",
            resource=f"/providers/Holdfast.Backup/users/{person.name}",
            client_address=origin.address,
            request_id=origin.request_id,
            status=401 if code else 200,
            result_code=code,
            details={"way": origin.way},
        )
        with self._catalog.write() as connection:
            audit.append(connection, entry)


def living(connection: Connection, user: UserRow) -> Person | None:
    """The person of an account that is not deleted."""
    principal = access.get_principal(connection, user.principal_id)
    if principal is None or principal.disabled_at is not None:
        return None
    return Person(principal.name, user)


def _check_unlocked(user: UserRow, now: datetime) -> None:
    """LimitError (AccountLocked)."""
    if user.locked_until is not None and user.locked_until > now:
        raise LimitError(
            "this account is locked after wrong codes",
            code="AccountLocked",
            hint="wait a quarter of an hour, or let an owner unlock it: holdfast user unlock",
        )


def _count_wrong_code(connection: Connection, before: UserRow, after: UserRow) -> None:
    people.change_user(
        connection,
        before.principal_id,
        wrong_codes=after.wrong_codes,
        locked_until=after.locked_until,
    )


def _wrong() -> AuthenticationError:
    return AuthenticationError(
        "the user name, the password or the code is wrong",
        code="invalid_grant",
        hint="check them; after many failures wait some minutes",
    )
