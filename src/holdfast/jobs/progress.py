"""Progress of server-run jobs, written at most once a second, and their cancel flag."""

from __future__ import annotations

from holdfast.catalog import jobs
from holdfast.catalog.jobs import JobRow
from holdfast.jobs.context import JobContext

EVERY_SECONDS = 1.0


class ServerProgress:
    """``report`` and ``cancelled`` are handed to long vault operations."""

    def __init__(self, context: JobContext, job: JobRow, phase: str) -> None:
        self._context = context
        self._job = job
        self._phase = phase
        self._next_write = 0.0
        self._next_look = 0.0
        self._cancelled = False

    def report(self, done: int, total: int) -> None:
        """``done`` of ``total`` bytes."""
        now = self._context.clock.monotonic()
        if now < self._next_write and done < total:
            return
        self._next_write = now + EVERY_SECONDS
        progress = {"doneBytes": done, "totalBytes": total}
        with self._context.catalog.write() as connection:
            jobs.change_job(connection, self._job.id, progress=progress, phase=self._phase)

    def cancelled(self) -> bool:
        """Whether to stop now: the user asked, or the server goes down."""
        if self._context.stopping():
            return True
        now = self._context.clock.monotonic()
        if now >= self._next_look:
            self._next_look = now + EVERY_SECONDS
            self._cancelled = self._context.asked_to_cancel(self._job.id)
        return self._cancelled
