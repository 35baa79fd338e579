"""Log records as the store has them. One that comes badly is read again.

A disk, a cable, a proxy may give wrong bytes once. A record's signature and its place in the chain
of hashes tell, so that such a reading costs another one, and a record counts as damaged only when
READS readings in a row could not be used.
"""

from __future__ import annotations

from blake3 import blake3

from holdfast.errors import IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.sealed import ServiceSeal
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.transitions import check_chain

READS = 4  # of a record that cannot be used, before it counts as damaged


def hash_object(data: bytes) -> bytes:
    """The hash by which a stored object is named elsewhere (32 bytes, over all its bytes)."""
    return blake3(data).digest()


class BadRecordError(Exception):
    """Record ``sequence`` cannot be used. ``found``: hash of what is there; empty for nothing."""

    def __init__(self, sequence: int, error: IntegrityError, found: bytes) -> None:
        super().__init__(str(error))
        self.sequence = sequence
        self.error = error
        self.found = found


class Records:
    """Reads records of one vault."""

    def __init__(self, store: layout.VaultObjects, seal: ServiceSeal) -> None:
        self._store = store
        self._seal = seal

    def hash_at(self, sequence: int, expected: bytes | None = None) -> bytes:
        """The hash of a record as the store has it; empty when it is not there. ``expected``: when
        another hash is found the record is read again. NotFoundError (VaultStoreMissing) when
        nothing of the vault is there."""
        found = b""
        for _ in range(1 if expected is None else READS):
            try:
                found = hash_object(self._store.read(layout.log_key(sequence)))
            except ObjectMissingError:
                self._store.require_vault()
                found = b""
            if found == expected:
                break
        return found

    def following(self, state: LogState, last: int) -> tuple[log.LogRecord, bytes] | None:
        """The record after a state and its object's hash; None when the log ends there. ``last``:
        a record known to exist. BadRecordError."""
        sequence = state.sequence + 1
        reads = 0
        while True:
            reads += 1
            data = self._fetch(sequence)
            if data is None and sequence >= last:
                return None
            found = hash_object(data) if data is not None else b""
            try:
                return self._usable(state, data, last), found
            except IntegrityError as error:
                if reads == READS:
                    raise BadRecordError(sequence, error, found) from error

    def _fetch(self, sequence: int) -> bytes | None:
        try:
            return self._store.read(layout.log_key(sequence))
        except ObjectMissingError:
            return None

    def _usable(self, state: LogState, data: bytes | None, last: int) -> log.LogRecord:
        if data is None:
            raise IntegrityError(f"it is missing, while record {last} exists")
        record = self._seal.open_record(data)
        check_chain(state, record)
        return record

    def read(self, sequence: int) -> log.LogRecord | None:
        """One record; None when it is not in the store. IntegrityError."""
        reads = 0
        while True:
            reads += 1
            data = self._fetch(sequence)
            if data is None:
                return None
            try:
                return self._seal.open_record(data)
            except IntegrityError:
                if reads == READS:
                    raise
