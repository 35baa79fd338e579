"""What every part of the vault service stands on: store, rings, log, index, and the one lock.

``VaultCore`` keeps the index in step with the log: after each record read or appended, tables that
joined are loaded (from the sealed object, or from the packs' trailers when it is damaged) and packs
that were condemned stop being usable. All of it is guarded by ``lock``.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from holdfast.errors import (
    ConflictError,
    HoldfastError,
    IntegrityError,
    NotFoundError,
    ObjectMissingError,
)
from holdfast.ports.clock import Clock, Random
from holdfast.vaultstore import layout, log, refset
from holdfast.vaultstore.chain import Build, Chain
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.group import Group
from holdfast.vaultstore.index import ChunkIndex, Usable
from holdfast.vaultstore.keys import unwrap_session_key
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.rings import Rings
from holdfast.vaultstore.rowstore import RowStore
from holdfast.vaultstore.state import LogState, PackEntry, Point, SessionEntry, TableEntry
from holdfast.vaultstore.table import Bytes2D, Rows, Table, build_table, decode_table, empty_rows
from holdfast.vaultstore.trailers import rows_of_pack
from holdfast.vaultstore.vaultclock import VaultClock

UNOPENED, UNINDEXED = -1, -2  # instead of the record that the index is in step with
SESSION_BYTES = 16  # the body of a refset object begins with the session that wrote it


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The ports a writing vault has besides its store."""

    clock: Clock
    rng: Random


