"""The client of the REST API that all commands use."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holdfast import errors
from holdfast.cli.address import segment
from holdfast.cli.profile import (
    Profile,
    keep_refresh_token,
    load_profile,
    load_token,
    save_token,
)
from holdfast.errors import AuthenticationError, HoldfastError, StoreUnavailableError

if TYPE_CHECKING:
    import ssl

Body = dict[str, Any]
API_VERSION = "2026-11-01"
ANSWER_SECONDS, CONNECT_SECONDS = 300.0, 10.0
UNREACHABLE, UNTRUSTED, FAILED = "ServerUnreachable", "ServerUntrusted", "ServerFailed"
_KINDS: dict[int, type[HoldfastError]] = {
    400: errors.UsageError,
    401: errors.AuthenticationError,
    403: errors.AccessError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    412: errors.ConflictError,
    413: errors.LimitError,
    429: errors.LimitError,
    500: errors.InternalError,
    507: errors.StoreFullError,
}
# what a transport error says -> what to do about it
_HINTS = {
    "has expired": "the server's certificate has expired: restart the server, which renews it",
    "mismatch": "the server's certificate does not name this address: log in by the one it names",
    "CERTIFICATE_VERIFY_FAILED": "the CA does not fit this server: log in again with its ca.pem",
    "refused": "start the server (holdfast server start --data DIR), or log in at another address",
    "name resolution": "check the host name in the server's address",
    "not known": "check the host name in the server's address",
    "timed out": "check the network and any firewall between here and the server",
    "WRONG_VERSION_NUMBER": "what listens at this port does not speak TLS: check the address",
}


def tls_context(ca: str) -> ssl.SSLContext:
    """Trusts the installation's CA (PEM text) only; TLS 1.2 or newer. UsageError (InvalidCa)."""
    import ssl

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
    """An HTTP client for one server. UsageError (InvalidServer, InvalidCa)."""
    import httpx2

    limits = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        return httpx2.Client(
            base_url=server, verify=tls_context(ca), timeout=limits, trust_env=False
        )
    except (httpx2.InvalidURL, ValueError) as error:
        raise errors.UsageError(
            f"{server!r} is no address: {error}",
            code="InvalidServer",
            hint="give it as https://HOST:PORT",
        ) from error


def unreachable(server: str, error: BaseException) -> StoreUnavailableError:
    """A transport error, with what to do about it."""
    text = str(error) or type(error).__name__
    found = [hint for part, hint in _HINTS.items() if part.lower() in text.lower()]
    untrusted = "CERTIFICATE_VERIFY_FAILED" in text
    return StoreUnavailableError(
        f"the server {server} {'is not trusted' if untrusted else 'does not answer'}: {text}",
        code=UNTRUSTED if untrusted else UNREACHABLE,
        hint=found[0] if found else "check that the server runs and that the address is right",
    )


def fetch_token(profile: Profile, http: Any) -> tuple[str, float]:
    """(token, life in seconds). AuthenticationError (invalid_client, NotLoggedIn)."""
    if profile.refresh_token:
        form = {"grant_type": "refresh_token", "refresh_token": profile.refresh_token}
    elif profile.client_secret:
        form = {"grant_type": "client_credentials", "client_secret": profile.client_secret}
    else:
        raise AuthenticationError(
            "you are logged out", code="NotLoggedIn", hint="log in again: holdfast login"
        )
    form |= {"client_id": profile.client_id, "scope": f"{profile.server}/.default"}
    body = ask_token(profile.server, http, form)
    if profile.refresh_token:
        keep_refresh_token(str(body["refresh_token"]))
    return str(body["access_token"]), float(body.get("expires_in") or 0)


def ask_token(
    server: str, http: Any, form: Mapping[str, str], path: str = "/adfs/oauth2/token"
) -> Body:
    """A login endpoint's answer. HoldfastError as it says it."""
    import httpx2

    try:
        response = http.post(path, data=form)
    except httpx2.TransportError as error:
        raise unreachable(server, error) from error
    body = _json_of(response)
    if not response.is_success:
        raise _refusal(response.status_code, body.get("holdfast"), "the login")
    return body


def _json_of(response: Any) -> Body:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(status: int, said: Any, where: str) -> HoldfastError:
    """The error of a body, or of a server that does not speak our way."""
    kind = _KINDS.get(status, StoreUnavailableError)
    if not isinstance(said, dict) or not said.get("message"):
        return kind(
            f"{where} answered {status}",
            code=FAILED,
            hint="check that the address is that of a Holdfast server, and look into its log",
        )
    hint = str(said.get("hint") or "")
    if status == 401 and not hint:
        hint = "log in again: holdfast login"
    return kind(str(said["message"]), code=str(said.get("code") or FAILED), hint=hint)


