"""Every route of the API, for tests that walk them all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from holdfast.arm.actions import action_of
from holdfast.arm.app import build_routes
from holdfast.arm.edge import AGENTS


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` holds names as ``{name}``; ``options`` are the handler's ``opt``; ``takes_body``:
    its handler reads a JSON object."""

    method: str
    path: str
    options: dict[str, Any]
    doc: str
    takes_body: bool = False

    @property
    def is_public(self) -> bool:
        return bool(self.options.get("public")) or self.path == f"{AGENTS}/enroll"

    @property
    def action(self) -> str | None:
        """As role definitions name it; None when a login is enough."""
        return action_of(self.options, self.method, self.path)

    @property
    def is_agents(self) -> bool:
        return self.path.startswith(AGENTS)

    @property
    def reads(self) -> bool:
        return self.method in ("GET", "HEAD")

    def filled(self, **names: str) -> str:
        """The path with names put in; those not given are ``some-name``."""
        parts = self.path.split("/")
        return "/".join(
            names.get(part[1:-1], "some-name") if part.startswith("{") else part for part in parts
        )

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def all_routes() -> list[Route]:
    """By path and method."""
    return sorted(_walk(), key=lambda route: (route.path, route.method))


def _walk() -> Iterator[Route]:
    for route in build_routes(cast(Any, None), None).routes:
        parts = [
            part if isinstance(part, str) else f"{{{part.name}}}" for part in route.path_components
        ]
        for handler in cast(Any, route).route_handlers:
            for method in handler.http_methods:
                name = str(getattr(method, "value", method))
                if name != "OPTIONS":
                    path, doc = "/" + "/".join(parts), handler.fn.__doc__ or ""
                    takes = "data" in handler.parsed_fn_signature.parameters
                    yield Route(name, path, handler.opt, doc, takes)
