"""What came to a vault and what left it since a head, proven by its log.

Every record since is read from the store again: its signature and its place in the chain of hashes
are checked, so nothing between the head somebody noted down and the newest record can have been
left out, added or exchanged. Records that say nothing about recovery points or packs (sessions) are
checked and not listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from holdfast.errors import IntegrityError
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.head import Head, forked, rolled_back
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.vaultclock import from_ns

BY = "whoever noted it down"
NOT_CONTINUED = (
    "the store, or the server with its catalog, was put back to an older state, or the head is of "
    "another vault; compare with a copy of the store"
)
MOST_RECORDS = 10_000  # in one answer; the next goes on where it ends
HINT = "put the object back from a copy of the store; see the vault: holdfast vault show NAME"


class Change(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing that came or went. ``what``: recovery point added | expired | locked, packs added |
    rewritten | condemned | swept | locked, immutability set, head accepted, key exported, clock
    confirmed. ``time``: ISO, of the record.
    ``names``: ids of the points or packs; ``size`` [bytes] of packs, None when the log since the
    head does not tell it: packs that were added before and are gone."""

    sequence: int
    time: str
    what: str
    names: tuple[str, ...]
    item: str = ""
    reason: str = ""
    size: int | None = None


class LogAudit(msgspec.Struct, frozen=True, kw_only=True):
    """``head``: the record it ends at, the vault's newest when ``complete``. ``totals``: how many
    of each ``what``, by number of names."""

    since: Head
    head: Head
    records: int
    complete: bool
    changes: tuple[Change, ...]
    totals: dict[str, int]


def audit_log(core: VaultCore, since: Head, most: int = MOST_RECORDS) -> LogAudit:
    """The changes of the ``most`` records after a head (sequence 0: since the vault was made).
    IntegrityError: LogRolledBack or LogForked when the log does not continue it, LogDamaged naming
    a record that is not whole."""
    with core.lock:
        here = core.chain.head
        packs = {pack_id: entry.pack.size for pack_id, entry in core.state.packs.items()}
    if since.sequence > here.sequence:
        raise _not_continued(rolled_back(here, since, BY))
    first = reached = _start(core, since, here)
    changes: list[Change] = []
    last = min(here.sequence, since.sequence + most)
    for sequence in range(since.sequence + 1, last + 1):
        record, reached = _next(core, reached, sequence)
        changes += _changes(record, packs)
    if last == here.sequence and reached.hash != here.hash:
        raise forked(here, here, "this process")
    return LogAudit(
        since=first,
        head=reached,
        records=last - since.sequence,
        complete=last == here.sequence,
        changes=tuple(changes),
        totals=_totals(changes),
    )


def _totals(changes: Iterable[Change]) -> dict[str, int]:
    found = Counter[str]()
    for change in changes:
        found[change.what] += max(1, len(change.names))
    return dict(found)


def _start(core: VaultCore, since: Head, here: Head) -> Head:
    """The head to begin from, with its hash and term, as the store has it."""
    if since.sequence == 0:
        return Head(sequence=0, term=1, hash=core.chain.descriptor_hash)
    data = _read(core, since.sequence)
    found = hash_object(data)
    if since.hash and found != since.hash:
        raise _not_continued(forked(here, since, BY))
    return Head(sequence=since.sequence, term=core.seal.open_record(data).term, hash=found)


def _not_continued(error: IntegrityError) -> IntegrityError:
    error.hint = NOT_CONTINUED
    return error


def _next(core: VaultCore, before: Head, sequence: int) -> tuple[log.LogRecord, Head]:
    data = _read(core, sequence)
    try:
        record = core.seal.open_record(data)
    except IntegrityError as error:
        raise _damaged(sequence, error.message) from error
    if record.sequence != sequence or record.previous != before.hash or record.term < before.term:
        raise _damaged(sequence, "it does not continue the record before it")
    return record, Head(sequence=sequence, term=record.term, hash=hash_object(data))


def _read(core: VaultCore, sequence: int) -> bytes:
    key = layout.log_key(sequence)
    if core.objects.size(key) is None:
        core.objects.require_vault()
        raise _damaged(sequence, "it is missing")
    return core.objects.read(key)


def _damaged(sequence: int, why: str) -> IntegrityError:
    key = layout.log_key(sequence)
    return IntegrityError(
        f"log record {key} cannot be used: {why}", code="LogDamaged", hint=HINT, target=key
    )


def _changes(record: log.LogRecord, sizes: dict[bytes, int]) -> Iterator[Change]:
    time = from_ns(record.time_ns).isoformat()
    for op in record.operations:
        for found in _of(op, sizes):
            yield msgspec.structs.replace(found, sequence=record.sequence, time=time)


def _of(op: log.Operation, sizes: dict[bytes, int]) -> Iterator[Change]:
    match op:
        case log.PointCommitted():
            yield _change("recovery point added", (op.rp_id,), item=op.item_key)
        case log.PointsExpired():
            by = " (asked for)" if op.explicit else ""
            for dropped in op.points:
                why = dropped.reason + by
                yield _change("recovery point expired", (dropped.rp_id,), reason=why)
        case log.PacksAdded():
            sizes |= {pack.pack_id: pack.size for pack in op.packs}
            yield _packs("packs added", tuple(pack.pack_id for pack in op.packs), sizes)
        case log.PacksRewritten():
            sizes |= {made.pack.pack_id: made.pack.size for made in op.packs}
            names = tuple(made.pack.pack_id for made in op.packs)
            yield _packs("packs rewritten", names, sizes)
        case log.PacksCondemned():
            yield _packs("packs condemned", op.packs, sizes)
        case log.PacksSwept():
            yield _packs("packs swept", op.packs, sizes)
        case log.HeadAccepted():
            given_up = ", ".join(f"{seen.sequence} seen by {seen.by}" for seen in op.witnessed)
            yield _change("head accepted", op.lost, reason=f"term {op.term}; gave up {given_up}")
        case log.KeyExported():
            yield _change("key exported", ())
        case log.ClockConfirmed():
            yield _change("clock confirmed", ())
        case _:
            yield from _locks(op, sizes)


def _locks(op: log.Operation, sizes: dict[bytes, int]) -> Iterator[Change]:
    """What operations say of immutability."""
    match op:
        case log.ImmutabilitySet():
            yield _change("immutability set", (), reason=op.state)
        case log.PointsLocked():
            for lock in op.points:
                until = _until(lock.until_ns)
                yield _change("recovery point locked", (lock.rp_id,), reason=until)
        case log.PacksLocked():
            found = _packs("packs locked", op.packs, sizes)
            yield msgspec.structs.replace(found, reason=_until(op.until_ns))
        case _:
            return


def _until(until_ns: int) -> str:
    return f"until {from_ns(until_ns).isoformat()}"


def _packs(what: str, packs: tuple[bytes, ...], sizes: dict[bytes, int]) -> Change:
    known = [sizes[pack_id] for pack_id in packs if pack_id in sizes]
    size = sum(known) if len(known) == len(packs) else None
    return _change(what, tuple(pack_id.hex() for pack_id in packs), size=size)


def _change(
    what: str, names: tuple[str, ...], *, item: str = "", reason: str = "", size: int | None = None
) -> Change:
    return Change(sequence=0, time="", what=what, names=names, item=item, reason=reason, size=size)
