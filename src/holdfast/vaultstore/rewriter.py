"""Rewriting sparsely needed packs: move what is needed, say so in the log, leave the rest behind.

Order: the new pack is durable, then the tables that say where its chunks lie, then one record that
makes both count. Ordinals stay, so no recovery point changes. The old packs hold nothing needed
from then on, and go the way of all such packs: condemned, fenced, swept. Until that record nothing
has changed, and what was written is a leftover of a session; a rewriter that was overtaken, by a
condemning, a repair or another rewriter, is refused by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from holdfast.errors import ConflictError, StoreFullError
from holdfast.vaultstore import layout, log, refset
from holdfast.vaultstore.chain import create_own
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.index import Flags
from holdfast.vaultstore.liveness import Liveness
from holdfast.vaultstore.moving import (
    Moved,
    Pay,
    Source,
    SourceUnreadableError,
    move,
    source_of,
)
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.reserve import append_freeing
from holdfast.vaultstore.rewriting import Sparse, batches_of, copied_by, sparse_packs, table_bytes
from holdfast.vaultstore.session import LOW_SPACE_PACKS, SessionAsked, Sessions
from holdfast.vaultstore.state import LogState, TableEntry
from holdfast.vaultstore.table import Table, encode_table, table_of

ITEM = "holdfast;rewrite"


@dataclass(slots=True)
class Rewritten:
    """What a run did: packs it emptied of all that was needed, bytes of new packs. ``full``: it
    stopped for want of room; ``left``: there is more to do."""

    emptied: list[bytes] = field(default_factory=list)
    written_bytes: int = 0
    full: bool = False
    left: bool = False


class StoppedError(Exception):
    """A move was cancelled on its way; nothing came of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """``may_go_on`` is asked between steps. ``pay`` waits until a request that moves so many bytes
    may be made, or raises StoppedError."""

    may_go_on: Callable[[], bool]
    pay: Pay


