"""A server several tests of the API share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast.testing.arm_place import ArmPlace
from holdfast.testing.live_server import LiveServer, live_server
from holdfast.testing.vm_farm import Farm, vm_farm

QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server process over TLS with the vault v1 in rg1. Tests leave both as they are."""
    with live_server(tmp_path_factory.mktemp("live") / "server", QUICK) as server:
        server.make_vault()
        yield server


@pytest.fixture(scope="session")
def place(live: LiveServer) -> ArmPlace:
    """A vault of that server with a machine, an item and a recovery point."""
    return ArmPlace(live, "place")


@pytest.fixture(scope="session")
def farm(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A vault of that server with a host whose agent runs; its machines are in memory and both
    protected."""
    with vm_farm(live, tmp_path_factory.mktemp("farm")) as made:
        for name in ("web", "off"):
            made.spot.protect(name)
        yield made
