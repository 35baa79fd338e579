"""Secrets of clients: made here, stored as scrypt hashes, compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from holdfast.ports.clock import Random

_N, _R, _P = 2**14, 8, 1  # 16 MiB, some 40 ms: enough for secrets of 256 random bits


def same(one: str, other: str) -> bool:
    """Whether two texts are equal, in constant time; either may hold any character."""
    return hmac.compare_digest(*(text.encode("utf-8", "surrogatepass") for text in (one, other)))


def new_secret(rng: Random) -> str:
    """256 random bits as text, after a letter: a word that begins with ``-`` would be taken for an
    option by the programs it is typed for."""
    return "s" + base64.urlsafe_b64encode(rng.token(32)).decode().rstrip("=")


def hash_secret(secret: str, rng: Random) -> str:
    """``scrypt$N$salt$hash``."""
    salt = rng.token(16)
    digest = _derive(secret, salt)
    return f"scrypt${_N}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def check_secret(secret: str, stored: str) -> bool:
    """Whether ``secret`` is the one that was hashed; False for anything malformed."""
    try:
        kind, n, salt, digest = stored.split("$")
    except ValueError:
        return False
    if kind != "scrypt" or n != str(_N):
        return False
    return hmac.compare_digest(_derive(secret, base64.b64decode(salt)), base64.b64decode(digest))


def stamp_of(stored: str) -> str:
    """What tokens carry of the secret they were got with, so that they end with it."""
    return hashlib.sha256(f"holdfast secret {stored}".encode()).hexdigest()[:32] if stored else ""


def _derive(secret: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(secret.encode()[:1024])
