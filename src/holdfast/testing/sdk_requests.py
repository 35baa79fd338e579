"""Which REST operation each operation of the SDKs is: read off the request it would send."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from typing import Any
from urllib.parse import unquote, urlsplit

from azure.core.pipeline.transport import HttpTransport

from holdfast.testing.azure_sdk import StaticCredential

BODIES = ("parameters", "body", "input", "certificate_request", "resource_extended_info_details")


class Caught(Exception):
    """Raised instead of sending."""


class Catcher(HttpTransport[Any, Any]):
    """Takes down the request and sends nothing."""

    def __init__(self) -> None:
        self.request = ""

    def send(self, request: Any, **_options: Any) -> Any:
        path = unquote(urlsplit(request.url).path)
        self.request = f"{request.method} {re.sub('_([a-z])', _capital, path)}"
        raise Caught

    def open(self) -> None: ...

    def close(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _capital(found: re.Match[str]) -> str:
    return found[1].upper()


@contextmanager
def _catching(kind: Any) -> Iterator[tuple[Any, Catcher]]:
    catcher = Catcher()
    with kind(
        StaticCredential("x"),
        "{subscriptionId}",
        base_url="https://localhost",
        transport=catcher,
        retry_total=0,
    ) as client:
        yield client, catcher


def request_of(kind: Any, operation: str) -> str:
    """``METHOD /path`` with {} for what is filled in, of ``group.method`` or ``method``."""
    with _catching(kind) as (client, catcher):
        called = reduce(getattr, operation.split("."), client)
        given: list[Any] = []
        named: dict[str, Any] = {}
        for name, one in inspect.signature(called).parameters.items():
            if one.default is not one.empty or one.kind is one.VAR_KEYWORD:
                continue
            value: Any = {} if name in BODIES else f"{{{name}}}"
            if one.kind is one.KEYWORD_ONLY:
                named[name] = value
            else:
                given.append(value)
        with suppress(Caught):
            answer = called(*given, **named)
            if hasattr(answer, "by_page"):
                list(answer)
        return catcher.request
