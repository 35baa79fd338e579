"""The values that cross the vault service's border: requests, records, plans, reports.

All are immutable. Byte identifiers: vault, domain, session, pack, table and job ids have 16 bytes,
chunk ids 32 (48 with their proof). Recovery point ids are decimal strings that sort by time. Sizes
are in bytes, times are aware UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

Problem = Literal[
    "missing", "empty", "truncated", "oversized", "misplaced", "altered", "unreadable"
]
CheckKind = Literal["scrub", "verify"]
SessionKind = Literal["backup", "restore", "verify", "rewrite"]


class VaultIds(msgspec.Struct, frozen=True, kw_only=True):
    """Who a vault is: 16 bytes each. ``domain_id`` names its one deduplication domain."""

    vault_id: bytes
    domain_id: bytes
    tenant_id: bytes = bytes(16)
    subscription_id: bytes = bytes(16)


class VaultOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is chosen at creation. ``reserve_bytes`` is kept back on the store so that collect can
    free space when the store is full; 0 keeps none."""

    redundancy: str = "LocallyRedundant"
    zstd_level: int = 3
    pack_target_bytes: int = 64 * 1024 * 1024
    reserve_bytes: int = 16 * 1024 * 1024
    probe: bool = True


class Unlock(msgspec.Struct, frozen=True, kw_only=True):
    """How a vault's rings are opened: the platform's key, or an exported key file."""

    platform_key: bytes | None = None
    key_file: bytes | None = None
    passphrase: str | None = None

    def __repr__(self) -> str:
        return f"Unlock({'platform' if self.platform_key is not None else 'key file'})"


class PointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the service says about a recovery point, from the job it issued (never the agent).

    ``item_document`` holds what an import needs to rebuild the item: its policy, its include and
    exclude rules. ``scheduled`` tells points of the schedule from those taken on demand. In an
    immutable vault the point cannot leave before ``lock_until``.
    """

    time: datetime
    type: str = "Full"
    scheduled: bool = True
    tags: tuple[str, ...] = ()
    retain_until: datetime | None = None
    item_document: dict[str, Any] = {}
    lock_until: datetime | None = None


class PointClaims(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the agent says about a recovery point; stored, and never used for safety."""

    transferred_bytes: int = 0
    file_count: int = 0
    findings_count: int = 0
    consistency: str = "CrashConsistent"
    consistency_reason: str = ""
    extra: dict[str, Any] = {}


class CommitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a commit needs. ``receipts``: of the session's packs not yet given to
    ``checkpoint`` (giving one twice is harmless). ``root_id``: 32 or 48 bytes."""

    receipts: tuple[bytes, ...]
    root_id: bytes
    facts: PointFacts
    claims: PointClaims = PointClaims()


class RecoveryPointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A committed recovery point, as the log has it. ``stored_bytes`` is what it added; ``extra``:
    what else the agent said of it."""

    rp_id: str
    item_key: str
    job_id: bytes
    sequence: int
    time: datetime
    type: str
    scheduled: bool
    tags: tuple[str, ...]
    retain_until: datetime | None
    root_id: bytes
    logical_bytes: int
    transferred_bytes: int
    stored_bytes: int
    file_count: int
    findings_count: int
    consistency: str
    consistency_reason: str
    item_document: dict[str, Any]
    extra: dict[str, Any] = {}


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session not yet closed or revoked; it may fence a collect or pin recovery points."""

    session_id: bytes
    kind: SessionKind
    container: str
    item_key: str
    job_id: bytes
    attempt: int
    opened_sequence: int
    pins: tuple[str, ...]
    committed: str | None


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What ``recover_sessions`` took over from earlier attempts of a job."""

    sessions_revoked: int = 0
    packs_kept: int = 0
    bytes_kept: int = 0
    packs_refused: int = 0
    committed: str | None = None


class ExpireDrop(msgspec.Struct, frozen=True, kw_only=True):
    """One recovery point a plan drops, or refuses to, and why."""

    rp_id: str
    item_key: str
    reason: str
    pinned: bool


class ExpirePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Recovery points to drop, computed at log position ``basis``."""

    basis: int
    drops: tuple[ExpireDrop, ...]
    refused: tuple[ExpireDrop, ...] = ()
    explicit: bool = False


class CollectPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a collect would do at log position ``basis``. Packs are named by their 16-byte ids.

    ``condemn``: packs without a live chunk, to be condemned by this run. ``sweep``: packs condemned
    before, past their fence, to be deleted. ``fenced``: condemned packs that wait for the sessions
    in ``waiting_for``. ``orphans``: keys of objects no record names and no open session owns.
    ``torn``: those of them that nobody can read, which wait for such sessions too. ``locked``:
    packs nothing needs that wait for their horizon; the first is free at ``locked_from_ns``, the
    last at ``locked_until_ns`` [ns of vault time], 0 when there is none.
    ``sparse_packs``: packs partly live. ``rewrite``: those of them to be rewritten, of
    ``rewrite_bytes``: ``rewrite_copy_bytes``, and ``rewrite_table_bytes`` of index tables in place
    of others, are written before ``rewrite_freed_bytes`` can be freed. ``refsets``: what it was
    computed from.
    """

    basis: int
    refsets: tuple[str, ...]
    condemn: tuple[bytes, ...]
    condemn_bytes: int
    sweep: tuple[bytes, ...]
    sweep_bytes: int
    fenced: tuple[bytes, ...]
    waiting_for: tuple[bytes, ...]
    orphans: tuple[str, ...]
    orphan_bytes: int
    live_packs: int
    live_bytes: int
    sparse_packs: int
    sparse_dead_bytes: int
    rewrite: tuple[bytes, ...] = ()
    rewrite_bytes: int = 0
    rewrite_copy_bytes: int = 0
    rewrite_table_bytes: int = 0
    torn: tuple[str, ...] = ()
    locked: tuple[bytes, ...] = ()
    locked_bytes: int = 0
    locked_from_ns: int = 0
    locked_until_ns: int = 0

    @property
    def rewrite_freed_bytes(self) -> int:
        return self.rewrite_bytes - self.rewrite_copy_bytes


