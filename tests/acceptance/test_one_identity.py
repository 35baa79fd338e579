"""One agent, one process, one machine: a second process, a replaced agent, a copied folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.testing.program_kills import job_of, make_tree, restored_like, status
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World


@contextmanager
def backed_up(folder: Path) -> Iterator[World]:
    """One recovery point of a small tree."""
    made = World(folder)
    try:
        made.set_up(make_tree(made, "tree", 1))
        made.back_up()
        yield made
    finally:
        made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with backed_up(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For tests that leave its one agent as it was."""
    with backed_up(tmp_path_factory.mktemp("shared")) as made:
        yield made


def check_restored(world: World) -> None:
    out = world.folder / "restored"
    world.restore(out)
    found = restored_like(world.folder / "tree", out, owners=os.geteuid() == 0)
    assert found.lines == []


def assert_ends(world: World, host: str, code: str) -> None:
    """The agent ends by itself, before its call for work comes back, and says why."""
    agent = world.agents.pop(host)
    assert agent.wait(timeout=20) == 1
    said = world.log(host)
    assert f"code: {code}" in said
    assert "what to do:" in said
    assert "Traceback" not in said


def test_a_second_process_on_one_folder_is_refused(shared: World) -> None:
    before = len(shared.points())
    answer = shared.cli("agent", "start", "--data", shared.agent_data(), timeout=60)
    assert answer.code == 1
    assert "code: DataFolderInUse" in answer.err
    assert shared.agents[HOST].poll() is None, "the first goes on"
    shared.back_up()
    assert len(shared.points()) == before + 1


def test_a_replaced_agent_is_refused_and_its_successor_works(world: World) -> None:
    credentials = world.folder / "credentials.json"
    world.ok("vault", "credentials", VAULT, "-g", GROUP, "-o", credentials)
    data = world.agent_data("successor")
    words = ("agent", "enroll", "--credentials", credentials, "--data", data, "--name", HOST)
    assert world.cli(*words, "--replace").code == 0
    assert_ends(world, HOST, "AgentRevoked")
    again = world.cli("agent", "start", "--data", world.agent_data(), timeout=60)
    assert again.code == 1
    assert "code: AgentRevoked" in again.err or "code: invalid_client" in again.err
    world.start_agent("successor")
    world.back_up()
    assert len(world.points()) == 2
    check_restored(world)


def test_copies_of_one_agent_are_noticed_and_harm_nothing(world: World) -> None:
    shutil.copytree(world.agent_data(), world.agent_data("clone"))
    (world.folder / "tree" / "more").write_bytes(os.urandom(3_000_000))
    world.ok("backup", "now", "--item", ITEM, "--container", HOST)
    world.start_agent("clone")
    job = job_of(world, ITEM)
    assert_ends(world, HOST, "AgentCopied")
    eventually(lambda: status(world, job) != "InProgress", "the backup ends")
    assert status(world, job) == "Completed"
    assert world.agents["clone"].poll() is None, "one of them goes on"
    world.back_up()
    assert len(world.points()) == 3
    assert world.cli("vault", "verify", VAULT, "-g", GROUP).code == 0
    check_restored(world)


def test_a_restarted_agent_is_no_copy(shared: World) -> None:
    for _ in range(2):
        shared.kill_agent()
        shared.start_agent()
        shared.back_up()
    assert shared.agents[HOST].poll() is None
    assert "AgentCopied" not in shared.log(HOST)
