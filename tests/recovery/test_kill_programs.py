"""kill -9 of real agents and servers in the middle of real jobs, at seeded points.

A first run without a kill tells which points a job passes; then each chosen point kills. The killed
program is started again and nothing else is done: the job must end well by itself, with one
recovery point, every byte in place, and nothing sent twice that the server had acknowledged.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, VAULT, World
from holdfast.workloads.files.compare import compare_inventories, take_inventory

PACK_BYTES = 256 * 1024
KILLS = 4  # of each kind and program: 24 in all, and one of both
RUNNING = ("InProgress", "Cancelling")
NOISE = ("next", "progress", "after.POST.complete")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(
        tmp_path,
        {"HOLDFAST_PACK_TARGET_BYTES": str(PACK_BYTES), "HOLDFAST_TASK_LEASE_SECONDS": "5"},
        test_mode=True,
    )
    made.environment.pop("HOLDFAST_TEST_CLOCK")
    try:
        made.start_server()
        made.login()
        made.ok("vault", "create", VAULT, "-g", GROUP)
        assert made.enroll().code == 0
        made.start_agent()
        yield made
    finally:
        made.close()


def make_tree(world: World, name: str, seed: int) -> Path:
    """Some 3 MB that no other tree shares, in files of all sizes."""
    tree = world.folder / name
    noise = random.Random(seed)
    for number in range(60):
        folder = tree / f"dir-{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}").write_bytes(noise.randbytes(noise.randrange(1, 40_000)))
    (tree / "large").write_bytes(noise.randbytes(2_000_000))
    return tree


def restart(world: World, who: str, environment: dict[str, str]) -> None:
    """Start the program that is to be killed with its orders."""
    if who == "agent":
        world.stop_agent()
        world.start_agent(environment=environment)
    else:
        world.stop_server()
        world.start_server(environment)


def start_job(world: World, kind: str, item: str) -> None:
    """Ask for the job; a server that is killed at once may not live to answer."""
    named = ("--item", item, "--container", HOST)
    if kind == "restore":
        words = ("restore", *named, "--recovery-point", "latest")
        world.cli(*words, "--to", world.folder / f"restored-{item}")
    else:
        world.cli("backup", "now", *named)


def job_of(world: World, item: str) -> str:
    """The newest job of an item."""
    rows = [row for row in world.jobs() if row["properties"]["entityFriendlyName"] == item]
    return str(rows[0]["name"])


def status(world: World, job: str) -> str:
    return str(world.ask("job", "show", job)["properties"]["status"])


def points_passed(world: World, who: str, kind: str) -> list[str]:
    """What a job passes when nobody is killed."""
    log = world.folder / f"points-{who}-{kind}"
    item = prepare(world, kind, f"whole-{who}-{kind}", 1000)
    restart(world, who, {"HOLDFAST_TEST_CRASH_LOG": str(log)})
    start_job(world, kind, item)
    job = job_of(world, item)
    eventually(lambda: status(world, job) not in RUNNING, "the whole job")
    restart(world, who, {})
    passed = log.read_text().split()
    wanted = "agent." if who == "agent" else "job."
    return [
        point
        for point in passed
        if point.startswith(wanted) and not any(word in point for word in NOISE)
    ]


def prepare(world: World, kind: str, item: str, seed: int) -> str:
    """An item ready for a job of ``kind``."""
    tree = make_tree(world, item, seed)
    world.protect(tree, item=item)
    if kind != "backup":
        world.back_up(item=item)
    if kind == "incremental":
        (tree / "dir-1" / "added").write_bytes(random.Random(seed + 1).randbytes(600_000))
    return item


def stored_bytes(world: World) -> int:
    return sum(path.stat().st_size for path in world.vault_folder().glob("packs/*/*"))


def check_outcome(world: World, kind: str, item: str, job: str, before: int) -> None:
    body = world.ask("job", "show", job)
    history = " ".join(row["event"] for row in body["properties"]["holdfast"]["history"])
    assert body["properties"]["status"] == "Completed", body
    assert history, body
    points = world.points(item)
    assert len(points) == (2 if kind == "incremental" else 1)
    out = world.folder / f"restored-{item}"
    if kind != "restore":
        fresh = 3_600_000 if kind == "backup" else 800_000
        assert stored_bytes(world) - before <= fresh + 5 * PACK_BYTES, "it was sent twice"
        world.restore(out, item=item)
    source = world.folder / item
    difference = compare_inventories(
        take_inventory([source]),
        take_inventory([out / str(source).lstrip("/")]),
        strip_right=str(out),
        owners=os.geteuid() == 0,
    )
    assert difference.lines == []
    assert difference.compared > 60


def kill_at(world: World, who: str, kind: str, item: str, point: str) -> bool:
    """Start the job and wait for the kill; False when the job ended without passing the point
    (how often some calls are made depends on timing)."""
    restart(world, who, {"HOLDFAST_TEST_CRASH": point})
    program = world.agents[HOST] if who == "agent" else world.server
    assert program is not None
    start_job(world, kind, item)

    def over() -> bool:
        if program.poll() is not None:
            return True
        return who == "agent" and status(world, job_of(world, item)) not in RUNNING

    eventually(over, f"the kill at {point}")
    if program.poll() is None:
        return False
    assert program.returncode == -9
    if who == "agent":
        assert status(world, job_of(world, item)) in RUNNING, "the kill must hit a running job"
        del world.agents[HOST]
        world.start_agent()
    else:
        world.server = None
        world.start_server()
    return True


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["backup", "incremental", "restore"])
@pytest.mark.parametrize("who", ["agent", "server"])
def test_a_killed_program_goes_on_by_itself(world: World, who: str, kind: str) -> None:
    passed = points_passed(world, who, kind)
    assert len(passed) >= 3, passed
    order = random.Random(f"{who} {kind}").sample(passed, len(passed))
    hits = 0
    for number, point in enumerate(order):
        if hits == KILLS:
            break
        item = prepare(world, kind, f"{who}-{kind}-{number}", number)
        before = stored_bytes(world)
        if not kill_at(world, who, kind, item, point):
            continue
        hits += 1
        job = job_of(world, item)
        eventually(lambda job=job: status(world, job) not in RUNNING, f"the job after {point}")
        check_outcome(world, kind, item, job, before)
    assert hits >= min(KILLS, len(passed) - 1)


@pytest.mark.timeout(300)
def test_both_killed_at_once(world: World) -> None:
    item = prepare(world, "backup", "both", 77)
    restart(world, "agent", {"HOLDFAST_TEST_CRASH": "agent.after.PUT.packs@3"})
    agent = world.agents[HOST]
    before = stored_bytes(world)
    start_job(world, "backup", item)
    job = job_of(world, item)
    eventually(lambda: agent.poll() is not None, "the agent's kill")
    assert status(world, job) in RUNNING
    world.kill_server()
    del world.agents[HOST]
    world.start_server()
    world.start_agent()
    eventually(lambda: status(world, job) not in RUNNING, "the job after both kills")
    check_outcome(world, "backup", item, job, before)
