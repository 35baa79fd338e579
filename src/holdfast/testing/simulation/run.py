"""One run: cast, play, and judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.errors import ConflictError
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import SeededRandom
from holdfast.testing.simulation.actors import Keeper, Reader, Writer
from holdfast.testing.simulation.observer import BrokenInvariantError
from holdfast.testing.simulation.world import Process, World
from holdfast.vaultstore.vault import Vault

JOBS = 5
ROUNDS = 14


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was and did. ``failure`` is empty when every invariant held."""

    seed: int
    digest: str
    steps: int
    failure: str
    trace: tuple[str, ...] = ()
    figures: dict[str, int] = field(default_factory=dict)

    def replay(self) -> str:
        """How to see this run again."""
        return f"python -m holdfast.testing.simulation --seeds 1 --start {self.seed} --trace"


def simulate(seed: int, listen: Callable[[str], None] | None = None) -> Outcome:
    """Run one seed. ``listen`` is given every line of the trace."""
    world = World(seed)
    if listen is not None:
        world.scheduler.on_label = listen
    processes = _cast(world)
    world.scheduler.run()
    failure = world.scheduler.failure
    if not failure:
        try:
            _judge(world)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in the end is the finding
            failure = f"at the end: {type(error).__name__}: {error}"
    figures = {
        "points": len(world.promises.acknowledged),
        "dropped": len(world.promises.dropped),
        "restored": world.promises.restored,
        "deletes": world.observer.checked_deletes,
        "starts": sum(process.starts for process in processes),
        **world.network.events,
    }
    scheduler = world.scheduler
    return Outcome(
        seed, scheduler.digest, scheduler.steps, failure, tuple(scheduler.trace), figures
    )


def _cast(world: World) -> list[Process]:
    """Two servers with a writer each, of one container; a third item; readers; keepers."""
    first, second = Process(world, "one"), Process(world, "two")
    docs = Writer(world, first, "Linux;a", "docs")
    mail = Writer(world, second, "Linux;a", "mail")
    data = Writer(world, second, "Linux;b", "data")
    rng = world.random
    spawn = world.scheduler.spawn
    spawn("docs", lambda: docs.live(JOBS))
    spawn("mail", lambda: mail.live(JOBS))
    if rng.random() < 0.5:
        spawn("data", lambda: data.live(JOBS - 2))
    if rng.random() < 0.5:
        twin = Writer(world, second, "Linux;a", "docs")
        spawn("twin", lambda: _follow(world, twin))
    spawn("reader", lambda: Reader(world, rng.choice([first, second])).live(ROUNDS))
    spawn("keeper", lambda: Keeper(world, first).live(ROUNDS))
    if rng.random() < 0.5:
        spawn("other keeper", lambda: Keeper(world, second).live(ROUNDS))
    return [first, second]


def _follow(world: World, twin: Writer) -> None:
    """Try the jobs of the same item that somebody else is trying, at the same time."""
    for _ in range(JOBS):
        mine = [job for job in world.promises.content if job[0] == twin.item_key]
        if mine:
            twin.do_job(mine[-1][1], world.promises.content[mine[-1]])
        world.scheduler.point("looks for a job")


def _judge(world: World) -> None:
    """What must hold when everything has come to rest."""
    vault = world.settle()
    _check_points(world, vault)
    for session in vault.open_sessions():
        vault.revoke_session(session.session_id, "its process is gone")
    result = vault.collect()
    if not result.complete:
        raise BrokenInvariantError(f"a collect at rest leaves work: {result}")
    left = vault.plan_collect()
    if left.orphans or left.condemn or left.sweep:
        raise BrokenInvariantError(f"a second collect finds work: {left}")
    _finish_jobs(world, vault)
    _check_points(world, vault)
    report = vault.verify()
    if not report.clean:
        raise BrokenInvariantError(f"verify finds damage: {report.damages}")


def _finish_jobs(world: World, vault: Vault) -> None:
    """Every job that was given up succeeds at the first attempt now."""
    process = Process(world, "last")
    done = {(point.item_key, point.job_id) for point in vault.recovery_points()}
    done |= set(world.promises.acknowledged.values())
    for item_key, job_id in sorted(world.promises.content.keys() - done):
        container, _, item = item_key.partition("/FileFolder;")
        writer = Writer(world, process, container, item)
        try:
            writer.attempt(vault, job_id, 99)
        except ConflictError as error:
            if error.code != "RecoveryPointDeleted":
                raise


def _check_points(world: World, vault: Vault) -> None:
    """Each acknowledged point is there unless it was dropped; each point restores."""
    promises = world.promises
    points = {point.rp_id: point for point in vault.recovery_points()}
    lost = promises.acknowledged.keys() - points.keys() - promises.dropped
    if lost:
        raise BrokenInvariantError(f"acknowledged points are gone: {sorted(lost)}")
    jobs = [(point.item_key, point.job_id) for point in points.values()]
    if len(jobs) != len(set(jobs)):
        raise BrokenInvariantError("a job made two points")
    agent = LittleAgent(vault, SeededRandom(world.seed + 2))
    for rp_id, point in points.items():
        promises.compare(point, agent.restore(rp_id))
