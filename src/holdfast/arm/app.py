"""The application: all routes, one way to authorise, one shape of error, one audit."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

from anyio import to_thread
from litestar import Litestar, Request, Response, get
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp, Message, Receive, Send
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from holdfast import __version__
from holdfast.arm import items, jobs, login, ours, policies, subscriptions, vaults
from holdfast.arm.agent_api import agent_routes
from holdfast.arm.errors import error_body, status_of
from holdfast.arm.http import threaded
from holdfast.arm.paths import normalise
from holdfast.catalog import audit
from holdfast.catalog import jobs as job_rows
from holdfast.errors import HoldfastError, InternalError, NotFoundError, UsageError
from holdfast.identity.authority import Principal
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.platform import Platform

log = logging.getLogger("holdfast.http")
MAX_BODY = 4 * 1024 * 1024
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
AGENT_PREFIX = "/providers/Holdfast.Backup/agents"
NEEDS_VERSION = ("/subscriptions", "/providers/Holdfast.Backup/regions")

requests_total = Counter("holdfast_http_requests_total", "Requests", ["method", "status"])
request_seconds = Histogram("holdfast_http_request_seconds", "Seconds per request", ["method"])
jobs_gauge = Gauge("holdfast_jobs", "Jobs by kind and status", ["kind", "status"])


class Edge:
    """ASGI around the application: paths get one form, requests get ids, what ends is counted,
    logged and, when it changes something, written to the audit record."""

    def __init__(self, app: ASGIApp, platform: Platform) -> None:
        self._app = app
        self._platform = platform

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = str(uuid.UUID(bytes=self._platform.rng.token(16), version=4))
        scope["path"] = normalise(scope["path"])
        scope["raw_path"] = scope["path"].encode()
        seen: dict[str, Any] = {"status": 500}
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                headers = list(message.get("headers", []))
                headers += [
                    (b"x-ms-request-id", request_id.encode()),
                    (b"x-ms-correlation-request-id", request_id.encode()),
                ]
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            await self._note(scope, request_id, seen["status"], time.perf_counter() - started)

    async def _note(self, scope: Any, request_id: str, status: int, seconds: float) -> None:
        method = scope["method"]
        requests_total.labels(method, str(status)).inc()
        request_seconds.labels(method).observe(seconds)
        log.log(
            logging.DEBUG if scope["path"].startswith(AGENT_PREFIX) else logging.INFO,
            "request",
            extra={
                "request_id": request_id,
                "method": method,
                "path": scope["path"],
                "status": status,
                "seconds": round(seconds, 4),
            },
        )
        quiet = scope["path"].startswith(AGENT_PREFIX) and not scope["path"].endswith("/enroll")
        if method in SAFE or quiet or scope["path"].endswith("/oauth2/token"):
            return
        await to_thread.run_sync(self._audit, scope, request_id, status)

    def _audit(self, scope: Any, request_id: str, status: int) -> None:
        principal = scope.get("state", {}).get("principal")
        client = scope.get("client") or ("", 0)
        entry = audit.AuditEntry(
            at=self._platform.now(),
            principal_id=principal.id if principal else "",
            principal_name=principal.name if principal else "",
            operation=scope["method"],
            resource=scope["path"][:2000],
            client_address=str(client[0]),
            request_id=request_id,
            status=status,
            result_code=str(scope.get("state", {}).get("error_code", "")),
            details={},
        )
        try:
            with self._platform.catalog.write() as connection:
                audit.append(connection, entry)
        except HoldfastError:
            log.exception("the audit record could not be written")


async def authorise(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Every route but the public ones: a valid token, and the route's action at its scope."""
    options = handler.opt
    if options.get("public"):
        return
    path = connection.scope["path"]
    if path.startswith(NEEDS_VERSION) and not _has_version(connection):
        raise UsageError(
            "The api-version query parameter (?api-version=) is required for all requests.",
            code="MissingApiVersionParameter",
            hint="add ?api-version=2024-04-01 (any version is accepted)",
        )
    if path == f"{AGENT_PREFIX}/enroll":
        return
    platform: Platform = connection.app.state.platform
    header = connection.headers.get("authorization")
    principal = await to_thread.run_sync(platform.authority.authenticate, header)
    connection.scope["state"]["principal"] = principal
    if path.startswith(AGENT_PREFIX):
        return  # the agent API checks that the caller is this agent
    action = options.get("action", "Holdfast.Backup/unnamed/action")
    if action is not None:
        principal.check(action, path)


