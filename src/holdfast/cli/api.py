"""The client of the REST API that all commands use."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from holdfast import errors
from holdfast.cli.profile import Profile, config_dir, load_profile, load_token, save_token
from holdfast.errors import AuthenticationError, HoldfastError, StoreUnavailableError

Body = dict[str, Any]
API_VERSION = "2026-11-01"
SECONDS = 300.0
_KINDS: dict[int, type[HoldfastError]] = {
    400: errors.UsageError,
    401: errors.AuthenticationError,
    403: errors.AccessError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    412: errors.ConflictError,
    413: errors.LimitError,
    429: errors.LimitError,
    507: errors.StoreFullError,
}


def tls_context(ca: str) -> ssl.SSLContext:
    """Trusts the installation's CA (PEM text) only. UsageError (InvalidCa)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise errors.UsageError(
            "the CA file holds no certificate",
            code="InvalidCa",
            hint="give the server's ca.pem: --ca DIR/ca.pem",
        ) from error
    return context


def http_client(server: str, ca: str) -> Any:
    import httpx2

    return httpx2.Client(base_url=server, verify=tls_context(ca), timeout=SECONDS, trust_env=False)


def unreachable(server: str, error: BaseException) -> StoreUnavailableError:
    """A transport error, with what to do about it."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = "the CA does not fit this server: log in again with its own ca.pem"
    else:
        hint = "check that the server runs and that the address is right"
    return StoreUnavailableError(
        f"the server {server} does not answer: {text}", code="ServerUnreachable", hint=hint
    )


def fetch_token(profile: Profile, http: Any) -> tuple[str, float]:
    """(token, life in seconds). AuthenticationError (invalid_client)."""
    import httpx2

    form = {
        "grant_type": "client_credentials",
        "client_id": profile.client_id,
        "client_secret": profile.client_secret,
        "scope": f"{profile.server}/.default",
    }
    try:
        response = http.post("/adfs/oauth2/token", data=form)
    except httpx2.TransportError as error:
        raise unreachable(profile.server, error) from error
    if not response.is_success:
        raise _login_error(response)
    body = response.json()
    return str(body["access_token"]), float(body["expires_in"])


def _login_error(response: Any) -> HoldfastError:
    try:
        body = response.json()["holdfast"]
    except (ValueError, KeyError, TypeError):
        return StoreUnavailableError(
            f"the login answered {response.status_code}", code="ServerFailed"
        )
    kind = _KINDS.get(response.status_code, StoreUnavailableError)
    return kind(body["message"], code=body["code"], hint=body.get("hint", ""))


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its status, JSON body (or None) and headers."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Api:
    """Logged-in calls. One per command."""

    def __init__(self, profile: Profile | None = None) -> None:
        self.profile = profile or load_profile()
        self._http = http_client(self.profile.server, self.profile.ca)
        self._token = ""

    def call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> Answer:
        """One call; HoldfastError as the server says it."""
        import httpx2

        params = {"api-version": API_VERSION, **(query or {})}
        for attempt in range(2):
            headers = {"Authorization": f"Bearer {self._bearer(fresh=attempt > 0)}"}
            try:
                response = self._http.request(
                    method, path, json=body, params=None if "?" in path else params, headers=headers
                )
            except httpx2.TransportError as error:
                raise unreachable(self.profile.server, error) from error
            if response.status_code != 401 or attempt:
                break
        return self._read(response)

    def _read(self, response: Any) -> Answer:
        try:
            body = response.json() if response.content else None
        except ValueError:
            body = None
        if response.is_success:
            return Answer(response.status_code, body, response.headers)
        shown = body.get("error") if isinstance(body, dict) else None
        kind = _KINDS.get(response.status_code, StoreUnavailableError)
        if not isinstance(shown, dict):
            raise kind(f"the server answered {response.status_code}", code="ServerFailed")
        raise kind(
            str(shown.get("message")),
            code=str(shown.get("code")),
            hint=str(shown.get("hint") or ""),
        )

    def _bearer(self, *, fresh: bool) -> str:
        if self._token and not fresh:
            return self._token
        cached = load_token()
        now = time.monotonic()  # after a restart of the machine the server refuses: asked anew
        if not fresh and cached and float(cached.get("until", 0)) > now:
            self._token = str(cached["token"])
            return self._token
        self._token, life = fetch_token(self.profile, self._http)
        save_token(self._token, now + life - min(120.0, life / 2))
        return self._token

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self.call("GET", path, query=query).body

    def listed(self, path: str, query: Mapping[str, str] | None = None) -> list[Body]:
        """All rows, following nextLink."""
        return list(self._rows(path, query))

    def _rows(self, path: str, query: Mapping[str, str] | None) -> Iterator[Body]:
        page = self.get(path, query)
        while True:
            yield from page["value"]
            link = page.get("nextLink")
            if not link:
                return
            page = self.call("GET", link).body

    def subscription(self) -> str:
        """The installation's subscription id."""
        if self.profile.subscription_id:
            return self.profile.subscription_id
        rows = self.listed("/subscriptions")
        if not rows:
            raise AuthenticationError("this client sees no subscription", code="NoSubscription")
        return str(rows[0]["subscriptionId"])


@dataclass(frozen=True, slots=True)
class Scope:
    """A vault as commands name it; ARM paths below it."""

    api: Api
    group: str
    vault: str

    @property
    def group_path(self) -> str:
        return f"/subscriptions/{self.api.subscription()}/resourceGroups/{quote(self.group)}"

    @property
    def path(self) -> str:
        return f"{self.group_path}/providers/Microsoft.RecoveryServices/vaults/{quote(self.vault)}"

    @property
    def ours(self) -> str:
        return f"{self.path}/providers/Holdfast.Backup"

    def container(self, name: str) -> str:
        full = name if ";" in name else f"Linux;{name}"
        return f"{self.path}/backupFabrics/Azure/protectionContainers/{quote(full, safe=';')}"

    def item(self, container: str, name: str) -> str:
        full = name if ";" in name else f"FileFolder;{name}"
        return f"{self.container(container)}/protectedItems/{quote(full, safe=';')}"

    def point(self, container: str, item: str, point: str) -> str:
        return f"{self.item(container, item)}/recoveryPoints/{quote(point)}"


def find_scope(group: str | None, vault: str | None, *, need_vault: bool = True) -> Scope:
    """From the flags, then HOLDFAST_GROUP and HOLDFAST_VAULT, then the profile."""
    api = Api()
    group = group or os.environ.get("HOLDFAST_GROUP") or api.profile.group
    vault = vault or os.environ.get("HOLDFAST_VAULT") or api.profile.vault
    if not group or (need_vault and not vault):
        import click

        missing = "--resource-group (-g)" if not group else "--vault-name (-v)"
        raise click.UsageError(
            f"say which {missing}: by the flag, HOLDFAST_GROUP / HOLDFAST_VAULT, or the profile"
        )
    return Scope(api, group, vault or "")


__all__ = ["Api", "Scope", "config_dir", "find_scope"]
