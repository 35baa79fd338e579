"""Locking what an immutable vault promised to keep: the steps of the log, and the store's question.

Which packs a point needs is found in its refset by the state the record is appended to. The store
is told by the vault itself which objects must stay (``Held``), so that a delete is refused whatever
the mistake that led to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from holdfast.errors import HoldfastError, StoreUnavailableError
from holdfast.ports.object_store import HoldingStore, ObjectStore
from holdfast.vaultstore import layout, locking, log, refset
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.liveness import packs_holding
from holdfast.vaultstore.references import chunks_of
from holdfast.vaultstore.state import LogState, Point
from holdfast.vaultstore.vaultclock import from_ns

POINTS_IN_A_RECORD = 16
logger = logging.getLogger(__name__)


class Held:
    """The horizons of one vault, as the store asks for them."""

    def __init__(self, core: VaultCore) -> None:
        self._core = core

    def held_until(self, key: str) -> datetime | None:
        core = self._core
        with core.lock:
            until_ns = locking.horizon_of(core.state, key)
            return from_ns(until_ns) if until_ns and until_ns > core.vault_time_ns() else None


def let_store_hold(store: ObjectStore, core: VaultCore) -> None:
    """A store that can refuse to delete is told what this vault holds."""
    if isinstance(store, HoldingStore):
        store.hold(layout.vault_prefix(core.vault_id), Held(core))


def set_immutability(core: VaultCore, immutability: str) -> None:
    """Let the log say so too. Idempotent; a locked vault stays locked."""

    def setting(state: LogState) -> Sequence[log.Operation]:
        if state.immutability in (immutability, locking.LOCKED):
            return ()
        return (log.ImmutabilitySet(state=immutability),)

    with core.lock:
        core.refresh()
        core.append(setting)


def locking_packs(
    core: VaultCore, state: LogState, needed: refset.Ordinals, until_ns: int
) -> list[log.PacksLocked]:
    """What locks the packs of these chunks to the end of the generation. Caller holds the lock, and
    the chunks are in use after ``state``."""
    return locking_these(state, packs_holding(core, state, [needed]), until_ns)


def locking_these(state: LogState, packs: Iterable[bytes], until_ns: int) -> list[log.PacksLocked]:
    """As ``locking_packs``, of packs by their ids; those condemned are passed over."""
    end_ns = locking.rounded_up(until_ns)
    entries = [state.packs[pack_id] for pack_id in sorted(packs) if pack_id in state.packs]
    open_to = [one for one in entries if one.condemned_at is None and one.lock_until_ns < end_ns]
    found = tuple(one.pack.pack_id for one in open_to)
    return [log.PacksLocked(until_ns=end_ns, packs=found)] if found else []


def lock_points(
    core: VaultCore, wanted: Mapping[str, int], tell: Callable[[int, int], None]
) -> int:
    """Lock live points until these times [ns], and the packs they need; how many were. Those that
    have a later horizon keep it, and one in the past locks nothing. ``tell`` hears how many of how
    many are done, and may raise. What a damaged point needs is not known: it is left out."""
    core.refresh()
    left = [one for one in wanted if _is_later(core.state, one, wanted[one])]
    done = 0
    for start in range(0, len(left), POINTS_IN_A_RECORD):
        tell(start, len(left))
        chosen = {rp_id: wanted[rp_id] for rp_id in left[start : start + POINTS_IN_A_RECORD]}
        done += _lock_some(core, chosen)
    return done


def _is_later(state: LogState, rp_id: str, until_ns: int) -> bool:
    point = state.points.get(rp_id)
    new = point is not None and until_ns > point.lock_until_ns
    return new and locking.is_immutable(state) and locking.is_locked(until_ns, state)


def _needed(core: VaultCore, points: Iterable[Point]) -> dict[str, refset.Ordinals]:
    """Refsets by point. A damaged point is left out; it is locked when it is mended."""
    found: dict[str, refset.Ordinals] = {}
    for point in points:
        try:
            found[point.op.rp_id] = chunks_of(core, point)
        except HoldfastError as error:
            if isinstance(error, StoreUnavailableError):
                raise
            logger.warning("point %s is not locked: %s", point.op.rp_id, error.message)
    return found


def _lock_some(core: VaultCore, wanted: Mapping[str, int]) -> int:
    """In one record. The longest come first, so that no pack is named twice in it."""
    count = 0
    points = {one: core.state.points[one] for one in wanted if one in core.state.points}
    found = _needed(core, points.values())
    order = sorted(found, key=wanted.__getitem__, reverse=True)

    def locking_them(state: LogState) -> Sequence[log.Operation]:
        nonlocal count
        locks, packs, held = [], [], set[bytes]()
        for rp_id in order:
            now = state.points.get(rp_id)
            if now is None or not _is_later(state, rp_id, wanted[rp_id]):
                continue
            needed = found[rp_id] if now is points[rp_id] else core.refset_of(now)
            locks.append(log.PointLock(rp_id=rp_id, until_ns=wanted[rp_id]))
            own = packs_holding(core, state, [needed]) - held
            packs += locking_these(state, own, wanted[rp_id])
            held |= own
        count = len(locks)
        return (log.PointsLocked(points=tuple(locks)), *packs) if locks else ()

    with core.lock:
        core.append(locking_them)
    return count
