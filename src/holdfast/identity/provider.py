"""Sign-in at an OpenID provider: authorization code with PKCE, state and nonce; the id token is
checked against the provider's published keys."""

from __future__ import annotations

import base64
import hashlib
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import jwt

from holdfast.errors import AuthenticationError, StoreUnavailableError, UsageError
from holdfast.identity.secrets import new_secret, same
from holdfast.identity.sign_ins import SignIns
from holdfast.identity.vouched import Vouched
from holdfast.ports.clock import Clock, Random

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
              "EdDSA")  # fmt: skip
NEEDED = ["iss", "sub", "aud", "exp", "iat"]
SKEW_SECONDS, FRESH_SECONDS = 120, 900
KNOWN_SECONDS, AGAIN_SECONDS = 3600.0, 60.0
ANSWER_SECONDS = 10.0
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Which provider, who we are there, and which claim names a user at the first sign-in."""

    issuer: str
    client_id: str
    secret: str
    name: str
    claim: str
    ca: str

    @property
    def shown(self) -> str:
        return self.name or str(urlsplit(self.issuer).hostname)


class Provider:
    """One provider. Thread safe."""

    def __init__(
        self, settings: ProviderSettings, sign_ins: SignIns, clock: Clock, rng: Random
    ) -> None:
        self.settings = settings
        self._sign_ins = sign_ins
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Body]] = {}
        context = ssl.create_default_context(cafile=settings.ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._http = httpx2.Client(verify=context, timeout=ANSWER_SECONDS, trust_env=False)

    def start(self, redirect_uri: str, then: Body, address: str) -> tuple[str, str]:
        """(state, where the browser goes). ``then``: what is gone on with afterwards; ``address``:
        the browser's, of which too many are refused (LimitError)."""
        state, nonce, verifier = (new_secret(self._rng) for _ in range(3))
        kept = {"nonce": nonce, "verifier": verifier, "redirectUri": redirect_uri, "then": then}
        self._sign_ins.add_external(state, kept, address)
        hashed = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(hashed).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        page = self._address("authorization_endpoint")
        return state, f"{page}{'&' if '?' in page else '?'}{urlencode(query)}"

    def finish(self, state: str, code: str) -> tuple[Vouched, Body]:
        """Whom the code stands for, and what to go on with. AuthenticationError (invalid_grant,
        ProviderRefused)."""
        kept = self._sign_ins.take_external(state)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": str(kept["redirectUri"]),
            "code_verifier": str(kept["verifier"]),
        }
        answer = self._exchange(form)
        claims = self._checked(str(answer.get("id_token", "")), str(kept["nonce"]))
        then: Body = kept["then"]
        return Vouched(self.settings.issuer, str(claims["sub"]), self._name(claims)), then

    def _name(self, claims: Body) -> str:
        """The user's name by the claim; a mail address counts only when it was verified."""
        if self.settings.claim == "email" and claims.get("email_verified") is not True:
            return ""
        return str(claims.get(self.settings.claim) or "")

    def _exchange(self, form: dict[str, str]) -> Body:
        ours, headers = self.settings, dict[str, str]()
        methods = self._described().get("token_endpoint_auth_methods_supported")
        if not ours.secret:
            form["client_id"] = ours.client_id
        elif methods and "client_secret_basic" not in methods:
            form |= {"client_id": ours.client_id, "client_secret": ours.secret}
        else:
            pair = f"{quote(ours.client_id, safe='')}:{quote(ours.secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        try:
            answer = self._http.post(self._address("token_endpoint"), data=form, headers=headers)
            found = answer.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise _unavailable(ours) from error
        if not answer.is_success or not isinstance(found, dict):
            raise _refused(f"the provider {ours.shown} refused the code")
        return found

    def _checked(self, token: str, nonce: str) -> Body:
        """The claims of an id token. AuthenticationError (ProviderRefused)."""
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in ALGORITHMS:
                raise jwt.InvalidAlgorithmError
            claims: Body = jwt.decode(
                token,
                self._key(header),
                algorithms=[header["alg"]],
                audience=self.settings.client_id,
                issuer=self.settings.issuer,
                options={
                    "require": NEEDED, "verify_exp": False, "verify_iat": False,
                    "verify_nbf": False,
                },
            )  # fmt: skip
            now = int(self._clock.now().timestamp())
            timely = int(claims["exp"]) > now - SKEW_SECONDS
            timely = timely and abs(now - int(claims["iat"])) < FRESH_SECONDS
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise _refused("the provider's id token is not valid") from error
        ours = claims.get("azp", self.settings.client_id) == self.settings.client_id
        alone = isinstance(claims["aud"], str) or len(claims["aud"]) == 1 or "azp" in claims
        asked = same(str(claims.get("nonce", "")), nonce)
        if not (timely and ours and alone and asked and claims["sub"]):
            raise _refused("the provider's id token is not for this sign-in")
        return claims

    def _key(self, header: Body) -> Any:
        """The key that signed; keys are fetched again when it is a new one."""
        for again in (False, True):
            address = self._address("jwks_uri")
            keys = self._fetched(address, AGAIN_SECONDS if again else KNOWN_SECONDS)
            for key in jwt.PyJWKSet.from_dict(keys).keys:
                if key.public_key_use in (None, "sig") and header.get("kid") in (None, key.key_id):
                    return key
        raise jwt.InvalidKeyError

    def _address(self, name: str) -> str:
        found = self._described().get(name)
        if not isinstance(found, str):
            raise _unavailable(self.settings)
        return found

    def _described(self) -> Body:
        """What the provider says of itself. StoreUnavailableError (ProviderUnavailable)."""
        base = self.settings.issuer.rstrip("/")
        found = self._fetched(f"{base}/.well-known/openid-configuration", KNOWN_SECONDS)
        if found.get("issuer") != self.settings.issuer:
            raise _unavailable(self.settings)
        return found

    def _fetched(self, address: str, fresh: float) -> Body:
        now = self._clock.monotonic()
        with self._lock:
            at, known = self._known.get(address, (0.0, {}))
            if known and now - at < fresh:
                return known
            try:
                answer = self._http.get(address)
                found = answer.json() if answer.is_success else None
            except (httpx2.HTTPError, ValueError) as error:
                raise _unavailable(self.settings) from error
            if not isinstance(found, dict):
                raise _unavailable(self.settings)
            self._known[address] = (now, found)
            return found


def read_secret(path: str) -> str:
    """The client's secret. UsageError (InvalidSettings)."""
    try:
        return Path(path).read_text().strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"oidc_client_secret_file {path} cannot be read: {error}",
            code="InvalidSettings",
            hint="name a file the server may read",
        ) from error


def _refused(message: str) -> AuthenticationError:
    return AuthenticationError(message, code="ProviderRefused", hint="start the sign-in again")


def _unavailable(settings: ProviderSettings) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the provider {settings.shown} does not answer as an OpenID provider",
        code="ProviderUnavailable",
        hint="try again; if it stays, check oidc_issuer (exactly as the provider writes it) and "
        "oidc_ca_file",
    )