class CollectBudget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one run: objects deleted and bytes freed; None is no limit. ``rewrite_below``:
    packs of which a smaller share is needed are rewritten (0: none), when no plan says which."""

    deletes: int | None = None
    freed_bytes: int | None = None
    rewrite_below: float = 0.0


class CollectResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a collect did. ``complete`` is False when the budget, a cancel, a fence or want of room
    left work. ``rewritten_packs`` were emptied into new ones of ``written_bytes``; ``full``: there
    was no room for more of that."""

    condemned_packs: int
    swept_packs: int
    deleted_orphans: int
    freed_bytes: int
    fenced_packs: int
    complete: bool
    rewritten_packs: int = 0
    written_bytes: int = 0
    full: bool = False


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """One damaged object: what it is, how it is wrong, and which recovery points need it."""

    key: str
    problem: Problem
    detail: str
    recovery_points: tuple[str, ...]
    items: tuple[str, ...]
    frames: int = 0


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verify run over everything a live recovery point needs."""

    sequence: int
    packs: int
    frames: int
    stored_bytes: int
    plain_bytes: int
    recovery_points: int
    damages: tuple[Damage, ...]
    complete: bool

    @property
    def clean(self) -> bool:
        return not self.damages


class ScrubReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a scrub over every object, by one run or several that went on. ``resumed``:
    this run began where another was stopped."""

    sequence: int
    objects: int
    stored_bytes: int
    damages: tuple[Damage, ...]
    complete: bool
    resumed: bool = False


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A scrub or verify as it is remembered. Times [ns since the epoch]. ``cursor``: name of the
    last object that a scrub which was stopped looked at."""

    started_ns: int
    ended_ns: int
    sequence: int
    objects: int
    stored_bytes: int
    complete: bool
    cursor: str = ""
    damages: int = 0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A damaged object, who found it and when [ns since the epoch]."""

    by: CheckKind
    at_ns: int
    damage: Damage


class VaultHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The last check of each kind, what is known to be damaged (by name at most 1,000), and what
    repairs put into quarantine: damaged objects that nothing needs any more."""

    checks: dict[str, Check] = {}
    found: tuple[Found, ...] = ()
    quarantined: tuple[str, ...] = ()


class RepairStep(msgspec.Struct, frozen=True, kw_only=True):
    """What is done about a damaged object ``key``. ``action``: rebuild table | rebuild refset |
    rewrite key ring | use sound copies | wait | put back; nothing is done for the last two: the
    next backup may send the chunks again, or a person puts the object back. ``files``: what the
    point cannot give until then, at most 1,000 names of ``file_count`` files."""

    action: str
    key: str
    detail: str
    recovery_points: tuple[str, ...]
    chunks: int = 0
    files: tuple[bytes, ...] = ()
    file_count: int = 0


class RepairPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps computed at log position ``basis``. ``checked``: whether a scrub or verify ever ran,
    without which nothing is known of packs."""

    basis: int
    steps: tuple[RepairStep, ...]
    checked: bool


class RepairResult(msgspec.Struct, frozen=True, kw_only=True):
    """``done``: steps carried out. ``left``: what remains, computed anew."""

    done: tuple[RepairStep, ...]
    left: tuple[RepairStep, ...]
    complete: bool


class FrameLocation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chunk's sealed frame lies and the one key that opens it.

    ``birth_header_hash`` and ``birth_frame`` belong to the frame's authenticated data."""

    id: bytes
    pack: bytes
    frame: int
    offset: int
    clen: int
    ulen: int
    codec: int
    flags: int
    kind: int
    birth_header_hash: bytes
    birth_frame: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Frames:
    """Ciphertext of frames, read piece by piece as it is taken; ``size`` bytes in all."""

    size: int
    pieces: Iterator[bytes]

    def __iter__(self) -> Iterator[bytes]:
        return self.pieces


class VaultStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a vault. ``head`` is the last record's number."""

    head: int
    recovery_points: int
    packs: int
    stored_bytes: int
    condemned_packs: int
    condemned_bytes: int
    chunks: int
    open_sessions: int
    key_exported: bool