class VaultCore:
    """One vault's shared state. ``surroundings`` is None in a read-only vault."""

    def __init__(
        self,
        objects: layout.VaultObjects,
        rings: Rings,
        chain: Chain,
        rows: RowStore,
        surroundings: Surroundings | None,
    ) -> None:
        self.lock = threading.RLock()
        self._group = Group()
        self.objects = objects
        self.rings = rings
        self.chain = chain
        self.seal = chain.seal
        self.surroundings = surroundings
        self.index = ChunkIndex(rows)
        self.usable = np.zeros(0, bool)
        self.pack_names: dict[int, bytes] = {}
        self.damaged_tables: dict[bytes, HoldfastError] = {}
        self.lost_tables: set[bytes] = set()
        self.damaged = refset.union(())
        self.damage_noted = b""  # how ``health`` has what is damaged
        self.quarantined: frozenset[str] = frozenset()
        self.unlogged: dict[bytes, SessionEntry] = {}  # restores from a log nothing is appended to
        self._rows = rows
        self.moves = 0  # how often rows of the index came to say that frames lie elsewhere
        self._loaded: set[bytes] = set()
        self._found: dict[int, bytes] = {}  # base and name of the tables the index finds
        self._built: dict[bytes, Table] = {}
        self._synced = UNOPENED
        self._session_keys: dict[bytes, bytes] = {}
        self._id_keys = rings.domain.id_keys
        self._vault_clock: VaultClock | None = None
        self._decided_ns: int | None = None  # when the record under way is decided

    @property
    def state(self) -> LogState:
        return self.chain.state

    @property
    def vault_id(self) -> bytes:
        return self.state.vault_id

    @property
    def rng(self) -> Random:
        return self.writing.rng

    @property
    def writing(self) -> Surroundings:
        if self.surroundings is None:
            raise ConflictError("this vault is opened for reading only", code="VaultReadOnly")
        return self.surroundings

    @property
    def clock(self) -> VaultClock:
        if self._vault_clock is None:
            self._vault_clock = VaultClock(self.writing.clock, self.state.time_ns)
        return self._vault_clock

    # following and appending

    def refuse_in_doubt(self) -> None:
        """IntegrityError (LogDamaged, LogRolledBack, LogForked) when nothing may be written."""
        doubt = self.chain.damage or self.chain.contradiction
        if doubt is not None:
            raise doubt

    def require_sound(self) -> None:
        """Before anything is deleted or written beside the log: the log is in no doubt, and the
        store still holds its head. As ``refuse_in_doubt``; IntegrityError (LogCut)."""
        with self.lock:
            self.refuse_in_doubt()
            self.chain.require_head()

    def refresh(self) -> None:
        with self.lock:
            self.chain.refresh()
            self.sync()

    def append(self, build: Build) -> LogState:
        """Append one record; see ``Chain.append``. ``build`` sees a core in step with its state."""

        def in_step(state: LogState) -> Sequence[log.Operation]:
            self.sync()
            self._decided_ns = None
            return build(state)

        def stamp(state: LogState) -> int:
            return self._decided_ns or self.clock.stamp_ns(state.time_ns)

        with self.lock:
            _ = self.writing
            after = self.chain.append(in_step, stamp)
            self.sync()
            return after

    def decide_at(self, state: LogState) -> LogState:
        """A state at the time [ns] that a record appended to it now will have; for a ``build`` that
        decides by horizons. Caller holds the lock."""
        self._decided_ns = self.clock.stamp_ns(state.time_ns)
        return replace(state, time_ns=self._decided_ns)

    def vault_time_ns(self) -> int:
        """The later of the log's head and, when it is trusted, the server's clock."""
        with self.lock:
            head_ns = self.state.time_ns
            return head_ns if self.surroundings is None else self.clock.stamp_ns(head_ns)

    def share(self, build: Build) -> LogState:
        """As ``append``, in one record with what other threads share at this moment; see ``Group``.
        For what sessions do; what drops or repairs has a record of its own."""
        return self._group.share(self.lock, build, self.append)

    def accept(self, build: Build) -> LogState:
        """Append a record though the log is in doubt, which ends the doubt. Caller holds the
        lock."""
        chain = self.chain
        before = chain.damage, chain.contradiction
        chain.damage = chain.contradiction = None
        try:
            return self.append(build)
        except BaseException:
            chain.damage, chain.contradiction = chain.damage or before[0], before[1]
            raise

    def keep_built(self, table_id: bytes, table: Table) -> None:
        """Remember a table this process made, so that it is not read back when it joins."""
        self._built[table_id] = table

    def sync(self) -> None:
        """Bring the index in step with the state."""
        state = self.state
        if state.sequence == self._synced:
            return
        if self._synced == UNOPENED:
            tables = state.tables.items()
            self.index.open_runs({one: (e.table.base, e.table.rows) for one, e in tables})
            self._found = self.index.by_base()
            self._loaded = set(self._found.values())
        for table_id, entry in state.tables.items():
            if table_id not in self._loaded:
                self._load(table_id, entry)
                self._loaded.add(table_id)
        self._loaded &= state.tables.keys()
        self.lost_tables &= state.tables.keys()
        self.usable = np.zeros(max(1, state.next_pack), bool)
        live = [entry.ordinal for entry in state.packs.values() if entry.condemned_at is None]
        self.usable[live] = True
        self.pack_names = {entry.ordinal: pack_id for pack_id, entry in state.packs.items()}
        self._built.clear()
        self._synced = state.sequence

    def _load(self, table_id: bytes, entry: TableEntry) -> None:
        base, count = entry.table.base, entry.table.rows
        if not self._rows.has_table(table_id, base, count):
            rows = self._rows_of(table_id, entry)
            if rows is None:
                self.lost_tables.add(table_id)
                self._rows.put(base, empty_rows(count))
                return
            numbers = np.array(entry.numbers, np.uint32)
            rows["pack"] = numbers[rows["pack"]]
            rows["writer"] = entry.container
            self._rows.put(base, rows)
            self._rows.note_table(table_id, base, count)
        self.moves += bool(entry.moved)
        if base in self._found:
            self.index.rename(self._found[base], table_id)
        else:
            self.index.add_stored(base, count, table_id)
        self._found[base] = table_id

    def _rows_of(self, table_id: bytes, entry: TableEntry) -> Rows | None:
        built = self._built.get(table_id)
        if built is not None:
            return built.rows.copy()
        try:
            return self.read_table(table_id, entry).rows
        except (IntegrityError, ObjectMissingError) as error:
            self.damaged_tables[table_id] = error
        return self._rows_from_packs(entry)

    def read_table(self, table_id: bytes, entry: TableEntry) -> Table:
        """Read and check a table object. IntegrityError, ObjectMissingError."""
        data = self.objects.read(layout.table_key(table_id))
        if hash_object(data) != entry.table.hash:
            raise IntegrityError("its hash is not the one in the log", code="TableDamaged")
        table = decode_table(self.seal.open(ObjectKind.TABLE, data))
        if len(table.rows) != entry.table.rows or table.header.packs != entry.all_packs:
            raise IntegrityError("it contradicts the log", code="TableDamaged")
        return table

    def _rows_from_packs(self, entry: TableEntry) -> Rows | None:
        """Rows of a lost table, from its packs' trailers; None when one of those is gone or lost,
        or when rows were moved: a trailer does not say which ordinals they had."""
        if entry.moved:
            return None
        packs = []
        try:
            for pack_id in entry.packs:
                packs.append((pack_id, rows_of_pack(self, self.state.packs[pack_id])))
        except (KeyError, HoldfastError):
            return None
        rows = build_table(b"", "", packs).rows
        return rows if len(rows) == entry.table.rows else None

    def check_cache(self) -> None:
        """Build the index anew when this node's cache of it is not what was put there: rows and
        runs are used without being read first, and disks flip bits."""
        with self.lock:
            tables = dict(self.state.tables)
        sound = self.index.is_sound()
        for table_id, entry in tables.items():
            with self.lock:
                lost = table_id in self.lost_tables
                sound &= lost or self._rows.is_sound(table_id, entry.table.base, entry.table.rows)
        if not sound:
            with self.lock:
                self.index = ChunkIndex(self._rows)
                self.index.drop_runs()
                self._found.clear()
                self._loaded.clear()
                self._synced = UNINDEXED
                self.sync()

    def rows_for_repair(self, table_id: bytes, entry: TableEntry) -> Rows | None:
        """The rows of a damaged table as it held them: out of its packs' trailers, or those this
        node read from it once; None when neither can be had. Caller holds the lock."""
        rows = self._rows_from_packs(entry)
        base, count = entry.table.base, entry.table.rows
        known = table_id not in self.lost_tables and self._rows.is_sound(table_id, base, count)
        if rows is None and known:
            rows = self.index.view(base, count).copy()
            rows["pack"] = entry.places_of(rows["pack"])
            rows["writer"] = 0
        return rows

    # questions

    def session(self, session_id: bytes, *kinds: str) -> SessionEntry:
        """An open session of one of these kinds. ConflictError (SessionEnded)."""
        entry = self.state.sessions.get(session_id) or self.unlogged.get(session_id)
        if entry is None:
            self._look_again()
            entry = self.state.sessions.get(session_id)
        if entry is None:
            raise ConflictError(
                f"session {session_id.hex()} is not open: it was closed, revoked or never opened",
                code="SessionEnded",
                hint="Start the job again; it takes over what was uploaded.",
            )
        if kinds and entry.opened.kind not in kinds:
            raise ConflictError(
                f"a {entry.opened.kind} session cannot do this", code="SessionKindWrong"
            )
        return entry

    def point(self, rp_id: str) -> Point:
        """A live point. NotFoundError (RecoveryPointMissing)."""
        point = self.state.points.get(rp_id)
        if point is None:
            self._look_again()
            point = self.state.points.get(rp_id)
        if point is None:
            raise NotFoundError(
                f"recovery point {rp_id} does not exist or has expired",
                code="RecoveryPointMissing",
                hint="List the item's recovery points.",
            )
        return point

    def _look_again(self) -> None:
        """Read what other processes appended, before saying that something does not exist."""
        if self.surroundings is not None and self.chain.doubt is None:
            self.refresh()

    def find(
        self,
        ids: Bytes2D,
        *,
        container: str | None = None,
        proofs: Bytes2D | None = None,
        excluded_packs: Collection[int] = (),
        within: refset.Ordinals | None = None,
        sound: bool = False,
    ) -> npt.NDArray[np.int64]:
        """Lowest usable ordinals of n x 32 ids, or -1; of one container's chunks or of all,
        and only ordinals ``within`` a set when one is given. ``sound``: none known damaged."""
        writer = None if container is None else self.state.containers.get(container, -1)
        if writer == -1:
            return np.full(len(ids), -1, np.int64)
        usable = self.usable
        if excluded_packs:
            usable = usable.copy()
            usable[list(excluded_packs)] = False
        without = self.damaged if sound and len(self.damaged) else None
        return self.index.find(ids, Usable(usable, writer, proofs, within, without))

    def note_damage(self, checked: refset.Ordinals, damaged: refset.Ordinals) -> None:
        """Remember which of the checked chunks are damaged: they answer absent, so that the next
        backup that holds them sends them anew. (``health`` keeps it for the next process.)"""
        with self.lock:
            others = refset.difference(self.damaged, checked)
            self.damaged = refset.union((others, damaged))

    def ordinals_of(self, entry: PackEntry) -> refset.Ordinals:
        """All chunks of a pack, as far as its tables are known. Caller holds the lock."""
        found: list[refset.Ordinals] = []
        for table in self.state.tables.values():
            if entry.pack.pack_id in table.all_packs:
                rows = self.index.view(table.table.base, table.table.rows)
                places = np.flatnonzero((rows["pack"] == entry.ordinal) & (rows["clen"] > 0))
                found.append((places + table.table.base).astype(np.uint64))
        return refset.union(found)

    def session_key(self, session_id: bytes) -> bytes:
        """The key that sealed a session's packs. IntegrityError (SessionKeyForged),
        ObjectMissingError when the last of them was collected."""
        key = self._session_keys.get(session_id)
        if key is None:
            sealing = self.state.sealing_keys.get(session_id)
            if sealing is None:
                raise ObjectMissingError(f"session {session_id.hex()} has no packs any more")
            key = unwrap_session_key(
                self.rings.domain,
                self.vault_id,
                session_id,
                sealing.container,
                sealing.epoch,
                sealing.wrapped_key,
            )
            self._session_keys[session_id] = key
        return key

    @property
    def id_keys(self) -> dict[int, bytes]:
        return self._id_keys

    def refset_of(self, point: Point) -> refset.Ordinals:
        """A point's chunks. IntegrityError (RefsetDamaged), ObjectMissingError."""
        named = point.op.refset
        data = self.objects.read(layout.refset_key(named.name))
        if hash_object(data) != named.hash:
            raise IntegrityError(
                f"refset {named.name} is not the one in the log", code="RefsetDamaged"
            )
        return refset.decode_refset(self.seal.open(ObjectKind.REFSET, data)[SESSION_BYTES:])
