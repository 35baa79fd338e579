"""kill -9 of real agents and servers in the middle of real jobs, at seeded points.

A first run without a kill tells which points a job passes; then each chosen point kills. The killed
program is started again and nothing else is done: the job must end well by itself, with one
recovery point, every byte in place, and nothing sent twice that the server had acknowledged.
"""

from __future__ import annotations

import os
import random
from functools import partial

import pytest

from holdfast.testing.grounds import Ground
from holdfast.testing.program_kills import (
    RUNNING,
    job_of,
    killed_at,
    make_tree,
    points_passed,
    restart,
    restored_like,
    status,
)
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, World

PACK_BYTES = 256 * 1024
KILLS = {"sqlite-disk": 4, "postgresql-disk": 2, "sqlite-s3": 2}  # of each kind and program


def start_job(world: World, kind: str, item: str) -> None:
    """Ask for the job; a server that is killed at once may not live to answer."""
    named = ("--item", item, "--container", HOST)
    if kind == "restore":
        words = ("restore", *named, "--recovery-point", "latest")
        world.cli(*words, "--to", world.folder / f"restored-{item}")
    else:
        world.cli("backup", "now", *named)


def prepare(world: World, kind: str, item: str, seed: int) -> str:
    """An item ready for a job of ``kind``."""
    tree = make_tree(world, item, seed)
    world.protect(tree, item=item)
    if kind != "backup":
        world.back_up(item=item)
    if kind == "incremental":
        (tree / "dir-1" / "added").write_bytes(random.Random(seed + 1).randbytes(600_000))
    return item


def stored_bytes(ground: Ground) -> int:
    return sum(ground.packs().values())


def check_outcome(ground: Ground, kind: str, item: str, job: str, before: int) -> None:
    world = ground.world
    body = world.ask("job", "show", job)
    history = " ".join(row["event"] for row in body["properties"]["holdfast"]["history"])
    assert body["properties"]["status"] == "Completed", body
    assert history, body
    points = world.points(item)
    assert len(points) == (2 if kind == "incremental" else 1)
    out = world.folder / f"restored-{item}"
    if kind != "restore":
        fresh = 3_600_000 if kind == "backup" else 800_000
        assert stored_bytes(ground) - before <= fresh + 5 * PACK_BYTES, "it was sent twice"
        world.restore(out, item=item)
    found = restored_like(world.folder / item, out, owners=os.geteuid() == 0)
    assert found.lines == []
    assert found.compared > 60


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["backup", "incremental", "restore"])
@pytest.mark.parametrize("who", ["agent", "server"])
def test_a_killed_program_goes_on_by_itself(yard: Ground, who: str, kind: str) -> None:
    world, kills = yard.world, KILLS[yard.name]

    def started(item: str) -> None:
        start_job(world, kind, item)

    def ended(item: str) -> bool:
        return status(world, job_of(world, item)) not in RUNNING

    whole = prepare(world, kind, f"whole-{who}-{kind}", 1000)
    log = world.folder / "points"
    passed = points_passed(world, who, partial(started, whole), partial(ended, whole), log)
    assert len(passed) >= 3, passed
    order = random.Random(f"{who} {kind}").sample(passed, len(passed))
    hits = 0
    for number, point in enumerate(order):
        if hits == kills:
            break
        item = prepare(world, kind, f"{who}-{kind}-{number}", number)
        before = stored_bytes(yard)
        if not killed_at(world, who, point, partial(started, item), partial(ended, item)):
            continue
        hits += 1
        world.start_agent() if who == "agent" else world.start_server()
        job = job_of(world, item)
        eventually(partial(ended, item), f"the job after {point}")
        check_outcome(yard, kind, item, job, before)
    assert hits >= min(kills, len(passed) - 1)


@pytest.mark.timeout(300)
def test_both_killed_at_once(yard: Ground) -> None:
    world = yard.world
    item = prepare(world, "backup", "both", 77)
    restart(world, "agent", {"HOLDFAST_TEST_CRASH": "agent.after.PUT.packs@3"})
    agent = world.agents[HOST]
    before = stored_bytes(yard)
    start_job(world, "backup", item)
    job = job_of(world, item)
    eventually(lambda: agent.poll() is not None, "the agent's kill")
    assert status(world, job) in RUNNING
    world.kill_server()
    del world.agents[HOST]
    world.start_server()
    world.start_agent()
    eventually(lambda: status(world, job) not in RUNNING, "the job after both kills")
    check_outcome(yard, "backup", item, job, before)
