"""The commit log in the store: replay it, follow it, append to it.

The record's create-if-absent is the one point where something becomes true. A lost reply is
resolved by reading the record back: identical bytes mean success. A lost race means reading the
others' records and deciding again on the new state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blake3 import blake3

from holdfast.errors import (
    IntegrityError,
    ObjectExistsError,
    ObjectMissingError,
    StoreUnavailableError,
)
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.sealed import ServiceSeal
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.transitions import advance, next_state

Build = Callable[[LogState], Sequence[log.Operation]]


def hash_object(data: bytes) -> bytes:
    """The hash by which a stored object is named elsewhere (32 bytes, over all its bytes)."""
    return blake3(data).digest()


def create_or_find(store: ObjectStore, key: str, data: bytes) -> bool:
    """Create ``key``; whether it now holds exactly ``data``. False: somebody else's bytes.

    Resolves a lost reply by reading back. Raises StoreUnavailableError when the outcome stays
    unknown or the object is not there.
    """
    try:
        store.create(key, data)
    except ObjectExistsError:
        return store.read(key) == data
    except StoreUnavailableError:
        try:
            return store.read(key) == data
        except ObjectMissingError:
            pass
        raise
    return True


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

    def replay(self) -> None:
        """Read the whole log. Raises IntegrityError (LogDamaged) naming the first bad record;
        ``state`` then ends before it and ``damage`` holds the error."""
        numbers = [layout.log_sequence(info.key) for info in self._store.list(layout.LOG)]
        last = max((number for number in numbers if number is not None), default=0)
        self._read_on(last)

    def refresh(self) -> None:
        """Read the records others appended since. Raises IntegrityError (LogDamaged)."""
        self._read_on(0)

    def read(self, sequence: int) -> log.LogRecord | None:
        """One record; None when it is not in the store. IntegrityError."""
        try:
            return self.seal.open_record(self._store.read(layout.log_key(sequence)))
        except ObjectMissingError:
            return None

    def append(self, build: Build, stamp: Callable[[LogState], int]) -> LogState:
        """Append one record of the operations ``build`` returns for the newest state, after the
        record that led to it: IntegrityError (LogCut) when that is not in the store any more.

        ``build`` runs again after each lost race and may raise; returning nothing appends nothing.
        ``stamp`` gives the vault time [ns]. Returns the state the record (or nothing) led to.
        """
        while True:
            self.refresh()
            operations = tuple(build(self.state))
            if not operations:
                return self.state
            record = log.LogRecord(
                sequence=self.state.sequence + 1,
                term=self.state.term,
                previous=self.state.hash,
                time_ns=_time_of(operations, stamp(self.state)),
                operations=operations,
            )
            data = self.seal.seal_record(record)
            after = next_state(self.state, record, hash_object(data))
            self._require_head()
            if create_or_find(self._store, layout.log_key(record.sequence), data):
                self.state = after
                return after

    def _require_head(self) -> None:
        """A log that ends before what was read of it is another one: an older copy of the vault's
        folder, perhaps. A record appended to it would leave a gap."""
        head = layout.log_key(self.state.sequence)
        if self.state.sequence and self._store.size(head) is None:
            self._store.require_vault()
            raise IntegrityError(
                f"log record {head}, which this process has read or written, is not in the store",
                code="LogCut",
                hint="Nothing was written. Put the vault's newest folder back; or restart the "
                "server, which goes on with what is there and names the recovery points lost.",
                target=head,
            )

    def _read_on(self, last: int) -> None:
        if self.damage is not None:
            raise self.damage
        first: _BadRecordError | None = None
        while True:
            try:
                self.state = self._follow(last, first.sequence - 1 if first else None)
                break
            except _BadRecordError as bad:  # again, and earlier, when the store reads badly
                first = bad
        if first is not None:
            self.damage = _damaged(first.sequence, first.error)
            raise self.damage from first.error

    def _follow(self, last: int, stop: int | None) -> LogState:
        """The state after the records that follow, up to ``stop`` or the first absent one."""
        state = self.state
        while stop is None or state.sequence < stop:
            sequence = state.sequence + 1
            data = self._read(sequence, last)
            if data is None:
                break
            if state is self.state:
                state = state.copy()
            try:
                advance(state, self.seal.open_record(data), hash_object(data))
            except IntegrityError as error:
                raise _BadRecordError(sequence, error) from error
        return state

    def _read(self, sequence: int, last: int) -> bytes | None:
        try:
            return self._store.read(layout.log_key(sequence))
        except ObjectMissingError:
            if sequence >= last:
                return None
        gap = IntegrityError(f"it is missing, while record {last} exists")
        raise _BadRecordError(sequence, gap)


class _BadRecordError(Exception):
    def __init__(self, sequence: int, error: IntegrityError) -> None:
        super().__init__(str(error))
        self.sequence = sequence
        self.error = error


def _damaged(sequence: int, error: IntegrityError) -> IntegrityError:
    code = error.code if error.code in ("FormatTooNew", "KeyMissing") else "LogDamaged"
    return IntegrityError(
        f"log record {layout.log_key(sequence)} cannot be used: {error.message}",
        code=code,
        hint=error.hint
        or "Nothing was written. Recovery points of earlier records can still be restored with "
        "`holdfast store restore`; put the object back from a copy of the store.",
        target=layout.log_key(sequence),
    )


def _time_of(operations: Sequence[log.Operation], stamp_ns: int) -> int:
    for operation in operations:
        if isinstance(operation, log.ClockConfirmed):
            return operation.time_ns
    return stamp_ns
