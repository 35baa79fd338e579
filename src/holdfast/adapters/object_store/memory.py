"""Objects in memory: for tests and the simulator."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from holdfast.adapters.object_store.rules import (
    check_content,
    check_key,
    check_prefix,
    check_span,
    truncated,
)
from holdfast.errors import ObjectExistsError, ObjectMissingError
from holdfast.ports.object_store import Buffer, ObjectInfo, StoreTraits


class MemoryUpload:
    """Collects an object's bytes until ``publish``."""

    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key
        self._data = bytearray()

    def write(self, data: Buffer) -> None:
        self._data += data

    def publish(self) -> None:
        self._store.create(self._key, self._data)

    def abort(self) -> None:
        self._data = bytearray()


class MemoryStore:
    """A dict behind the port. ``objects`` is open to tests as their bypass."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def traits(self) -> StoreTraits:
        return StoreTraits("memory", atomic_create=True, durable=False)

    def create(self, key: str, data: Buffer) -> None:
        check_content(check_key(key), memoryview(data).nbytes)
        with self._lock:
            if key in self.objects:
                raise ObjectExistsError(f"object {key} exists")
            self.objects[key] = bytes(data)

    def upload(self, key: str) -> MemoryUpload:
        return MemoryUpload(self, check_key(key))

    def read(self, key: str) -> bytes:
        try:
            return self.objects[check_key(key)]
        except KeyError as error:
            raise ObjectMissingError(f"no object {key}") from error

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        check_span(key, offset, length)
        data = self.read(key)[offset : offset + length]
        if len(data) != length:
            raise truncated(key, offset + length)
        return data

    def size(self, key: str) -> int | None:
        data = self.objects.get(check_key(key))
        return None if data is None else len(data)

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with self._lock:
            found = sorted(
                (key, len(data))
                for key, data in self.objects.items()
                if key.startswith(prefix) and key > after
            )
        return iter([ObjectInfo(key, size) for key, size in found])

    def delete(self, key: str) -> None:
        with self._lock:
            self.objects.pop(check_key(key), None)

    def free_bytes(self) -> int | None:
        return None
