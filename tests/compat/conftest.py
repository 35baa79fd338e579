"""The unmodified Azure SDKs against an installation that backs a folder up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure.identity import ClientSecretCredential

from holdfast.testing.azure_sdk import Sdk, connect, secret_credential
from holdfast.testing.world import World

QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A real server and agent; the vault `v1` in `rg1` holds the item `docs`."""
    made = World(tmp_path_factory.mktemp("compat"), QUICK)
    source = made.folder / "src"
    source.mkdir()
    (source / "letter.txt").write_text("what is backed up")
    try:
        made.set_up(source)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def credential(world: World) -> ClientSecretCredential:
    return secret_credential(world)


@pytest.fixture
def sdk(
    world: World, credential: ClientSecretCredential, request: pytest.FixtureRequest
) -> Iterator[Sdk]:
    """Both SDKs; what a test is marked to cover, it must have called."""
    connected = connect(world, credential)
    yield connected
    said = {name for mark in request.node.iter_markers("sdk") for name in mark.args}
    assert said <= connected.called, f"marked but not called: {said - connected.called}"
