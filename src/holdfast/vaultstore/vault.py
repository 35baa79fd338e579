"""The vault service: everything a server does to one vault, as one object.

A vault is opened once per process and used from many threads. Every protocol step runs under the
vault's lock; bytes of packs and pages stream outside it. All effects go through the ports (store,
clock, randomness). The log in the store is the truth: another process may append to it at any time
and every step re-checks against the head it appends to.

Errors common to all methods: ``ConflictError`` with code ``SessionEnded`` for a session that was
closed or revoked, or ``SessionKindWrong`` for one that may not do this; ``IntegrityError`` with
code ``LogDamaged`` when the log cannot be trusted (nothing is written then); ``StoreError`` from
the store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from holdfast.errors import IntegrityError
from holdfast.ports.clock import Clock, Random
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.vaultstore import keys, log
from holdfast.vaultstore.accepting import AcceptHeadPlan, accept_head, plan_accept_head
from holdfast.vaultstore.auditing import LogAudit, audit_log
from holdfast.vaultstore.collect import Collector
from holdfast.vaultstore.commit import Commits
from holdfast.vaultstore.core import Surroundings, VaultCore
from holdfast.vaultstore.descriptor import Descriptor
from holdfast.vaultstore.expire import apply_expire, plan_expire
from holdfast.vaultstore.export import export_key
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.head import Head, read_witness, write_witness
from holdfast.vaultstore.health import load_damage, note_check, read_health
from holdfast.vaultstore.holding import let_store_hold, lock_points, set_immutability
from holdfast.vaultstore.ingest import Ingest, PackReceiver
from holdfast.vaultstore.life import VaultLife, read_life, write_life
from holdfast.vaultstore.lookup import lookup
from holdfast.vaultstore.manifest_files import FileTree
from holdfast.vaultstore.opening import create_vault, open_core
from holdfast.vaultstore.pace import Pace, unpaced
from holdfast.vaultstore.points import record_of, records_of, statistics_of
from holdfast.vaultstore.probe import probe_store
from holdfast.vaultstore.recover import recover_sessions
from holdfast.vaultstore.references import MissingChunksError
from holdfast.vaultstore.repair import Repairs
from holdfast.vaultstore.reserve import Reserve
from holdfast.vaultstore.restoring import PointReader, RestoreDesk
from holdfast.vaultstore.rewriter import Rewriter
from holdfast.vaultstore.rings import opener_of
from holdfast.vaultstore.root import Root
from holdfast.vaultstore.scrubbing import scrub_vault
from holdfast.vaultstore.session import SessionAsked, Sessions
from holdfast.vaultstore.values import (
    Check,
    CollectBudget,
    CollectPlan,
    CollectResult,
    CommitRequest,
    ExpirePlan,
    FrameLocation,
    Frames,
    OpenSession,
    Recovered,
    RecoveryPointRecord,
    RepairPlan,
    RepairResult,
    ScrubReport,
    SessionKind,
    Unlock,
    VaultHealth,
    VaultIds,
    VaultOptions,
    VaultStatistics,
    VerifyReport,
)
from holdfast.vaultstore.vaultclock import from_ns, to_ns
from holdfast.vaultstore.verify import verify_vault

__all__ = ["MissingChunksError", "PackReceiver", "Vault"]

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
READERS_KEPT = 8  # recovery points whose chunk list and last pages stay in memory for browsing


def _no_progress(_done: int, _total: int) -> None:
    return None


def _never() -> bool:
    return False


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
        surroundings = Surroundings(clock, rng)
        create_vault(store, platform_key, ids, options, surroundings)
        opener = keys.Opener(platform_key=platform_key)
        core, descriptor = open_core(store, ids.vault_id, opener, surroundings, cache_dir=cache_dir)
        let_store_hold(store, core)
        vault = cls(core, descriptor, platform_key)
        vault._reserve.restore()
        return vault

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
        accept_damage: bool = False,
    ) -> Vault:
        """Open an existing vault. ``accept_damage``: one whose log is damaged is opened up to the
        damage, and takes nothing. NotFoundError (VaultMissing), AccessError (WrongKey),
        IntegrityError (LogDamaged, FormatTooNew)."""
        opener = opener_of(unlock, vault_id)
        surroundings = Surroundings(clock, rng)
        core, descriptor = open_core(
            store,
            vault_id,
            opener,
            surroundings,
            cache_dir=cache_dir,
            accept_damage=accept_damage,
        )
        let_store_hold(store, core)
        load_damage(core)
        return cls(core, descriptor, unlock.platform_key)

    def __init__(self, core: VaultCore, descriptor: Descriptor, platform_key: bytes | None) -> None:
        """Use ``create`` or ``open``."""
        self._core = core
        self._platform_key = platform_key
        self.descriptor = descriptor
        self._readers: dict[str, PointReader] = {}
        self._reserve = Reserve(core, descriptor.options.reserve_bytes)
        self._sessions = Sessions(core, descriptor.options)
        self._ingest = Ingest(core)
        self._commits = Commits(core, self._ingest)
        self._restores = RestoreDesk(core)
        target_bytes = descriptor.options.pack_target_bytes
        rewriter = Rewriter(core, self._sessions, target_bytes)
        self._collector = Collector(core, self._reserve, rewriter)
        self._repairs = Repairs(core, self._sessions, platform_key)

    @property
    def head(self) -> tuple[int, bytes, int]:
        """Sequence, hash (32 bytes) and term of the last record read."""
        state = self._core.state
        return state.sequence, state.hash, state.term

    def refresh(self) -> None:
        """Read records that others appended."""
        self._core.refresh()

    def require_present(self) -> None:
        """NotFoundError (VaultStoreMissing) when the vault is not where it was."""
        self._core.objects.require_vault()

    # the head and its witnesses

    @property
    def log_head(self) -> Head:
        """The newest record this process knows."""
        return self._core.chain.head

    @property
    def seen_head(self) -> Head | None:
        """The newest record this process read or wrote, for others to remember; None when it was
        not to be trusted even then."""
        chain = self._core.chain
        return None if chain.damage or chain.contradiction else chain.head

    @property
    def doubt(self) -> IntegrityError | None:
        """Why the vault takes nothing: LogDamaged, LogRolledBack, LogForked, LogCut. Restores go on
        from what can be read."""
        return self._core.chain.doubt

    def witness(self, seen: Head, by: str) -> IntegrityError | None:
        """Compare with a head ``by`` (in words) saw; ``doubt`` after it. A contradiction makes the
        vault read-only until it is opened anew or its head is accepted."""
        with self._core.lock:
            self._core.chain.witness(seen, by)
            return self.doubt

    def look_at_head(self) -> bool:
        """Look whether the store still holds the head, which ``doubt`` tells then, and read what
        others appended; whether a vault in doubt is worth opening anew."""
        with self._core.lock:
            with suppress(IntegrityError):
                self._core.refresh()
                self._core.chain.require_head()
            return self._core.chain.is_mended()

    def is_mended(self) -> bool:
        """Whether a vault made read-only by damage or a witness is worth opening anew: its store
        serves something else now where that arose. Reads a record when it is read-only."""
        chain = self._core.chain
        if chain.damage is None and chain.contradiction is None:
            return False  # asked before every use: the lock is not waited for
        with self._core.lock:
            return chain.is_mended()

    def witness_token(self) -> bytes:
        """The head as an agent keeps it; nobody else can make one."""
        return write_witness(self._core.rings.service.receipt, self._core.vault_id, self.log_head)

    def read_witness(self, token: bytes) -> Head | None:
        """The head of a token; None for what this vault never gave."""
        return read_witness(self._core.rings.service.receipt, self._core.vault_id, token)

    def plan_accept_head(
        self, witnessed: Sequence[log.HeadSeen], lost: Sequence[str]
    ) -> AcceptHeadPlan:
        """What going on with this log would give up, of the heads and recovery points others know.
        ConflictError (HeadNotInDoubt)."""
        return plan_accept_head(self._core, witnessed, lost)

    def accept_head(self, plan: AcceptHeadPlan) -> Head:
        """Go on with this log under a higher term; the new head. ConflictError (HeadMoved,
        HeadNotInDoubt)."""
        return accept_head(self._core, plan)

    def audit(self, since: Head) -> LogAudit:
        """What came and went since a head, proven by signatures and the chain of hashes.
        IntegrityError (LogRolledBack, LogForked) when the log does not continue it, LogDamaged."""
        return audit_log(self._core, since)

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
        with_keys: bool = False,
    ) -> SessionGrant:
        """Open a session and return its grant (vaultstore.grant.SessionGrant).

        A backup session pins the item's newest point as its parent. ``pins`` of a restore must be
        live: NotFoundError (RecoveryPointMissing). Earlier sessions of the same job are left to
        ``recover_sessions``. ``with_keys``: a restore is granted what unwraps the keys of its
        machine. StoreFullError when only the reserve is left."""
        if kind == "backup":
            load_damage(self._core)  # another process may have found some
        asked = SessionAsked(
            kind=kind,
            container=container,
            item_key=item_key,
            job_id=job_id,
            attempt=attempt,
            pins=tuple(pins),
        )
        return self._sessions.begin(asked, with_keys=with_keys)

    def close_session(self, session_id: bytes) -> None:
        """End a session by record. Idempotent."""
        self._end(session_id, "")

    def revoke_session(self, session_id: bytes, reason: str) -> None:
        """End a session against its holder's will, by record. Idempotent."""
        self._end(session_id, reason or "revoked")

    def _end(self, session_id: bytes, reason: str) -> None:
        self._sessions.end(session_id, reason)
        self._ingest.forget(session_id)
        self._restores.forget(session_id)

    def open_sessions(self) -> list[OpenSession]:
        """Sessions neither closed nor revoked, oldest first."""
        return self._sessions.open_sessions()

    def recover_sessions(self, job_id: bytes, new_session_id: bytes | None = None) -> Recovered:
        """Take over what earlier sessions of this job uploaded, then revoke them.

        Their packs are checked and added to the index, so that lookups of the new session answer
        present and nothing acknowledged is sent twice. ``committed`` names the job's point when an
        earlier attempt already committed."""
        return recover_sessions(self._core, self._ingest, job_id, new_session_id)

    # backup

    def start_pack(self, session_id: bytes, pack_id: bytes, expected_size: int) -> PackReceiver:
        """Start receiving a pack. The lock is not held while its bytes stream. ConflictError
        (PackExists) when the name was used; the same bytes sent again give the same receipt."""
        return self._ingest.start_pack(session_id, pack_id, expected_size)

    def lookup(self, session_id: bytes, packed: bytes) -> bytes:
        """Presence of chunks: n x 48 bytes (id and proof) in, n bytes out, 1 = present and usable
        by this session's container."""
        return lookup(self._core, session_id, packed)

    def checkpoint(self, session_id: bytes, receipts: Sequence[bytes]) -> None:
        """Add uploaded packs to the index without a recovery point. Idempotent. AccessError
        (ReceiptRefused) for a receipt not issued to this session."""
        self._ingest.checkpoint(session_id, receipts)

    def commit(self, session_id: bytes, request: CommitRequest) -> RecoveryPointRecord:
        """Make a recovery point. Idempotent by (item, job).

        ConflictError MissingChunks (``.missing``: list of 32-byte ids to send again), ParentStale
        (another point was made meanwhile); AccessError ReceiptRefused; IntegrityError when pages
        are not what they must be."""
        return self._commits.commit(session_id, request)

    # recovery points

    def recovery_points(self, item_key: str | None = None) -> list[RecoveryPointRecord]:
        """Live points in log order, of one item or of all."""
        return records_of(self._core.state, item_key)

    def recovery_point(self, rp_id: str) -> RecoveryPointRecord:
        """One live point. NotFoundError (RecoveryPointMissing)."""
        with self._core.lock:
            return record_of(self._core.point(rp_id))

    def point_of_job(self, item_key: str, job_id: bytes) -> RecoveryPointRecord | None:
        """The point a job made, for reconciling the catalog."""
        if (item_key, job_id) not in self._core.state.by_job:
            self._core.refresh()
        state = self._core.state
        rp_id = state.by_job.get((item_key, job_id))
        return None if rp_id is None else record_of(state.points[rp_id])

    def held_once(self, rp_id: str, sequence: int) -> bool:
        """Whether the log's record ``sequence`` made this point: then it is there or left by
        record. IntegrityError for a record that cannot be read."""
        with self._core.lock:
            within = sequence <= self._core.state.sequence
            record = self._core.chain.read(sequence) if within else None
        made = record.operations if record is not None else ()
        return any(isinstance(op, log.PointCommitted) and op.rp_id == rp_id for op in made)

    def file_tree(self, rp_id: str) -> FileTree:
        """A reader over a point's file tree (vaultstore.manifest_files reader)."""
        return self._reader(rp_id).file_tree()

    def root(self, rp_id: str) -> Root:
        """The decoded root of a point (vaultstore.root)."""
        return self._reader(rp_id).root()

    def fetch(self, rp_id: str, ids: Sequence[bytes]) -> list[Buffer]:
        """Plain bytes of chunks of a point, verified, in the order asked."""
        return self._reader(rp_id).fetch(ids)

    def _reader(self, rp_id: str) -> PointReader:
        with self._core.lock:
            point = self._core.point(rp_id)
            reader = self._readers.pop(rp_id, None)
            if reader is None or reader.point is not point:  # a repair gave it another refset
                reader = PointReader(self._core, point)
            self._readers[rp_id] = reader
            while len(self._readers) > READERS_KEPT:
                del self._readers[next(iter(self._readers))]
            return reader

    # restore

    def locate(self, session_id: bytes, ids: bytes) -> list[FrameLocation]:
        """Locations and frame keys of up to 4,096 packed 32-byte ids. AccessError
        (ChunkNotInRecoveryPoint) for an id none of the session's pinned points references."""
        return self._restores.locate(session_id, ids)

    def read_frames(self, session_id: bytes, pack_id: bytes, frames: Sequence[int]) -> Frames:
        """Ciphertext of these frames of a pack, in the order given, concatenated in pieces of up
        to 4 MiB. Every frame is authorised as in ``locate``."""
        return self._restores.read_frames(session_id, pack_id, frames)

    # maintenance

    def plan_expire(self, drops: Mapping[str, str], explicit: bool = False) -> ExpirePlan:
        """A plan that drops the given points (id to reason). Unless ``explicit`` (a person deletes
        the item's data), an item's latest point is refused and listed in ``refused``. So is what an
        immutable vault locks."""
        self._core.refresh()
        return plan_expire(self._core.state, drops, explicit, self._core.vault_time_ns())

    def expire(self, plan: ExpirePlan) -> list[str]:
        """Apply a plan once; returns the ids dropped. Points gone meanwhile are passed over.
        ConflictError (ClockUntrusted) unless explicit."""
        return apply_expire(self._core, plan)

    def plan_collect(
        self, spare_jobs: Collection[bytes] = (), rewrite_below: float = 0.0
    ) -> CollectPlan:
        """What a collect would free, with figures. ``spare_jobs``: ids of jobs that will be tried
        again; what they sent is kept so that it is not sent twice. ``rewrite_below``: packs of
        which a smaller share is needed (0 to 1, by bytes) are to be rewritten."""
        return self._collector.plan(spare_jobs, rewrite_below)

    def collect(
        self,
        plan: CollectPlan | None = None,
        budget: CollectBudget | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        pace: Pace | None = None,
    ) -> CollectResult:
        """Condemn what no point needs, and sweep what is past its fence; rewrite packs that the
        plan says are worth it. Safe at any time, from any process, while backups and restores run.
        ``progress`` counts bytes read, written and freed. ConflictError (ClockUntrusted)."""
        return self._collector.run(
            plan,
            budget or CollectBudget(),
            progress or _no_progress,
            cancelled or _never,
            pace or unpaced(),
        )

    def verify(
        self,
        items: Sequence[str] | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> VerifyReport:
        """Read back every object live points need, decrypt, decompress, recompute ids.
        NotFoundError (VaultStoreMissing) when the vault is not where it was."""
        if self._core.chain.read(self._core.state.sequence) is None:
            self._core.objects.require_vault()
        return verify_vault(self._core, items, progress or _no_progress, cancelled or _never)

    def scrub(
        self, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> ScrubReport:
        """Read every object of the vault and check what needs no key; then what was found damaged
        with keys. Goes on where the last run was stopped, and is remembered. StoreError."""
        self.require_present()
        return scrub_vault(self._core, progress or _no_progress, cancelled or _never)

    def note_verified(self, report: VerifyReport, started: datetime) -> None:
        """Remember a verify of all items, for ``health`` and the next process."""
        check = Check(
            started_ns=to_ns(started),
            ended_ns=to_ns(self._core.writing.clock.now()),
            sequence=report.sequence,
            objects=report.packs,
            stored_bytes=report.stored_bytes,
            complete=report.complete,
            damages=len(report.damages),
        )
        note_check(self._core, "verify", check, report.damages)

    def health(self) -> VaultHealth:
        """The last scrub and verify, and what is known to be damaged."""
        return read_health(self._core)

    def plan_repair(self) -> RepairPlan:
        """What a repair would do about what the last checks found, and which files are lost."""
        return self._repairs.plan()

    def repair(self, job_id: bytes, cancelled: Cancelled | None = None) -> RepairResult:
        """Rebuild what can be, and let recovery points use sound copies of damaged chunks. Deletes
        nothing; safe to stop anywhere."""
        return self._repairs.run(job_id, cancelled or _never)

    def heal(self, rp_id: str) -> int:
        """Give older points of a container sound copies of chunks known to be damaged, which the
        backup that made ``rp_id`` may have brought; how many points were healed."""
        return self._repairs.heal(rp_id)

    def probe_store(self) -> str:
        """Test in the vault's own folder that its store keeps its promises; what was proven.
        StoreError (StoreCreateNotAtomic, StoreProbeFailed)."""
        return probe_store(self._core.objects, self._core.rng)

    def clock_trusted(self) -> tuple[bool, str]:
        """Whether expiry and collect may trust the clock, and why not."""
        with self._core.lock:
            doubt = self._core.clock.doubt(self._core.state.time_ns)
        return not doubt, doubt

    def confirm_clock(self) -> None:
        """Say, as a person, that the clock is right now. Recorded."""
        with self._core.lock:
            now = self._core.clock.confirm()
            self._core.append(lambda _state: (log.ClockConfirmed(time_ns=now),))

    # immutability

    @property
    def immutability(self) -> str:
        """Disabled, Unlocked or Locked, as the log says."""
        return self._core.state.immutability

    def set_immutability(self, state: str) -> None:
        """Let the log say so; what is Locked stays so. Disabled takes all horizons away."""
        set_immutability(self._core, state)

    def lock_points(self, wanted: Mapping[str, datetime], progress: Progress | None = None) -> int:
        """In an immutable vault, let live points and what they need stay until these times at
        least; how many have a later horizon now. Horizons only grow. Damaged points are left
        out."""
        in_ns = {rp_id: to_ns(until) for rp_id, until in wanted.items()}
        return lock_points(self._core, in_ns, progress or _no_progress)

    def locked_until(self) -> datetime | None:
        """The latest horizon of anything in the vault; None when all of it may go."""
        until_ns = self._core.state.horizon_ns()
        return from_ns(until_ns) if until_ns > self._core.vault_time_ns() else None

    def write_life(self, life: VaultLife) -> int:
        """Keep how items stand beside the log, for an import; the version that is there now, which
        is a later one when another process wrote that. NotFoundError (VaultStoreMissing) when the
        vault is not where it was."""
        return write_life(self._core, life)

    def read_life(self) -> VaultLife | None:
        """What ``write_life`` wrote last; None when nothing was. IntegrityError (ObjectDamaged)."""
        return read_life(self._core)

    def export_key(self, passphrase: str) -> bytes:
        """A passphrase-protected recovery key file that opens this vault, later epochs too."""
        return export_key(self._core, self._platform_key, passphrase)

    def statistics(self) -> VaultStatistics:
        """Figures for ``vault show``."""
        return statistics_of(self._core)

    def close(self) -> None:
        """Let go of what was kept for browsing. Sessions stay open in the vault; whoever is still
        using this object may go on."""
        with self._core.lock:
            self._readers.clear()
