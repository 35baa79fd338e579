"""A server several tests of the API share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast.testing.live_server import LiveServer, live_server

QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server process over TLS with the vault v1 in rg1. Tests leave both as they are."""
    with live_server(tmp_path_factory.mktemp("live") / "server", QUICK) as server:
        server.make_vault()
        yield server
