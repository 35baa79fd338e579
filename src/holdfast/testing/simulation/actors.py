"""Who acts in a simulation: writers, readers, and one who expires and collects."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from holdfast.errors import ConflictError, HoldfastError, NotFoundError, StoreError
from holdfast.testing.little_agent import BackupRun, LittleAgent
from holdfast.testing.simulation.observer import BrokenInvariantError
from holdfast.testing.simulation.surroundings import START
from holdfast.testing.simulation.world import Files, Process, World
from holdfast.vaultstore.values import CollectBudget, PointFacts, RecoveryPointRecord
from holdfast.vaultstore.vault import Vault

SESSION_OVER = ("SessionEnded", "ParentStale", "RecoveryPointDeleted")
KEEP = 2  # points of an item that expiry leaves
MOST_ATTEMPTS = 12


class Writer:
    """Backs up one item again and again; after a failure the same job, as the job engine would."""

    def __init__(self, world: World, process: Process, container: str, item: str) -> None:
        self.world = world
        self.process = process
        self.container = container
        self.item = item
        self.item_key = f"{container}/FileFolder;{item}"
        self._random = random.Random(f"writer {world.seed} {self.item_key} {process.name}")
        self.files: dict[bytes, bytes] = {b"d/first": self._random.randbytes(9000)}

    def live(self, jobs: int) -> None:
        for number in range(jobs):
            self._change()
            job_id = bytes([number + 1]) * 8 + self._random.randbytes(8)
            self.do_job(job_id, dict(self.files))

    def do_job(self, job_id: bytes, files: Files) -> None:
        """Try until the job's point is there (or was dropped again), or patience ends."""
        self.world.promises.content.setdefault((self.item_key, job_id), files)
        for attempt in range(1, MOST_ATTEMPTS + 1):
            done: list[bool] = []
            self.process.run(partial(self._try, job_id, attempt, done))
            if done:
                return

    def _try(self, job_id: bytes, attempt: int, done: list[bool], vault: Vault) -> None:
        try:
            if self.attempt(vault, job_id, attempt):
                done.append(True)
        except ConflictError as error:
            if error.code not in SESSION_OVER:
                raise
            if error.code == "RecoveryPointDeleted":
                done.append(True)

    def attempt(self, vault: Vault, job_id: bytes, attempt: int) -> bool:
        """One attempt; whether the job's point is there."""
        known = vault.point_of_job(self.item_key, job_id)
        if known is not None:
            self.world.promises.acknowledge(known)
            return True
        rng = self.process.random()
        disks = self.world.seed % 2 == 0
        agent = LittleAgent(vault, rng, self.container, self.item, with_disk=disks)
        early = self._random.random() < 0.5
        recovered = vault.recover_sessions(job_id) if early else None
        if recovered is not None and recovered.committed is not None:
            return True
        grant = vault.begin_session(
            "backup", self.container, self.item_key, job_id, attempt=attempt
        )
        if not early and vault.recover_sessions(job_id, grant.session_id).committed is not None:
            vault.close_session(grant.session_id)
            return True
        run = BackupRun(agent, grant)
        root_id = run.send(self.world.promises.content[self.item_key, job_id])
        if self._random.random() < 0.5:
            vault.checkpoint(grant.session_id, run.receipts[: self._random.randint(0, 3)])
        when = START + timedelta(seconds=self.world.time.seconds)
        self.world.think(self._random, 60)
        record = run.commit(root_id, PointFacts(time=when))
        self.world.promises.acknowledge(record)
        vault.close_session(grant.session_id)
        return True

    def _change(self) -> None:
        rng = self._random
        for name in [name for name in self.files if rng.random() < 0.3]:
            del self.files[name]
        for number in range(rng.randint(1, 3)):
            self.files[f"d/{number}".encode()] = rng.randbytes(rng.randint(0, 12_000))
        shared = random.Random(rng.randint(0, 3)).randbytes(6000)
        self.files[b"shared"] = shared


