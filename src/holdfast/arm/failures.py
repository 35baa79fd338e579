"""Every failure of a request as ARM's error body; no traceback ever leaves the server."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from holdfast.arm.errors import error_body, status_of
from holdfast.errors import HoldfastError, InternalError, LimitError, NotFoundError, UsageError

log = logging.getLogger("holdfast.http")
RETRY_SECONDS = "2"
AnyRequest = Request[Any, Any, Any]


def on_expected(request: AnyRequest, error: HoldfastError) -> Response[Any]:
    """One of our errors."""
    request.scope["state"]["error_code"] = error.code
    status = status_of(error)
    if status >= 500:
        log.warning("%s", error.message, extra={"code": error.code}, exc_info=error.__cause__)
    return Response(error_body(error), status_code=status, headers=headers_of(error))


def headers_of(error: HoldfastError) -> dict[str, str]:
    """What an error says outside of its body."""
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if error.retry != "never" and status in (409, 429, 503, 507):
        headers["Retry-After"] = str(getattr(error, "wait_seconds", RETRY_SECONDS))
    return headers


def on_http(request: AnyRequest, error: HTTPException) -> Response[Any]:
    """An error of the framework: unknown addresses, malformed bodies."""
    if error.status_code >= 500:
        return on_defect(request, error)
    return on_expected(request, _translated(request, error))


def _translated(request: AnyRequest, error: HTTPException) -> HoldfastError:
    path, method = request.scope["path"], request.scope["method"]
    if error.status_code == 404:
        return NotFoundError(
            f"The resource type or address '{path[:500]}' is not served here.",
            code="InvalidResourceType",
            hint="GET /openapi.json lists what is served",
        )
    if error.status_code == 405:
        return UsageError(
            f"{method} is not served at '{path[:500]}'",
            code="MethodNotAllowed",
            hint="GET /openapi.json lists what is served",
        )
    if error.status_code == 413:
        return LimitError(
            "the request body is too large",
            code="RequestTooLarge",
            hint="send less in one call",
            retry="never",
        )
    return UsageError(
        f"the request cannot be read: {_reason(error)}",
        code="InvalidRequestContent",
        hint="send a JSON object, as the API's description says (GET /openapi.json)",
    )


def _reason(error: HTTPException) -> str:
    extra = error.extra if isinstance(error.extra, list) else []
    found = [str(one.get("message", "")) for one in extra if isinstance(one, dict)]
    return "; ".join(one for one in found if one) or str(error.detail)


def on_depth(request: AnyRequest, _error: RecursionError) -> Response[Any]:
    """A body nested deeper than anybody means it."""
    return on_expected(
        request,
        UsageError(
            "the request body is nested too deep",
            code="InvalidRequestContent",
            hint="send what the API's description says (GET /openapi.json)",
        ),
    )


def on_defect(request: AnyRequest, error: Exception) -> Response[Any]:
    """A defect of ours: logged with its traceback, shown without."""
    request_id = request.scope["state"].get("request_id", "")
    return on_expected(request, defect(request.scope["path"], request_id, error))


def defect(path: str, request_id: str, error: Exception) -> InternalError:
    """What is shown of a defect, once it is logged."""
    log.error("defect while serving %s", path, exc_info=error)
    return InternalError(
        "the server met a defect of its own",
        hint=f"look for request {request_id} in the server's log, and report it",
    )


FAILURES: dict[int | type[Exception], Any] = {
    HoldfastError: on_expected,
    HTTPException: on_http,
    RecursionError: on_depth,
    Exception: on_defect,
}
