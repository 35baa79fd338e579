"""Durability of a restore: one ``syncfs`` per target file system, before anything is claimed.

While a restore runs, a thread syncs now and then, so that writing to disk overlaps with the rest,
and writes the windows finished before the sync into the journal after it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence

from holdfast import crashpoint
from holdfast.errors import HoldfastError, TargetError
from holdfast.workloads.files.journal import RestoreJournal

SYNC_SECONDS = 5.0  # how often at most; about how much work an interruption may cost
_libc = ctypes.CDLL(None, use_errno=True)
_syncfs = getattr(_libc, "syncfs", None)


def sync_file_systems(descriptors: Sequence[int]) -> None:
    """Make everything written to these file systems durable. TargetError when one refuses."""
    for fd in descriptors:
        if _syncfs is None:
            os.sync()
        elif _syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise TargetError(
                f"the target could not be made durable: {os.strerror(number)}",
                hint="check the target's file system; the restore can be started again",
            )


class Syncer:
    """``devices`` gives descriptors, one on each file system written to."""

    def __init__(self, devices: Callable[[], Sequence[int]], journal: RestoreJournal) -> None:
        self._devices = devices
        self._journal = journal
        self._lock = threading.Lock()
        self._written: list[int] = []
        self._error: HoldfastError | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="restore-sync", daemon=True)
        self._thread.start()

    def window_written(self, number: int) -> None:
        """Every file of the window is in place, not yet durable."""
        if self._error is not None:
            raise self._error
        with self._lock:
            self._written.append(number)

    def _run(self) -> None:
        while not self._ending.wait(SYNC_SECONDS):
            try:
                self._sync()
            except HoldfastError as error:
                self._error = error
                return

    def _sync(self) -> None:
        with self._lock:
            numbers, self._written = self._written, []
        sync_file_systems(self._devices())
        self._journal.finish_windows(numbers)
        crashpoint.reach("restore.synced")

    def stop(self) -> None:
        """End the thread; call in every case, before the target is closed."""
        self._ending.set()
        self._thread.join()

    def finish(self) -> None:
        """The last sync: afterwards everything is durable and the journal says so."""
        self.stop()
        if self._error is not None:
            raise self._error
        self._sync()
