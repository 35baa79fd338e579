"""Codes of an authenticator app (RFC 6238): the secret sealed at rest, each time step used once."""

from __future__ import annotations

import base64
import hmac
from datetime import datetime
from urllib.parse import quote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from holdfast.errors import IntegrityError
from holdfast.ports.clock import Random

SECRET_BYTES, NONCE_BYTES = 20, 12
DIGITS, STEP_SECONDS, SKEW_STEPS = 6, 30, 1


class TotpSeal:
    """Seals secrets under a key made from the platform's."""

    def __init__(self, platform_key: bytes, rng: Random) -> None:
        derived = HKDF(SHA256(), 32, salt=None, info=b"holdfast totp secrets")
        self._sealer = AESGCM(derived.derive(platform_key))
        self._rng = rng

    def new(self, owner: str) -> tuple[str, str]:
        """(what is kept, the secret in base32)."""
        secret, nonce = self._rng.token(SECRET_BYTES), self._rng.token(NONCE_BYTES)
        sealed = nonce + self._sealer.encrypt(nonce, secret, owner.encode())
        return base64.b64encode(sealed).decode(), base64.b32encode(secret).decode()

    def open(self, kept: str, owner: str) -> bytes:
        """IntegrityError when it was sealed for somebody else or under another key."""
        raw = base64.b64decode(kept)
        try:
            return self._sealer.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], owner.encode())
        except InvalidTag as error:
            raise IntegrityError(
                "the secret of an authenticator app cannot be opened",
                code="TotpDamaged",
                hint="set it up anew: holdfast user enable-totp",
            ) from error


def matching_step(secret: bytes, code: str, now: datetime) -> int | None:
    """The time step whose code this is: now's or a neighbour's, as clocks differ."""
    maker = TOTP(secret, DIGITS, SHA1(), STEP_SECONDS, enforce_key_length=False)  # noqa: S303
    here = int(now.timestamp()) // STEP_SECONDS
    given = code.replace(" ", "").encode()
    found = None
    for step in range(here - SKEW_STEPS, here + SKEW_STEPS + 1):
        if hmac.compare_digest(maker.generate(step * STEP_SECONDS), given):
            found = step
    return found


def otpauth(name: str, secret: str, issuer: str) -> str:
    """The address an authenticator app reads (as a QR code, or typed)."""
    label = quote(f"{issuer}:{name}", safe="")
    return (
        f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer)}"
        f"&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}"
    )
