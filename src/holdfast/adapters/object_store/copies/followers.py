"""Work for members other than the home, done beside: each has threads and a bounded queue.

Whoever writes waits until one member has done it; what the others still do goes on. A member whose
queue is full is passed over: what it lacks is found when the lists are compared.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

THREADS = 4  # per member: so many fsyncs share one journal commit of the disk
MOST_WAITING = 32  # per member; packs among them lie staged on its disk, not in memory


class Followers:
    """``settle`` waits until nothing is under way. Thread safe."""

    def __init__(self) -> None:
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._waiting: Counter[int] = Counter()
        self._keys: Counter[str] = Counter()
        self._changed = threading.Condition()

    def start(
        self, number: int, key: str, work: Callable[[], bool], must: bool = False
    ) -> Future[bool] | None:
        """Do ``work`` for an object on member ``number``; None when its queue is full. ``must``:
        however full."""
        with self._changed:
            if self._waiting[number] >= MOST_WAITING and not must:
                return None
            pool = self._pools.get(number)
            if pool is None:
                pool = self._pools[number] = ThreadPoolExecutor(THREADS, f"copy-{number}")
            self._waiting[number] += 1
            self._keys[key] += 1
        return pool.submit(self._run, number, key, work)

    def _run(self, number: int, key: str, work: Callable[[], bool]) -> bool:
        try:
            return work()
        finally:
            with self._changed:
                self._waiting[number] -= 1
                self._keys[key] -= 1
                if not self._keys[key]:
                    del self._keys[key]
                self._changed.notify_all()

    def wait_for(self, key: str) -> None:
        """Until nothing is under way for an object."""
        with self._changed:
            self._changed.wait_for(lambda: not self._keys[key])

    def settle(self) -> None:
        """Until nothing is under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._keys.total())