class Rewriter:
    """Rewrites packs of one vault. ``target_bytes``: about the size of a new pack."""

    def __init__(self, core: VaultCore, sessions: Sessions, target_bytes: int) -> None:
        self._core = core
        self._sessions = sessions
        self.target_bytes = target_bytes

    def run(self, packs: Collection[bytes], found: Liveness, limits: Limits) -> Rewritten:
        """Rewrite those of the named packs that are worth it still. ``found`` may be older than
        the log: it says what to move, and what came to be needed since stays where it is."""
        result = Rewritten()
        wanted = set(packs)
        state = self._core.state
        sparse = [one for one in sparse_packs(state, found, 1.0) if _id(one) in wanted]
        batches = batches_of(sparse, self.target_bytes)
        try:
            for container, group in groupby(batches, lambda batch: batch[0].container):
                self._container(container, list(group), found.live, limits, result)
        except StoreFullError:
            result.full = result.left = True
        except StoppedError:
            result.left = True
        except ConflictError as error:  # somebody ended the session
            if error.code != "SessionEnded":
                raise
            result.left = True
        return result

    def _container(
        self,
        container: str,
        batches: Sequence[Sequence[Sparse]],
        live: Flags,
        limits: Limits,
        result: Rewritten,
    ) -> None:
        """Rewrite packs of one container, under a session of its own."""
        if not self._may_begin(batches[0], limits, result):
            return
        job_id = self._core.rng.token(16)
        asked = SessionAsked(
            kind="rewrite", container=container, item_key=ITEM, job_id=job_id, attempt=1, pins=()
        )
        grant = self._sessions.begin(asked)
        try:
            for batch in batches:
                if not self._may_begin(batch, limits, result):
                    break
                self._batch(grant, batch, live, limits, result)
        finally:
            self._sessions.end(grant.session_id)

    def _may_begin(self, batch: Sequence[Sparse], limits: Limits, result: Rewritten) -> bool:
        """Whether there is time and room: what a backup needs to begin is left to backups."""
        if result.full or not limits.may_go_on():
            result.left = True
            return False
        free = self._core.objects.free_bytes()
        needed = copied_by(batch) + table_bytes(self._core.state, batch)
        if free is not None and free < needed + LOW_SPACE_PACKS * self.target_bytes:
            result.full = result.left = True
        return not result.full

    def _batch(
        self,
        grant: SessionGrant,
        batch: Sequence[Sparse],
        live: Flags,
        limits: Limits,
        result: Rewritten,
    ) -> None:
        """Move what is needed of some packs into one. A pack that cannot be read is left out."""
        core = self._core
        unreadable: set[bytes] = set()
        while True:
            core.require_sound()
            with core.lock:
                sources = self._sources(batch, live, unreadable)
            if not sources:
                return
            try:
                moved = move(core, grant, sources, limits.pay)
            except SourceUnreadableError as error:
                unreadable.add(error.pack_id)
                core.refresh()
                continue
            if self._record(grant, sources, moved):
                result.emptied += [one.entry.pack.pack_id for one in sources]
                result.written_bytes += moved.made.pack.size
            return

    def _sources(
        self, batch: Sequence[Sparse], live: Flags, unreadable: Collection[bytes]
    ) -> list[Source]:
        """What is to be moved of packs that are still there, and of which nothing is damaged."""
        core, found = self._core, []
        for one in batch:
            entry = core.state.packs.get(_id(one))
            if entry is None or entry.condemned_at is not None or _id(one) in unreadable:
                continue
            source = source_of(core, entry, live)
            damaged = bool(refset.contains(core.damaged, source.ordinals).any())
            if len(source.ordinals) and not damaged:
                found.append(source)
        return found

    def _record(self, grant: SessionGrant, sources: Sequence[Source], moved: Moved) -> bool:
        """Let the moved rows count; False when somebody was faster."""
        core = self._core
        with core.lock:
            core.refresh()
            core.session(grant.session_id, "rewrite")
            if not self._is_as_read(moved):
                return False
            tables = self._new_tables(grant, moved)
            names = tuple(one.entry.pack.pack_id for one in sources)

            def moving(state: LogState) -> Sequence[log.Operation]:
                core.session(grant.session_id, "rewrite")
                there = [state.packs.get(name) for name in names]
                if any(one is None or one.condemned_at is not None for one in there):
                    return ()
                if any(op.table_id not in state.tables for op, _ in tables):
                    return ()
                for op, table in tables:
                    core.keep_built(op.table.table_id, table)
                return (
                    log.PacksRewritten(
                        session_id=grant.session_id,
                        sources=names,
                        packs=(moved.made,),
                        tables=tuple(op for op, _ in tables),
                    ),
                )

            after = append_freeing(core, moving)
            return moved.made.pack.pack_id in after.packs

    def _is_as_read(self, moved: Moved) -> bool:
        """Whether the chunks lie where they were read. Caller holds the lock."""
        rows = self._core.index.rows(moved.ordinals.astype(np.int64))
        return bool((rows["pack"] == moved.rows["pack"]).all())

    def _new_tables(
        self, grant: SessionGrant, moved: Moved
    ) -> list[tuple[log.TableReplaced, Table]]:
        """Write the tables of the moved rows anew. Caller holds the lock."""
        core, found = self._core, []
        for table_id, entry in core.state.tables.items():
            first, end = entry.table.base, entry.table.base + entry.table.rows
            here = (moved.ordinals >= first) & (moved.ordinals < end)
            if not bool(here.any()):
                continue
            table = self._table(grant, entry, moved, here)
            data = core.seal.seal(ObjectKind.TABLE, encode_table(table))
            added = log.TableAdded(
                table_id=core.rng.token(16),
                base=entry.table.base,
                rows=entry.table.rows,
                size=len(data),
                hash=hash_object(data),
            )
            create_own(core.objects, layout.table_key(added.table_id), data)
            own = (moved.made.pack.pack_id,)
            found.append((log.TableReplaced(table_id=table_id, table=added, packs=own), table))
        return found

    def _table(self, grant: SessionGrant, entry: TableEntry, moved: Moved, here: Flags) -> Table:
        """A table whose moved rows say where they are now. The others stay as they are."""
        core, base = self._core, entry.table.base
        rows = core.index.view(base, entry.table.rows).copy()
        rows["pack"] = entry.places_of(rows["pack"])
        at = (moved.ordinals[here] - np.uint64(base)).astype(np.int64)
        for name in ("offset", "frame", "origin", "birth_frame"):
            rows[name][at] = moved.rows[name][here]
        rows["pack"][at] = len(entry.all_packs)
        rows["writer"] = 0
        container = core.state.sessions[grant.session_id].opened.container
        names = (*entry.all_packs, moved.made.pack.pack_id)
        return table_of(grant.session_id, container, names, rows)


def _id(one: Sparse) -> bytes:
    return one.entry.pack.pack_id
