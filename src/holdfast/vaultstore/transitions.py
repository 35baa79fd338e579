"""Which record may come next, and the state after it.

``next_state`` is a pure function. Writers check their own record with it before they create it,
readers check every record they replay, so a process that was frozen and decided on an older state
fails at the create of its record. One function per operation: check, then change the private copy,
so that a refusal half way leaves no trace.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import msgspec

from holdfast.vaultstore import locking, log
from holdfast.vaultstore.head import HINT
from holdfast.vaultstore.merkle import with_leaf
from holdfast.vaultstore.state import (
    InvalidRecordError,
    LogState,
    PackEntry,
    Point,
    SealingKey,
    SessionEntry,
    TableEntry,
)


def next_state(state: LogState, record: log.LogRecord, object_hash: bytes) -> LogState:
    """The state after ``record``, whose stored object hashes to ``object_hash``.

    Pure: ``state`` is not changed. Raises InvalidRecordError when the record may not follow it.
    """
    result = state.copy()
    advance(result, record, object_hash)
    return result


def advance(state: LogState, record: log.LogRecord, object_hash: bytes) -> None:
    """``next_state`` in place, for replaying many records on a private copy. After an error the
    state is half way and must be thrown away."""
    check_chain(state, record)
    confirmed = any(isinstance(op, log.ClockConfirmed) for op in record.operations)
    _require(
        record.time_ns >= state.time_ns or confirmed,
        f"record {record.sequence} takes vault time back",
    )
    state.sequence, state.time_ns = record.sequence, record.time_ns
    for operation in record.operations:
        apply_operation(operation, state)
    locking.let_go(state)
    state.term = record.term
    state.hash = object_hash
    state.merkle = with_leaf(state.merkle, state.sequence, object_hash)


def check_chain(state: LogState, record: log.LogRecord) -> None:
    """That the record is the next of the chain. InvalidRecordError."""
    name = f"record {record.sequence}"
    _require(record.sequence == state.sequence + 1, f"{name} does not follow {state.sequence}")
    if record.previous != state.hash:
        raise InvalidRecordError(
            f"{name} does not continue the chain of hashes: it or the one before is of another log",
            code="LogForked",
            hint=HINT,
        )
    _require(record.term >= state.term, f"{name} has a lower term than {state.term}")
    raised = [op.term for op in record.operations if isinstance(op, log.HeadAccepted)]
    wanted = raised or [state.term]
    _require(record.term == wanted[-1], f"{name} raises the term without accepting a head")
    _require(not raised or record.term > state.term, f"{name} accepts a head under no higher term")
    _require(bool(record.operations), f"{name} is empty")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidRecordError(message)


def apply_operation(operation: log.Operation, state: LogState) -> None:
    """Let an operation of record ``state.sequence`` take effect in place. InvalidRecordError, after
    which the state is half way and must be thrown away."""
    _apply(operation, state)


@singledispatch
def _apply(operation: object, state: LogState) -> None:
    raise InvalidRecordError(f"unknown operation {type(operation).__name__}")


@_apply.register
def _vault_opened(op: log.VaultOpened, state: LogState) -> None:
    _require(state.sequence == log.FIRST_SEQUENCE, "a vault is opened by its first record only")
    _require(not state.vault_id, "a vault is opened once")
    state.vault_id = op.vault_id
    state.domain_id = op.domain_id


@_apply.register
def _session_opened(op: log.SessionOpened, state: LogState) -> None:
    name = op.session_id.hex()
    _require(op.session_id not in state.sessions, f"session {name} is already open")
    _require(op.session_id not in state.sealing_keys, f"session {name} was used before")
    for rp_id in op.pins:
        _require(rp_id in state.points, f"session {name} pins {rp_id}, which is not live")
    if op.kind == "backup":
        _require(op.parent == state.newest(op.item_key), f"session {name} has a stale parent")
        _require(not op.parent or op.parent in op.pins, f"session {name} does not pin its parent")
    if op.kind in ("backup", "rewrite"):
        state.sealing_keys[op.session_id] = SealingKey(
            op.epoch, op.wrapped_key, op.container, op.item_key, op.job_id
        )
    state.sessions[op.session_id] = SessionEntry(op, state.sequence)


@_apply.register
def _session_closed(op: log.SessionClosed, state: LogState) -> None:
    _require(op.session_id in state.sessions, f"session {op.session_id.hex()} is not open")
    del state.sessions[op.session_id]
    key = state.sealing_keys.get(op.session_id)
    if key is not None and key.packs == 0:
        del state.sealing_keys[op.session_id]
    pinned = state.pinned()
    for rp_id in [rp_id for rp_id in state.expired if rp_id not in pinned]:
        del state.expired[rp_id]


@_apply.register
def _packs_added(op: log.PacksAdded, state: LogState) -> None:
    container = _backup_session(state, op.session_id).opened.container
    _require(bool(op.packs), "a table without packs")
    _require(op.table.base == state.next_ordinal, "a table does not start at the next ordinal")
    _require(op.table.rows > 0, "an empty table")
    _require(op.table.table_id not in state.tables, "a table's name is used twice")
    number = state.containers.setdefault(container, len(state.containers))
    first_pack = state.next_pack
    for pack in op.packs:
        owner = _backup_session(state, pack.session_id)
        _require(owner.opened.container == container, "a pack of another container")
        _require(pack.pack_id not in state.packs, f"pack {pack.pack_id.hex()} is already added")
        state.packs[pack.pack_id] = PackEntry(state.next_pack, pack, op.session_id, state.sequence)
        state.next_pack += 1
        _count_pack_of(state, pack.session_id)
    names = tuple(pack.pack_id for pack in op.packs)
    state.tables[op.table.table_id] = TableEntry(op.table, names, first_pack, number)
    state.next_ordinal += op.table.rows


def _backup_session(state: LogState, session_id: bytes) -> SessionEntry:
    entry = state.sessions.get(session_id)
    if entry is None or entry.opened.kind != "backup":
        raise InvalidRecordError(f"session {session_id.hex()} is not an open backup session")
    return entry


@_apply.register
def _point_committed(op: log.PointCommitted, state: LogState) -> None:
    session = _backup_session(state, op.session_id)
    opened = session.opened
    _require(session.committed is None, "a session commits one recovery point")
    _require((op.item_key, op.job_id) == (opened.item_key, opened.job_id), "a foreign job's point")
    _require((op.item_key, op.job_id) not in state.by_job, "the job has a recovery point")
    _require(op.parent == opened.parent, "the point's parent is not the session's")
    last = state.item_commits.get(op.item_key, 0)
    _require(last < session.sequence, "another point of the item was made since the session began")
    _require(op.rp_id not in state.points and op.rp_id not in state.expired, "a point's id is used")
    state.points[op.rp_id] = Point(op, state.sequence)
    state.by_item[op.item_key] = (*state.by_item.get(op.item_key, ()), op.rp_id)
    state.by_job[op.item_key, op.job_id] = op.rp_id
    state.item_commits[op.item_key] = state.sequence
    state.with_session(op.session_id, committed=op.rp_id)


@_apply.register
def _points_expired(op: log.PointsExpired, state: LogState) -> None:
    pinned = state.pinned()
    for dropped in op.points:
        point = state.points.get(dropped.rp_id)
        if point is None:
            raise InvalidRecordError(f"recovery point {dropped.rp_id} is not live")
        item = point.op.item_key
        _require(
            not locking.is_locked(point.lock_until_ns, state),
            f"recovery point {dropped.rp_id} is locked: it leaves before its horizon",
        )
        _require(
            op.explicit or state.newest(item) != dropped.rp_id,
            f"recovery point {dropped.rp_id} is the latest of its item and never expires by itself",
        )
        del state.points[dropped.rp_id]
        del state.by_job[item, point.op.job_id]
        left = tuple(rp_id for rp_id in state.by_item[item] if rp_id != dropped.rp_id)
        if left:
            state.by_item[item] = left
        else:
            del state.by_item[item]
        if dropped.rp_id in pinned:
            state.expired[dropped.rp_id] = point


@_apply.register
def _packs_condemned(op: log.PacksCondemned, state: LogState) -> None:
    _require(bool(op.packs), "nothing is condemned")
    for pack_id in op.packs:
        entry = state.packs.get(pack_id)
        if entry is None or entry.condemned_at is not None:
            raise InvalidRecordError(f"pack {pack_id.hex()} is not there to be condemned")
        state.packs[pack_id] = replace(entry, condemned_at=state.sequence)


@_apply.register
def _packs_swept(op: log.PacksSwept, state: LogState) -> None:
    for pack_id in op.packs:
        entry = state.packs.get(pack_id)
        if entry is None or entry.condemned_at is None:
            raise InvalidRecordError(f"pack {pack_id.hex()} was not condemned")
        _require(
            not state.fence_of(entry.condemned_at),
            f"pack {pack_id.hex()} is swept while sessions from before its condemning are open",
        )
        _require(
            not locking.is_locked(entry.lock_until_ns, state),
            f"pack {pack_id.hex()} is locked: it is swept before its horizon",
        )
        del state.packs[pack_id]
        for session_id in entry.sealers:
            _forget_pack_of(state, session_id)
    for table_id in op.tables:
        _require(table_id in state.tables, f"table {table_id.hex()} is not there")
        _require(not state.is_live_table(table_id), f"table {table_id.hex()} is still needed")
        del state.tables[table_id]


def _count_pack_of(state: LogState, session_id: bytes) -> None:
    key = state.sealing_keys[session_id]
    state.sealing_keys[session_id] = replace(key, packs=key.packs + 1)


def _forget_pack_of(state: LogState, session_id: bytes) -> None:
    key = state.sealing_keys[session_id]
    if key.packs == 1 and session_id not in state.sessions:
        del state.sealing_keys[session_id]
    else:
        state.sealing_keys[session_id] = replace(key, packs=key.packs - 1)


@_apply.register
def _packs_rewritten(op: log.PacksRewritten, state: LogState) -> None:
    session = state.sessions.get(op.session_id)
    if session is None or session.opened.kind != "rewrite":
        raise InvalidRecordError(f"session {op.session_id.hex()} rewrites no packs, or has ended")
    _require(bool(op.packs and op.sources and op.tables), "nothing is rewritten")
    horizon_ns = 0
    for pack_id in op.sources:
        entry = state.packs.get(pack_id)
        if entry is None or entry.condemned_at is not None:
            raise InvalidRecordError(f"pack {pack_id.hex()} is not there to be rewritten")
        horizon_ns = max(horizon_ns, entry.lock_until_ns)
    numbers = {made.pack.pack_id: _rewritten(op, made, state, horizon_ns) for made in op.packs}
    container = state.containers.get(session.opened.container)
    for replaced in op.tables:
        _require(set(replaced.packs) <= numbers.keys(), "a table names a foreign pack")
        moved = tuple((pack_id, numbers[pack_id]) for pack_id in replaced.packs)
        _replace_table(state, replaced, moved, container)


def _rewritten(
    op: log.PacksRewritten, made: log.PackRewritten, state: LogState, horizon_ns: int
) -> int:
    """Add a pack of moved frames, locked as long as where they came from; its number."""
    name = made.pack.pack_id.hex()
    _require(made.pack.session_id == op.session_id, f"pack {name} is of another session")
    _require(made.pack.pack_id not in state.packs, f"pack {name} is already added")
    entry = PackEntry(
        state.next_pack,
        made.pack,
        op.session_id,
        state.sequence,
        births=made.births,
        lock_until_ns=horizon_ns,
    )
    for session_id in entry.sealers:
        _require(session_id in state.sealing_keys, f"nobody has the key of frames in pack {name}")
        _count_pack_of(state, session_id)
    state.packs[made.pack.pack_id] = entry
    state.next_pack += 1
    return entry.ordinal


def _replace_table(
    state: LogState,
    replaced: log.TableReplaced,
    moved: tuple[tuple[bytes, int], ...],
    container: int | None,
) -> None:
    entry = state.tables.get(replaced.table_id)
    if entry is None or entry.container != container:
        raise InvalidRecordError(f"table {replaced.table_id.hex()} is not there, or another's")
    old, new = entry.table, replaced.table
    _require(new.table_id not in state.tables, "a table's name is used twice")
    _require((old.base, old.rows) == (new.base, new.rows), "a table is replaced by another one")
    horizon_ns = state.table_horizon_ns(entry)
    if locking.is_locked(horizon_ns, state):
        state.retired[replaced.table_id] = horizon_ns
    del state.tables[replaced.table_id]
    state.tables[new.table_id] = replace(entry, table=new, moved=(*entry.moved, *moved))


@_apply.register
def _point_repaired(op: log.PointRepaired, state: LogState) -> None:
    _require(op.session_id in state.sessions, f"session {op.session_id.hex()} is not open")
    point = state.points.get(op.rp_id)
    if point is None:
        raise InvalidRecordError(f"recovery point {op.rp_id} is not live")
    changed = msgspec.structs.replace(point.op, refset=op.refset)
    state.points[op.rp_id] = replace(point, op=changed)


@_apply.register
def _table_repaired(op: log.TableRepaired, state: LogState) -> None:
    _require(op.session_id in state.sessions, f"session {op.session_id.hex()} is not open")
    entry = state.tables.get(op.table_id)
    if entry is None:
        raise InvalidRecordError(f"table {op.table_id.hex()} is not there")
    replaced = log.TableReplaced(table_id=op.table_id, table=op.table, packs=())
    _replace_table(state, replaced, (), entry.container)


@_apply.register
def _immutability_set(op: log.ImmutabilitySet, state: LogState) -> None:
    locking.set_state(op, state)


@_apply.register
def _points_locked(op: log.PointsLocked, state: LogState) -> None:
    locking.lock_points(op, state)


@_apply.register
def _packs_locked(op: log.PacksLocked, state: LogState) -> None:
    locking.lock_packs(op, state)


@_apply.register
def _clock_confirmed(op: log.ClockConfirmed, state: LogState) -> None:
    state.time_ns = op.time_ns


@_apply.register
def _key_exported(_op: log.KeyExported, state: LogState) -> None:
    state.key_exported = True


@_apply.register
def _head_accepted(_op: log.HeadAccepted, _state: LogState) -> None:
    """Its term is checked with the chain."""
