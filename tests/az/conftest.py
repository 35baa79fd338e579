"""The unmodified `az` against an installation that backs a folder up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing import compatibility
from holdfast.testing.azure_cli import Az, log_in
from holdfast.testing.world import World

TESTS = Path(__file__).parents[1]
PROGRAM = TESTS.parent / ".venv-az" / "bin" / "az"
QUICK = {"HOLDFAST_RESERVE_BYTES": "0", "HOLDFAST_TICK_SECONDS": "0.1"}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A real server and agent; the vault `v1` in `rg1` holds the item `docs`, backed up once."""
    made = World(tmp_path_factory.mktemp("az"), QUICK)
    source = made.folder / "src"
    source.mkdir()
    (source / "letter.txt").write_text("what is backed up")
    try:
        made.set_up(source)
        made.back_up()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def shell(world: World) -> Iterator[Az]:
    made = log_in(PROGRAM, world)
    made.warm_up()
    yield made
    made.cool_down()
    compatibility.note_requests(TESTS, made.sent)


@pytest.fixture
def az(shell: Az, request: pytest.FixtureRequest) -> Iterator[Az]:
    """The shell; what a test is marked to cover, it must have typed."""
    before = len(shell.typed)
    yield shell
    typed = shell.typed[before:]
    said = {name for mark in request.node.iter_markers("az") for name in mark.args}
    missing = {name for name in said if not any(f"{one} ".startswith(f"{name} ") for one in typed)}
    assert missing == set(), "marked but not typed"
