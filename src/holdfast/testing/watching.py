"""Tests may watch every answer that clients of the tests get: `tell` is called at the one place
where each kind of client speaks HTTP, and asks whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx2


@dataclass(frozen=True, slots=True)
class Answered:
    """A request and what came back. ``content`` is read when it is wanted."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    content: Callable[[], bytes]


WATCHERS: list[Callable[[Answered], None]] = []


def tell(answered: Answered) -> None:
    """Ask everyone who watches; what one raises fails the call."""
    for watcher in WATCHERS:
        watcher(answered)


def tell_response(response: httpx2.Response) -> None:
    """For ``event_hooks`` of a client."""
    request = response.request
    path = request.url.raw_path.decode().partition("?")[0]
    tell(Answered(request.method, path, response.status_code, response.headers, response.read))
