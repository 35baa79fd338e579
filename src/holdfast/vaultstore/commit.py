"""Commit: a session's packs and root become a recovery point.

The walk over pages runs outside the lock and only gathers ids. Under the lock every id is resolved
against the state the record is appended to, so whatever was condemned meanwhile is found missing
and sent again, never referenced. Losing the race for a record resolves again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from holdfast.errors import ConflictError, IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout, log, refset
from holdfast.vaultstore.chain import create_own
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.ingest import Ingest
from holdfast.vaultstore.points import record_of
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.references import References, Resolver
from holdfast.vaultstore.state import LogState, SessionEntry
from holdfast.vaultstore.values import CommitRequest, RecoveryPointRecord
from holdfast.vaultstore.vaultclock import to_ns

_MS = 1_000_000  # [ns]
_ID_SPAN = 1_000_000  # recovery point ids of one millisecond


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
        container = entry.opened.container
        found = self._references(session_id, request.root_id[:32], container)
        refsets: dict[bytes, log.RefsetNamed] = {}

        def committing(state: LogState) -> Sequence[log.Operation]:
            now = core.session(session_id, "backup")
            if self._known(state, now) is not None:
                return ()
            self._require_newest(state, now)
            ordinals = refset.normal(self._resolver.resolve(found, container).astype(np.uint64))
            rp_id, time_ns = self._identity(state, now, request)
            named = self._write_refset(rp_id, session_id + refset.encode_refset(ordinals), refsets)
            named = msgspec.structs.replace(named, count=len(ordinals))
            sent = state.bytes_sent_for(now.opened.item_key, now.opened.job_id)
            operation = self._operation(now, request, found, (rp_id, time_ns, named))
            return (msgspec.structs.replace(operation, stored_bytes=sent),)

        with core.lock:
            state = core.append(committing)
            self._ingest.forget(session_id)
            job = (entry.opened.item_key, entry.opened.job_id)
            return record_of(state.points[state.by_job[job]])

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

    def _write_refset(
        self, rp_id: str, body: bytes, written: dict[bytes, log.RefsetNamed]
    ) -> log.RefsetNamed:
        core = self._core
        key = rp_id.encode() + body
        if key not in written:
            data = core.seal.seal(ObjectKind.REFSET, body)
            digest = hash_object(data)
            name = f"{rp_id}-{digest[:4].hex()}"
            create_own(core.objects, layout.refset_key(name), data)
            written[key] = log.RefsetNamed(name=name, hash=digest, count=0)
        return written[key]

    @staticmethod
    def _operation(
        entry: SessionEntry,
        request: CommitRequest,
        found: References,
        identity: tuple[str, int, log.RefsetNamed],
    ) -> log.PointCommitted:
        facts, claims = request.facts, request.claims
        if found.root.findings_count > claims.findings_count:
            claims = msgspec.structs.replace(claims, findings_count=found.root.findings_count)
        rp_id, time_ns, named = identity
        return log.PointCommitted(
            session_id=entry.opened.session_id,
            rp_id=rp_id,
            item_key=entry.opened.item_key,
            job_id=entry.opened.job_id,
            parent=entry.opened.parent,
            root_id=request.root_id[:32],
            refset=named,
            time_ns=time_ns,
            type=facts.type,
            scheduled=facts.scheduled,
            tags=facts.tags,
            retain_until_ns=None if facts.retain_until is None else to_ns(facts.retain_until),
            logical_bytes=sum(stream.logical_bytes for stream in found.root.streams),
            stored_bytes=0,
            item_document=facts.item_document,
            claims=msgspec.to_builtins(claims),
        )
