"""One member of a set of copies: there, or missing with a reason and looked for again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from holdfast.errors import HoldfastError
from holdfast.ports.copied_store import CopyMember
from holdfast.ports.object_store import ObjectStore

RETRY_SECONDS = 5.0  # so long a member that failed is left alone
OpenMember = Callable[[], ObjectStore]


class Member:
    """``open_store`` opens it and makes nothing, ``open_new`` makes what is needed. ``store`` is
    None while it is missing. Changed under the lock of its group only, but for ``fail``."""

    def __init__(
        self,
        number: int,
        address: str,
        open_store: OpenMember,
        open_new: OpenMember,
        retry_seconds: float = RETRY_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.address = address
        self.open_store = open_store
        self.open_new = open_new
        self.store: ObjectStore | None = None
        self.missing = "it was not opened yet"
        self.wrong = 0
        self.behind = False  # it was not held against the home of the newest term yet
        self._retry_seconds = retry_seconds
        self._monotonic = monotonic
        self._due_at = 0.0

    def fail(self, error: HoldfastError) -> None:
        """It did not do what it was asked: it takes no part until it is looked for again."""
        self.missing = f"{error.message} [{error.code}]"
        self.store = None
        self._due_at = self._monotonic() + self._retry_seconds

    def look_anew(self) -> None:
        """It takes no part until it is looked for, which is due now."""
        self.missing, self.store, self._due_at = "it is looked at anew", None, 0.0

    def is_due(self) -> bool:
        """Whether it is missing, and its time to be looked for has come."""
        return self.store is None and self._monotonic() >= self._due_at

    def told(self, home: int) -> CopyMember:
        """What is told of it."""
        store = self.store
        return CopyMember(
            number=self.number,
            address=self.address,
            is_home=self.number == home,
            missing="" if store is not None else self.missing,
            device=_device(store),
            wrong=self.wrong,
        )


def _device(store: ObjectStore | None) -> int | None:
    """The file system a folder lies on."""
    path = store.traits.local_path if store is not None else None
    try:
        return os.stat(path).st_dev if path else None
    except OSError:
        return None
