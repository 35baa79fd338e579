"""kill -9 of the real server in the middle of expire and collect, at seeded points.

The server is started again and nothing else is done: the job must end well by itself; what was due
is gone, everything else restores, and a verification finds nothing wrong.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from holdfast.testing.grounds import GROUNDS, Ground, ground
from holdfast.testing.program_kills import (
    GONE_ON,
    RUNNING,
    TIMES,
    history_of,
    killed_at,
    make_tree,
    points_passed,
    restored_like,
    spread,
    status,
)
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, ITEM, VAULT, World

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
KILLS = {"sqlite-disk": 2, "postgresql-disk": 1, "sqlite-s3": 1}
OPERATION = {"expire": "Expire", "collect": "Collect"}


class Days:
    """A vault that gets older by minutes; no schedule falls into them."""

    def __init__(self, yard: Ground) -> None:
        self.ground = yard
        self.world = yard.world
        self.now = START
        self.tree = make_tree(self.world, ITEM, 1)
        self.world.protect(self.tree)
        self.back_up(None)

    def back_up(self, kept: timedelta | None) -> str:
        """The id of a point of a tree that changed."""
        self.pass_by(timedelta(minutes=1))
        noise = random.Random(self.now.isoformat())
        (self.tree / "today").write_bytes(noise.randbytes(900_000))
        until = ("--retain-until", (self.now + kept).isoformat()) if kept else ()
        self.world.back_up(*until)
        return str(self.world.points()[0]["name"])

    def pass_by(self, time: timedelta) -> None:
        self.now += time
        self.world.set_clock(self.now)

    def one_is_due(self) -> str:
        """The id of a point whose time is over; a younger one stands after it."""
        due = self.back_up(timedelta(minutes=1))
        self.back_up(None)
        self.pass_by(timedelta(minutes=1))
        return due

    def point_ids(self) -> set[str]:
        return {str(point["name"]) for point in self.world.points()}


@pytest.fixture(scope="module", params=GROUNDS)
def days(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Days]:
    name = str(request.param)
    folder = tmp_path_factory.mktemp(name)
    environment = {
        "HOLDFAST_PACK_TARGET_BYTES": str(256 * 1024),
        "HOLDFAST_TEST_CLOCK": str(folder / "clock"),
    }
    (folder / "clock").write_text(START.isoformat())
    postgres = request.getfixturevalue("postgres_server") if "postgresql" in name else None
    s3 = request.getfixturevalue("s3_service") if "s3" in name else None
    with ground(name, folder, environment, postgres=postgres, s3=s3) as yard:
        yield Days(yard)


def ask(world: World, kind: str) -> None:
    """Ask for the job as a user who types the command and turns away: it waits for a server that
    is killed, and ends when the job does."""
    words = [str(world.program), "vault", kind, VAULT, "-g", GROUP]
    quiet = subprocess.DEVNULL
    asking = subprocess.Popen(words, env=world.environment, stdin=quiet, stdout=quiet, stderr=quiet)
    threading.Thread(target=asking.wait).start()


def over(world: World, kind: str, known: set[str]) -> bool:
    """Whether a job that was not yet ``known`` has ended."""
    new = [name for name in jobs_of(world, kind) if name not in known]
    return bool(new) and status(world, new[0]) not in RUNNING


def jobs_of(world: World, kind: str) -> list[str]:
    """Newest first."""
    rows = [row for row in world.jobs() if row["properties"]["operation"] == OPERATION[kind]]
    return [str(row["name"]) for row in rows]


def make_due(days: Days, kind: str) -> str:
    """Something to do for a job of this kind: the point that is due, or was."""
    due = days.one_is_due()
    if kind == "collect":
        days.world.ok("vault", "expire", VAULT, "-g", GROUP)
    return due


def check_vault(days: Days, kind: str, due: str, before: set[str]) -> None:
    world = days.world
    job = world.ask("job", "show", jobs_of(world, kind)[0])
    assert job["properties"]["status"] == "Completed", job
    assert GONE_ON.intersection(history_of(world, str(job["name"]))), job
    assert days.point_ids() == before - {due}
    assert world.cli("vault", "verify", VAULT, "-g", GROUP).code == 0
    out = world.folder / f"restored-{due}"
    world.restore(out)
    found = restored_like(days.tree, out, owners=os.geteuid() == 0)
    assert found.lines == []
    assert found.compared > 60
    assert days.ground.open_sessions() == []


@pytest.mark.timeout(900 * TIMES)
@pytest.mark.parametrize("kind", ["expire", "collect"])
def test_a_killed_server_ends_its_upkeep_by_itself(days: Days, kind: str) -> None:
    world = days.world
    start = partial(ask, world, kind)
    make_due(days, kind)
    ended = partial(over, world, kind, set(jobs_of(world, kind)))
    passed = points_passed(world, "server", start, ended, world.folder / f"points-{kind}")
    passed = [point for point in passed if f".{kind}." in point or point.startswith("vault.")]
    assert len(passed) >= 5, passed
    kills, hits = min(TIMES * KILLS[days.ground.name], len(passed) // 2), 0
    for point in spread(passed, random.Random(f"{kind} {days.ground.name}")):
        if hits == kills:
            break
        due = make_due(days, kind)
        before, packs = days.point_ids(), set(days.ground.packs())
        ended = partial(over, world, kind, set(jobs_of(world, kind)))
        if not killed_at(world, "server", point, start, ended):
            continue
        hits += 1
        world.start_server()
        eventually(ended, f"the job after {point}")
        check_vault(days, kind, due, before)
        if kind == "collect":
            assert packs - set(days.ground.packs()), "what the dropped point alone needed is gone"
    assert hits == kills
