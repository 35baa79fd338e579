"""kill -9 of a real agent whose writer process outlives it, halted in the middle of its work."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.testing.program_kills import GONE_ON, RUNNING, history_of, restored_like, status
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, ITEM, World

FILES, FOLDERS = 12_000, 40


def make_many_files(tree: Path) -> None:
    noise = random.Random(3)
    for number in range(FOLDERS):
        (tree / f"dir-{number}").mkdir(parents=True)
    for number in range(FILES):
        content = noise.randbytes(noise.randrange(1, 2_000))
        (tree / f"dir-{number % FOLDERS}" / f"file-{number}").write_bytes(content)
    for number in range(FOLDERS):
        os.utime(tree / f"dir-{number}", (1_600_000_000, 1_600_000_000 + number))


def writer_of(agent: int) -> int:
    """The agent's writer process; 0 while there is none."""
    for task in Path(f"/proc/{agent}/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(FileNotFoundError):
                if b"writer_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
    return 0


@pytest.mark.timeout(300)
def test_a_restore_goes_on_when_the_dead_agents_writer_has_ended(tmp_path: Path) -> None:
    world, writer = World(tmp_path), 0
    make_many_files(tmp_path / "src")
    try:
        world.set_up(tmp_path / "src")
        world.back_up()
        words = ("restore", "--item", ITEM, "--container", HOST, "--recovery-point", "latest")
        world.ok(*words, "--to", tmp_path / "out")
        job = str(world.jobs()[0]["name"])
        agent = world.agents[HOST].pid
        eventually(lambda: writer_of(agent) != 0, "the writer process")
        writer = writer_of(agent)
        os.kill(writer, signal.SIGSTOP)
        world.kill_agent()
        assert status(world, job) in RUNNING
        world.start_agent()
        eventually(lambda: "an earlier run of this restore" in world.log(HOST), "the next run")
        assert status(world, job) in RUNNING
        os.kill(writer, signal.SIGCONT)
        eventually(lambda: status(world, job) not in RUNNING, "the job after the kill")
        assert status(world, job) == "Completed"
        assert GONE_ON.intersection(history_of(world, job))
        found = restored_like(tmp_path / "src", tmp_path / "out", owners=os.geteuid() == 0)
        assert found.lines == []
        assert found.compared > FILES
    finally:
        if writer:
            with suppress(ProcessLookupError):
                os.kill(writer, signal.SIGKILL)
        world.close()
