"""Who uses a simulated vault: writers and readers."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial

from holdfast.errors import ConflictError, HoldfastError, NotFoundError, StoreError
from holdfast.testing.little_agent import BackupRun, LittleAgent
from holdfast.testing.simulation.observer import BrokenInvariantError
from holdfast.testing.simulation.process import Process
from holdfast.testing.simulation.surroundings import START
from holdfast.testing.simulation.world import A_DAY, Files, World
from holdfast.vaultstore.values import PointFacts, RecoveryPointRecord
from holdfast.vaultstore.vault import Vault

SESSION_OVER = ("SessionEnded", "ParentStale", "RecoveryPointDeleted")
TORN = "PackExists"  # a torn pack has the name; the next attempt takes another
MOST_ATTEMPTS = 12
NAMES = 6  # files that come and go; few change at a time, so packs come to be partly needed


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

    def live(self) -> None:
        number = 0
        while self.world.going_on():
            number += 1
            self._change()
            job_id = bytes([number % 256]) * 8 + self._random.randbytes(8)
            self.do_job(job_id, dict(self.files))

    def do_job(self, job_id: bytes, files: Files) -> None:
        """Try until the job's point is there (or was dropped again), or patience ends."""
        if (self.item_key, job_id) not in self.world.promises.content:
            self.world.promises.content[self.item_key, job_id] = files
            self._promise(job_id)
        self.world.promises.owners[job_id] = self.process.name
        for attempt in range(1, MOST_ATTEMPTS + 1):
            done: list[bool] = []
            self.process.run(partial(self._try, job_id, attempt, done))
            if done:
                return

    def _promise(self, job_id: bytes) -> None:
        """Most points of an immutable vault are to stay for some days."""
        if self.world.immutable and self._random.random() < 0.8:
            days = self._random.uniform(0.3, 4)
            until = self.world.time.seconds + days * A_DAY
            self.world.promises.locks[self.item_key, job_id] = until

    def _try(self, job_id: bytes, attempt: int, done: list[bool], vault: Vault) -> None:
        try:
            if self.attempt(vault, job_id, attempt):
                done.append(True)
        except ConflictError as error:
            if error.code not in (*SESSION_OVER, TORN):
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
        until = self.world.promises.locks.get((self.item_key, job_id))
        lock = None if until is None else START + timedelta(seconds=until)
        record = run.commit(root_id, PointFacts(time=when, lock_until=lock))
        self.world.promises.acknowledge(record)
        vault.close_session(grant.session_id)
        return True

    def _change(self) -> None:
        rng = self._random
        for name in [name for name in self.files if rng.random() < 0.2]:
            del self.files[name]
        for number in rng.sample(range(NAMES), rng.randint(1, 3)):
            self.files[f"d/{number}".encode()] = rng.randbytes(rng.randint(0, 12_000))
        shared = random.Random(rng.randint(0, 3)).randbytes(6000)
        self.files[b"shared"] = shared


class Reader:
    """Restores points that exist, bit for bit or with a clear error."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self._random = random.Random(f"reader {world.seed} {process.name}")

    def live(self) -> None:
        while self.world.going_on():
            job_id = self._random.randbytes(16)
            self.world.promises.owners[job_id] = self.process.name
            if not self.process.run(partial(self._read, job_id)):
                self.world.promises.dead.add(job_id)
            self.world.think(self._random, 200)

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
