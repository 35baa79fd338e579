"""Passwords of people: argon2id, as they have far less randomness than a client's secret."""

from __future__ import annotations

import base64

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION

from holdfast.errors import UsageError
from holdfast.ports.clock import Random

MIN_CHARACTERS, MAX_BYTES = 12, 1024
SALT_BYTES = 16
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)  # RFC 9106, low memory


def check_strength(password: str, name: str) -> None:
    """UsageError (PasswordTooWeak): length counts, and not repeating one's name."""
    plain = password.strip().lower()
    weak = len(plain) < MIN_CHARACTERS or len(set(plain)) < 5 or plain == name.lower()
    if weak or len(password.encode()) > MAX_BYTES:
        raise UsageError(
            "the password is too weak or too long",
            code="PasswordTooWeak",
            hint=f"take at least {MIN_CHARACTERS} characters, such as four words by chance",
        )


def hash_password(password: str, rng: Random) -> str:
    """In argon2's own text form, which names its costs."""
    return _HASHER.hash(password.encode(), salt=rng.token(SALT_BYTES))


def nobodys_password(rng: Random) -> str:
    """A hash of no password, to be checked where a name is unknown: it takes the same time."""
    salt, digest = (
        base64.b64encode(rng.token(size)).decode().rstrip("=")
        for size in (SALT_BYTES, _HASHER.hash_len)
    )
    costs = f"m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"


def check_password(password: str, stored: str) -> bool:
    """Whether it is the one that was hashed; False for anything malformed."""
    data = password.encode()
    if len(data) > MAX_BYTES:
        return False
    try:
        return _HASHER.verify(stored, data)
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(stored: str) -> bool:
    """Whether it was hashed with other costs than today's."""
    return _HASHER.check_needs_rehash(stored)
