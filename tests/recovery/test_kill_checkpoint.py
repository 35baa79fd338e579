"""kill -9 of a real agent after a checkpoint, when the job itself never goes on: what was
settled is not sent again by the next job. Counted in bytes the server received."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.grounds import Ground, ground
from holdfast.testing.program_kills import RUNNING, job_of, restart, restored_like, status
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, ITEM

PACK_BYTES, FILE_BYTES = 256 * 1024, 6_000_000


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Ground]:
    """Small packs, and one file that takes many."""
    environment = {
        "HOLDFAST_PACK_TARGET_BYTES": str(PACK_BYTES),
        "HOLDFAST_TASK_LEASE_SECONDS": "5",
    }
    with ground("sqlite-disk", tmp_path, environment) as made:
        made.world.protect(one_long_file(tmp_path / "src"))
        yield made


def one_long_file(tree: Path) -> Path:
    tree.mkdir()
    (tree / "long").write_bytes(random.Random(9).randbytes(FILE_BYTES))
    return tree


def sent_again(yard: Ground, orders: dict[str, str]) -> tuple[int, int]:
    """Kill the agent in a backup, cancel that, and back up anew: the bytes that the server received
    of the first job, and of the second."""
    world = yard.world
    restart(world, "agent", orders)
    agent = world.agents[HOST]
    world.ok("backup", "now", "--item", ITEM, "--container", HOST)
    first = job_of(world, ITEM)
    eventually(lambda: agent.poll() is not None, "the kill", seconds=180)
    assert agent.returncode == -9
    del world.agents[HOST]
    assert status(world, first) in RUNNING
    world.ok("job", "cancel", first)
    world.start_agent()
    eventually(lambda: status(world, first) not in RUNNING, "the end of the killed job")
    assert status(world, first) == "Cancelled"
    world.back_up()
    return yard.received_bytes(first), yard.received_bytes(job_of(world, ITEM))


def assert_whole(yard: Ground) -> None:
    world = yard.world
    assert len(world.points()) == 1
    world.restore(world.folder / "out")
    owners = os.geteuid() == 0
    assert restored_like(world.folder / "src", world.folder / "out", owners=owners).lines == []
    assert yard.open_sessions() == []


@pytest.mark.timeout(300)
def test_what_a_checkpoint_settled_is_not_sent_again(yard: Ground) -> None:
    """A checkpoint follows each pack; the second is in the middle of the one long file."""
    orders = {
        "HOLDFAST_CHECKPOINT_SECONDS": "0.001",
        "HOLDFAST_TEST_CRASH": "agent.after.POST.checkpoint@2",
    }
    settled, later = sent_again(yard, orders)
    assert PACK_BYTES < settled < FILE_BYTES
    assert later < FILE_BYTES - settled + 2 * PACK_BYTES
    assert_whole(yard)
