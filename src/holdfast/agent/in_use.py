"""What several threads call and one closes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from holdfast.errors import CancelledError


class InUse:
    """Lets ``close`` be called at any time and calls ``end`` when nobody is within ``using`` any
    more. A TLS socket must not be closed under a thread that waits on it: the library goes on with
    the socket's number, which is that of the next file somebody opens, and writes a record there.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._users = 0
        self._closed = False

    @contextmanager
    def using(self) -> Iterator[None]:
        """CancelledError (AgentStopped) after ``close``."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            if self._closed:
                raise CancelledError("the agent is stopping", code="AgentStopped")
            self._users += 1

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._end()

    def close(self) -> None:
        """No further use. Idempotent."""
        with self._lock:
            first, self._closed = not self._closed, True
            nobody = self._users == 0
        if first and nobody:
            self._end()
