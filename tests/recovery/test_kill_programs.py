"""kill -9 of real agents and servers in the middle of real jobs, at seeded points.

A first run without a kill tells which points a job passes; then each chosen point kills. The killed
program is started again and nothing else is done: the job must end well by itself, with one
recovery point, every byte in place, and nothing sent twice that the server had acknowledged.
"""

from __future__ import annotations

import os
import random
import zlib
from functools import partial

import pytest

from holdfast.testing.grounds import AT_SCALE, Ground
from holdfast.testing.program_kills import (
    GONE_ON,
    RUNNING,
    TIMES,
    ask_for_job,
    history_of,
    job_of,
    killed_at,
    make_tree,
    points_passed,
    restored_like,
    spread,
    status,
)
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, World

PACK_BYTES = 256 * 1024
ADDED, MANIFEST_BYTES = 600_000, 100_000
KILLS = {"sqlite-disk": 1, "postgresql-disk": 1, "sqlite-s3": 1}  # of each kind and program
BOTH = {"sqlite-disk": 1, "postgresql-disk": 1, "sqlite-s3": 1, AT_SCALE: 1}  # of each kind


def start_job(world: World, kind: str, item: str) -> None:
    """Ask for the job; a server that is killed at once may not live to answer."""
    named = ("--item", item, "--container", HOST)
    if kind == "restore":
        words = ("restore", *named, "--recovery-point", "latest")
        ask_for_job(world, item, *words, "--to", world.folder / f"restored-{item}")
    else:
        ask_for_job(world, item, "backup", "now", *named)


def prepare(world: World, kind: str, item: str) -> str:
    """An item ready for a job of ``kind``, with bytes that no other item of the vault has."""
    seed = zlib.crc32(item.encode())
    tree = make_tree(world, item, seed)
    world.protect(tree, item=item)
    if kind != "backup":
        world.back_up(item=item)
    if kind == "incremental":
        (tree / "dir-1" / "added").write_bytes(random.Random(seed + 1).randbytes(ADDED))
    return item


def stored_bytes(ground: Ground) -> int:
    return sum(ground.packs().values())


def check_bytes(ground: Ground, kind: str, item: str, job: str, before: int) -> None:
    """What the job had to send arrived, and none of it twice but what was on its way."""
    if kind == "restore":
        assert ground.received_bytes(job) == 0
        return
    tree = ground.world.folder / item
    new = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    new = ADDED if kind == "incremental" else new
    most = new + MANIFEST_BYTES + 2 * PACK_BYTES
    assert new - 2 * PACK_BYTES <= ground.received_bytes(job) <= most, "it was sent twice"
    assert new <= stored_bytes(ground) - before <= most, "it was stored twice"


def check_outcome(ground: Ground, kind: str, item: str, job: str, before: int) -> None:
    """It ended well and says how; one point, nothing twice, every byte there, nothing locked."""
    world = ground.world
    assert status(world, job) == "Completed"
    assert GONE_ON.intersection(history_of(world, job)), history_of(world, job)
    points = world.points(item)
    assert len(points) == (2 if kind == "incremental" else 1)
    check_bytes(ground, kind, item, job, before)
    out = world.folder / f"restored-{item}"
    if kind != "restore":
        world.restore(out, item=item)
    found = restored_like(world.folder / item, out, owners=os.geteuid() == 0)
    assert found.lines == []
    assert found.compared > 60
    world.back_up(item=item)
    assert len(world.points(item)) == len(points) + 1
    assert ground.open_sessions() == []


@pytest.mark.timeout(900 * TIMES)
@pytest.mark.parametrize("kind", ["backup", "incremental", "restore"])
@pytest.mark.parametrize("who", ["agent", "server"])
def test_a_killed_program_goes_on_by_itself(yard: Ground, who: str, kind: str) -> None:
    world = yard.world

    def started(item: str) -> None:
        start_job(world, kind, item)

    def ended(item: str) -> bool:
        return status(world, job_of(world, item)) not in RUNNING

    whole = prepare(world, kind, f"whole-{who}-{kind}")
    log = world.folder / f"points-{who}-{kind}"
    passed = points_passed(world, who, partial(started, whole), partial(ended, whole), log)
    assert len(passed) >= 6, passed
    kills = min(TIMES * KILLS[yard.name], len(passed) // 2)
    order = spread(passed, random.Random(f"{who} {kind} {yard.name}"))
    hits = 0
    for number, point in enumerate(order):
        if hits == kills:
            break
        item = prepare(world, kind, f"{who}-{kind}-{number}")
        before = stored_bytes(yard)
        if not killed_at(world, who, point, partial(started, item), partial(ended, item)):
            continue
        hits += 1
        world.start_agent() if who == "agent" else world.start_server()
        job = job_of(world, item)
        eventually(partial(ended, item), f"the job after {point}")
        check_outcome(yard, kind, item, job, before)
    assert hits == kills


@pytest.mark.timeout(900 * TIMES)
@pytest.mark.parametrize("kind", ["backup", "incremental", "restore"])
def test_both_killed_at_once(yard: Ground, kind: str) -> None:
    kill_both(yard, kind)


@pytest.mark.timeout(900 * TIMES)
def test_both_killed_over_postgresql_and_s3(yard_at_scale: Ground) -> None:
    kill_both(yard_at_scale, "incremental")


def kill_both(yard: Ground, kind: str) -> None:
    world = yard.world

    def started(item: str) -> None:
        start_job(world, kind, item)

    def ended(item: str) -> bool:
        return status(world, job_of(world, item)) not in RUNNING

    whole = prepare(world, kind, f"whole-both-{kind}")
    log = world.folder / f"points-both-{kind}"
    passed = points_passed(world, "agent", partial(started, whole), partial(ended, whole), log)
    kills, hits = min(TIMES * BOTH[yard.name], len(passed) // 2), 0
    for number, point in enumerate(spread(passed, random.Random(f"both {kind} {yard.name}"))):
        if hits == kills:
            break
        item = prepare(world, kind, f"both-{kind}-{number}")
        before = stored_bytes(yard)
        if not killed_at(world, "agent", point, partial(started, item), partial(ended, item)):
            continue
        hits += 1
        job = job_of(world, item)
        assert status(world, job) in RUNNING, point
        world.kill_server()
        world.start_server()
        world.start_agent()
        eventually(partial(ended, item), f"the job after both kills at {point}")
        assert "resumed" in history_of(world, job), point
        check_outcome(yard, kind, item, job, before)
    assert hits == kills
