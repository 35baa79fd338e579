"""Access tokens: short-lived JWTs signed by the server; and the assertions agents sign."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from holdfast.errors import AuthenticationError
from holdfast.ports.clock import Clock, Random

AUDIENCE = "holdfast"
ASSERTION_AUDIENCE = "holdfast-token"
ALGORITHM = "EdDSA"
MAX_ASSERTION_SECONDS = 600
SKEW_SECONDS = 120
LOG_IN = "log in again: holdfast login"
ENROL = "enrol the agent again: holdfast agent enroll --replace"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token speaks for. ``agent_id`` is "" for people and services; ``stamp`` is that of the
    person's account or the service's secret when the token was made, "" for agents."""

    client_id: str
    kind: str
    agent_id: str
    token_id: str
    stamp: str


class Tokens:
    """Issues and reads access tokens of one installation (tenant)."""

    def __init__(
        self, key: Ed25519PrivateKey, tenant_id: str, clock: Clock, rng: Random, seconds: int
    ) -> None:
        self._key = key
        self._public = key.public_key()
        self.tenant_id = tenant_id
        self._clock = clock
        self._rng = rng
        self.seconds = seconds

    def issue(
        self,
        client_id: str,
        kind: str,
        agent_id: str = "",
        *,
        stamp: str = "",
        more: Mapping[str, str] | None = None,
    ) -> str:
        """An access token; ``more``: claims for clients to show."""
        now = self._clock.now()
        claims = {
            **(more or {}),
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": client_id,
            "oid": client_id,
            "tid": self.tenant_id,
            "appid": client_id,
            "kind": kind,
            "agent": agent_id,
            "stamp": stamp,
            "jti": self._rng.token(16).hex(),
            "iat": _stamp(now),
            "nbf": _stamp(now) - SKEW_SECONDS,
            "exp": _stamp(now + timedelta(seconds=self.seconds)),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    @property
    def _issuer(self) -> str:
        return f"https://holdfast/{self.tenant_id}"

    def identify(
        self, person_id: str, client_id: str, issuer: str, nonce: str, names: Mapping[str, str]
    ) -> str:
        """An id token: tells ``client_id`` who signed in, and opens nothing."""
        now = _stamp(self._clock.now())
        claims = {
            **names,
            "preferred_username": names["upn"],
            "iss": issuer,
            "aud": client_id,
            "sub": person_id,
            "oid": person_id,
            "tid": self.tenant_id,
            "iat": now,
            "nbf": now - SKEW_SECONDS,
            "exp": now + self.seconds,
            **({"nonce": nonce} if nonce else {}),
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    @property
    def key_id(self) -> str:
        return hashlib.sha256(self._public.public_bytes_raw()).hexdigest()[:16]

    def public_keys(self) -> dict[str, Any]:
        """The key that signs, as a JSON Web Key Set."""
        raw = base64.urlsafe_b64encode(self._public.public_bytes_raw()).decode().rstrip("=")
        key = {"kty": "OKP", "crv": "Ed25519", "x": raw, "kid": self.key_id, "use": "sig"}
        return {"keys": [{**key, "alg": ALGORITHM}]}

    def read(self, token: str) -> Caller:
        """AuthenticationError: InvalidAuthenticationToken or ExpiredAuthenticationToken."""
        claims = _decode(token, self._public, AUDIENCE)
        if claims.get("exp", 0) <= _stamp(self._clock.now()):
            raise AuthenticationError(
                "the access token has expired", code="ExpiredAuthenticationToken", hint=LOG_IN
            )
        if claims.get("tid") != self.tenant_id:
            raise AuthenticationError("the access token is of another installation", hint=LOG_IN)
        if claims.get("iss") != self._issuer:  # an id token, which names its program as audience
            raise AuthenticationError("this token is no access token", hint=LOG_IN)
        stamp = claims.get("stamp", "")
        return Caller(claims["sub"], claims["kind"], claims["agent"], claims["jti"], stamp)


@dataclass(frozen=True, slots=True)
class Assertion:
    """A client's signed claim to be itself. It may be used once."""

    client_id: str
    token_id: str
    expires_at: datetime


def assertion_subject(assertion: str) -> str:
    """The client id an assertion names, unverified; AuthenticationError when it is none."""
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise AuthenticationError("the client assertion is malformed", hint=ENROL) from error
    return str(claims.get("sub", ""))


def read_assertion(assertion: str, public_key_pem: str, clock: Clock) -> Assertion:
    """AuthenticationError when it is forged, expired, too long-lived or for another purpose."""
    key = load_pem_public_key(public_key_pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise AuthenticationError("the client's key is of an unsupported kind", hint=ENROL)
    claims = _decode(assertion, key, ASSERTION_AUDIENCE)
    now = _stamp(clock.now())
    expires, issued = claims.get("exp", 0), claims.get("iat", 0)
    if not now - SKEW_SECONDS < expires <= now + MAX_ASSERTION_SECONDS + SKEW_SECONDS:
        raise AuthenticationError(
            "the client assertion has expired, or the clocks differ",
            code="ExpiredAuthenticationToken",
            hint="set the clocks of server and agent right",
        )
    if expires - issued > MAX_ASSERTION_SECONDS or not claims.get("jti"):
        raise AuthenticationError(
            "the client assertion is too long-lived", hint="sign it for ten minutes at most"
        )
    return Assertion(
        str(claims["sub"]), str(claims["jti"]), clock.now() + timedelta(seconds=expires - now + 1)
    )


def sign_assertion(key: Ed25519PrivateKey, client_id: str, now: datetime, token_id: str) -> str:
    """What an agent sends to get a token. Valid for five minutes, once."""
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": ASSERTION_AUDIENCE,
        "jti": token_id,
        "iat": _stamp(now),
        "exp": _stamp(now) + 300,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def _decode(token: str, key: Ed25519PublicKey, audience: str) -> dict[str, Any]:
    """Signature and audience; times are checked by the caller against the handed-in clock."""
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=audience,
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except (jwt.PyJWTError, ValueError) as error:
        raise AuthenticationError("the access token is invalid", hint=LOG_IN) from error


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp())
