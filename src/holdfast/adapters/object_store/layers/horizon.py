"""Refusing to delete objects before their lock horizon."""

from __future__ import annotations

from holdfast.adapters.object_store.layers.base import StoreLayer
from holdfast.errors import ObjectLockedError
from holdfast.ports.object_store import Horizons, ObjectStore


class HorizonStore(StoreLayer):
    """``inner``, from which nothing goes before its horizon, whoever asks. Which horizons there are
    those know who ``hold`` a folder: a vault, from when it is opened on, also after it is closed.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._held: dict[str, Horizons] = {}

    def hold(self, prefix: str, horizons: Horizons) -> None:
        self._held = {**self._held, prefix: horizons}

    def delete(self, key: str) -> None:
        for prefix, horizons in self._held.items():
            until = horizons.held_until(key[len(prefix) :]) if key.startswith(prefix) else None
            if until is not None:
                raise ObjectLockedError(
                    f"{key} is locked until {until:%Y-%m-%d %H:%M} UTC and was not deleted",
                    hint="its vault is immutable; collect frees what is past its horizon",
                    target=key,
                )
        self.inner.delete(key)