def _has_version(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    return any(key.lower() == "api-version" for key in connection.query_params)


@get("/metrics", opt={"action": "Holdfast.Backup/metrics/read"})
@threaded
def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Prometheus text."""
    platform: Platform = request.app.state.platform
    jobs_gauge.clear()
    with platform.catalog.read() as connection:
        for kind, status, count in job_rows.counts_by_kind(connection):
            jobs_gauge.labels(kind, status).set(count)
    return Response(generate_latest(), media_type="text/plain; version=0.0.4")


@get("/openapi.json", opt={"public": True}, include_in_schema=False)
async def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The OpenAPI document of this server."""
    found: dict[str, Any] = request.app.openapi_schema.to_schema()
    return found


def _operation_id(handler: Any, method: Any, path: list[Any]) -> str:
    """A name per method and address."""
    words = [str(getattr(part, "name", part)) for part in path]
    return "_".join([str(method).lower().rpartition(".")[2], *words]).replace(".", "_")


def _on_expected(request: Request[Any, Any, Any], error: HoldfastError) -> Response[Any]:
    request.scope["state"]["error_code"] = error.code
    status = status_of(error)
    if status >= 500:
        log.warning("%s: %s", error.code, error.message)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status in (429, 503):
        headers["Retry-After"] = "2"
    return Response(error_body(error), status_code=status, headers=headers)


def _on_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    if error.status_code == 404:
        shaped: HoldfastError = NotFoundError(
            f"The resource type or address '{request.scope['path']}' is not served here.",
            code="InvalidResourceType",
            hint="see /openapi.json for what is",
        )
        return _on_expected(request, shaped)
    if isinstance(error, NotAuthorizedException):
        return _on_expected(request, HoldfastError(str(error.detail), code="AuthenticationFailed"))
    code = {405: "MethodNotAllowed", 413: "RequestTooLarge"}.get(error.status_code, "BadRequest")
    body = error_body(UsageError(str(error.detail), code=code, hint="correct the request"))
    request.scope["state"]["error_code"] = code
    return Response(body, status_code=error.status_code)


def _on_defect(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """A defect of ours: logged with its traceback, shown without."""
    log.exception("defect while serving %s", request.scope["path"], exc_info=error)
    request_id = request.scope.get("state", {}).get("request_id", "")
    shaped = InternalError(
        "the server met a defect", hint=f"look for request {request_id} in the server's log"
    )
    return _on_expected(request, shaped)


def build_app(platform: Platform, agents: AgentDesk) -> ASGIApp:
    """The ASGI application of one server."""
    modules = (login, subscriptions, vaults, policies, items, jobs, ours)
    handlers: list[Any] = [route for module in modules for route in module.ROUTES]
    app = Litestar(
        route_handlers=[*handlers, *agent_routes, metrics, openapi],
        guards=[authorise],
        exception_handlers={
            HoldfastError: _on_expected,
            HTTPException: _on_http,
            Exception: _on_defect,
        },
        request_max_body_size=MAX_BODY,
        openapi_config=OpenAPIConfig(
            title="Holdfast",
            version=__version__,
            path="/openapi",
            render_plugins=[],
            operation_id_creator=_operation_id,
        ),
        logging_config=None,
    )
    app.state.platform = platform
    app.state.agents = agents
    return Edge(app, platform)


__all__ = ["Principal", "build_app"]
