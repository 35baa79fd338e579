"""The server's application without a network: for tests that ask very many small questions."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.arm.app import build_app
from holdfast.bootstrap import Parts, build
from holdfast.catalog import access
from holdfast.catalog.access import PrincipalRow, RoleAssignmentRow
from holdfast.domain.access import AGENT
from holdfast.identity.tokens import Tokens
from holdfast.ports.clock import Clock
from holdfast.services.roles import find_role
from holdfast.settings import Settings
from holdfast.testing.watching import Answered, tell

QUICK = Settings(reserve_bytes=0, scrub_days=0, max_policy_changes_a_day=0)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it would go out."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The error code of ARM's body; "" without one."""
        found = self.json if self.content[:1] == b"{" else {}
        return str((found.get("error") or {}).get("code", ""))


@dataclass
class InProcess:
    """The application over a data folder; ``url`` is what clients would call it."""

    parts: Parts
    clock: Clock
    url: str = "https://localhost"
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def __post_init__(self) -> None:
        self.app = build_app(self.parts.platform, self.parts.agents)

    @property
    def subscription(self) -> str:
        return f"/subscriptions/{self.parts.platform.subscription_id}"

    def vault(self, name: str = "v1", group: str = "rg1") -> str:
        base = f"{self.subscription}/resourceGroups/{group}"
        return f"{base}/providers/Microsoft.RecoveryServices/vaults/{name}"

    def holder(self, role: str, scope: str, kind: str = "service") -> str:
        """The token of a new principal with ``role`` ("" for none) at ``scope``; an agent's role
        is its own."""
        platform, tokens = self.parts.platform, self._tokens()
        row = PrincipalRow(
            str(uuid.uuid4()), kind, f"{role} at {scope}", "", "", None, platform.now(), None
        )
        with platform.catalog.write() as connection:
            access.add_principal(connection, row)
            if role or kind == "agent":
                role_id = AGENT.id if kind == "agent" else find_role(role).id
                assigned = RoleAssignmentRow(
                    str(uuid.uuid4()), row.id, role_id, scope.lower(), platform.now()
                )
                access.add_assignment(connection, assigned)
        return tokens.issue(row.id, kind)

    def _tokens(self) -> Tokens:
        made = self.parts.installation
        platform = self.parts.platform
        return Tokens(made.token_key, made.tenant_id, self.clock, platform.rng, 3600)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; ``api-version`` is added to a path without a query. A text body is a form
        as a browser sends it."""
        return self._loop.run_until_complete(
            self._exchange(method, path, *_sent(body, token, headers or {}))
        )

    def walk(self, calls: Iterable[tuple[str, str, Any]], token: str) -> list[Reply]:
        """Many requests (method, path, body), one after the other."""

        async def run() -> list[Reply]:
            return [
                await self._exchange(method, path, *_sent(body, token, {}))
                for method, path, body in calls
            ]

        return self._loop.run_until_complete(run())

    async def _exchange(
        self, method: str, path: str, raw: bytes, headers: Mapping[str, str]
    ) -> Reply:
        parts = urlsplit(path if "?" in path else f"{path}?api-version=1")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 443),
            "state": {},
        }
        incoming: list[dict[str, Any]] = [
            {"type": "http.request", "body": raw, "more_body": False},
            {"type": "http.disconnect"},
        ]
        out: list[Any] = []

        async def receive() -> Any:
            return incoming.pop(0) if len(incoming) > 1 else incoming[0]

        async def send(message: Any) -> None:
            out.append(message)

        await self.app(cast(Any, scope), receive, send)
        start = next(one for one in out if one["type"] == "http.response.start")
        got = {key.decode().lower(): value.decode() for key, value in start["headers"]}
        content = b"".join(one.get("body", b"") for one in out)
        tell(Answered(method, parts.path, start["status"], got, lambda: content))
        return Reply(start["status"], got, content)

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self.parts.close()


def _sent(body: Any, token: str, more: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """Body and headers as a client sends them."""
    sent = {"host": "localhost", **{key.lower(): one for key, one in more.items()}}
    if token:
        sent["authorization"] = f"Bearer {token}"
    raw = b""
    if isinstance(body, str):
        raw = body.encode()
        sent["content-type"] = "application/x-www-form-urlencoded"
    elif body is not None:
        raw = json.dumps(body).encode()
        sent["content-type"] = "application/json"
    return raw, sent | {"content-length": str(len(raw))}


@contextmanager
def in_process(
    data: Path, settings: Settings = QUICK, clock: Clock | None = None
) -> Iterator[InProcess]:
    """An application over ``data``, with the region ``local``; its jobs do not run."""
    from holdfast.services.regions import ensure_local

    used = clock or SystemClock()
    parts = build(data, settings, used, SystemRandom())
    ensure_local(parts.platform)
    made = InProcess(parts, used)
    try:
        yield made
    finally:
        made.close()
