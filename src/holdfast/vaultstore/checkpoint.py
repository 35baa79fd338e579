"""Log checkpoints: the state after every 1,024th record, so that opening reads one and the tail.

A checkpoint is sealed and signed, named by the record it follows and bound to it by its hash. It is
never needed: one that is missing, damaged or of another log is passed over for the one before, or
for the whole log, whose records stay. Bytes: docs/design/vault-records.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.errors import IntegrityError
from holdfast.vaultstore import log
from holdfast.vaultstore.head import Head
from holdfast.vaultstore.merkle import root_of
from holdfast.vaultstore.state import (
    UNPROTECTED,
    LogState,
    PackEntry,
    Point,
    SealingKey,
    SessionEntry,
    TableEntry,
)

EVERY = 1024  # records


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what a checkpoint lists."""


class PackKept(_Kept, frozen=True, kw_only=True):
    """``copies`` is for copies of the vault."""

    ordinal: int
    pack_id: bytes
    session_id: bytes
    pack_class: int
    size: int
    hash: bytes
    header_hash: bytes
    added_by: bytes
    added_sequence: int
    condemned_at: int | None
    lock_until_ns: int | None = None
    copies: tuple[Any, ...] = ()
    births: tuple[log.PackBirth, ...] = ()


class TableKept(_Kept, frozen=True, kw_only=True):
    table_id: bytes
    base: int
    rows: int
    size: int
    hash: bytes
    packs: tuple[bytes, ...]
    first_pack: int
    container: int
    moved: tuple[tuple[bytes, int], ...] = ()


class SealingKept(_Kept, frozen=True, kw_only=True):
    session_id: bytes
    epoch: int
    wrapped_key: bytes
    container: str
    item_key: str
    job_id: bytes
    packs: int


class SessionKept(_Kept, frozen=True, kw_only=True):
    opened: log.SessionOpened
    sequence: int
    committed: str | None


class PointKept(_Kept, frozen=True, kw_only=True):
    op: log.PointCommitted
    sequence: int
    lock_until_ns: int = 0


class Checkpoint(_Kept, frozen=True, kw_only=True):
    """The body. Lists are in the order of the state's maps."""

    sequence: int
    hash: bytes
    term: int
    time_ns: int
    vault_id: bytes
    domain_id: bytes
    next_ordinal: int
    next_pack: int
    key_exported: bool
    packs: tuple[PackKept, ...]
    tables: tuple[TableKept, ...]
    sealing_keys: tuple[SealingKept, ...]
    containers: tuple[str, ...]
    sessions: tuple[SessionKept, ...]
    points: tuple[PointKept, ...]
    expired: tuple[PointKept, ...]
    item_commits: dict[str, int]
    merkle_root: bytes
    merkle_peaks: tuple[bytes, ...]
    immutability: str = UNPROTECTED
    retired: tuple[tuple[bytes, int], ...] = ()

    @property
    def head(self) -> Head:
        return Head(sequence=self.sequence, term=self.term, hash=self.hash)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Checkpoint)
_ALIKE = (
    *("sequence", "hash", "term", "time_ns", "vault_id", "domain_id"),
    *("next_ordinal", "next_pack", "key_exported", "immutability"),
)


def encode_state(state: LogState) -> bytes:
    """The body of a checkpoint of a state, before sealing."""
    found = Checkpoint(
        **{name: getattr(state, name) for name in _ALIKE},
        packs=tuple(_pack(entry) for entry in state.packs.values()),
        tables=tuple(_table(entry) for entry in state.tables.values()),
        sealing_keys=tuple(
            SealingKept(
                session_id=session_id,
                epoch=key.epoch,
                wrapped_key=key.wrapped_key,
                container=key.container,
                item_key=key.item_key,
                job_id=key.job_id,
                packs=key.packs,
            )
            for session_id, key in state.sealing_keys.items()
        ),
        containers=tuple(sorted(state.containers, key=state.containers.__getitem__)),
        sessions=tuple(
            SessionKept(opened=one.opened, sequence=one.sequence, committed=one.committed)
            for one in state.sessions.values()
        ),
        points=tuple(_point(point) for point in state.points.values()),
        expired=tuple(_point(point) for point in state.expired.values()),
        item_commits=state.item_commits,
        merkle_root=root_of(state.merkle),
        merkle_peaks=state.merkle,
        retired=tuple(state.retired.items()),
    )
    return _ENCODER.encode(found)


