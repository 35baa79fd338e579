"""The agent's side of the agent API: authenticated, retried while the server is away.

A call that got no answer is sent again with the same bytes; every call of the API allows that. Only
errors that repeating cannot mend are raised.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import httpx2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holdfast import __version__, crashpoint, errors
from holdfast.agent.in_use import InUse
from holdfast.agent.lane import Lane
from holdfast.agent.state import AgentState
from holdfast.errors import (
    AuthenticationError,
    CancelledError,
    ConflictError,
    HoldfastError,
    StoreUnavailableError,
)
from holdfast.identity.tokens import sign_assertion
from holdfast.ports.clock import Clock, Random
from holdfast.ports.object_store import Buffer
from holdfast.workloads.transport import Pace

log = logging.getLogger("holdfast.agent")
VERSION = {"api-version": "2026-11-01"}
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 180.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0
TOKEN_MARGIN = 120.0
_KINDS: dict[int, type[HoldfastError]] = {
    400: errors.UsageError,
    401: errors.AuthenticationError,
    403: errors.AccessError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    412: errors.ConflictError,
    413: errors.LimitError,
    422: errors.IntegrityError,
    507: errors.StoreFullError,
}
AGAIN = frozenset({502, 503, 504})
BUSY = 429
LONGEST_TOLD = 600  # [s] no server's word makes an agent wait longer


class MissingChunksError(ConflictError):
    """The commit names chunks the vault does not have."""

    code = "MissingChunks"


def tls_context(ca: Path) -> ssl.SSLContext:
    """Trusts the installation's CA only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    return context


class Answer(Protocol):
    """What came back, by either way."""

    @property
    def status_code(self) -> int: ...
    @property
    def is_success(self) -> bool: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> Buffer: ...


def error_of(response: Answer) -> HoldfastError:
    """The server's error as ours."""
    try:
        body = msgspec.json.decode(response.content)["error"]
        code, message = str(body["code"]), str(body["message"])
        hint = str(body.get("hint", ""))
    except (msgspec.MsgspecError, KeyError, TypeError):
        code, message, hint = "ServerFailed", f"the server answered {response.status_code}", ""
    kind = _KINDS.get(response.status_code, StoreUnavailableError)
    if code == "MissingChunks":
        kind = MissingChunksError
    return kind(message, code=code, hint=hint)


def _told_to_wait(response: Answer) -> float:
    """Seconds of ``Retry-After``, as a server that is too busy sends it."""
    told = response.headers.get("retry-after", "")
    return float(min(int(told), LONGEST_TOLD)) if told.isdigit() else 1.0


