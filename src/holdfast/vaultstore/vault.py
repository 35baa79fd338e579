"""The vault service: everything a server does to one vault, as one object.

A vault is opened once per process and used from many threads. Every protocol step runs under the
vault's lock; bytes of packs and pages stream outside it. All effects go through the ports (store,
clock, randomness). The log in the store is the truth: another process may append to it at any time
and every step re-checks against the head it appends to.

Errors common to all methods: ``ConflictError`` with code ``SessionRevoked``, ``SessionClosed`` or
``SessionUnknown`` for a session that ended; ``IntegrityError`` with code ``LogDamaged`` when the
log cannot be trusted (nothing is written then); ``StoreError`` from the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.errors import InternalError
from holdfast.ports.clock import Clock, Random
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.vaultstore.values import (
    CollectBudget,
    CollectPlan,
    CollectResult,
    CommitRequest,
    ExpirePlan,
    FrameLocation,
    OpenSession,
    Recovered,
    RecoveryPointRecord,
    SessionKind,
    Unlock,
    VaultIds,
    VaultOptions,
    VaultStatistics,
    VerifyReport,
)

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


def _absent() -> InternalError:
    return InternalError("this part of the vault service is not built yet")


class PackReceiver:
    """Takes one pack's bytes while they arrive. Not thread safe. Ended by finish or abort."""

    def write(self, data: Buffer) -> None:
        """Append; the buffer may be reused after return. LimitError beyond the expected size."""
        raise _absent()

    def finish(self) -> bytes:
        """Check the whole pack, make it durable, and return its receipt (opaque bytes).

        IntegrityError names the check that failed; nothing is kept then."""
        raise _absent()

    def abort(self) -> None:
        """Drop what was received; harmless after finish."""
        raise _absent()


