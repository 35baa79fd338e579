"""Taking over what earlier attempts of a job uploaded, so that nothing is sent twice.

The packs join and the old sessions end in one record, which is valid only while the old sessions
are open. A collector deletes a session's unnamed packs only after that session has ended, so the
two can never both happen to a pack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from holdfast.errors import ConflictError, IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.ingest import Arrived, Ingest
from holdfast.vaultstore.seal import pack_key
from holdfast.vaultstore.state import SessionEntry
from holdfast.vaultstore.trailers import read_trailer, table_rows
from holdfast.vaultstore.values import Recovered


def recover_sessions(
    core: VaultCore, ingest: Ingest, job_id: bytes, new_session_id: bytes | None
) -> Recovered:
    """Check and add the packs of the job's earlier sessions, then end these. Idempotent. Nothing is
    taken over while the log is in doubt."""
    if core.chain.doubt is not None:
        return Recovered()
    core.refresh()
    with core.lock:
        old = [
            entry
            for session_id, entry in core.state.sessions.items()
            if entry.opened.job_id == job_id and session_id != new_session_id
        ]
    result = Recovered()
    for entry in old:
        result = _take_over(core, ingest, entry, new_session_id, result)
    return result


def _take_over(
    core: VaultCore,
    ingest: Ingest,
    entry: SessionEntry,
    new_session_id: bytes | None,
    so_far: Recovered,
) -> Recovered:
    session_id = entry.opened.session_id
    arrived: list[Arrived] = []
    refused = 0
    if entry.opened.kind == "backup" and entry.committed is None:
        for found in _stored_packs(core, entry):
            if found is None:
                refused += 1
            else:
                arrived.append(found)
    with core.lock:
        new = _join(core, ingest, session_id, new_session_id, arrived)
        ingest.forget(session_id)
    return Recovered(
        sessions_revoked=so_far.sessions_revoked + 1,
        packs_kept=so_far.packs_kept + len(new),
        bytes_kept=so_far.bytes_kept + sum(pack.added.size for pack in new),
        packs_refused=so_far.packs_refused + refused,
        committed=entry.committed or so_far.committed,
    )


def _join(
    core: VaultCore,
    ingest: Ingest,
    session_id: bytes,
    new_session_id: bytes | None,
    arrived: Sequence[Arrived],
) -> Sequence[Arrived]:
    """Add the packs and end their session in one record; those that joined by it. None when
    somebody else ended the session meanwhile. Caller holds the lock."""
    ending = log.SessionClosed(session_id=session_id, reason="replaced by a new attempt")
    if session_id not in core.state.sessions:
        return ()
    try:
        return ingest.add(new_session_id or session_id, arrived, (ending,))
    except ConflictError:
        if new_session_id is not None or session_id in core.state.sessions:
            raise
    return ()


def _stored_packs(core: VaultCore, entry: SessionEntry) -> Iterator[Arrived | None]:
    """Every stored pack of a session that is in no table yet; None for one that is not whole.

    A pack becomes visible only after ingest checked all its bytes and made it durable, so here its
    header and its sealed trailer are enough: they open only under this session's key.
    """
    session_id = entry.opened.session_id
    prefix = f"{layout.PACKS}{session_id.hex()}/"
    with core.lock:
        if session_id not in core.state.sessions:
            return
        session_key = core.session_key(session_id)
    sizes = {info.key: info.size for info in core.objects.list(prefix)}  # a listing may repeat
    for key, size in sizes.items():
        try:
            pack_id = bytes.fromhex(key[len(prefix) :])
            if pack_id in core.state.packs:
                continue
            found = read_trailer(
                core.objects,
                key,
                size,
                vault_id=core.vault_id,
                k_pack=pack_key(session_key, pack_id),
            )
        except (ValueError, IntegrityError):
            yield None
            continue
        except ObjectMissingError:
            continue  # its session has ended meanwhile, and a collect found it nameless
        added = log.PackAdded(
            pack_id=pack_id,
            session_id=session_id,
            pack_class=found.pack_class,
            size=found.size,
            hash=found.hash,
            header_hash=found.header_hash,
        )
        yield Arrived(added, table_rows(found.rows))
