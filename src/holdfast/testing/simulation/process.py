"""A server process of a simulation: its actors share a vault, and it may die and start again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from holdfast.adapters.object_store.layers.horizon import HorizonStore
from holdfast.adapters.object_store.layers.retry import Patience, RetryStore
from holdfast.errors import HoldfastError, StoreFullError, StoreUnavailableError
from holdfast.ports.object_store import ObjectStore
from holdfast.testing.simulation.life import CrashError, Life
from holdfast.testing.simulation.observer import BrokenInvariantError
from holdfast.testing.simulation.scheduler import SimulatedLock
from holdfast.testing.simulation.store import SimulatedStore
from holdfast.testing.simulation.surroundings import SimulatedClock, SimulatedRandom
from holdfast.testing.simulation.world import IDS, UNLOCK, World
from holdfast.vaultstore.vault import Vault


class Process:
    """One process of a world."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.starts = 0
        self.life = Life(name, name)
        self.clock: SimulatedClock | None = None
        self._vault: Vault | None = None
        self._opening = SimulatedLock(world.scheduler)
        self._retries = world.random.random() < 0.5
        self._head = 0
        world.on_power_cut.append(self.lose_power)

    def run(self, work: Callable[[Vault], None]) -> bool:
        """``work`` with the process's vault; False when the store or the process failed.

        What a process says that was shown damaged bytes is believed to be due to them, and somebody
        restarts it. Only a clear error is forgiven so, never a wrong result."""
        life = self.life
        try:
            vault = self.vault()
            life = self.life
            work(vault)
        except (StoreUnavailableError, StoreFullError, CrashError):
            return False
        except HoldfastError:
            life = life if life.deceived else self.life
            if not life.deceived:
                raise
            life.dead = True
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
        return SimulatedRandom(seed, self.world.network, self.life)

    def _start(self) -> Vault:
        world = self.world
        self.starts += 1
        self.life = Life(self.name, f"{self.name}.{self.starts}")
        store: ObjectStore = SimulatedStore(world.network, self.life)
        if self._retries:
            store = RetryStore(store, Patience(attempts=3), world.time.sleep)
        store = HorizonStore(store)
        offset = world.random.uniform(-120, 120)
        self.clock = SimulatedClock(world.time, world.network, self.life, offset)
        rng = SimulatedRandom(f"process {world.seed} {self.life.name}", world.network, self.life)
        known = max(self._head, world.promises.head)
        self.life.opening = True
        vault = Vault.open(store, IDS.vault_id, UNLOCK, clock=self.clock, rng=rng)
        self.life.opening = False
        vault._core.lock = cast(Any, SimulatedLock(world.scheduler))
        if vault.head[0] < known:
            raise BrokenInvariantError(f"the vault was opened at {vault.head[0]}, not {known}")
        self._head = vault.head[0]
        return vault

    def lose_power(self) -> None:
        """Die. What nobody was told may be gone, so the head may be an earlier one."""
        self.life.dead = True
        self._head = 0

    def _see_head(self, vault: Vault) -> None:
        head = vault.head[0]
        if head < self._head:
            raise BrokenInvariantError(f"the head went back from {self._head} to {head}")
        self._head = head