class AgentClient:
    """One agent's connection. Thread safe. ``stopping``: give up waiting for the server."""

    def __init__(
        self,
        state: AgentState,
        key: Ed25519PrivateKey,
        ca: Path,
        clock: Clock,
        rng: Random,
        stopping: threading.Event,
    ) -> None:
        self._state = state
        self._key = key
        self._clock = clock
        self._rng = rng
        self._stopping = stopping
        self._lock = threading.Lock()
        self._token = ""
        self._token_until = 0.0
        user_agent = f"holdfast-agent/{__version__}"
        self._http = httpx2.Client(
            base_url=state.server,
            verify=tls_context(ca),
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=16, max_keepalive_connections=8),
            headers={"User-Agent": user_agent},
            trust_env=False,
        )
        self._lane = Lane(state.server, tls_context(ca), {"User-Agent": user_agent})
        self._base = f"/providers/Holdfast.Backup/agents/{state.agent_id}"
        self._in_use = InUse(self._end)

    def close(self) -> None:
        """Calls that are under way come to their ends; the last of them closes the connections."""
        self._in_use.close()

    def _end(self) -> None:
        self._http.close()
        self._lane.close()

    # calls

    def json(self, path: str, body: Any, *, patient: bool = True) -> Any:
        """POST JSON below the agent's address; the JSON answer."""
        content = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        answer = self.send("POST", path, content=content, headers=headers, patient=patient)
        return msgspec.json.decode(answer) if answer else {}

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        patient: bool = True,
    ) -> bytes:
        """One call, repeated until it is answered. HoldfastError for an answer that repeating
        cannot mend; CancelledError (AgentStopped) when the agent is told to stop."""

        def once() -> Answer:
            return self._http.request(
                method,
                self._base + path,
                content=content,
                headers={**(headers or {}), **self._bearing()},
                params=VERSION,
            )

        return bytes(self._repeated(once, method, path.rpartition("/")[2], patient=patient))

    def put(self, path: str, data: memoryview, pace: Pace | None = None) -> bytes:
        """Send a large body by the data lane; repeated as ``send`` is. ``pace``: see Lane."""
        headers = {"Content-Type": "application/octet-stream"}
        return bytes(self._by_lane("PUT", path, VERSION, headers, data, pace))

    def fetch(self, path: str, params: dict[str, str], room: memoryview) -> Buffer:
        """A large answer, by the data lane, in ``room`` if it fits; repeated as ``send`` is."""
        return self._by_lane("GET", path, {**VERSION, **params}, {}, None, room=room)

    def _by_lane(
        self,
        method: str,
        path: str,
        params: dict[str, str],
        headers: dict[str, str],
        data: memoryview | None,
        pace: Pace | None = None,
        room: memoryview | None = None,
    ) -> Buffer:
        target = f"{self._base}{path}?{urlencode(params)}"

        def once() -> Answer:
            bearing = {**headers, **self._bearing()}
            return self._lane.ask(method, target, bearing, data, pace, room)

        return self._repeated(once, method, "packs")

    def _repeated(
        self, once: Callable[[], Answer], method: str, named: str, *, patient: bool = True
    ) -> Buffer:
        with self._in_use.using():
            return self._answer(once, method, named, patient=patient)

    def _answer(
        self, once: Callable[[], Answer], method: str, named: str, *, patient: bool
    ) -> Buffer:
        crashpoint.reach(f"agent.before.{method}.{named}")
        pause, refused = FIRST_PAUSE, 0
        while True:
            try:
                response = once()
            except (httpx2.TransportError, StoreUnavailableError) as error:
                if not patient:
                    raise unreachable(self._state.server, error) from error
                pause = self._rest(pause, str(error) or type(error).__name__)
                continue
            if response.is_success:
                crashpoint.reach(f"agent.after.{method}.{named}")
                return response.content
            if response.status_code == 401 and refused == 0:
                refused, self._token = 1, ""
                continue
            if response.status_code == BUSY and patient:
                self._pause(_told_to_wait(response), "the server asks for a pause")
                continue
            if response.status_code in AGAIN and patient:
                pause = self._rest(pause, f"the server answered {response.status_code}")
                continue
            raise error_of(response)

    def _bearing(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._bearer()}"}

    def _rest(self, pause: float, why: str) -> float:
        self._pause(pause, f"the server is away ({why})")
        return min(pause * 2, LONGEST_PAUSE)

    def _pause(self, seconds: float, why: str) -> None:
        log.info("%s; trying again in %.1f s", why, seconds)
        if self._stopping.wait(seconds):
            raise CancelledError("the agent is stopping", code="AgentStopped")

    def _bearer(self) -> str:
        with self._lock:
            if not self._token or self._clock.monotonic() > self._token_until:
                self._token = self._log_in()
            return self._token

    def _log_in(self) -> str:
        token_id = self._rng.token(16).hex()
        assertion = sign_assertion(self._key, self._state.client_id, self._clock.now(), token_id)
        response = self._http.post(
            "/adfs/oauth2/token",
            data={
                "grant_type": "client_credentials",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": assertion,
            },
        )
        if not response.is_success:
            raise self._login_error(response)
        body = response.json()
        life = float(body["expires_in"])
        self._token_until = self._clock.monotonic() + max(life - TOKEN_MARGIN, life / 2)
        return str(body["access_token"])

    @staticmethod
    def _login_error(response: httpx2.Response) -> HoldfastError:
        try:
            body = response.json()["holdfast"]
        except (ValueError, KeyError, TypeError):
            return StoreUnavailableError(f"the login answered {response.status_code}")
        if response.status_code >= 500 or response.status_code == 429:
            return StoreUnavailableError(body["message"], code=body["code"])
        return AuthenticationError(
            body["message"], code=body["code"], hint=str(body.get("hint", ""))
        )


def unreachable(server: str, error: BaseException) -> StoreUnavailableError:
    """The server does not answer."""
    return StoreUnavailableError(
        f"the server {server} does not answer: {error}",
        code="ServerUnreachable",
        hint="check that it runs and that its address is right",
    )


def frames_parameter(frames: Sequence[int]) -> str:
    """``3-17,20``: ascending runs shortened."""
    parts: list[str] = []
    start = previous = frames[0]
    for frame in [*frames[1:], -1]:
        if frame == previous + 1:
            previous = frame
            continue
        parts.append(str(start) if start == previous else f"{start}-{previous}")
        start = previous = frame
    return ",".join(parts)


__all__ = ["AgentClient", "Buffer", "MissingChunksError", "error_of", "tls_context"]
