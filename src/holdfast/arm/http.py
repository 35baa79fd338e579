"""What every handler uses: the platform, the caller, responses of ARM's kinds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from anyio import to_thread
from litestar import Request, Response
from litestar.datastructures import State

from holdfast.catalog.operations import OperationRow, add_operation
from holdfast.errors import UsageError
from holdfast.identity.authority import Principal
from holdfast.services.platform import Platform

Body = dict[str, Any]
ArmRequest = Request[Any, Any, State]
RETRY_AFTER = "1"
PAGE_ROWS = 200


@dataclass(frozen=True, slots=True)
class Call:
    """One request: who asks what of which server."""

    request: ArmRequest
    platform: Platform
    principal: Principal

    @property
    def base(self) -> str:
        """``https://host:port`` as the client wrote it."""
        return f"{self.request.url.scheme}://{self.request.headers.get('host', 'localhost')}"

    @property
    def if_match(self) -> str | None:
        return self.request.headers.get("if-match")

    @property
    def skip_token(self) -> str:
        return self.query("$skipToken")

    def query(self, name: str) -> str:
        """A query parameter, its name in any case; "" when absent."""
        for key, value in self.request.query_params.items():
            if key.lower() == name.lower():
                return str(value)
        return ""


Handler = TypeVar("Handler", bound=Callable[..., Any])


def threaded(handler: Handler) -> Handler:
    """Run a blocking handler in a thread; the event loop only moves bytes."""

    @functools.wraps(handler)
    async def run(*args: Any, **named: Any) -> Any:
        return await to_thread.run_sync(functools.partial(handler, *args, **named))

    return cast(Handler, run)


def call_of(request: ArmRequest) -> Call:
    """The call of an authorised request."""
    return Call(request, request.app.state.platform, request.state.principal)


def listed(rows: list[Body], call: Call, token: str = "") -> Body:
    """``{"value": [...], "nextLink": ...}`` with an absolute link that keeps the filter."""
    if not token:
        return {"value": rows}
    url = call.request.url.with_replacements(netloc=call.request.headers.get("host", ""))
    query = url.query_params.dict()
    kept = {key: values for key, values in query.items() if key.lower() != "$skiptoken"}
    from urllib.parse import urlencode

    link = urlencode({**kept, "$skipToken": [token]}, doseq=True)
    return {"value": rows, "nextLink": f"{call.base}{url.path}?{link}"}


def stamp(moment: datetime | None) -> str | None:
    """ARM's time text."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_time(value: Any, what: str) -> datetime | None:
    """An ISO time (UTC when it names no offset), or None. UsageError."""
    if value in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise UsageError(
            f"{what} {value!r} is no time", hint="give it as 2026-01-31T10:00:00Z"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def iso_duration(length: timedelta) -> str:
    return f"PT{max(length.total_seconds(), 0):.3f}S"


def properties_of(body: Any) -> Body:
    """The ``properties`` object of a request body. UsageError when the body is no object."""
    if not isinstance(body, dict) or not isinstance(body.get("properties") or {}, dict):
        raise UsageError("the request body is not a JSON object with properties")
    return body.get("properties") or {}


def accepted(
    call: Call, resource: str, vault: str, kind: str, job_id: str | None
) -> Response[None]:
    """202 for a long-running operation: ``resource`` and ``vault`` are ARM ids."""
    platform = call.platform
    now = platform.now()
    done = job_id is None
    row = OperationRow(
        id=platform.new_id(),
        scope=vault.lower(),
        kind=kind,
        state="Succeeded" if done else "InProgress",
        job_id=job_id,
        result={},
        error={},
        created_by=call.principal.id,
        created_at=now,
        ended_at=now if done else None,
    )
    with platform.catalog.write() as connection:
        add_operation(connection, row)
    version = call.query("api-version")
    headers = {
        "Azure-AsyncOperation": f"{call.base}{resource}/operationsStatus/{row.id}"
        f"?api-version={version}",
        "Location": f"{call.base}{resource}/operationResults/{row.id}?api-version={version}",
        "Retry-After": RETRY_AFTER,
    }
    return Response(content=None, status_code=202, headers=headers)
