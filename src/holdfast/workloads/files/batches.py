"""Tasks of a thread pool that read files: small ones in batches, each large one by itself."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from holdfast.vaultstore.bundling import SMALL_FILE_BYTES
from holdfast.workloads.files.changes import Pending
from holdfast.workloads.files.content import ContentReader, Source
from holdfast.workloads.packing import stop_if

BATCH_BYTES, BATCH_FILES = 4 * 1024 * 1024, 2048
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_WAITING_TASKS = 64
MAX_WAITING_FILES = 8 * BATCH_FILES  # each is an entry of a few hundred bytes and more


class _Room:
    """How many tasks and files may wait; a task of any size is let in when none does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tasks = self._files = 0

    def take(self, files: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._fits(files))
            self._tasks += 1
            self._files += files

    def _fits(self, files: int) -> bool:
        few = self._tasks < MAX_WAITING_TASKS and self._files + files <= MAX_WAITING_FILES
        return few or not self._tasks

    def give_back(self, files: int) -> None:
        with self._changed:
            self._tasks -= 1
            self._files -= files
            self._changed.notify()


class Batches:
    """Used by one thread; ``threads`` others read. What waits for them is bounded."""

    def __init__(self, reader: ContentReader, threads: int, cancelled: Callable[[], bool]) -> None:
        self._reader = reader
        self._cancelled = cancelled
        self._pool = ThreadPoolExecutor(threads or min(4, (os.cpu_count() or 2) + 1), "read")
        self._room = _Room()
        self._batch: list[Source] = []
        self._owners: list[Pending] = []
        self._bytes = 0

    def add(self, pending: Pending) -> None:
        """Have a directory's sources read. CancelledError."""
        for source in pending.sources.values():
            size = source.entry.size
            if size >= SMALL_FILE_BYTES:
                self._submit_large(source, pending)
                continue
            pending.unsent = True
            self._batch.append(source)
            self._bytes += size
            if not self._owners or self._owners[-1] is not pending:
                self._owners.append(pending)
            if self._is_full(source.path):
                self.flush()

    def _is_full(self, path: bytes) -> bool:
        """Batches end where a path says, so that they fall alike in the next full read."""
        if self._bytes >= MAX_BATCH_BYTES or len(self._batch) >= BATCH_FILES:
            return True
        return self._bytes >= BATCH_BYTES and zlib.crc32(path) % 16 == 0

    def flush(self) -> None:
        """Make a task of the batch begun. CancelledError."""
        if self._batch:
            batch, owners = self._batch, self._owners
            self._batch, self._owners, self._bytes = [], [], 0
            self._submit(lambda: self._reader.read_small(batch), owners, len(batch))
            for owner in owners:
                owner.unsent = False

    def _submit_large(self, source: Source, pending: Pending) -> None:
        self._submit(lambda: self._reader.read_large(source), [pending], 1)

    def _submit(self, task: Callable[[], None], owners: list[Pending], files: int) -> None:
        self._room.take(files)
        stop_if(self._cancelled)
        future = self._pool.submit(task)
        future.add_done_callback(lambda _: self._room.give_back(files))
        for owner in owners:
            owner.tasks.append(future)

    def close(self) -> None:
        """Wait for what runs; drop what waits."""
        self._pool.shutdown(wait=True, cancel_futures=True)
