"""What a simulation consists of: one store, processes with a vault each, and what was promised."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from holdfast.adapters.object_store.layers.retry import Patience, RetryStore
from holdfast.errors import StoreFullError, StoreUnavailableError
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.testing.simulation.observer import BrokenInvariantError, Observer
from holdfast.testing.simulation.scheduler import Scheduler, SimulatedLock
from holdfast.testing.simulation.store import (
    WRITE_EVENTS,
    CrashError,
    Life,
    Network,
    SimulatedStore,
    Weather,
)
from holdfast.testing.simulation.surroundings import (
    START,
    SimulatedClock,
    SimulatedRandom,
    Time,
)
from holdfast.vaultstore.values import RecoveryPointRecord, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
UNLOCK = Unlock(platform_key=PLATFORM_KEY)
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=0, probe=False)
MOST_STEPS = 60_000
Files = Mapping[bytes, bytes]


@dataclass
class Promises:
    """What was said to somebody, and what they may expect from it.

    ``content``: files of each (item, job), known before its backup begins. ``acknowledged``: job of
    each point whose commit returned. ``dropped``: points that an expiry was asked to drop.
    ``dead``: jobs of restores that are over or whose reader is gone. ``revoked``: jobs a session of
    which somebody ended. ``head``: of the newest acknowledged record."""

    content: dict[tuple[str, bytes], Files] = field(default_factory=dict)
    acknowledged: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    dead: set[bytes] = field(default_factory=set)
    revoked: set[bytes] = field(default_factory=set)
    head: int = 0
    restored: int = 0

    def acknowledge(self, record: RecoveryPointRecord) -> None:
        """A commit returned this record."""
        job = (record.item_key, record.job_id)
        for rp_id, other in self.acknowledged.items():
            if other == job and rp_id not in (record.rp_id, *self.dropped):
                raise BrokenInvariantError(f"job {job} made two points: {rp_id}, {record.rp_id}")
        self.acknowledged[record.rp_id] = job
        self.head = max(self.head, record.sequence)

    def compare(self, record: RecoveryPointRecord, files: Files) -> None:
        """A restore of this point gave these files."""
        expected = self.content[record.item_key, record.job_id]
        if files != expected:
            raise BrokenInvariantError(f"point {record.rp_id} was restored with other content")
        self.restored += 1


class World:
    """Everything of one run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(f"world {seed}")
        stickiness = self.random.choice([0.0, 0.5, 0.9, 0.97])
        self.scheduler = Scheduler(seed, stickiness=stickiness, most_steps=MOST_STEPS)
        self.network = Network(seed, self._weather(), self.scheduler)
        self.time = Time(seed)
        self.promises = Promises()
        self.scheduler.on_step = self._step
        store = self.network.store
        Vault.create(
            store,
            PLATFORM_KEY,
            ids=IDS,
            options=OPTIONS,
            clock=MovableClock(START),
            rng=SeededRandom(seed),
        ).close()
        self.observer = Observer(store, IDS.vault_id, UNLOCK)
        self.network.created = self.observer.created
        self.network.deleted = self.observer.deleted

    def _weather(self) -> Weather:
        """Some runs see nearly no fault, some one kind only, some everything."""
        rng = self.random
        heavy = rng.choice([0.0, 0.002, 0.01])
        return Weather({kind: heavy * rng.choice([0, 0, 1, 1, 2]) for kind in WRITE_EVENTS})

    def _step(self) -> None:
        self.time.pass_some()
        self.network.deliver()

    def think(self, rng: random.Random, most: int) -> None:
        """Sometimes let others act for a while: up to ``most`` points."""
        if rng.random() < 0.4:
            for _ in range(rng.randint(1, most)):
                self.scheduler.point("thinks")

    def settle(self) -> Vault:
        """End all faults, let every late request arrive, and open the vault afresh."""
        self.network.calm = True
        self.network.deliver(everything=True)
        clock = MovableClock(START)
        vault = Vault.open(
            self.network.store, IDS.vault_id, UNLOCK, clock=clock, rng=SeededRandom(self.seed + 1)
        )
        vault.confirm_clock()
        return vault


class Process:
    """A server process: it may die and start again; its actors share one vault."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.starts = 0
        self.life = Life(name)
        self.clock: SimulatedClock | None = None
        self._vault: Vault | None = None
        self._opening = SimulatedLock(world.scheduler)
        self._retries = world.random.random() < 0.5
        self._head = 0

    def run(self, work: Callable[[Vault], None]) -> bool:
        """``work`` with the process's vault; False when the store or the process failed."""
        try:
            work(self.vault())
        except (StoreUnavailableError, StoreFullError, CrashError):
            return False
        return True

    def vault(self) -> Vault:
        """The running vault, or a fresh one after a crash."""
        with self._opening:
            if self.life.dead or self._vault is None:
                self._vault = None
                self._vault = self._start()
            vault = self._vault
        self._see_head(vault)
        return vault

    def random(self) -> SimulatedRandom:
        """Randomness of the incarnation that runs now."""
        seed = f"agent {self.world.seed} {self.name} {self.starts} {self.world.scheduler.steps}"
        return SimulatedRandom(seed, self.world.scheduler, self.life)

    def _start(self) -> Vault:
        world = self.world
        self.starts += 1
        self.life = Life(f"{self.name}.{self.starts}")
        store: ObjectStore = SimulatedStore(world.network, self.life)
        if self._retries:
            store = RetryStore(store, Patience(attempts=3), world.time.sleep)
        offset = world.random.uniform(-120, 120)
        self.clock = SimulatedClock(world.time, world.scheduler, self.life, offset)
        seed = f"process {world.seed} {self.life.name}"
        rng = SimulatedRandom(seed, world.scheduler, self.life)
        known = max(self._head, world.promises.head)
        vault = Vault.open(store, IDS.vault_id, UNLOCK, clock=self.clock, rng=rng)
        vault._core.lock = cast(Any, SimulatedLock(world.scheduler))
        if vault.head[0] < known:
            raise BrokenInvariantError(f"the vault was opened at {vault.head[0]}, not {known}")
        self._head = vault.head[0]
        return vault

    def _see_head(self, vault: Vault) -> None:
        head = vault.head[0]
        if head < self._head:
            raise BrokenInvariantError(f"the head went back from {self._head} to {head}")
        self._head = head
