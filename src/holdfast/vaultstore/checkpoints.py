"""Log checkpoints in the store: finding one to begin from, writing the next.

Writing happens after the record is true and may fail or be cut off anywhere: then the next opening
reads more records, and writes it. The last two stay.
"""

from __future__ import annotations

import logging

from holdfast.errors import HoldfastError, IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout
from holdfast.vaultstore.checkpoint import EVERY, Checkpoint
from holdfast.vaultstore.sealed import ServiceSeal
from holdfast.vaultstore.state import LogState

log = logging.getLogger(__name__)


def is_due(sequence: int) -> bool:
    """Whether a record is followed by a checkpoint."""
    return sequence > 0 and sequence % EVERY == 0


class Checkpoints:
    """Of one vault."""

    def __init__(self, store: layout.VaultObjects, seal: ServiceSeal) -> None:
        self._store = store
        self._seal = seal

    def numbers(self) -> list[int]:
        """Of the records that checkpoints in the store follow, the newest first."""
        found = (
            layout.checkpoint_sequence(one.key) for one in self._store.list(layout.CHECKPOINTS)
        )
        return sorted((number for number in found if number is not None), reverse=True)

    def read(self, sequence: int) -> Checkpoint | None:
        """A checkpoint, or None for one that is damaged or gone, which costs time only."""
        key = layout.checkpoint_key(sequence)
        try:
            found = self._seal.open_checkpoint(self._store.read(key))
            if found.sequence != sequence:
                raise IntegrityError("it is stored under another number", code="ObjectDamaged")
        except (IntegrityError, ObjectMissingError) as error:
            log.warning("%s is passed over: %s", key, error.message)
            return None
        return found

    def write(self, state: LogState) -> None:
        """Write the checkpoint of a state unless one is there, and let older ones go."""
        key = layout.checkpoint_key(state.sequence)
        try:
            if self._store.size(key) is None:
                self._store.create(key, self._seal.seal_checkpoint(state))
            older = [number for number in self.numbers() if number < state.sequence]
            for number in older[1:]:
                self._store.delete(layout.checkpoint_key(number))
        except HoldfastError as error:
            log.warning("%s is not written: %s", key, error.message)
