"""Commit: a session's packs and root become a recovery point.

The walk over pages runs outside the lock and only gathers ids. Every id is then resolved, and the
refset written, before the record's turn comes. When it does, and no pack was condemned since, the
chunks found are in use in the very state the record is appended to; else every id is resolved
again, so whatever was condemned meanwhile is found missing and sent again, never referenced. So it
is after losing the race for a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from holdfast.errors import ConflictError, IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout, locking, log, refset
from holdfast.vaultstore.chain import create_own
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.holding import locking_these
from holdfast.vaultstore.ingest import Ingest
from holdfast.vaultstore.liveness import packs_holding
from holdfast.vaultstore.points import record_of
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.references import References, Resolver
from holdfast.vaultstore.state import LogState, SessionEntry
from holdfast.vaultstore.values import CommitRequest, RecoveryPointRecord
from holdfast.vaultstore.vaultclock import to_ns

_MS = 1_000_000  # [ns]
_ID_SPAN = 1_000_000  # recovery point ids of one millisecond


@dataclass(frozen=True, slots=True)
class Draft:
    """A point to be, whose refset is written. ``usable``: which packs were in use, by number, when
    its chunks were looked up; in which they lay then, as far as the vault is immutable, and after
    how many ``moves``."""

    rp_id: str
    time_ns: int
    named: log.RefsetNamed
    usable: npt.NDArray[np.bool_]
    needed: refset.Ordinals
    packs: frozenset[bytes] | None
    moves: int


class Commits:
    """Makes recovery points of one vault."""

    def __init__(self, core: VaultCore, ingest: Ingest) -> None:
        self._core = core
        self._ingest = ingest
        self._resolver = Resolver(core)

    def commit(self, session_id: bytes, request: CommitRequest) -> RecoveryPointRecord:
        """Make the point, or return the one this job already made."""
        core = self._core
        with core.lock:
            core.refresh()
            entry = core.session(session_id, "backup")
            known = self._known(core.state, entry)
            if known is not None:
                return known
            self._require_newest(core.state, entry)
        self._ingest.checkpoint(session_id, request.receipts)
        found = self._references(session_id, request.root_id[:32], entry.opened.container)
        draft = self._drafted(session_id, found, request)

        def committing(state: LogState) -> Sequence[log.Operation]:
            nonlocal draft
            now = core.session(session_id, "backup")
            if self._known(state, now) is not None:
                return ()
            self._require_newest(state, now)
            if not self._holds(state, draft):
                draft = self._drafted(session_id, found, request)
            sent = state.bytes_sent_for(now.opened.item_key, now.opened.job_id)
            operation = self._operation(now, request, found, draft)
            locks = self._locks(state, request, draft)
            return (msgspec.structs.replace(operation, stored_bytes=sent), *locks)

        after = core.share(committing)
        self._ingest.forget(session_id)
        return record_of(after.points[after.by_job[entry.opened.item_key, entry.opened.job_id]])

    def _drafted(self, session_id: bytes, found: References, request: CommitRequest) -> Draft:
        """Look the chunks up and write the refset, which no record names yet. The lock is not held
        while it is written, unless the caller does."""
        core = self._core
        with core.lock:
            core.sync()
            entry = core.session(session_id, "backup")
            usable = core.usable
            ordinals = refset.normal(
                self._resolver.resolve(found, entry.opened.container).astype(np.uint64)
            )
            rp_id, time_ns = self._identity(core.state, entry, request)
            packs = None
            if locking.is_immutable(core.state):
                packs = frozenset(packs_holding(core, core.state, [ordinals]))
            moves = core.moves
        named = self._write_refset(rp_id, session_id + refset.encode_refset(ordinals))
        named = msgspec.structs.replace(named, count=len(ordinals))
        return Draft(rp_id, time_ns, named, usable, ordinals, packs, moves)

    def _locks(
        self, state: LogState, request: CommitRequest, draft: Draft
    ) -> Sequence[log.Operation]:
        """What locks the point and its packs, in an immutable vault."""
        asked = request.facts.lock_until
        until_ns = to_ns(asked) if asked is not None else 0
        if not locking.is_immutable(state) or not locking.is_locked(until_ns, state):
            return ()
        packs = draft.packs
        if packs is None or self._core.moves != draft.moves:  # chunks may lie elsewhere since
            packs = frozenset(packs_holding(self._core, state, [draft.needed]))
        lock = log.PointLock(rp_id=draft.rp_id, until_ns=until_ns)
        return (log.PointsLocked(points=(lock,)), *locking_these(state, packs, until_ns))

    def _holds(self, state: LogState, draft: Draft) -> bool:
        """Whether a draft may become true after ``state``: no pack was condemned since its chunks
        were looked up, and nobody else has its id."""
        usable = self._core.usable[: len(draft.usable)]
        taken = draft.rp_id in state.points or draft.rp_id in state.expired
        return not taken and np.array_equal(usable, draft.usable)

    def _references(self, session_id: bytes, root_id: bytes, container: str) -> References:
        """What the root refers to. When pages cannot be read because the session was ended
        meanwhile, which lets a collect delete them, that is said."""
        try:
            return self._resolver.references(root_id, container)
        except (IntegrityError, ObjectMissingError):
            self._core.refresh()
            self._core.session(session_id, "backup")
            raise

    @staticmethod
    def _known(state: LogState, entry: SessionEntry) -> RecoveryPointRecord | None:
        opened = entry.opened
        rp_id = state.by_job.get((opened.item_key, opened.job_id))
        if rp_id is not None:
            return record_of(state.points[rp_id])
        if entry.committed is not None:
            raise ConflictError(
                f"recovery point {entry.committed} of this job was deleted since",
                code="RecoveryPointDeleted",
            )
        return None

    @staticmethod
    def _require_newest(state: LogState, entry: SessionEntry) -> None:
        if state.item_commits.get(entry.opened.item_key, 0) >= entry.sequence:
            raise ConflictError(
                f"another recovery point of {entry.opened.item_key} was made since this session "
                "began",
                code="ParentStale",
                hint="Start the job again.",
            )

    def _identity(
        self, state: LogState, entry: SessionEntry, request: CommitRequest
    ) -> tuple[str, int]:
        """Id and time of the point: later than every point its item has, whatever the clock."""
        time_ns = to_ns(request.facts.time)
        own = [*state.by_item.get(entry.opened.item_key, ())]
        own += [rp for rp, p in state.expired.items() if p.op.item_key == entry.opened.item_key]
        least = 0
        for rp_id in own:
            point = state.points.get(rp_id) or state.expired[rp_id]
            time_ns = max(time_ns, point.op.time_ns + _MS)
            least = max(least, int(rp_id) + 1)
        number = time_ns // _MS * _ID_SPAN
        number += int.from_bytes(self._core.rng.token(4), "little") % _ID_SPAN
        number = max(number, least)
        while str(number) in state.points or str(number) in state.expired:
            number += 1
        return str(number), time_ns

    def _write_refset(self, rp_id: str, body: bytes) -> log.RefsetNamed:
        core = self._core
        data = core.seal.seal(ObjectKind.REFSET, body)
        digest = hash_object(data)
        name = f"{rp_id}-{digest[:4].hex()}"
        create_own(core.objects, layout.refset_key(name), data)
        return log.RefsetNamed(name=name, hash=digest, count=0)

    @staticmethod
    def _operation(
        entry: SessionEntry,
        request: CommitRequest,
        found: References,
        draft: Draft,
    ) -> log.PointCommitted:
        facts, claims = request.facts, request.claims
        if found.root.findings_count > claims.findings_count:
            claims = msgspec.structs.replace(claims, findings_count=found.root.findings_count)
        return log.PointCommitted(
            session_id=entry.opened.session_id,
            rp_id=draft.rp_id,
            item_key=entry.opened.item_key,
            job_id=entry.opened.job_id,
            parent=entry.opened.parent,
            root_id=request.root_id[:32],
            refset=draft.named,
            time_ns=draft.time_ns,
            type=facts.type,
            scheduled=facts.scheduled,
            tags=facts.tags,
            retain_until_ns=None if facts.retain_until is None else to_ns(facts.retain_until),
            logical_bytes=sum(stream.logical_bytes for stream in found.root.streams),
            stored_bytes=0,
            item_document=facts.item_document,
            claims=msgspec.to_builtins(claims),
        )
