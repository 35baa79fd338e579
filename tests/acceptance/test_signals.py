"""Real signals and a cancel while a backup runs: what is said, what goes on, what is kept."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.grounds import Ground, ground
from holdfast.testing.program_kills import job_of, restored_like, status
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, ITEM, World

PACK_BYTES = 256 * 1024
TREE_BYTES = 120_000_000  # a backup of a second or two
PADDED = 1.021  # as packs, which are padded
NOW = ("backup", "now", "--item", ITEM, "--container", HOST)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Ground]:
    environment = {"HOLDFAST_PACK_TARGET_BYTES": str(PACK_BYTES)}
    with ground("sqlite-disk", tmp_path, environment) as made:
        yield made


def protect(ground: Ground, size: int) -> None:
    """An item of so many bytes."""
    tree = ground.world.folder / "tree"
    tree.mkdir()
    for number in range(12):
        (tree / f"{number}").write_bytes(os.urandom(size // 12))
    ground.world.protect(tree)


def freeze_in_backup(ground: Ground) -> str:
    """Begin a backup and stop the agent's process in the middle of it; the job."""
    world = ground.world
    world.ok(*NOW)
    eventually(lambda: len(ground.packs()) > 3, "some packs arrive", every=0.01)
    world.agents[HOST].send_signal(signal.SIGSTOP)
    job = job_of(world, ITEM)
    assert status(world, job) == "InProgress"
    return job


def check_restored(world: World) -> None:
    out = world.folder / "restored"
    world.restore(out)
    assert restored_like(world.folder / "tree", out, owners=os.geteuid() == 0).lines == []


def test_a_cancelled_backup_ends_and_the_next_sends_only_the_rest(yard: Ground) -> None:
    world = yard.world
    protect(yard, TREE_BYTES)
    job = freeze_in_backup(yard)
    world.ok("job", "cancel", job)
    assert status(world, job) == "Cancelling"
    world.agents[HOST].send_signal(signal.SIGCONT)
    eventually(lambda: status(world, job) == "Cancelled", "the job is cancelled")
    assert world.cli("job", "wait", job).code == 1
    assert world.points() == []
    kept = sum(yard.packs().values())
    assert kept > 3 * PACK_BYTES
    world.back_up()
    following = job_of(world, ITEM)
    sent = yard.received_bytes(following)
    assert 0 < sent < TREE_BYTES * PADDED - kept + 2 * PACK_BYTES
    assert len(world.points()) == 1
    assert yard.open_sessions() == []
    check_restored(world)


def test_ctrl_c_turns_away_from_a_job_that_goes_on(yard: Ground) -> None:
    world = yard.world
    protect(yard, 1_200_000)
    world.agents[HOST].send_signal(signal.SIGSTOP)
    words = [str(world.program), *NOW, "--wait"]
    waiting = subprocess.Popen(
        words, env=world.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert waiting.stderr is not None
    said = waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=30)
    job = job_of(world, ITEM)
    assert waiting.returncode == 1
    assert f"holdfast job cancel {job}" in err
    assert f"holdfast job wait {job}" in err
    assert "Traceback" not in said + out + err
    assert status(world, job) == "InProgress"
    world.agents[HOST].send_signal(signal.SIGCONT)
    world.ok("job", "wait", job)
    assert status(world, job) == "Completed"
