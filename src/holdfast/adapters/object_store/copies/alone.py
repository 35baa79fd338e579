"""One member of a set of copies, opened alone: it may be read, and takes nothing.

Each member holds every object under its own name, so a vault can be restored from any one disk. A
write to one of them would not be on the others.
"""

from __future__ import annotations

from typing import NoReturn

from holdfast.adapters.object_store.layers.base import StoreLayer
from holdfast.errors import StoreUnavailableError
from holdfast.ports.object_store import Buffer, Upload


class ReadOnlyStore(StoreLayer):
    """``inner``, to read from."""

    def create(self, key: str, data: Buffer) -> None:
        _refuse(key)

    def upload(self, key: str) -> Upload:
        _refuse(key)

    def delete(self, key: str) -> None:
        _refuse(key)


def _refuse(key: str) -> NoReturn:
    raise StoreUnavailableError(
        f"{key} is not changed: this store is one of a set of copies",
        code="CopyAlone",
        hint="give the addresses of all stores of the set, in their order",
    )
