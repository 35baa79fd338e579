"""Findings of a run: what could not be done to one path. Collected from all threads, bounded."""

from __future__ import annotations

import threading

from holdfast.vaultstore.root import MAX_FINDINGS, Finding


class Findings:
    """The first MAX_FINDINGS findings, and the count of all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Finding] = []
        self._taken = 0
        self.count = 0

    def add(self, code: str, path: bytes, message: str) -> None:
        with self._lock:
            self.count += 1
            if len(self._kept) < MAX_FINDINGS:
                self._kept.append(Finding(code=code, path=path, message=message))

    def all(self) -> tuple[Finding, ...]:
        with self._lock:
            return tuple(self._kept)

    def take_new(self) -> list[Finding]:
        """Findings not yet taken, for progress reports."""
        with self._lock:
            fresh, self._taken = self._kept[self._taken :], len(self._kept)
            return fresh
