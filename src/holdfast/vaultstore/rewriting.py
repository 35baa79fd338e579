"""Which packs are worth rewriting, and which of them share a new one. Pure rules.

A pack most of whose bytes nothing needs costs room that only moving the rest gives back. Packs that
share a new one are of one container and one class, so that moving joins nothing that was apart.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from holdfast.vaultstore import locking
from holdfast.vaultstore.liveness import Liveness
from holdfast.vaultstore.pack import MAX_ROWS
from holdfast.vaultstore.state import LogState, PackEntry

MAX_BIRTHS = 256  # packs in which the frames of one pack may have been born (32 KiB of header)
HEAD_BYTES = 512  # of a header without origins, about
ORIGIN_BYTES = 128
ROW_BYTES = 74


@dataclass(frozen=True, slots=True)
class Sparse:
    """A pack worth rewriting: what of it is needed [frames, bytes], and whose it is."""

    entry: PackEntry
    container: str
    live_rows: int
    live_bytes: int

    @property
    def copy_bytes(self) -> int:
        """What its needed frames take in another pack, about."""
        return self.live_bytes + ROW_BYTES * self.live_rows + ORIGIN_BYTES * self.births

    @property
    def births(self) -> int:
        """Packs in which its frames may have been born."""
        return 1 + len(self.entry.births)

    @property
    def group(self) -> tuple[str, int]:
        return self.container, self.entry.pack.pack_class


def sparse_packs(
    state: LogState, liveness: Liveness, below: float, spare_jobs: Collection[bytes] = ()
) -> list[Sparse]:
    """Packs of which a smaller share than ``below`` (0 to 1, by bytes) is needed, by group and then
    in the order they came in, so that a new pack joins what few tables speak of. Spared: those
    sent for a job that still runs or is in ``spare_jobs``, those of which something is unknown, and
    those that are locked: they could not go when they are empty."""
    jobs = {entry.opened.job_id for entry in state.sessions.values()} | set(spare_jobs)
    found = []
    for entry in state.packs.values():
        if entry.ordinal >= len(liveness.live_rows):
            continue  # it is newer
        number, owner = entry.ordinal, state.sealing_keys[entry.pack.session_id]
        rows = int(liveness.live_rows[number])
        lives, dead = int(liveness.live_bytes[number]), int(liveness.dead_bytes[number])
        fits = entry.condemned_at is None and rows > 0 and not bool(liveness.unknown[number])
        fits &= not locking.is_locked(entry.lock_until_ns, state)
        one = Sparse(entry, owner.container, rows, lives)
        saves = one.copy_bytes + HEAD_BYTES < entry.pack.size
        if fits and saves and lives < below * (lives + dead) and owner.job_id not in jobs:
            found.append(one)
    return sorted(found, key=lambda one: (one.group, one.entry.ordinal))


def batches_of(sparse: Sequence[Sparse], target_bytes: int) -> list[list[Sparse]]:
    """What goes into one new pack each, of about ``target_bytes`` at most; in the order given."""
    batches: list[list[Sparse]] = []
    rows = size = births = 0
    for one in sparse:
        rows, size, births = (
            rows + one.live_rows,
            size + one.copy_bytes,
            births + one.births,
        )
        full = rows > MAX_ROWS or size > target_bytes or births > MAX_BIRTHS
        if not batches or full or batches[-1][0].group != one.group:
            batches.append([])
            rows, size, births = one.live_rows, one.copy_bytes, one.births
        batches[-1].append(one)
    return [batch for batch in batches if saved_by(batch) > 0]


def copied_by(batch: Sequence[Sparse]) -> int:
    """Bytes that a new pack of these takes, about."""
    return HEAD_BYTES + sum(one.copy_bytes for one in batch)


def saved_by(batch: Sequence[Sparse]) -> int:
    """Bytes that rewriting these gives back in the end, about."""
    return sum(one.entry.pack.size for one in batch) - copied_by(batch)


def table_bytes(state: LogState, batch: Sequence[Sparse]) -> int:
    """Size of the tables that speak of these, which are written anew."""
    packs = {one.entry.pack.pack_id for one in batch}
    tables = state.tables.values()
    return sum(one.table.size for one in tables if not packs.isdisjoint(one.all_packs))
