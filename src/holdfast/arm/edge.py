"""ASGI around the application: paths get one form, requests get ids; what ends is counted, logged
and, when it changes something, written to the audit record before the answer is sent."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from anyio import to_thread
from litestar.types import ASGIApp, Message, Receive, Send
from prometheus_client import Counter, Histogram

from holdfast.arm.paths import PathForms
from holdfast.catalog import audit
from holdfast.errors import HoldfastError
from holdfast.logs import log_context
from holdfast.services.platform import Platform

log = logging.getLogger("holdfast.http")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
AGENTS = "/providers/Holdfast.Backup/agents"
TOKEN = "/adfs/"  # noqa: S105 - a path
DIRECTORY = "/v1.0/"  # asks only
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{1,64}")

requests_total = Counter("holdfast_http_requests_total", "Requests", ["method", "status"])
request_seconds = Histogram("holdfast_http_request_seconds", "Seconds per request", ["method"])


class Edge:
    """Wraps ``app``. What handlers leave in ``scope["state"]`` (principal, action, error_code, of
    agents' calls ``recorded``) goes into log and audit."""

    def __init__(self, app: ASGIApp, forms: PathForms, platform: Platform) -> None:
        self._app = app
        self._forms = forms
        self._platform = platform

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["path"] = self._forms.normalise(scope["path"])
        scope["raw_path"] = scope["path"].encode()
        request_id = str(uuid.UUID(bytes=self._platform.rng.token(16), version=4))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        with log_context(request_id=request_id):
            await _Exchange(self._platform, scope, send).run(self._app, receive)


class _Exchange:
    """One request and its answer."""

    def __init__(self, platform: Platform, scope: Any, send: Send) -> None:
        self._platform = platform
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()
        self._status = 0

    async def run(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self._answer)
        finally:
            if not self._status:
                await self._note(499)  # the client went away before the answer
            self._count()

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._note(message["status"])
            request_id = self._scope["state"]["request_id"]
            message["headers"] = [
                *message.get("headers", []),
                (b"cache-control", b"no-store"),
                (b"x-ms-request-id", request_id.encode()),
                (b"x-ms-correlation-request-id", self._correlation(request_id)),
            ]
        await self._send(message)

    def _correlation(self, request_id: str) -> bytes:
        for name, value in self._scope["headers"]:
            if name == b"x-ms-correlation-request-id":
                return correlation(value.decode("latin-1"), request_id).encode()
        return request_id.encode()

    async def _note(self, status: int) -> None:
        """Strangers who are refused are logged, not recorded: they must not fill the catalog."""
        self._status = status
        known = "principal" in self._scope["state"] or status < 400
        if known and self._is_change():
            await to_thread.run_sync(self._audit, status)

    def _is_change(self) -> bool:
        path = self._scope["path"]
        if self._scope["method"] in SAFE or path.startswith((TOKEN, DIRECTORY)):
            return False
        return not path.startswith(AGENTS) or bool(self._scope["state"].get("recorded"))

    def _audit(self, status: int) -> None:
        state = self._scope["state"]
        principal = state.get("principal")
        client = self._scope.get("client") or ("", 0)
        method = self._scope["method"]
        entry = audit.AuditEntry(
            at=self._platform.now(),
            principal_id=principal.id if principal else "",
            principal_name=principal.name if principal else "",
            operation=f"{method} {state.get('action') or ''}".strip()[:200],
            resource=self._scope["path"][:2000].replace("\0", "%00"),
            client_address=str(client[0]),
            request_id=state["request_id"],
            status=status,
            result_code=str(state.get("error_code", ""))[:100],
            details=state.get("audit", {}),
        )
        try:
            with self._platform.catalog.write() as connection:
                audit.append(connection, entry)
        except HoldfastError as error:
            log.error("the audit record could not be written: %s", error.message,
                      extra={"code": error.code, "path": entry.resource})  # fmt: skip

    def _count(self) -> None:
        method, path = self._scope["method"], self._scope["path"]
        seconds = time.perf_counter() - self._started
        count_request(method, path, self._status, seconds, self._scope["state"])


def correlation(given: str, request_id: str) -> str:
    """The id the client follows its calls by, or ours."""
    return given if _CORRELATION.fullmatch(given) else request_id


def count_request(method: str, path: str, status: int, seconds: float, state: Any) -> None:
    """Count and log a request that is over. ``state``: what its handlers left."""
    requests_total.labels(method, str(status)).inc()
    request_seconds.labels(method).observe(seconds)
    quiet = path.startswith(AGENTS) or path == "/healthz"
    log.log(
        logging.DEBUG if quiet and status < 400 else logging.INFO,
        "request",
        extra={
            "method": method,
            "path": path,
            "status": status,
            "seconds": round(seconds, 4),
            "client": getattr(state.get("principal"), "name", ""),
            "code": state.get("error_code", ""),
            **state.get("audit", {}),
        },
    )
