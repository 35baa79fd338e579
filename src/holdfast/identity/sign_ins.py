"""Sign-ins that take several steps: by device code (RFC 8628), by authorization code with PKCE.

What the program holds (a device code, an authorization code) is kept as its hash and works once.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from holdfast.catalog import people
from holdfast.catalog.database import Catalog
from holdfast.catalog.people import SignInRow
from holdfast.errors import AuthenticationError, NotFoundError, UsageError
from holdfast.identity.attempts import Attempts, place_of
from holdfast.identity.secrets import new_secret, same
from holdfast.identity.sessions import digest
from holdfast.ports.clock import Clock, Random

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words; nothing that looks like a digit
CODE_LETTERS = 8
DEVICE_LIFE, CODE_LIFE = timedelta(minutes=15), timedelta(minutes=2)
POLL_SECONDS = 2
LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_CLIENT_ID = 200


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a program shows (``user_code``) and what it keeps."""

    device_code: str
    user_code: str
    seconds: int


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """A program of this machine asks a browser for a code, to be brought to ``redirect_uri``."""

    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    state: str
    form_post: bool


class SignIns:
    """Follows them through the catalog, so that any server may answer the next step."""

    def __init__(self, catalog: Catalog, clock: Clock, rng: Random) -> None:
        self._catalog = catalog
        self._clock = clock
        self._rng = rng
        self._started = Attempts(clock, 60, 300)
        self._guessed = Attempts(clock, 20, 300)

    # by device code

    def start_device(self, client_id: str, address: str) -> DeviceCode:
        """LimitError (TooManyAttempts)."""
        self._count_start(address)
        number = int.from_bytes(self._rng.token(16), "big")
        letters = [LETTERS[number // 20**n % 20] for n in range(CODE_LETTERS)]
        code, secret = "".join(letters), new_secret(self._rng)
        body = {"clientId": client_id, "address": address}
        self._add(secret, "device", DEVICE_LIFE, body, user_code=code)
        shown = f"{code[:4]}-{code[4:]}"
        return DeviceCode(secret, shown, int(DEVICE_LIFE.total_seconds()))

    def _count_start(self, address: str) -> None:
        """Nobody fills the catalog with sign-ins that lead nowhere."""
        place = place_of(address)
        self._started.check(place)
        self._started.failed(place)

    def waiting(self, user_code: str, address: str) -> SignInRow:
        """The sign-in somebody typed the code of. NotFoundError (UserCodeUnknown)."""
        place = place_of(address)
        self._guessed.check(place)
        plain = "".join(one for one in user_code.upper() if one in LETTERS)
        with self._catalog.read() as connection:
            row = people.sign_in_coded(connection, plain)
        if row is None or row.state != "pending" or row.expires_at <= self._clock.now():
            self._guessed.failed(place)
            raise _no_code()
        return row

    def settle(self, row: SignInRow, principal_id: str | None) -> None:
        """Let the waiting program in as somebody, or not (None). NotFoundError (UserCodeUnknown)
        when somebody else was first."""
        with self._catalog.write() as connection:
            state = "denied" if principal_id is None else "approved"
            if not people.settle_sign_in(connection, row, state, principal_id):
                raise _no_code()

    def poll(self, device_code: str, client_id: str) -> str:
        """Who let the program in; once. UsageError with RFC 8628's codes."""
        now = self._clock.now()
        with self._catalog.write() as connection:
            row = people.get_sign_in(connection, digest(device_code), "device")
            if row is not None:
                people.poll_sign_in(connection, row, now)
        if row is None or row.expires_at <= now or row.body.get("clientId") != client_id:
            raise UsageError("the device code is over", code="expired_token", hint="start again")
        if row.state == "denied":
            raise UsageError("the sign-in was refused", code="access_denied", hint="start again")
        if row.state == "pending" and row.polled_at is not None:
            self._check_pace(now - row.polled_at)
        if row.state == "pending" or row.principal_id is None:
            raise UsageError(
                "nobody has signed in yet",
                code="authorization_pending",
                hint="sign in with the code in a browser; the program goes on by itself",
            )
        self._take(row)
        return row.principal_id

    def _check_pace(self, since: timedelta) -> None:
        if timedelta(0) <= since < timedelta(seconds=POLL_SECONDS / 2):
            raise UsageError(
                "the program asks too often", code="slow_down", hint="ask every two seconds"
            )

    # by authorization code

    def give_code(self, request: CodeRequest, principal_id: str) -> str:
        """A code for the program that sent the browser here."""
        body = {
            "clientId": request.client_id,
            "redirectUri": request.redirect_uri,
            "challenge": request.challenge,
            "nonce": request.nonce,
        }
        code = new_secret(self._rng)
        self._add(code, "code", CODE_LIFE, body, principal_id=principal_id)
        return code

    def redeem(
        self, code: str, client_id: str, redirect_uri: str, verifier: str
    ) -> tuple[str, str]:
        """(who, the nonce). AuthenticationError (invalid_grant): whoever brings the code must be
        the program that asked for it."""
        with self._catalog.read() as connection:
            row = people.get_sign_in(connection, digest(code), "code")
        if row is None or row.principal_id is None or row.expires_at <= self._clock.now():
            raise _refused()
        self._take(row)
        hashed = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(hashed).decode().rstrip("=")
        right = same(challenge, str(row.body["challenge"]))
        asked = (row.body["clientId"], row.body["redirectUri"]) == (client_id, redirect_uri)
        if not right or not asked:
            raise _refused()
        return row.principal_id, str(row.body["nonce"])

    # shared with sign-in at a provider

    def add_external(self, secret: str, body: dict[str, Any], address: str) -> None:
        """LimitError (TooManyAttempts)."""
        self._count_start(address)
        self._add(secret, "external", DEVICE_LIFE, body)

    def take_external(self, secret: str) -> dict[str, Any]:
        """Once. AuthenticationError (invalid_grant)."""
        with self._catalog.read() as connection:
            row = people.get_sign_in(connection, digest(secret), "external")
        if row is None or row.expires_at <= self._clock.now():
            raise _refused()
        self._take(row)
        return row.body

    def _add(
        self,
        secret: str,
        kind: str,
        life: timedelta,
        body: dict[str, Any],
        *,
        user_code: str | None = None,
        principal_id: str | None = None,
    ) -> None:
        now = self._clock.now()
        row = SignInRow(
            digest(secret), kind, "pending", user_code, principal_id, body, now, now + life, None
        )
        with self._catalog.write() as connection:
            people.add_sign_in(connection, row)

    def _take(self, row: SignInRow) -> None:
        with self._catalog.write() as connection:
            if not people.take_sign_in(connection, row.id):
                raise _refused()


def read_code_request(fields: dict[str, str]) -> CodeRequest:
    """What a program wrote into the address. UsageError (invalid_request): without PKCE, or to be
    answered anywhere but on the person's own machine."""
    if fields.get("response_type", "code") != "code":
        raise _invalid("only response_type=code is served")
    if not fields.get("code_challenge") or fields.get("code_challenge_method") != "S256":
        raise _invalid("the request has no code_challenge of the method S256")
    redirect, client_id = fields.get("redirect_uri", ""), fields.get("client_id", "")
    try:
        parts = urlsplit(redirect)
        local = parts.scheme == "http" and parts.hostname in LOOPBACK and not parts.fragment
        local = local and not parts.username and parts.port != 0
    except ValueError:
        local = False
    plain = redirect.isascii() and redirect.isprintable()  # it goes into headers
    if not local or not plain or any(one in redirect for one in " \"'<>;,"):
        raise _invalid("redirect_uri is not on this machine")
    return CodeRequest(
        check_client_id(client_id),
        redirect,
        fields["code_challenge"],
        fields.get("nonce", ""),
        fields.get("state", ""),
        fields.get("response_mode") == "form_post",
    )


def check_client_id(client_id: str) -> str:
    """UsageError (invalid_request). Programs of people are not registered: the person is asked."""
    if not client_id or len(client_id) > MAX_CLIENT_ID or not client_id.isprintable():
        raise _invalid("client_id is missing or too long")
    return client_id


def _no_code() -> NotFoundError:
    return NotFoundError(
        "there is no sign-in of that code",
        code="UserCodeUnknown",
        hint="read the code again; codes work once and for a quarter of an hour",
    )


def _invalid(message: str) -> UsageError:
    return UsageError(
        message, code="invalid_request", hint="sign in with az login or holdfast login"
    )


def _refused() -> AuthenticationError:
    return AuthenticationError(
        "the code is wrong, was used before, or is over",
        code="invalid_grant",
        hint="start the sign-in again",
    )
