"""Sees everything and is never lied to: checks what must hold after every change of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import HoldfastError
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.testing.simulation.horizons import HorizonWatch
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.frames import ChunkReader
from holdfast.vaultstore.state import LogState, PackEntry, Point
from holdfast.vaultstore.values import Unlock
from holdfast.vaultstore.vault import Vault


class BrokenInvariantError(AssertionError):
    """The vault did what it must never do."""


class Observer:
    """Follows the log through a vault of its own, opened on the true store."""

    def __init__(
        self, store: MemoryStore, vault_id: bytes, unlock: Unlock, horizons: HorizonWatch
    ) -> None:
        self._store = store
        self._prefix = layout.vault_prefix(vault_id)
        clock, rng = MovableClock(), SeededRandom(0)
        self.vault = Vault.open(store, vault_id, unlock, clock=clock, rng=rng)
        self._packs_of: dict[str, frozenset[bytes]] = {}
        self._moves = 0
        points = self.vault._core.state.points
        self._seen = set(points)
        self._condemned: set[bytes] = set()
        self._newest = {point.op.item_key: point.sequence for point in points.values()}
        self.horizons = horizons
        horizons.begin(self.vault._core.state)
        self.checked_deletes = self.checked_moves = 0
        self.shared_records = 0

    def created(self, key: str) -> None:
        """After a create: a new record refers only to what is there."""
        if key.startswith(self._prefix + layout.LOG):
            with _no_error(f"after record {key}"):
                self._follow(key)

    def _follow(self, key: str) -> None:
        before = self.vault.head[0]
        self.vault.refresh()
        if self.vault.head[0] != before + 1:
            raise BrokenInvariantError(f"record {key} does not follow record {before}")
        record = self.vault._core.chain.read(before + 1)
        if record is None:
            raise BrokenInvariantError(f"record {key} is not there")
        self._count_shared(record)
        state = self.vault._core.state
        if self.vault._core.moves != self._moves:
            self._moved(state)
        for rp_id in state.points.keys() - self._seen:
            self._seen.add(rp_id)
            self._require_newest(state.points[rp_id], rp_id)
            for pack_id in self._packs(rp_id):
                self._require_pack(rp_id, pack_id)
        condemned = {p for p, entry in state.packs.items() if entry.condemned_at is not None}
        for pack_id in condemned - self._condemned:
            self._require_unneeded(pack_id, "was condemned")
        self._condemned = condemned
        self.horizons.record(record, state, self._packs)

    def _moved(self, state: LogState) -> None:
        """After frames were moved: whatever a point needs lies whole where it is said to."""
        self._moves = self.vault._core.moves
        self._packs_of.clear()
        for rp_id in self._seen & state.points.keys():
            for pack_id in self._packs(rp_id):
                self._require_pack(rp_id, pack_id)
        for entry in state.packs.values():
            if entry.births and entry.added_sequence == state.sequence:
                self._require_readable(entry)

    def _require_readable(self, entry: PackEntry) -> None:
        """Every frame that was moved into a pack is what it was."""
        core = self.vault._core
        rows = core.index.rows(core.ordinals_of(entry).astype(np.int64))
        for _ in ChunkReader(core).read(rows):
            self.checked_moves += 1

    def _count_shared(self, record: log.LogRecord) -> None:
        kinds = (log.SessionOpened, log.PacksAdded, log.PointCommitted)
        self.shared_records += sum(isinstance(op, kinds) for op in record.operations) > 1

    def deleted(self, key: str) -> None:
        """After a delete: nothing is gone that a point or an open session needs."""
        name = key.removeprefix(self._prefix)
        if name.startswith((layout.LOG, "keyring/")) or name == layout.DESCRIPTOR:
            raise BrokenInvariantError(f"{name} was deleted")
        self.checked_deletes += 1
        self.horizons.deleted(name)
        with _no_error(f"after {name} was deleted"):
            self._require_needless(name)

    def _require_needless(self, name: str) -> None:
        self.vault.refresh()
        state = self.vault._core.state
        if name.startswith(layout.PACKS):
            pack_id = bytes.fromhex(name.rpartition("/")[2])
            self._require_unneeded(pack_id, "was deleted")
            self._require_fence_passed(pack_id)
        if name.startswith(layout.REFSETS):
            named = {point.op.refset.name for point in state.points.values()}
            if name.removeprefix(layout.REFSETS) in named:
                raise BrokenInvariantError(f"{name} of a live point was deleted")
        if name.startswith(layout.TABLES):
            table_id = bytes.fromhex(name.removeprefix(layout.TABLES))
            if table_id in state.tables and state.is_live_table(table_id):
                raise BrokenInvariantError(f"{name} of live packs was deleted")

    def _require_unneeded(self, pack_id: bytes, what: str) -> None:
        state = self.vault._core.state
        for rp_id in (*state.points, *state.expired):
            if pack_id in self._packs(rp_id):
                raise BrokenInvariantError(f"{pack_id.hex()} {what}; point {rp_id} needs it")

    def _require_fence_passed(self, pack_id: bytes) -> None:
        """Who was in session before a pack was condemned may still read it."""
        state = self.vault._core.state
        entry = state.packs.get(pack_id)
        at = entry.condemned_at if entry is not None else None
        if at is not None and any(other.sequence < at for other in state.sessions.values()):
            raise BrokenInvariantError(f"{pack_id.hex()} was deleted before its fence was passed")

    def _require_newest(self, point: Point, rp_id: str) -> None:
        """Nobody commits who began before the item's newest point was made."""
        item = point.op.item_key
        began = self.vault._core.state.sessions[point.op.session_id].sequence
        if self._newest.get(item, 0) > began:
            raise BrokenInvariantError(f"point {rp_id} was committed by a session that is too old")
        self._newest[item] = point.sequence

    def _require_pack(self, rp_id: str, pack_id: bytes) -> None:
        entry = self.vault._core.state.packs.get(pack_id)
        if entry is None or entry.condemned_at is not None:
            raise BrokenInvariantError(f"point {rp_id} was committed on a condemned pack")
        key = self._prefix + layout.pack_key(entry.pack.session_id, pack_id)
        if self._store.size(key) != entry.pack.size:
            raise BrokenInvariantError(f"point {rp_id} was committed without its pack {key}")

    def _packs(self, rp_id: str) -> frozenset[bytes]:
        """The packs in which a point's chunks lie, by its refset."""
        if rp_id not in self._packs_of:
            core = self.vault._core
            point = core.state.points.get(rp_id) or core.state.expired[rp_id]
            rows = core.index.rows(core.refset_of(point).astype(np.int64))
            numbers = np.unique(rows["pack"]).tolist()
            self._packs_of[rp_id] = frozenset(core.pack_names[number] for number in numbers)
        return self._packs_of[rp_id]


@contextmanager
def _no_error(when: str) -> Iterator[None]:
    """What the observer cannot read is not there: nobody lies to it."""
    try:
        yield
    except HoldfastError as error:
        raise BrokenInvariantError(f"{when}: {error}") from error
