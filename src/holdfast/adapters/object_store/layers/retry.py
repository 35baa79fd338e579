"""Repeating what a passing fault spoiled, and finding out what a lost reply hid.

Reads, lists and deletes are simply repeated. A create or publish whose outcome is unknown is
resolved by reading back: the same bytes mean that it took effect, other bytes that somebody else
won, absence that it may be tried again. (Two callers that race with identical bytes while replies
are lost may both be told that they created the object.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from blake3 import blake3

from holdfast.adapters.object_store.layers.base import StoreLayer, UploadLayer
from holdfast.errors import ObjectExistsError, ObjectMissingError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore, Upload

T = TypeVar("T")
COMPARE_BYTES = 4 * 1024 * 1024
SETTLED = ("StoreAccessDenied", "StoreBucketMissing")  # somebody has to do something first


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long [s] a call is tried: pauses double from ``first`` to ``most``."""

    attempts: int = 6
    first: float = 0.2
    most: float = 10.0

    def pauses(self) -> Iterator[float]:
        """One pause before each further attempt."""
        for number in range(self.attempts - 1):
            yield min(self.most, self.first * 2**number)


class RetryStore(StoreLayer):
    """``inner`` with patience. ``sleep`` takes seconds."""

    def __init__(
        self,
        inner: ObjectStore,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self._patience = patience or Patience()
        self._sleep = sleep

    def repeat(self, action: Callable[[], T]) -> T:
        """``action`` until it succeeds or patience ends; it must be idempotent."""
        for pause in self._patience.pauses():
            try:
                return action()
            except StoreUnavailableError as error:
                if error.code in SETTLED:
                    raise
                self._sleep(pause)
        return action()

    def settle(self, write: Callable[[], None], took_effect: Callable[[], bool]) -> None:
        """``write``, a create of whole objects, until its outcome is known.

        ``took_effect`` compares what is stored: ObjectMissingError when there is nothing.
        Raises ObjectExistsError when somebody else's bytes are there."""
        unclear = False
        for pause in (*self._patience.pauses(), None):
            try:
                return write()
            except ObjectExistsError:
                if unclear and self.repeat(took_effect):
                    return None
                raise
            except StoreUnavailableError as error:
                unclear = True
                if self._found(took_effect):
                    return None
                if pause is None or error.code in SETTLED:
                    raise
                self._sleep(pause)
        return None

    def _found(self, took_effect: Callable[[], bool]) -> bool:
        try:
            if self.repeat(took_effect):
                return True
        except ObjectMissingError:
            return False
        raise ObjectExistsError("the object exists with other content")

    def create(self, key: str, data: Buffer) -> None:
        self.settle(
            lambda: self.inner.create(key, data), lambda: self.inner.read(key) == bytes(data)
        )

    def upload(self, key: str) -> Upload:
        return RetryUpload(self, key, self.repeat(lambda: self.inner.upload(key)))

    def read(self, key: str) -> bytes:
        return self.repeat(lambda: self.inner.read(key))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.repeat(lambda: self.inner.read_range(key, offset, length))

    def size(self, key: str) -> int | None:
        return self.repeat(lambda: self.inner.size(key))

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        """Goes on after the last object given when the store fails in between."""
        pauses = self._patience.pauses()
        while True:
            try:
                for info in self.inner.list(prefix, after):
                    after = info.key
                    pauses = self._patience.pauses()
                    yield info
                return
            except StoreUnavailableError as error:
                pause = next(pauses, None)
                if pause is None or error.code in SETTLED:
                    raise
                self._sleep(pause)

    def delete(self, key: str) -> None:
        self.repeat(lambda: self.inner.delete(key))

    def free_bytes(self) -> int | None:
        return self.repeat(self.inner.free_bytes)


class RetryUpload(UploadLayer):
    """An upload that remembers the hash of what was written, to recognise it in the store."""

    def __init__(self, store: RetryStore, key: str, inner: Upload) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key
        self._hasher = blake3()
        self._size = 0

    def write(self, data: Buffer) -> None:
        self.inner.write(data)
        self._hasher.update(data)
        self._size += memoryview(data).nbytes

    def publish(self) -> None:
        try:
            self._store.settle(self.inner.publish, self._is_stored)
        finally:
            self.inner.abort()

    def _is_stored(self) -> bool:
        size = self._store.inner.size(self._key)
        if size is None:
            raise ObjectMissingError(f"no object {self._key}")
        if size != self._size:
            return False
        hasher = blake3()
        for offset in range(0, size, COMPARE_BYTES):
            length = min(COMPARE_BYTES, size - offset)
            hasher.update(self._store.inner.read_range(self._key, offset, length))
        return hasher.digest() == self._hasher.digest()
