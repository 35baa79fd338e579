"""Killing real programs in the middle of real jobs: what the tests of recovery share."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from holdfast.testing.wait import eventually
from holdfast.testing.warm import Program
from holdfast.testing.world import HOST, World
from holdfast.workloads.files.compare import Difference, compare_inventories, take_inventory

RUNNING = ("InProgress", "Cancelling")
NOISE = ("next", "progress", "after.POST.complete")  # passed once more or less, as time goes
PREFIX = {"agent": ("agent.", "restore."), "server": ("job.", "vault.")}
AFTERWARDS = 3.0
# How many more kills than in a run of CI; for a night.
TIMES = int(os.environ.get("HOLDFAST_TEST_KILLS", "1"))
GONE_ON = frozenset(
    {"resumed", "handed-out-again", "taken-over", "agent-lost", "agent-back", "retried"}
)


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


def ask_for_job(world: World, item: str, *words: str | Path) -> None:
    """Type a command that begins a job of ``item``, and turn away when the job is there or the
    server is dead: the command waits for a server that is killed."""
    known = jobs_of(world, item)
    quiet = subprocess.DEVNULL
    typed = [str(world.program), *map(str, words)]
    asking = subprocess.Popen(typed, env=world.environment, stdin=quiet, stdout=quiet, stderr=quiet)
    threading.Thread(target=asking.wait).start()

    def begun() -> bool:
        server = world.server
        if server is None or server.poll() is not None:
            return True
        with suppress(AssertionError):  # it is killed right now
            return jobs_of(world, item) != known
        return False

    eventually(begun, f"a job of {item}")


def jobs_of(world: World, item: str) -> list[str]:
    """Newest first."""
    rows = [row for row in world.jobs() if row["properties"]["entityFriendlyName"] == item]
    return [str(row["name"]) for row in rows]


def job_of(world: World, item: str, operation: str = "") -> str:
    """The newest job of an item, or of an operation."""
    rows = [row["properties"] | {"id": row["name"]} for row in world.jobs()]
    if operation:
        rows = [row for row in rows if row["operation"] == operation]
    else:
        rows = [row for row in rows if row["entityFriendlyName"] == item]
    return str(rows[0]["id"])


def status(world: World, job: str) -> str:
    return str(world.ask("job", "show", job)["properties"]["status"])


def points_passed(
    world: World, who: str, start: Callable[[], object], ended: Callable[[], bool], log: Path
) -> list[str]:
    """The crash points that ``who`` passes in a job nobody is killed in, in order."""
    restart(world, who, {"HOLDFAST_TEST_CRASH_LOG": str(log)})
    start()
    eventually(ended, "the whole job")
    restart(world, who, {})
    return [point for point in log.read_text().split() if _is_sure(who, point)]


def _is_sure(who: str, point: str) -> bool:
    """Whether the next such job passes it too: a server waits for agents in more or fewer turns."""
    if not point.startswith(PREFIX[who]) or any(word in point for word in NOISE):
        return False
    return not point.startswith("job.") or point.endswith("@1")


def spread(points: list[str], rng: random.Random) -> list[str]:
    """All points in a random order, every kind of place before any comes again."""
    places: dict[str, list[str]] = {}
    for point in rng.sample(points, len(points)):
        places.setdefault(point.partition("@")[0], []).append(point)
    rounds = max(map(len, places.values()), default=0)
    return [place[n] for n in range(rounds) for place in places.values() if n < len(place)]


def killed_at(
    world: World, who: str, point: str, start: Callable[[], object], ended: Callable[[], bool]
) -> bool:
    """Start a job and wait for the kill; False when the job ended without passing the point (how
    often some calls are made depends on timing). The program is not started again."""
    restart(world, who, {"HOLDFAST_TEST_CRASH": point})
    program = world.agents[HOST] if who == "agent" else world.server
    assert program is not None
    start()
    if not _died(program, ended):  # its orders must not hit whatever comes next
        restart(world, who, {})
        return False
    assert program.poll() == -9
    if who == "agent":
        del world.agents[HOST]
    else:
        world.server = None
    return True


def _died(program: Program, ended: Callable[[], bool]) -> bool:
    """Wait for the kill, or for the end of a job that did not pass the point; some points come
    right after the end."""

    def over() -> bool:
        if program.poll() is not None:
            return True
        with suppress(AssertionError):  # a server that is killed right now does not answer
            return ended()
        return False

    eventually(over, "the kill, or the end of the job", every=0.3)
    with suppress(AssertionError):
        eventually(lambda: program.poll() is not None, "the kill", seconds=AFTERWARDS)
    return program.poll() is not None


def history_of(world: World, job: str) -> list[str]:
    """The events of a job, oldest first."""
    body = world.ask("job", "show", job)["properties"]["holdfast"]
    return [str(row["event"]) for row in body["history"]]


def restored_like(source: Path, target: Path, *, owners: bool) -> Difference:
    """``source`` against what a restore put below ``target``."""
    return compare_inventories(
        take_inventory([source]),
        take_inventory([target / str(source).lstrip("/")]),
        strip_right=str(target),
        owners=owners,
    )
