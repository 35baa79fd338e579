"""Answers of the catalog that are asked for again and again between two changes.

Who calls, which agent and which session: every pack and every run of frames asks the same few rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

SECONDS = 1.0  # how long a change that another program made may go unseen
MOST = 1024

T = TypeVar("T")


class Recall:
    """Keeps answers until ``forget``, and no longer than a second. Thread safe.

    An answer that was being looked for while something was forgotten is not kept, so whoever asks
    after a change was committed and forgotten sees it. ``monotonic``: seconds."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._changes = 0
        self._known: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable, find: Callable[[], T]) -> T:
        """What ``find`` answers, or answered to this ``key`` since the last change."""
        now = self._monotonic()
        with self._lock:
            changes = self._changes
            known = self._known.get(key)
        if known is not None and now - known[0] < SECONDS:
            answer: T = known[1]
            return answer
        found = find()
        with self._lock:
            if self._changes == changes:
                if len(self._known) >= MOST:
                    self._known.clear()
                self._known[key] = (now, found)
        return found

    def forget(self) -> None:
        """Something was changed."""
        with self._lock:
            self._changes += 1
            self._known.clear()