class Vault:
    """One vault, opened for reading and writing."""

    @classmethod
    def create(
        cls,
        store: ObjectStore,
        platform_key: bytes,
        *,
        ids: VaultIds,
        options: VaultOptions,
        clock: Clock,
        rng: Random,
        cache_dir: Path | None = None,
    ) -> Vault:
        """Create a vault under ``{vault guid}/`` of ``store`` and open it.

        Idempotent after a crash: what an interrupted creation left is used again. ConflictError
        (VaultExists) when the vault is already whole."""
        raise _absent()

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        vault_id: bytes,
        unlock: Unlock,
        *,
        clock: Clock,
        rng: Random,
        cache_dir: Path | None = None,
    ) -> Vault:
        """Open an existing vault. NotFoundError (VaultMissing), AccessError (WrongKey),
        IntegrityError (LogDamaged, FormatTooNew)."""
        raise _absent()

    @property
    def head(self) -> tuple[int, bytes, int]:
        """Sequence, hash (32 bytes) and term of the last record read."""
        raise _absent()

    def refresh(self) -> None:
        """Read records that others appended."""
        raise _absent()

    # sessions

    def begin_session(
        self,
        kind: SessionKind,
        container: str,
        item_key: str,
        job_id: bytes,
        *,
        pins: Sequence[str] = (),
        attempt: int = 1,
    ) -> Any:
        """Open a session and return its grant (vaultstore.grant.SessionGrant).

        A backup session pins the item's newest point as its parent. ``pins`` of a restore must be
        live: NotFoundError (RecoveryPointMissing). Earlier sessions of the same job are left to
        ``recover_sessions``. StoreFullError when only the reserve is left."""
        raise _absent()

    def close_session(self, session_id: bytes) -> None:
        """End a session by record. Idempotent."""
        raise _absent()

    def revoke_session(self, session_id: bytes, reason: str) -> None:
        """End a session against its holder's will, by record. Idempotent."""
        raise _absent()

    def open_sessions(self) -> list[OpenSession]:
        """Sessions neither closed nor revoked, oldest first."""
        raise _absent()

    def recover_sessions(self, job_id: bytes, new_session_id: bytes) -> Recovered:
        """Take over what earlier sessions of this job uploaded, then revoke them.

        Their packs are checked and added to the index, so that lookups of the new session answer
        present and nothing acknowledged is sent twice. ``committed`` names the job's point when an
        earlier attempt already committed."""
        raise _absent()

    # backup

    def start_pack(self, session_id: bytes, pack_id: bytes, expected_size: int) -> PackReceiver:
        """Start receiving a pack. The lock is not held while its bytes stream. ConflictError
        (PackExists) when the name was used; the same bytes sent again give the same receipt."""
        raise _absent()

    def lookup(self, session_id: bytes, packed: bytes) -> bytes:
        """Presence of chunks: n x 48 bytes (id and proof) in, n bytes out, 1 = present and usable
        by this session's container."""
        raise _absent()

    def checkpoint(self, session_id: bytes, receipts: Sequence[bytes]) -> None:
        """Add uploaded packs to the index without a recovery point. Idempotent. AccessError
        (ReceiptRefused) for a receipt not issued to this session."""
        raise _absent()

    def commit(self, session_id: bytes, request: CommitRequest) -> RecoveryPointRecord:
        """Make a recovery point. Idempotent by (item, job).

        ConflictError MissingChunks (``.missing``: list of 32-byte ids to send again), ParentStale
        (another point was made meanwhile); AccessError ReceiptRefused; IntegrityError when pages
        are not what they must be."""
        raise _absent()

    # recovery points

    def recovery_points(self, item_key: str | None = None) -> list[RecoveryPointRecord]:
        """Live points in log order, of one item or of all."""
        raise _absent()

    def recovery_point(self, rp_id: str) -> RecoveryPointRecord:
        """One live point. NotFoundError (RecoveryPointMissing)."""
        raise _absent()

    def point_of_job(self, item_key: str, job_id: bytes) -> RecoveryPointRecord | None:
        """The point a job made, for reconciling the catalog."""
        raise _absent()

    def file_tree(self, rp_id: str, stream: int = 0) -> Any:
        """A reader over a point's file tree (vaultstore.manifest_files reader)."""
        raise _absent()

    def root(self, rp_id: str) -> Any:
        """The decoded root of a point (vaultstore.root)."""
        raise _absent()

    # restore

    def locate(self, session_id: bytes, ids: bytes) -> list[FrameLocation]:
        """Locations and frame keys of up to 4,096 packed 32-byte ids. AccessError
        (ChunkNotInRecoveryPoint) for an id none of the session's pinned points references."""
        raise _absent()

    def read_frames(
        self, session_id: bytes, pack_id: bytes, frames: Sequence[int]
    ) -> Iterator[bytes]:
        """Ciphertext of these frames of a pack, in the order given, concatenated in pieces of up
        to 4 MiB. Every frame is authorised as in ``locate``."""
        raise _absent()

    # maintenance

    def plan_expire(self, drops: Mapping[str, str], explicit: bool = False) -> ExpirePlan:
        """A plan that drops the given points (id to reason). Unless ``explicit`` (a person deletes
        the item's data), an item's latest point is refused and listed in ``refused``."""
        raise _absent()

    def expire(self, plan: ExpirePlan) -> list[str]:
        """Apply a plan once; returns the ids dropped. Points gone meanwhile are passed over.
        ConflictError (ClockUntrusted) unless explicit."""
        raise _absent()

    def plan_collect(self) -> CollectPlan:
        """What a collect would free, with figures."""
        raise _absent()

    def collect(
        self,
        plan: CollectPlan | None = None,
        budget: CollectBudget | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> CollectResult:
        """Condemn what no point needs, and sweep what is past its fence. Safe at any time, from
        any process, while backups and restores run. ConflictError (ClockUntrusted)."""
        raise _absent()

    def verify(
        self,
        items: Sequence[str] | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> VerifyReport:
        """Read back every object live points need, decrypt, decompress, recompute ids."""
        raise _absent()

    def clock_trusted(self) -> tuple[bool, str]:
        """Whether expiry and collect may trust the clock, and why not."""
        raise _absent()

    def confirm_clock(self) -> None:
        """Say, as a person, that the clock is right now. Recorded."""
        raise _absent()

    def export_key(self, passphrase: str) -> bytes:
        """A passphrase-protected recovery key file that opens this vault, later epochs too."""
        raise _absent()

    def statistics(self) -> VaultStatistics:
        """Figures for ``vault show``."""
        raise _absent()

    def close(self) -> None:
        """Release the local cache. Sessions stay open in the vault."""
        raise _absent()
