"""Taking over what earlier attempts of a job uploaded, so that nothing is sent twice.

The packs join and the old sessions end in one record, which is valid only while the old sessions
are open. A collector deletes a session's unnamed packs only after that session has ended, so the
two can never both happen to a pack.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.errors import HoldfastError, IntegrityError
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.ingest import Arrived, Ingest
from holdfast.vaultstore.pack_check import PackChecker, PackSummary
from holdfast.vaultstore.receipt import receipt_of
from holdfast.vaultstore.state import SessionEntry
from holdfast.vaultstore.trailers import table_rows
from holdfast.vaultstore.values import Recovered

READ_BYTES = 4 * 1024 * 1024


def recover_sessions(
    core: VaultCore, ingest: Ingest, job_id: bytes, new_session_id: bytes | None
) -> Recovered:
    """Check and add the packs of the job's earlier sessions, then end these. Idempotent."""
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
        for checked in _checked_packs(core, ingest, entry):
            if checked is None:
                refused += 1
            else:
                arrived.append(Arrived(receipt_of(checked).as_added(), table_rows(checked.rows)))
    with core.lock:
        ending = log.SessionClosed(session_id=session_id, reason="replaced by a new attempt")
        new = [pack for pack in arrived if pack.added.pack_id not in core.state.packs]
        if session_id in core.state.sessions:
            ingest.add(new_session_id or session_id, new, (ending,))
        ingest.forget(session_id)
    return Recovered(
        sessions_revoked=so_far.sessions_revoked + 1,
        packs_kept=so_far.packs_kept + len(new),
        bytes_kept=so_far.bytes_kept + sum(pack.added.size for pack in new),
        packs_refused=so_far.packs_refused + refused,
        committed=entry.committed or so_far.committed,
    )


def _checked_packs(
    core: VaultCore, ingest: Ingest, entry: SessionEntry
) -> Iterator[PackSummary | None]:
    """Every stored pack of a session that is in no table yet; None for one that is not whole."""
    prefix = f"{layout.PACKS}{entry.opened.session_id.hex()}/"
    for info in core.objects.list(prefix):
        try:
            pack_id = bytes.fromhex(info.key[len(prefix) :])
        except ValueError:
            continue
        if pack_id in core.state.packs:
            continue
        with core.lock:
            expected = ingest.expected(entry, pack_id)
        try:
            checker = PackChecker(expected, info.size)
            for offset in range(0, info.size, READ_BYTES):
                length = min(READ_BYTES, info.size - offset)
                checker.feed(core.objects.read_range(info.key, offset, length))
            yield checker.finish()
        except IntegrityError:
            yield None
        except HoldfastError as error:
            if error.retry != "never":
                raise
            yield None
