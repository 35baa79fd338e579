"""Every address that takes a body says which; nothing is said of addresses that are not there."""

from __future__ import annotations

from holdfast.arm.openapi_bodies import shown_path
from holdfast.arm.schemas.table import AGENT_REQUESTS, REQUESTS
from holdfast.testing.api_routes import all_routes

# "METHOD path" of what is not described yet
NOT_YET: frozenset[str] = frozenset()
DESCRIBED = {f"{method} {shown_path(path)}" for method, path in (*REQUESTS, *AGENT_REQUESTS)}


def test_every_body_is_described() -> None:
    taking = {str(route) for route in all_routes() if route.takes_body}
    assert taking - DESCRIBED == NOT_YET, "add it to arm/schemas/table.py"


def test_what_is_described_is_served() -> None:
    assert DESCRIBED - {str(route) for route in all_routes()} == set()
