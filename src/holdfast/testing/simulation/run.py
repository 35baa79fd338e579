"""One run: cast, play, and judge."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from holdfast.errors import ConflictError
from holdfast.testing.little_agent import LittleAgent
from holdfast.testing.ports import SeededRandom
from holdfast.testing.simulation.actors import Reader, Writer
from holdfast.testing.simulation.disk import folder, mounted
from holdfast.testing.simulation.faults import Tally
from holdfast.testing.simulation.keepers import Keeper, Verifier
from holdfast.testing.simulation.observer import BrokenInvariantError
from holdfast.testing.simulation.process import Process
from holdfast.testing.simulation.world import CALLS, IDS, World
from holdfast.vaultstore import layout
from holdfast.vaultstore.values import CollectBudget
from holdfast.vaultstore.vault import Vault

REWRITTEN_BELOW = 0.9  # of a pack's bytes needed, at the end of a run
DISKS = 4  # one seed of so many is on the local store, over a disk that may lose power


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was and did. ``failure`` is empty when every invariant held."""

    seed: int
    digest: str
    steps: int
    failure: str
    trace: tuple[str, ...] = ()
    figures: dict[str, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)

    def replay(self) -> str:
        """How to see this run again."""
        return f"python -m holdfast.testing.simulation --seeds 1 --start {self.seed} --trace"


def simulate(seed: int, listen: Callable[[str], None] | None = None, calls: int = CALLS) -> Outcome:
    """Run one seed of at least so many store calls. ``listen`` is given every line of the trace."""
    with ExitStack() as stack:
        place = stack.enter_context(folder()) if seed % DISKS == 1 else None
        world = World(seed, place, calls)
        if world.disk is not None:
            stack.enter_context(mounted(world.disk))
        world.begin()
        return _play(world, listen)


def _play(world: World, listen: Callable[[str], None] | None) -> Outcome:
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
        "rewritten": world.promises.rewritten,
        "moved": world.observer.checked_moves,
        "deletes": world.observer.checked_deletes,
        "horizons": world.observer.horizons.checked,
        "starts": sum(process.starts for process in processes),
        "calls": world.network.calls,
    }
    world.network.tally.faults["shared"] += world.observer.shared_records
    scheduler = world.scheduler
    trace = tuple(scheduler.trace)
    tally = world.network.tally
    return Outcome(world.seed, scheduler.digest, scheduler.steps, failure, trace, figures, tally)


def _cast(world: World) -> list[Process]:
    """Three servers: writers of two items of one container and of a third item, sometimes a second
    writer of the first; a reader, a verifier, and two who keep the vault. In some runs all write
    through one server, where they share records of the log."""
    one, two, three = (Process(world, name) for name in ("one", "two", "three"))
    rng = world.random
    spawn = world.scheduler.spawn
    by_mail, by_data = (one, one) if rng.random() < 0.4 else (two, three)
    spawn("docs", one.name, Writer(world, one, "Linux;a", "docs").live)
    spawn("mail", by_mail.name, Writer(world, by_mail, "Linux;a", "mail").live)
    spawn("data", by_data.name, Writer(world, by_data, "Linux;b", "data").live)
    if rng.random() < 0.5:
        twin = Writer(world, two, "Linux;a", "docs")
        spawn("twin", two.name, lambda: _follow(world, twin))
    reading, verifying = rng.choice([one, two, three]), rng.choice([two, three])
    spawn("reader", reading.name, Reader(world, reading).live)
    spawn("verifier", verifying.name, Verifier(world, verifying).live)
    spawn("keeper", one.name, Keeper(world, one).live)
    spawn("other keeper", two.name, Keeper(world, two).live)
    return [one, two, three]


def _follow(world: World, twin: Writer) -> None:
    """Try the jobs of the same item that somebody else is trying, at the same time."""
    while world.going_on():
        mine = [job for job in world.promises.content if job[0] == twin.item_key]
        if mine:
            twin.do_job(mine[-1][1], world.promises.content[mine[-1]])
        world.scheduler.point("looks for a job")
        world.think(world.random, 200)


def _judge(world: World) -> None:
    """What must hold when everything has come to rest."""
    vault = world.settle()
    for session in vault.open_sessions():
        vault.revoke_session(session.session_id, "its process is gone")
    result = vault.collect(budget=CollectBudget(rewrite_below=REWRITTEN_BELOW))
    if not result.complete:
        raise BrokenInvariantError(f"a collect at rest leaves work: {result}")
    vault.collect()  # what the rewriting left behind: its sessions, and tables of before
    left = vault.plan_collect(rewrite_below=REWRITTEN_BELOW)
    if left.orphans or left.condemn or left.sweep or left.rewrite or left.locked:
        raise BrokenInvariantError(f"a second collect finds work: {left}")
    _require_no_leftovers(world, vault)
    _finish_jobs(world, vault)
    _check_points(world, vault)
    report = vault.verify()
    if not report.clean:
        raise BrokenInvariantError(f"verify finds damage: {report.damages}")


def _require_no_leftovers(world: World, vault: Vault) -> None:
    """Every pack, table and refset in the store is named by the log."""
    state = vault._core.state
    named = {layout.pack_key(e.pack.session_id, pack_id) for pack_id, e in state.packs.items()}
    named |= {layout.table_key(table_id) for table_id in state.tables}
    named |= {layout.refset_key(point.op.refset.name) for point in state.points.values()}
    prefix = layout.vault_prefix(IDS.vault_id)
    rooms = (layout.PACKS, layout.TABLES, layout.REFSETS)
    held = [info.key.removeprefix(prefix) for info in world.network.store.list(prefix)]
    left = {key for key in held if key.startswith(rooms)} - named
    if left:
        raise BrokenInvariantError(f"nobody collects {sorted(left)}")


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
