"""A large object on its way to all members at once: staged on each, decided by the home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from holdfast.adapters.object_store.copies.group import Present
from holdfast.errors import StoreError, StoreUnavailableError
from holdfast.ports.object_store import Buffer, Upload

if TYPE_CHECKING:
    from holdfast.adapters.object_store.copies.store import CopiesStore


class CopiesUpload:
    """A member that fails meanwhile is left out; what it lacks is written later."""

    def __init__(
        self, store: CopiesStore, key: str, home: Present, others: Sequence[Present]
    ) -> None:
        self._store = store
        self._key = key
        self._home = home
        self._first = home[1].upload(key)
        self._staged: list[tuple[Present, Upload]] = []
        self._decided = False
        for one in others:
            self._try(one, partial(self._stage, one))

    def _stage(self, one: Present) -> None:
        self._staged.append((one, one[1].upload(self._key)))

    def _try(self, one: Present, work: Callable[[], None]) -> bool:
        try:
            work()
        except StoreError as error:
            if isinstance(error, StoreUnavailableError):
                one[0].fail(error)
            return False
        return True

    def write(self, data: Buffer) -> None:
        """To all members at once; the caller may reuse the buffer after it."""
        started: list[tuple[tuple[Present, Upload], Future[bool]]] = []
        for one in self._staged:
            work = partial(self._try, one[0], partial(one[1].write, data))
            future = self._store.beside(one[0][0], self._key, work)
            if future is not None:
                started.append((one, future))
        try:
            self._first.write(data)
        finally:
            kept = [one for one, future in started if future.result()]
            lost = [one for one in self._staged if one not in kept]
            self._staged = kept
            for _, upload in lost:
                upload.abort()

    def publish(self) -> None:
        if self._decided:  # again, after nobody else had taken it
            self._store.double(self._key)
            return
        home, _ = self._store.writable(self._key)
        if home[0] is not self._home[0]:
            raise StoreUnavailableError(
                f"another disk decides since {self._key} was begun", hint="it is sent again"
            )
        self._store.decide(self._home, self._first.publish)
        self._decided = True
        staged, self._staged = self._staged, []
        self._store.follow(
            self._key, self._home, [(one, partial(_finish, upload)) for one, upload in staged]
        )

    def abort(self) -> None:
        self._first.abort()
        staged, self._staged = self._staged, []
        for _, upload in staged:
            upload.abort()


def _finish(upload: Upload) -> None:
    try:
        upload.publish()
    finally:
        upload.abort()
