"""What a simulation consists of: one store, processes with a vault each, and what was promised."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from holdfast.adapters.object_store.local import LocalStore
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.testing.simulation.disk import SimulatedDisk
from holdfast.testing.simulation.faults import ALL_EVENTS, Event, Weather
from holdfast.testing.simulation.horizons import HorizonWatch
from holdfast.testing.simulation.network import Network
from holdfast.testing.simulation.observer import BrokenInvariantError, Observer
from holdfast.testing.simulation.scheduler import Scheduler
from holdfast.testing.simulation.surroundings import START, Time
from holdfast.vaultstore.values import (
    CollectPlan,
    RecoveryPointRecord,
    Unlock,
    VaultIds,
    VaultOptions,
)
from holdfast.vaultstore.vault import Vault

PLATFORM_KEY = bytes(range(32))
UNLOCK = Unlock(platform_key=PLATFORM_KEY)
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=16 * 1024, reserve_bytes=0, probe=False)
MOST_STEPS = 80_000
IMMUTABLE = 3  # one seed of so many has an immutable vault
A_DAY = 86_400.0  # [s]
ALL_HORIZONS = 40 * A_DAY  # after so long nothing is locked any more
CALLS = 2000
POWER_CUTS = 0.0004  # at each point
Files = Mapping[bytes, bytes]


@dataclass
class Promises:
    """What was said to somebody, and what they may expect from it.

    ``content``: files of each (item, job), known before its backup begins. ``acknowledged``: job of
    each point whose commit returned. ``dropped``: points that an expiry was asked to drop.
    ``owners``: the process at work on a job. ``dead``: jobs of restores that are over or whose
    reader is gone. ``revoked``: jobs a session of which somebody ended. ``head``: of the newest
    acknowledged record. ``locks``: until when [s of true time] the point of a job must stay."""

    content: dict[tuple[str, bytes], Files] = field(default_factory=dict)
    acknowledged: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    owners: dict[bytes, str] = field(default_factory=dict)
    dead: set[bytes] = field(default_factory=set)
    revoked: set[bytes] = field(default_factory=set)
    locks: dict[tuple[str, bytes], float] = field(default_factory=dict)
    head: int = 0
    restored: int = 0
    rewritten: int = 0

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
    """Everything of one run. ``plans``: collects that somebody planned, for anybody to run.
    ``place``: where a disk may be simulated; None for a store without one. ``calls``: of the store,
    after which nobody begins anything new."""

    def __init__(self, seed: int, place: Path | None, calls: int = CALLS) -> None:
        self.seed = seed
        self.immutable = seed % IMMUTABLE == 0
        self._calls = calls
        self.random = random.Random(f"world {seed}")
        stickiness = self.random.choice([0.0, 0.5, 0.9, 0.97])
        self.scheduler = Scheduler(seed, stickiness=stickiness, most_steps=MOST_STEPS)
        self.network = Network(seed, self._weather(), self.scheduler)
        self.time = Time(seed)
        self.promises = Promises()
        self.plans: list[CollectPlan] = []
        self._rots = self.random.choice([0.0, 0.0, 0.001, 0.004])
        self.scheduler.on_step = self._step
        self.network.froze = lambda: self.time.sleep(self.random.uniform(600, 200_000))
        self.on_power_cut: list[Callable[[], None]] = []
        self.disk: SimulatedDisk | None = None
        if place is not None:
            self._plug_in(place)

    def begin(self) -> None:
        """Make the vault, and watch it from then on."""
        vault = Vault.create(
            self.network.store,
            PLATFORM_KEY,
            ids=IDS,
            options=OPTIONS,
            clock=MovableClock(START),
            rng=SeededRandom(self.seed),
        )
        if self.immutable:
            vault.set_immutability("Locked")
        vault.close()
        self._observe()

    def _observe(self) -> None:
        watch = HorizonWatch(self.time, self.promises.locks)
        self.observer = Observer(self.network.mirror, IDS.vault_id, UNLOCK, watch)
        self.network.created = self.observer.created
        self.network.deleted = self.observer.deleted

    def _plug_in(self, place: Path) -> None:
        network = self.network
        self.disk = SimulatedDisk(place, network.disk_moment, network.appeared)
        network.store = LocalStore(place)
        network.opens = partial(LocalStore, place)

    def _cut_power(self, disk: SimulatedDisk) -> None:
        """Every process dies, and the disk forgets what was not synced."""
        self.network.fault("power cut", "all")
        left = disk.cut()
        self.network.lose_power(LocalStore(disk.root), left)
        for dies in self.on_power_cut:
            dies()
        before = self.observer
        self._observe()
        self.observer.checked_deletes = before.checked_deletes
        self.observer.horizons.checked = before.horizons.checked
        self.observer.shared_records = before.shared_records
        if self.observer.vault.head[0] < self.promises.head:
            raise BrokenInvariantError("a power cut took what was acknowledged")

    def _weather(self) -> Weather:
        """Some runs see nearly no fault, some one kind only, some everything."""
        rng = self.random
        heavy = rng.choice([0.0, 0.002, 0.01])
        rates = {
            kind: heavy * rng.choice([0, 0, 1, 1, 2]) * _SELDOM.get(kind, 1.0)
            for kind in ALL_EVENTS
        }
        return Weather(rates)

    def going_on(self) -> bool:
        """Whether actors begin new work."""
        return self.network.calls < self._calls

    def _step(self) -> None:
        self.time.pass_some()
        self.network.deliver()
        if self.disk is not None and self.random.random() < POWER_CUTS and not self.network.calm:
            self._cut_power(self.disk)
        if self._rots and self.random.random() < self._rots:
            self.network.rot(self.random)

    def think(self, rng: random.Random, most: int) -> None:
        """Sometimes let others act for a while: up to ``most`` points."""
        if rng.random() < 0.4:
            for _ in range(rng.randint(1, most)):
                self.scheduler.point("thinks")

    def settle(self) -> Vault:
        """End all faults, let every late request arrive and every horizon pass, and open the vault
        afresh."""
        self.network.settle()
        if self.immutable:
            self.time.sleep(ALL_HORIZONS)
        clock = MovableClock(START + timedelta(seconds=self.time.seconds))
        vault = Vault.open(
            self.network.store, IDS.vault_id, UNLOCK, clock=clock, rng=SeededRandom(self.seed + 1)
        )
        vault.confirm_clock()
        return vault


_SELDOM: dict[Event, float] = {"freeze": 0.1}  # it costs a run many points
