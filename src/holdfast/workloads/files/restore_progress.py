"""Figures of a running restore, read by a reporting thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(slots=True)
class RestoreProgress:
    """Figures of a running restore. ``skipped_files``: left alone; ``replaced_files`` and
    ``beside_files``: of those done, what gave way or got a copy."""

    phase: str = "Transfer data from vault"
    done_files: int = 0
    done_bytes: int = 0
    total_files: int | None = None
    total_bytes: int | None = None
    transferred_bytes: int = 0
    skipped_files: int = 0
    replaced_files: int = 0
    beside_files: int = 0
    directories: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, files: int, size: int, transferred: int = 0) -> None:
        with self.lock:
            self.done_files += files
            self.done_bytes += size
            self.transferred_bytes += transferred