class Reader:
    """Restores points that exist, bit for bit or with a clear error."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self._random = random.Random(f"reader {world.seed} {process.name}")

    def live(self, rounds: int) -> None:
        for _ in range(rounds):
            job_id = self._random.randbytes(16)
            if not self.process.run(partial(self._read, job_id)):
                self.world.promises.dead.add(job_id)

    def _read(self, job_id: bytes, vault: Vault) -> None:
        try:
            vault.refresh()
            points = vault.recovery_points()
            if points and self._random.random() < 0.3:
                self._browse(vault, self._random.choice(points))
            elif points:
                self._restore(vault, self._random.choice(points), job_id)
        except NotFoundError as error:
            self.world.promises.dead.add(job_id)
            if error.code != "RecoveryPointMissing":
                raise
        except HoldfastError as error:
            if error.retry == "later" and isinstance(error, StoreError):
                raise
            if job_id not in self.world.promises.revoked:
                raise

    def _browse(self, vault: Vault, point: RecoveryPointRecord) -> None:
        """Look through a point without a session, as a person does before a restore."""
        entries = vault.file_tree(point.rp_id).walk()
        names = {path + b"/" + e.name if path else e.name for path, found in entries for e in found}
        expected = self.world.promises.content[point.item_key, point.job_id]
        if not names >= expected.keys():
            raise BrokenInvariantError(
                f"point {point.rp_id} does not show {expected.keys() - names}"
            )

    def _restore(self, vault: Vault, point: RecoveryPointRecord, job_id: bytes) -> None:
        container = point.item_key.partition("/")[0]
        agent = LittleAgent(vault, self.process.random(), container)
        agent.item_key = point.item_key
        grant = vault.begin_session(
            "restore", container, point.item_key, job_id, pins=[point.rp_id]
        )
        try:
            self.world.think(self._random, 150)
            files = agent.read_all(grant, point.rp_id)
        finally:
            self.world.promises.dead.add(job_id)
        self.world.promises.compare(point, files)
        vault.close_session(grant.session_id)


class Keeper:
    """Expires and collects, now and then from an old plan; ends the sessions of the dead, and
    sometimes, as a person may, those of the living."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self._random = random.Random(f"keeper {world.seed} {process.name}")

    def live(self, rounds: int) -> None:
        chores: list[Callable[[Vault], None]] = [
            self._expire,
            self._collect,
            self._collect,
            self._end_sessions,
            self._jump,
            self._verify,
        ]
        for _ in range(rounds):
            chore = self._random.choice(chores)
            self.process.run(partial(self._do, chore))

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

    def _expire(self, vault: Vault) -> None:
        vault.refresh()
        items: dict[str, list[str]] = {}
        for point in vault.recovery_points():
            items.setdefault(point.item_key, []).append(point.rp_id)
        old = {rp_id: "old" for ids in items.values() for rp_id in ids[:-KEEP]}
        plan = vault.plan_expire(old)
        self.world.promises.dropped |= {drop.rp_id for drop in plan.drops}
        vault.expire(plan)

    def _collect(self, vault: Vault) -> None:
        plan = vault.plan_collect()
        self.world.think(self._random, 60)
        deletes = self._random.choice([None, None, 1, 3])
        vault.collect(plan, CollectBudget(deletes=deletes))

    def _end_sessions(self, vault: Vault) -> None:
        vault.refresh()
        for session in vault.open_sessions():
            promises = self.world.promises
            if session.job_id in promises.dead or self._random.random() < 0.1:
                promises.revoked.add(session.job_id)
                vault.revoke_session(session.session_id, "ended by a person")

    def _verify(self, vault: Vault) -> None:
        report = vault.verify()
        if report.damages:
            raise BrokenInvariantError(f"verify finds damage where there is none: {report.damages}")

    def _jump(self, _vault: Vault) -> None:
        if self.process.clock is not None:
            self.process.clock.offset += self._random.choice([-86_400.0, 3600.0, 30 * 86_400.0])
