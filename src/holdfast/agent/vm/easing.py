"""Beside a transfer: reads of the guest's disks wait when its own writes have become slow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from holdfast.domain.guest_pace import Counts, GuestPace, usual
from holdfast.errors import HoldfastError
from holdfast.ports.clock import Clock

INTERVAL = 1.0  # [s] over which writes are averaged
NANOSECONDS = 1_000_000  # of a millisecond
log = logging.getLogger("holdfast.agent")


class Easing:
    """For one backup. ``bound_ms``: how long the guest's writes may take, 0 for however long.
    ``wait``: waits so many seconds, or less when the backup is to stop. ``pace`` is called by
    several threads, all else by one."""

    def __init__(self, bound_ms: float, clock: Clock, wait: Callable[[float], object]) -> None:
        self._bound = bound_ms * NANOSECONDS
        self._clock, self._wait = clock, wait
        self._lock = threading.Lock()  # guards what follows
        self._pace = GuestPace(self._bound, {})
        self._ask: Callable[[], Counts] | None = None
        self._asked_at = 0.0
        self._waiting, self._since, self._waited = 0, 0.0, 0.0

    def begin(self, before: Counts, ask: Callable[[], Counts]) -> None:
        """The transfer begins. ``before``: what the guest had written when its machine was looked
        at last; ``ask`` says what it has by now. A machine that cannot be asked is not waited
        for."""
        if not self._bound:
            return
        with self._lock, suppress(HoldfastError):
            now = ask()
            self._pace = GuestPace(self._bound, usual(before, now))
            self._asked_at = self._clock.monotonic()
            self._pace.count(self._asked_at, now)
            self._ask = ask

    def pace(self, size: int, stopped: Callable[[], bool]) -> None:
        """Returns when a read of so many bytes may begin, or the backup is to stop."""
        held = False
        while not stopped():
            with self._lock:
                now = self._clock.monotonic()
                if now - self._asked_at >= INTERVAL:
                    self._count(now)
                left = self._pace.wait(now)
                if left <= 0:
                    self._pace.begin(now, size)
                    break
                if not held:
                    held = True
                    self._hold(now)
            self._wait(min(left, INTERVAL))
        if held:
            self._release()

    def _count(self, now: float) -> None:
        """A machine that cannot be asked any more is not waited for."""
        if self._ask is None:
            return
        before, self._asked_at = self._pace.rate, now
        try:
            self._pace.count(now, self._ask())
        except HoldfastError as error:
            log.warning("the guest's writes are not looked at any more: %s", error.message)
            self._ask = None
            self._pace.lift()
        if before is None and (rate := self._pace.rate) is not None:
            log.info("the guest's writes are slow: its disks are read at %.0f MiB/s", rate / 2**20)

    def _hold(self, now: float) -> None:
        if self._waiting == 0:
            self._since = now
        self._waiting += 1

    def _release(self) -> None:
        with self._lock:
            self._waiting -= 1
            if self._waiting == 0:
                self._waited += self._clock.monotonic() - self._since

    @property
    def waited_ms(self) -> float:
        """How long reads were held back; that of several at once counts once."""
        with self._lock:
            return self._waited * 1000

    @property
    def worst_ms(self) -> float:
        """The longest that writes of one of the guest's disks took, averaged over an interval."""
        with self._lock:
            return self._pace.worst / NANOSECONDS