def load_profile_of(profile: Profile) -> Profile:
    """With the refresh token that another command may have put into the file meanwhile."""
    if not profile.refresh_token:
        return profile
    try:
        kept = load_profile()
    except HoldfastError:
        return profile
    return kept if kept.server == profile.server and kept.refresh_token else profile


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
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        if_match: str = "",
    ) -> Answer:
        """One call; HoldfastError as the server says it. A refused token is renewed once."""
        headers = {"If-Match": if_match} if if_match else {}
        response = self._answered(method, path, body, query, headers)
        found = response.json() if response.content else None
        return Answer(response.status_code, found, response.headers)

    def text(self, path: str, query: Mapping[str, str]) -> str:
        """What a GET answers that is no JSON."""
        return str(self._answered("GET", path, None, query, {}).text)

    def _answered(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str] | None,
        headers: dict[str, str],
    ) -> Any:
        response = self._send(method, path, body, query, headers, fresh=False)
        if response.status_code == 401:
            response = self._send(method, path, body, query, headers, fresh=True)
        if not response.is_success:
            said = _json_of(response).get("error")
            raise _refusal(response.status_code, said, "the server")
        return response

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str] | None,
        headers: dict[str, str],
        *,
        fresh: bool,
    ) -> Any:
        import httpx2

        params = None if "?" in path else {"api-version": API_VERSION, **(query or {})}
        sent = {**headers, "Authorization": f"Bearer {self._bearer(fresh=fresh)}"}
        try:
            return self._http.request(method, path, json=body, params=params, headers=sent)
        except httpx2.TransportError as error:
            raise unreachable(self.profile.server, error) from error

    def _bearer(self, *, fresh: bool) -> str:
        if self._token and not fresh:
            return self._token
        cached = load_token()
        now = time.monotonic()  # after a restart of the machine the server refuses: asked anew
        if not fresh and cached and float(cached.get("until", 0)) > now:
            self._token = str(cached["token"])
            return self._token
        self._token, life = fetch_token(load_profile_of(self.profile), self._http)
        save_token(self._token, now + life - min(120.0, life / 2))
        return self._token

    def lend_token(self) -> tuple[str, float]:
        """(token, seconds it is good for), renewed in time."""
        self._token = ""
        token = self._bearer(fresh=False)
        until = float(load_token().get("until", 0))
        return token, max(until - time.monotonic(), 1.0)

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
            parts = urlsplit(link)  # the token goes to our server only, whatever host it names
            page = self.call("GET", f"{parts.path}?{parts.query}").body

    def subscription(self) -> str:
        """The installation's subscription id."""
        if self.profile.subscription_id:
            return self.profile.subscription_id
        rows = self.listed("/subscriptions")
        if not rows:
            raise AuthenticationError(
                "this client sees no subscription",
                code="NoSubscription",
                hint="ask an administrator for a role",
            )
        return str(rows[0]["subscriptionId"])


@dataclass(frozen=True, slots=True)
class Scope:
    """A vault as commands name it; ARM paths below it. ``flags``: what another command needs to be
    told to mean the same vault, with a space before."""

    api: Api
    group: str
    vault: str
    flags: str = ""

    @property
    def group_path(self) -> str:
        group = segment(self.group)
        return f"/subscriptions/{self.api.subscription()}/resourceGroups/{group}"

    @property
    def path(self) -> str:
        vault = segment(self.vault)
        return f"{self.group_path}/providers/Microsoft.RecoveryServices/vaults/{vault}"

    @property
    def ours(self) -> str:
        return f"{self.path}/providers/Holdfast.Backup"

    def container(self, name: str) -> str:
        full = name if ";" in name else f"Linux;{name}"
        return f"{self.path}/backupFabrics/Azure/protectionContainers/{segment(full, ';')}"

    def item(self, container: str, name: str) -> str:
        full = name if ";" in name else f"FileFolder;{name}"
        return f"{self.container(container)}/protectedItems/{segment(full, ';')}"

    def point(self, container: str, item: str, point: str) -> str:
        return f"{self.item(container, item)}/recoveryPoints/{segment(point)}"

    def policy(self, name: str) -> str:
        return f"{self.path}/backupPolicies/{segment(name)}"

    def job(self, job_id: str) -> str:
        return f"{self.path}/backupJobs/{segment(job_id)}"


def find_scope(group: str | None, vault: str | None, *, need_vault: bool = True) -> Scope:
    """From the flags, then HOLDFAST_GROUP and HOLDFAST_VAULT, then the profile."""
    profile = load_profile()
    usual_group = os.environ.get("HOLDFAST_GROUP") or profile.group
    usual_vault = os.environ.get("HOLDFAST_VAULT") or profile.vault
    flags = _flag("-g", group, usual_group) + _flag("-v", vault, usual_vault)
    group, vault = group or usual_group, vault or usual_vault
    if not group or (need_vault and not vault):
        import click

        missing = "--resource-group (-g)" if not group else "--vault-name (-v)"
        raise click.UsageError(
            f"say which {missing}: by the flag, HOLDFAST_GROUP / HOLDFAST_VAULT, or the profile"
        )
    return Scope(Api(profile), group, vault or "", flags)


def _flag(name: str, given: str | None, usual: str | None) -> str:
    return f" {name} {shlex.quote(given)}" if given and given != usual else ""
