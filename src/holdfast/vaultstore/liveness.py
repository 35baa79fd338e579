"""Which packs hold something that is still needed, by a state of the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from holdfast.errors import HoldfastError, IntegrityError
from holdfast.vaultstore import refset
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.state import LogState, Point

T = TypeVar("T")
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Liveness:
    """By pack number, at one state: rows some needed point refers to, their bytes, those of the
    other rows, and packs of which nothing is known because their table is lost (those count as
    needed). ``refsets``: names of those it was computed from. ``live``: by ordinal."""

    sequence: int
    refsets: frozenset[str]
    live_rows: Counts
    live_bytes: Counts
    dead_bytes: Counts
    unknown: npt.NDArray[np.bool_]
    live: npt.NDArray[np.bool_]

    def needed(self) -> npt.NDArray[np.bool_]:
        return np.asarray((self.live_rows > 0) | self.unknown)


def undisturbed(core: VaultCore, work: Callable[[], T]) -> T:
    """``work``, again if it found damage while others appended records: what a record they wrote
    let go may be deleted at once, and its absence is no damage."""
    while True:
        before = core.state.sequence
        try:
            return work()
        except IntegrityError:
            core.refresh()
            if core.state.sequence == before:
                raise


def needed_points(state: LogState) -> dict[str, Point]:
    """Points whose chunks must stay: live ones, and expired ones an open session pins."""
    return {**state.points, **state.expired}


def liveness_of(core: VaultCore, state: LogState) -> Liveness:
    """Compute from refsets. IntegrityError (RefsetDamaged) when one cannot be read: nothing may be
    judged dead then."""
    points = needed_points(state)
    live = np.zeros(state.next_ordinal, bool)
    for ordinals in refsets_of(core, points.values()):
        refset.mark(live, ordinals)
    count = state.next_pack
    live_rows, live_bytes, dead_bytes = (np.zeros(count, np.int64) for _ in range(3))
    unknown = np.zeros(count, bool)
    with core.lock:
        for table_id, entry in state.tables.items():
            base = entry.table.base
            if table_id in core.lost_tables:
                unknown[list(entry.numbers)] = True
                continue
            rows = core.index.view(base, entry.table.rows)
            alive = live[base : base + entry.table.rows]
            packs, lengths = rows["pack"].astype(np.int64), rows["clen"]
            live_rows += _by_pack(packs[alive], count)
            live_bytes += _by_pack(packs[alive], count, lengths[alive])
            dead_bytes += _by_pack(packs[~alive], count, lengths[~alive])
    names = frozenset(point.op.refset.name for point in points.values())
    return Liveness(state.sequence, names, live_rows, live_bytes, dead_bytes, unknown, live)


def _by_pack(packs: Counts, count: int, weights: npt.NDArray[np.uint32] | None = None) -> Counts:
    """Rows, or sums of weights, by number of pack. A row that another thread has followed into a
    pack newer than the state is in none of the state's."""
    return np.bincount(packs, weights, minlength=count)[:count].astype(np.int64)


def refsets_of(core: VaultCore, points: Iterable[Point]) -> Iterable[refset.Ordinals]:
    """The refset of each point. IntegrityError (RefsetDamaged) naming the point."""
    for point in points:
        try:
            yield core.refset_of(point)
        except HoldfastError as error:
            if error.retry != "never":
                raise
            raise IntegrityError(
                f"the refset of recovery point {point.op.rp_id} cannot be read: {error.message}",
                code="RefsetDamaged",
                hint="Nothing is collected while it is unreadable. Expire that point, or put the "
                "object back from a copy of the store.",
            ) from error


def packs_touched(core: VaultCore, state: LogState, points: Iterable[Point]) -> set[bytes]:
    """Ids of the packs in which these points have chunks, and of those whose table this process has
    lost: it cannot tell what lies in them, and the plan may be another's. Caller holds the lock."""
    return packs_holding(core, state, refsets_of(core, points))


def packs_holding(
    core: VaultCore, state: LogState, needed: Iterable[refset.Ordinals]
) -> set[bytes]:
    """Ids of the packs in which these chunks lie, and of those whose table this process has lost.
    Caller holds the lock."""
    numbers: set[int] = set()
    for ordinals in needed:
        rows = core.index.rows(ordinals.astype(np.int64))
        numbers.update(np.unique(rows["pack"]).tolist())
    touched = {pack_id for pack_id, entry in state.packs.items() if entry.ordinal in numbers}
    return touched.union(*(state.tables[table_id].all_packs for table_id in core.lost_tables))
