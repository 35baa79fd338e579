"""The commit log in the store: replay it, follow it, append to it.

The record's create-if-absent is the one point where something becomes true. A lost reply is
resolved by reading the record back: identical bytes mean success. A lost race means reading the
others' records and deciding again on the new state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.errors import (
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    StoreUnavailableError,
)
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.checkpoint import state_of
from holdfast.vaultstore.checkpoints import Checkpoints, is_due
from holdfast.vaultstore.head import Head, cut_off, forked, rolled_back
from holdfast.vaultstore.records import BadRecordError, Records, hash_object
from holdfast.vaultstore.sealed import ServiceSeal
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.transitions import advance, next_state

Build = Callable[[LogState], Sequence[log.Operation]]


def create_or_find(store: ObjectStore, key: str, data: bytes) -> bool:
    """Create ``key``; whether it now holds exactly ``data``. False: somebody else's bytes.

    Resolves a lost reply by reading back. Raises StoreUnavailableError when the outcome stays
    unknown or the object is not there.
    """
    try:
        store.create(key, data)
    except ObjectExistsError as error:
        try:
            return store.read(key) == data
        except ObjectMissingError:  # what a write that broke off had left was taken away just now
            raise StoreUnavailableError(
                f"{key} was there and is gone", hint="it is tried again"
            ) from error
    except StoreUnavailableError:
        try:
            return store.read(key) == data
        except ObjectMissingError:
            pass
        raise
    return True


def create_own(store: ObjectStore, key: str, data: bytes) -> None:
    """Create ``key``, a name that nobody else takes, or find it created. StoreUnavailableError when
    it holds other bytes: those are what a write that broke off left, and are never a success."""
    if not create_or_find(store, key, data):
        raise StoreUnavailableError(
            f"{key} holds other bytes than those written: the write broke off",
            hint="It is tried again under a new name; check the store if this comes back.",
        )


class Chain:
    """The log of one vault and the state it led to. Guarded by the vault's lock."""

    def __init__(
        self, store: layout.VaultObjects, seal: ServiceSeal, descriptor_hash: bytes
    ) -> None:
        self._store = store
        self.seal = seal
        self.descriptor_hash = descriptor_hash
        self.state = LogState(hash=descriptor_hash)
        self.damage: IntegrityError | None = None
        self.contradiction: IntegrityError | None = None
        self._cut: IntegrityError | None = None
        self._records = Records(store, seal)
        self._checkpoints = Checkpoints(store, seal)
        self._due: LogState | None = None  # the newest state read that is worth a checkpoint
        self._evidence: tuple[int, bytes] | None = None  # a record that spoke against the log

    @property
    def head(self) -> Head:
        """The newest record read or written."""
        return Head(sequence=self.state.sequence, term=self.state.term, hash=self.state.hash)

    @property
    def doubt(self) -> IntegrityError | None:
        """Why nothing may be appended: the log is damaged (LogDamaged), contradicts a witness
        (LogRolledBack, LogForked), or ended before what this process knows of it (LogCut)."""
        return self.damage or self.contradiction or self._cut

    def witness(self, seen: Head, by: str) -> None:
        """Compare with a head ``by`` saw; a contradiction stays in ``doubt``. Heads of a lower term
        were given up by the record that raised it, and a damaged log is doubtful enough."""
        here = self.head
        if here.term > seen.term or self.damage is not None:
            return
        found = self.hash_at(seen.sequence, seen.hash)
        if here.term < seen.term or here.sequence < seen.sequence:
            self.contradiction = rolled_back(here, seen, by)
        elif not found:
            self.contradiction = cut_off(seen, by)
        elif found != seen.hash:
            self.contradiction = forked(here, seen, by)
        else:
            return
        self._evidence = seen.sequence, found

    def is_mended(self) -> bool:
        """Whether a vault in doubt is worth opening anew: the store serves something else now where
        the doubt arose, or not what this process read before."""
        if self.contradiction is None and self.damage is None:
            return self._cut is not None
        return self._evidence is None or self.hash_at(self._evidence[0]) != self._evidence[1]

    def hash_at(self, sequence: int, expected: bytes | None = None) -> bytes:
        """The hash of a record as the store has it; see ``Records.hash_at``."""
        return self._records.hash_at(sequence, expected)

    def replay(self) -> None:
        """Read the log, from its newest checkpoint on. Raises IntegrityError (LogDamaged) naming
        the first bad record; ``state`` then ends before it and ``damage`` holds the error."""
        passed_over = self._begin()
        after = layout.log_key(self.state.sequence) if self.state.sequence else ""
        numbers = [layout.log_sequence(info.key) for info in self._store.list(layout.LOG, after)]
        last = max((number for number in numbers if number is not None), default=0)
        self._read_on(last)
        for head in passed_over:
            self.witness(head, "a checkpoint of it")
        if self._due is not None and self.doubt is None and self.seal.may_seal:
            self._checkpoints.write(self._due)
        self._due = None

    def _begin(self) -> list[Head]:
        """Begin from the newest checkpoint whose record is in the log. Heads of those whose record
        is not: they saw more than the store serves now."""
        passed_over = []
        for number in self._checkpoints.numbers():
            found = self._checkpoints.read(number)
            if found is None:
                continue
            if self.hash_at(number, found.hash) == found.hash:
                self.state = state_of(found)
                break
            passed_over.append(found.head)
        return passed_over

    def refresh(self) -> None:
        """Read the records others appended since. Raises IntegrityError (LogDamaged)."""
        self._read_on(0)

    def read(self, sequence: int) -> log.LogRecord | None:
        """One record; None when it is not in the store. IntegrityError."""
        return self._records.read(sequence)

    def append(self, build: Build, stamp: Callable[[LogState], int]) -> LogState:
        """Append one record of the operations ``build`` returns for the newest state, after the
        record that led to it: IntegrityError (LogCut, LogForked) when that is not in the store any
        more, or ``doubt``.

        ``build`` runs again after each lost race and may raise; returning nothing appends nothing.
        ``stamp`` gives the vault time [ns]. Returns the state the record (or nothing) led to.
        """
        while True:
            if self.contradiction is not None:  # damage is raised by ``refresh``
                raise self.contradiction
            self.refresh()
            state = self.state
            operations = tuple(build(state))
            if self.state is not state:  # a step looked again, and there was more
                continue
            if not operations:
                return state
            record = log.LogRecord(
                sequence=self.state.sequence + 1,
                term=_term_of(operations, self.state.term),
                previous=self.state.hash,
                time_ns=_time_of(operations, stamp(self.state)),
                operations=operations,
            )
            data = self.seal.seal_record(record)
            after = next_state(self.state, record, hash_object(data))
            self.require_head()
            found = create_or_find(self._store, layout.log_key(record.sequence), data)
            if found or self._is_ours(after):
                self.state = after
                if is_due(after.sequence):
                    self._checkpoints.write(after)
                return after

    def _is_ours(self, after: LogState) -> bool:
        """After a lost race: read the record that won. It may be the very one that was written, its
        reply lost and then read back badly. IntegrityError (LogDamaged)."""
        self._read_on(0, after.sequence)
        return self.state.hash == after.hash

    def require_head(self) -> None:
        """Before anything is appended or deleted, the newest record known must be what the store
        holds under its number. A log that ends before is another one: an older copy of the vault's
        folder, perhaps; so is one that holds other bytes there. IntegrityError (LogCut, LogForked).
        """
        if self.state.sequence:
            found = self.hash_at(self.state.sequence, self.state.hash)
            self._cut = None if found == self.state.hash else self._cut_off(found)
        if self._cut is not None:
            raise self._cut

    def _cut_off(self, found: bytes) -> IntegrityError:
        if found:
            return forked(self.head, self.head, "this process")
        return cut_off(self.head, "this process")

    def _read_on(self, last: int, stop: int | None = None) -> None:
        if self.damage is not None:
            raise self.damage
        first: BadRecordError | None = None
        while True:
            try:
                self.state = self._follow(last, first.sequence - 1 if first else stop)
                break
            except BadRecordError as bad:  # again up to it: the state after a bad one is half way
                first = bad
        if first is not None:
            self._evidence = first.sequence, first.found
            self.damage = _damaged(first.sequence, first.error)
            raise self.damage from first.error

    def _follow(self, last: int, stop: int | None) -> LogState:
        """The state after the records that follow, up to ``stop`` or the first absent one."""
        state = self.state
        while stop is None or state.sequence < stop:
            found = self._records.following(state, last)
            if found is None:
                break
            if state is self.state:
                state = state.copy()
            record, digest = found
            try:
                advance(state, record, digest)
            except IntegrityError as error:
                raise BadRecordError(record.sequence, error, digest) from error
            if is_due(record.sequence):
                self._due = state.copy()
        return state


def _damaged(sequence: int, error: IntegrityError) -> IntegrityError:
    kept = ("FormatTooNew", "KeyMissing", "LogForked")
    code = error.code if error.code in kept else "LogDamaged"
    return IntegrityError(
        f"log record {layout.log_key(sequence)} cannot be used: {error.message}",
        code=code,
        hint=error.hint
        or "Nothing was written. Recovery points of earlier records can still be restored with "
        "`holdfast store restore`; put the object back from a copy of the store, or go on without "
        "it and what follows: holdfast vault accept-head NAME --plan",
        target=layout.log_key(sequence),
    )


def _term_of(operations: Sequence[log.Operation], term: int) -> int:
    for operation in operations:
        if isinstance(operation, log.HeadAccepted):
            return operation.term
    return term


def _time_of(operations: Sequence[log.Operation], stamp_ns: int) -> int:
    for operation in operations:
        if isinstance(operation, log.ClockConfirmed):
            return operation.time_ns
    return stamp_ns
