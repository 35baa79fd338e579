"""What every handler uses: the platform, the caller, responses of ARM's kinds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

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
PLAIN = "/;()@:!$,=+*'"  # what addresses of ours hold unescaped
PAGE_ROWS = 200


def note(request: ArmRequest, **details: Any) -> None:
    """Add to what log and audit say of a request."""
    request.scope["state"].setdefault("audit", {}).update(details)


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

    def address(self, path: str) -> str:
        """The absolute URL of a path of ours, in letters a header can hold."""
        return f"{self.base}{quote(path, safe=PLAIN)}"

    @property
    def if_match(self) -> str | None:
        return self.request.headers.get("if-match")

    @property
    def skip_token(self) -> str:
        return self.query("$skipToken")

    def note(self, **details: str) -> None:
        """Add to what log and audit say of this request."""
        note(self.request, **details)

    def number(self, name: str, otherwise: int) -> int:
        """A query parameter that is a count. UsageError (InvalidParameter)."""
        text = self.query(name)
        if not text:
            return otherwise
        if not (text.isascii() and text.isdigit()) or len(text) > 9:
            raise UsageError(f"{name}={text[:50]!r} is no count", hint=f"give {name} as a number")
        return int(text)

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
    given = call.request.query_params.multi_items()
    kept = [(key, value) for key, value in given if key.lower() != "$skiptoken"]
    link = urlencode([*kept, ("$skipToken", token)], safe="$")
    return {"value": rows, "nextLink": f"{call.address(call.request.scope['path'])}?{link}"}


def stamp(moment: datetime | None) -> str | None:
    """ARM's time text."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read_time(value: Any, what: str) -> datetime | None:
    """An ISO time (UTC when it names no offset), or None. UsageError."""
    if value in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(str(value))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{what} {str(value)[:100]!r} is no time", hint="give it as 2026-01-31T10:00:00Z"
        ) from error


def iso_duration(length: timedelta) -> str:
    return f"PT{max(length.total_seconds(), 0):.3f}S"


def object_of(body: Body, name: str) -> Body:
    """The object ``name`` of a request body; {} when it is absent or null. UsageError."""
    found = body.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UsageError(
            f"{name} is not an object",
            code="InvalidRequestContent",
            hint=f'send it as {{"{name}": {{...}}}}',
        )
    return found


def properties_of(body: Body) -> Body:
    """The ``properties`` object of a request body. UsageError (InvalidRequestContent)."""
    return object_of(body, "properties")


def text_of(properties: Body, name: str, otherwise: str = "") -> str:
    """A text of a request body. UsageError (InvalidRequestContent) for any other kind."""
    found = properties.get(name)
    if found is None:
        return otherwise
    if not isinstance(found, str):
        raise UsageError(f"{name} is not a text", code="InvalidRequestContent", hint="quote it")
    return found


def flag_of(properties: Body, name: str) -> bool:
    """A yes or no of a request body. UsageError (InvalidRequestContent) for any other kind."""
    found = properties.get(name)
    if found not in (None, True, False):
        raise UsageError(
            f"{name} is not true or false",
            code="InvalidRequestContent",
            hint="send true or false, without quotes",
        )
    return bool(found)


def check_kind(properties: Body, name: str, *known: str, needed: bool = True) -> None:
    """UsageError (UserErrorNotSupported) when ``name`` says that a body is about something else
    than the ``known`` kinds; UsageError (InvalidRequestContent) when it is ``needed`` and says
    nothing, where the first is meant otherwise."""
    found = text_of(properties, name, "" if needed else known[0])
    if not found:
        raise UsageError(
            f"{name} is missing", code="InvalidRequestContent", hint=f"send {known[0]}"
        )
    if found.lower() not in [one.lower() for one in known]:
        raise UsageError(
            f"{name} {found[:100]!r} is not served here",
            code="UserErrorNotSupported",
            hint=f"send {known[0]}; folders and virtual machines of enrolled hosts are protected",
        )


@dataclass(frozen=True, slots=True)
class Answering:
    """Under which words an operation is answered, below the resource ``at`` (an ARM id)."""

    at: str
    status: str = "operationsStatus"
    results: str = "operationResults"


def accepted(
    call: Call,
    vault: str,
    kind: str,
    job_id: str | None,
    answering: Answering,
    result: Body | None = None,
) -> Response[None]:
    """202 for a long-running operation of ``vault`` (ARM id); without a job it is over already."""
    headers = noted(call, vault, kind, job_id, answering, result)
    return Response(content=None, status_code=202, headers=headers)


def noted(
    call: Call,
    vault: str,
    kind: str,
    job_id: str | None,
    answering: Answering,
    result: Body | None = None,
) -> dict[str, str]:
    """Write an operation down; the headers that say where it is answered."""
    platform = call.platform
    now = platform.now()
    row = OperationRow(
        id=platform.new_id(),
        scope=vault.lower(),
        kind=kind,
        state="Succeeded" if job_id is None else "InProgress",
        job_id=job_id,
        result=result or {},
        error={},
        created_by=call.principal.id,
        created_at=now,
        ended_at=now if job_id is None else None,
    )
    with platform.catalog.write() as connection:
        add_operation(connection, row)
    call.note(operation_id=row.id, **({"job_id": job_id} if job_id else {}))
    version = quote(call.query("api-version"), safe="")
    base = call.address(answering.at)
    return {
        "Azure-AsyncOperation": f"{base}/{answering.status}/{row.id}?api-version={version}",
        "Location": f"{base}/{answering.results}/{row.id}?api-version={version}",
        "Retry-After": RETRY_AFTER,
    }