def _pack(entry: PackEntry) -> PackKept:
    return PackKept(
        ordinal=entry.ordinal,
        **msgspec.structs.asdict(entry.pack),
        added_by=entry.added_by,
        added_sequence=entry.added_sequence,
        condemned_at=entry.condemned_at,
        lock_until_ns=entry.lock_until_ns or None,
        births=entry.births,
    )


def _table(entry: TableEntry) -> TableKept:
    return TableKept(
        **msgspec.structs.asdict(entry.table),
        packs=entry.packs,
        first_pack=entry.first_pack,
        container=entry.container,
        moved=entry.moved,
    )


def _point(point: Point) -> PointKept:
    return PointKept(op=point.op, sequence=point.sequence, lock_until_ns=point.lock_until_ns)


def decode_checkpoint(body: bytes) -> Checkpoint:
    """The checkpoint of a body. IntegrityError (ObjectDamaged)."""
    try:
        found = _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"its body is damaged: {error}", code="ObjectDamaged") from error
    if found.merkle_root != root_of(found.merkle_peaks):
        raise IntegrityError("its Merkle root contradicts its peaks", code="ObjectDamaged")
    return found


def state_of(found: Checkpoint) -> LogState:
    """The state a checkpoint holds: what replaying the log up to its record gives."""
    state = LogState(**{name: getattr(found, name) for name in _ALIKE}, merkle=found.merkle_peaks)
    state.packs = {kept.pack_id: _entry_of(kept) for kept in found.packs}
    state.tables = {kept.table_id: _table_of(kept) for kept in found.tables}
    state.sealing_keys = {
        kept.session_id: SealingKey(
            kept.epoch, kept.wrapped_key, kept.container, kept.item_key, kept.job_id, kept.packs
        )
        for kept in found.sealing_keys
    }
    state.containers = {name: number for number, name in enumerate(found.containers)}
    state.sessions = {
        kept.opened.session_id: SessionEntry(kept.opened, kept.sequence, kept.committed)
        for kept in found.sessions
    }
    state.points = {kept.op.rp_id: _point_of(kept) for kept in found.points}
    state.expired = {kept.op.rp_id: _point_of(kept) for kept in found.expired}
    for rp_id, point in state.points.items():
        item = point.op.item_key
        state.by_item[item] = (*state.by_item.get(item, ()), rp_id)
        state.by_job[item, point.op.job_id] = rp_id
    state.item_commits = dict(found.item_commits)
    state.retired = dict(found.retired)
    return state


def _point_of(kept: PointKept) -> Point:
    return Point(kept.op, kept.sequence, kept.lock_until_ns)


def _entry_of(kept: PackKept) -> PackEntry:
    pack = log.PackAdded(
        pack_id=kept.pack_id,
        session_id=kept.session_id,
        pack_class=kept.pack_class,
        size=kept.size,
        hash=kept.hash,
        header_hash=kept.header_hash,
    )
    return PackEntry(
        kept.ordinal,
        pack,
        kept.added_by,
        kept.added_sequence,
        kept.condemned_at,
        kept.births,
        kept.lock_until_ns or 0,
    )


def _table_of(kept: TableKept) -> TableEntry:
    table = log.TableAdded(
        table_id=kept.table_id, base=kept.base, rows=kept.rows, size=kept.size, hash=kept.hash
    )
    return TableEntry(table, kept.packs, kept.first_pack, kept.container, kept.moved)
