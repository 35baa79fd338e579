"""Who keeps a simulated vault: expires, collects, ends sessions, sets clocks wrong, verifies."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from holdfast.errors import ConflictError
from holdfast.testing.simulation.observer import BrokenInvariantError
from holdfast.testing.simulation.process import Process
from holdfast.testing.simulation.surroundings import START
from holdfast.testing.simulation.world import A_DAY, World
from holdfast.vaultstore.values import CollectBudget, CollectPlan
from holdfast.vaultstore.vault import Vault

KEEP = (1, 2)  # points of an item that expiry leaves, by run


class Keeper:
    """Expires and collects, now and then from an old plan or another's; ends the sessions of the
    dead and the frozen, and sometimes, as a person may, those of the living."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self._random = random.Random(f"keeper {world.seed} {process.name}")
        self._keep = KEEP[world.seed // 2 % 2]

    def live(self) -> None:
        chores: list[Callable[[Vault], None]] = [
            self._expire,
            self._collect,
            self._tidy,
            self._tidy,
            self._end_sessions,
            self._jump,
        ]
        if self.world.immutable:
            chores += [self._night, self._night, self._night, self._lock_longer]
        while self.world.going_on():
            chore = self._random.choice(chores)
            self.process.run(partial(self._do, chore))
            self.world.think(self._random, 100)

    def _do(self, chore: Callable[[Vault], None], vault: Vault) -> None:
        try:
            chore(vault)
        except ConflictError as error:
            if error.code == "ClockUntrusted":
                self._correct_clock(vault)
            elif error.code != "PlanStale":
                raise

    def _correct_clock(self, vault: Vault) -> None:
        if self.process.clock is not None:
            self.process.clock.offset = 0.0
        vault.confirm_clock()

    def _night(self, vault: Vault) -> None:
        """Time passes for all; then what is past its horizon goes."""
        self.world.time.sleep(self._random.uniform(0.5, 4) * A_DAY)
        self._tidy(vault)

    def _lock_longer(self, vault: Vault) -> None:
        """A policy keeps some points for longer."""
        locks, now = self.world.promises.locks, self.world.time.seconds
        vault.refresh()
        points = vault.recovery_points()
        chosen = self._random.sample(points, min(2, len(points)))
        until = now + self._random.uniform(0.5, 6) * A_DAY
        wanted = {point.rp_id: START + timedelta(seconds=until) for point in chosen}
        if vault.lock_points(wanted) == len(wanted):
            for point in chosen:
                job = (point.item_key, point.job_id)
                locks[job] = max(until, locks.get(job, 0))

    def _expire(self, vault: Vault) -> None:
        self._drop(vault, asked=self._random.random() < 0.1)

    def _drop(self, vault: Vault, *, asked: bool) -> None:
        """Expire; ``asked``: a person deletes the data of an item."""
        vault.refresh()
        items: dict[str, list[str]] = {}
        for point in vault.recovery_points():
            items.setdefault(point.item_key, []).append(point.rp_id)
        keep = 0 if asked else self._keep
        chosen = [self._random.choice(sorted(items))] if asked and items else sorted(items)
        old = {rp_id: "old" for item in chosen for rp_id in items[item][: len(items[item]) - keep]}
        plan = vault.plan_expire(old, explicit=asked)
        self.world.promises.dropped |= {drop.rp_id for drop in plan.drops}
        vault.expire(plan)

    def _collect(self, vault: Vault) -> None:
        plans = self.world.plans
        if plans and self._random.random() < 0.2:
            plan = plans.pop(self._random.randrange(len(plans)))
        else:
            plan = vault.plan_collect(rewrite_below=self._random.choice([0.0, 0.95, 0.95]))
        if self._random.random() < 0.2:
            plans.append(plan)
            return
        self.world.think(self._random, 60)
        deletes = self._random.choice([None, None, 1, 3])
        self._run(vault, plan, CollectBudget(deletes=deletes))

    def _tidy(self, vault: Vault) -> None:
        """Expire, and rewrite what that leaves mostly dead."""
        self._expire(vault)
        self._run(vault, vault.plan_collect(rewrite_below=0.95), CollectBudget())

    def _run(self, vault: Vault, plan: CollectPlan, budget: CollectBudget) -> None:
        done = vault.collect(plan, budget)
        self.world.promises.rewritten += done.rewritten_packs

    def _end_sessions(self, vault: Vault) -> None:
        vault.refresh()
        promises, scheduler = self.world.promises, self.world.scheduler
        for session in vault.open_sessions():
            owner = promises.owners.get(session.job_id, "")
            frozen = scheduler.is_frozen(owner) and self._random.random() < 0.8
            if frozen or session.job_id in promises.dead or self._random.random() < 0.1:
                promises.revoked.add(session.job_id)
                vault.revoke_session(session.session_id, "ended by a person")
                if frozen:
                    self.world.network.fault("outlived", owner)

    def _jump(self, vault: Vault) -> None:
        """A clock is set wrong; in an immutable vault by somebody who wants data gone."""
        if self.process.clock is not None:
            by = self._random.choice([-A_DAY, 3600.0, 30 * A_DAY])
            self.process.clock.offset += by
            self.world.network.fault("clock ahead" if by > 0 else "clock back", self.process.name)
        if self.world.immutable:
            self._drop(vault, asked=True)


class Verifier:
    """Verifies again and again. Damage may be found where some was shown, and nowhere else."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self._random = random.Random(f"verifier {world.seed} {process.name}")

    def live(self) -> None:
        while self.world.going_on():
            self.process.run(self._verify)
            self.world.scheduler.point("verifies later")
            self.world.think(self._random, 400)

    def _verify(self, vault: Vault) -> None:
        life = self.process.life
        report = vault.verify()
        if report.damages and not life.deceived:
            raise BrokenInvariantError(f"verify finds damage where there is none: {report.damages}")
