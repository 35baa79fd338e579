"""A layer that changes nothing; the others override what they change."""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.ports.object_store import Buffer, ObjectInfo, ObjectStore, StoreTraits, Upload


class UploadLayer:
    """Forwards to the upload ``inner``."""

    def __init__(self, inner: Upload) -> None:
        self.inner = inner

    def write(self, data: Buffer) -> None:
        self.inner.write(data)

    def publish(self) -> None:
        self.inner.publish()

    def abort(self) -> None:
        self.inner.abort()


class StoreLayer:
    """Forwards to the store ``inner``."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    @property
    def traits(self) -> StoreTraits:
        return self.inner.traits

    def create(self, key: str, data: Buffer) -> None:
        self.inner.create(key, data)

    def upload(self, key: str) -> Upload:
        return self.inner.upload(key)

    def read(self, key: str) -> bytes:
        return self.inner.read(key)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self.inner.read_range(key, offset, length)

    def size(self, key: str) -> int | None:
        return self.inner.size(key)

    def list(self, prefix: str = "", after: str = "") -> Iterator[ObjectInfo]:
        return self.inner.list(prefix, after)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def free_bytes(self) -> int | None:
        return self.inner.free_bytes()
