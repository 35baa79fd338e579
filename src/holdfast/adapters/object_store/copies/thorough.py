"""A set of copies read as a scrub reads it: every member is asked, so that every copy is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.adapters.object_store.layers.base import StoreLayer

if TYPE_CHECKING:
    from holdfast.adapters.object_store.copies.store import CopiesStore


class ThoroughStore(StoreLayer):
    """``inner``, whose reads compare the bytes of all members."""

    def __init__(self, inner: CopiesStore) -> None:
        super().__init__(inner)
        self._copies = inner

    def read(self, key: str) -> bytes:
        return self._copies.read(key, thorough=True)

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        return self._copies.read_range(key, offset, length, thorough=True)
