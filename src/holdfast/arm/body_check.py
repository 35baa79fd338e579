"""Request bodies are checked before their handlers read them: JSON that names nothing twice, and
of the kinds its address takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from anyio import to_thread
from litestar.handlers import HTTPRouteHandler

from holdfast.arm.accepted_words import words_after
from holdfast.arm.http import ArmRequest
from holdfast.arm.schemas.table import DOCUMENTED, REQUESTS, Kind
from holdfast.errors import UsageError

CODE = "InvalidRequestContent"
SMALL = 16 * 1024  # bytes that are read faster than a thread is asked
Pairs = list[tuple[str, Any]]


async def check_request(request: ArmRequest) -> None:
    """UsageError (InvalidRequestContent) for a body that its handler would have to guess about."""
    handler = request.route_handler
    if "data" not in handler.parsed_fn_signature.parameters:
        return
    body = await request.body()
    if not body and handler.parsed_fn_signature.parameters["data"].is_optional:
        return
    kind = body_kind(handler, request.method)
    if len(body) <= SMALL:
        check_body(body, kind)
    else:
        await to_thread.run_sync(check_body, body, kind)


def body_kind(handler: HTTPRouteHandler, method: str) -> Kind | None:
    """What the handler's address takes; None where nothing is written down."""
    found = (REQUESTS.get((method, path)) for path in handler.paths)
    return next((kind for kind in found if kind is not None), None)


def check_body(body: bytes, kind: Kind | None) -> None:
    """UsageError (InvalidRequestContent)."""
    try:
        parsed = json.loads(body.decode(), object_pairs_hook=_once)
    except ValueError as error:
        raise _refused(f"the request body is no JSON: {error}", "send a JSON object") from error
    if b"\\u" in body and not all(map(_is_whole, _texts(parsed))):
        raise _refused("a text holds a NUL or half a character", "send texts in UTF-8, without NUL")
    if not isinstance(parsed, dict):
        raise _refused("the request body is no JSON object", "send a JSON object")
    if kind is None or kind in DOCUMENTED:
        return
    try:
        msgspec.convert(parsed, kind)
    except msgspec.ValidationError as error:
        words = words_after(str(error), kind)
        raise _refused(
            f"the request body is not what this address takes: {error}",
            f"give {' or '.join(words)}, spelt so"
            if words
            else "correct the field that is named; GET /openapi.json describes the body",
        ) from error


def _once(pairs: Pairs) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _refused(f"the request body names {twice[:100]!r} twice", "name it once")
    return found


def _texts(value: Any) -> Iterator[str]:
    """Every text in a body, names too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _is_whole(text: str) -> bool:
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def _refused(message: str, hint: str = "") -> UsageError:
    return UsageError(
        message, code=CODE, hint=hint or "send the body that GET /openapi.json describes"
    )
