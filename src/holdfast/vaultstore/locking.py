"""Lock horizons: until when a recovery point, a pack and what it takes to read it cannot go.

Rules over states of the log, pure. Horizons are times of the vault, which a clock that is not
trusted does not move. They only grow; turning immutability off, which a locked vault cannot, takes
them away. A pack's is rounded up to GENERATION_NS, so that backup after backup of the same content
does not lock it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from holdfast.vaultstore import layout, log
from holdfast.vaultstore.state import UNPROTECTED, InvalidRecordError, LogState

GENERATION_NS = 10 * 24 * 3600 * 1_000_000_000
LOCKED = "Locked"  # it is never taken back
STATES = (UNPROTECTED, "Unlocked", LOCKED)


def rounded_up(until_ns: int) -> int:
    """The end of the generation that a time lies in."""
    return -(-until_ns // GENERATION_NS) * GENERATION_NS


def is_immutable(state: LogState) -> bool:
    return state.immutability != UNPROTECTED


def is_locked(until_ns: int, state: LogState) -> bool:
    """Whether a horizon is still ahead of a state's time."""
    return until_ns > state.time_ns


# what operations do; each changes the private copy it is given, or raises InvalidRecordError


def set_state(op: log.ImmutabilitySet, state: LogState) -> None:
    if op.state not in STATES or op.state == state.immutability:
        raise InvalidRecordError(f"immutability is set to {op.state!r}")
    if state.immutability == LOCKED:
        raise InvalidRecordError("the vault is locked, which is never taken back")
    state.immutability = op.state
    if op.state == UNPROTECTED:
        state.retired.clear()
        state.packs = {name: replace(one, lock_until_ns=0) for name, one in state.packs.items()}
        state.points = {name: replace(one, lock_until_ns=0) for name, one in state.points.items()}


def lock_points(op: log.PointsLocked, state: LogState) -> None:
    _require_immutable(state)
    for lock in op.points:
        point = state.points.get(lock.rp_id)
        if point is None or lock.until_ns <= point.lock_until_ns:
            raise InvalidRecordError(f"recovery point {lock.rp_id} is not there to be locked")
        state.points[lock.rp_id] = replace(point, lock_until_ns=lock.until_ns)


def lock_packs(op: log.PacksLocked, state: LogState) -> None:
    _require_immutable(state)
    for pack_id in op.packs:
        entry = state.packs.get(pack_id)
        gone = entry is None or entry.condemned_at is not None
        if entry is None or gone or op.until_ns <= entry.lock_until_ns:
            raise InvalidRecordError(f"pack {pack_id.hex()} is not there to be locked")
        state.packs[pack_id] = replace(entry, lock_until_ns=op.until_ns)


def _require_immutable(state: LogState) -> None:
    if not is_immutable(state):
        raise InvalidRecordError("something is locked in a vault that is not immutable")


def let_go(state: LogState) -> None:
    """Forget replaced tables whose horizon has passed."""
    for table_id in [name for name, at in state.retired.items() if not is_locked(at, state)]:
        del state.retired[table_id]


# questions


def horizon_of(state: LogState, key: str) -> int:
    """Until when [ns] the object ``key`` of the vault must not be deleted; 0: no lock. What every
    pack needs (descriptor, key rings, the log) stays as long as anything does."""
    if not is_immutable(state):
        return 0
    room, _, name = key.partition("/")
    return _ROOMS[room](state, name) if room in _ROOMS else 0


def _of_pack(state: LogState, name: str) -> int:
    entry = state.packs.get(_id(name.rpartition("/")[2]))
    return entry.lock_until_ns if entry is not None else 0


def _of_table(state: LogState, name: str) -> int:
    entry = state.tables.get(_id(name))
    return state.retired.get(_id(name), 0) if entry is None else state.table_horizon_ns(entry)


def _of_refset(state: LogState, name: str) -> int:
    point = state.points.get(name.partition("-")[0])
    named = point is not None and point.op.refset.name == name
    return point.lock_until_ns if point is not None and named else 0


def _of_record(state: LogState, name: str) -> int:
    """One behind the state's is none of this log: a person may put it aside."""
    within = name.isdigit() and int(name) <= state.sequence
    return state.horizon_ns() if within else 0


def _of_ground(state: LogState, _name: str) -> int:
    return state.horizon_ns()


_ROOMS: dict[str, Callable[[LogState, str], int]] = {
    layout.DESCRIPTOR: _of_ground,
    layout.KEYRING.rstrip("/"): _of_ground,
    layout.LOG.rstrip("/"): _of_record,
    layout.PACKS.rstrip("/"): _of_pack,
    layout.TABLES.rstrip("/"): _of_table,
    layout.REFSETS.rstrip("/"): _of_refset,
}


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
