"""A real vault in one process, for tests of files workloads: back up, restore, no server."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.object_store.local import LocalStore
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.root import Finding
from holdfast.vaultstore.values import (
    CommitRequest,
    FrameLocation,
    PointClaims,
    PointFacts,
    Unlock,
    VaultIds,
    VaultOptions,
)
from holdfast.vaultstore.vault import Vault
from holdfast.workloads.files.backup import BackupPlan, BackupResult, FilesBackup
from holdfast.workloads.files.restore import FilesRestore, RestorePlan, RestoreResult
from holdfast.workloads.files.restore_fetch import ChunkFetcher

CONTAINER, ITEM = "Linux;host1", "Linux;host1/FileFolder;docs"
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
PLATFORM_KEY = bytes(range(32))
PASSPHRASE = "a passphrase for tests"


class DirectSession:
    """A backup or restore session straight on the vault service. Thread safe as the vault is."""

    def __init__(self, vault: Vault, grant: SessionGrant, clock: SystemClock) -> None:
        self._vault = vault
        self._clock = clock
        self.grant = grant
        self.frames_read = 0

    def put_pack(self, pack_id: bytes, data: memoryview, pace: object = None) -> bytes:
        receiver = self._vault.start_pack(self.grant.session_id, pack_id, len(data))
        receiver.write(data)
        return receiver.finish()

    def lookup(self, names: bytes) -> bytes:
        return self._vault.lookup(self.grant.session_id, names)

    def checkpoint(self, receipts: Sequence[bytes]) -> None:
        self._vault.checkpoint(self.grant.session_id, receipts)

    def commit(self, receipts: Sequence[bytes], root_id: bytes, claims: dict[str, Any]) -> str:
        request = CommitRequest(
            receipts=tuple(receipts),
            root_id=root_id,
            facts=PointFacts(time=self._clock.now()),
            claims=PointClaims(),
        )
        return self._vault.commit(self.grant.session_id, request).rp_id

    def locate(self, ids: bytes) -> list[FrameLocation]:
        return self._vault.locate(self.grant.session_id, ids)

    def read_frames(self, pack_id: bytes, frames: Sequence[int]) -> Buffer:
        self.frames_read += len(frames)
        return b"".join(self._vault.read_frames(self.grant.session_id, pack_id, frames))

    def close(self) -> None:
        self._vault.close_session(self.grant.session_id)


class LaterClock(SystemClock):
    """By this clock no file counts as just changed."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)


class FilesVault:
    """A vault below ``folder`` with one item; opened again when it is there already."""

    def __init__(
        self,
        folder: Path,
        *,
        store: ObjectStore | None = None,
        pack_target_bytes: int = 1 << 20,
    ) -> None:
        self.folder = folder
        self.clock, self._rng = SystemClock(), SystemRandom()
        if store is None:
            (folder / "store").mkdir(parents=True, exist_ok=True)
            store = LocalStore(folder / "store")
        self.store = store
        self._jobs = itertools.count(1)
        self.findings: tuple[Finding, ...] = ()
        marker = folder / "made"
        if marker.exists():
            unlock = Unlock(platform_key=PLATFORM_KEY)
            self.vault = Vault.open(store, IDS.vault_id, unlock, clock=self.clock, rng=self._rng)
            return
        options = VaultOptions(pack_target_bytes=pack_target_bytes, reserve_bytes=0, probe=False)
        self.vault = Vault.create(
            store, PLATFORM_KEY, ids=IDS, options=options, clock=self.clock, rng=self._rng
        )
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()

    def job_id(self) -> bytes:
        return self._rng.token(12) + next(self._jobs).to_bytes(4, "big")

    def back_up(
        self, *includes: Path, wait: Callable[[float], object] = time.sleep, **more: Any
    ) -> BackupResult:
        """Back up these folders; ``wait`` is called by the throttle, ``more`` goes to BackupPlan.
        ``findings`` holds what was found."""
        plan = BackupPlan(include_paths=[str(path) for path in includes], host="host1", **more)
        grant = self.vault.begin_session("backup", CONTAINER, ITEM, self.job_id())
        session = DirectSession(self.vault, grant, self.clock)
        cache = self.folder / "cache"
        run = FilesBackup(plan, session, cache, self.clock, self._rng, wait=wait)
        result = run.run()
        self.findings = run.findings.all()
        session.close()
        return result

    def latest(self) -> str:
        return self.vault.recovery_points(ITEM)[-1].rp_id

    def restore_session(self, rp_id: str | None = None) -> DirectSession:
        pins = [rp_id or self.latest()]
        grant = self.vault.begin_session("restore", CONTAINER, ITEM, self.job_id(), pins=pins)
        return DirectSession(self.vault, grant, self.clock)

    def restore(
        self,
        plan: RestorePlan,
        *,
        rp_id: str | None = None,
        journal: Path | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> tuple[RestoreResult, FilesRestore]:
        """Restore by ``plan``; the result and the finished run (for its findings)."""
        session = self.restore_session(rp_id)
        run = FilesRestore(plan, ChunkFetcher(session), journal, cancelled=cancelled)
        try:
            return run.run(), run
        finally:
            session.close()
