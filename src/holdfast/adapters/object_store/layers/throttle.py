"""Holding the bytes that go to and come from a store to a rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from holdfast.adapters.object_store.layers.base import StoreLayer, UploadLayer
from holdfast.errors import UsageError
from holdfast.ports.object_store import Buffer, ObjectStore, Upload

PIECE_BYTES = 1024 * 1024  # large writes are passed on in pieces, so that no burst is larger


class ThrottleStore(StoreLayer):
    """``inner`` at no more than ``rate`` bytes per second in both directions together.

    ``monotonic`` gives and ``sleep`` takes seconds. What is moved is paid for before it is moved
    when written, and after when read whole."""

    def __init__(
        self,
        inner: ObjectStore,
        rate: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(inner)
        if rate <= 0:
            raise UsageError(f"a rate of {rate} bytes per second moves nothing")
        self._rate = rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at = 0.0

    def pay(self, count: int) -> None:
        """Wait until ``count`` bytes may have moved; callers queue in the order they come."""
        with self._lock:
            now = self._monotonic()
            self._free_at = max(now, self._free_at) + count / self._rate
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)

    def create(self, key: str, data: Buffer) -> None:
        self.pay(memoryview(data).nbytes)
        self.inner.create(key, data)

    def upload(self, key: str) -> Upload:
        return ThrottleUpload(self, self.inner.upload(key))

    def read(self, key: str) -> bytes:
        data = self.inner.read(key)
        self.pay(len(data))
        return data

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        data = self.inner.read_range(key, offset, length)
        self.pay(len(data))
        return data


class ThrottleUpload(UploadLayer):
    """An upload whose bytes are paid for piece by piece."""

    def __init__(self, store: ThrottleStore, inner: Upload) -> None:
        super().__init__(inner)
        self._store = store

    def write(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            self._store.pay(len(piece))
            self.inner.write(piece)
