"""Progress of server-run jobs, written at most once a second, and why they stop early."""

from __future__ import annotations

from holdfast.catalog import jobs
from holdfast.catalog.jobs import JobRow
from holdfast.errors import CancelledError
from holdfast.jobs import outcome
from holdfast.jobs.context import JobContext
from holdfast.jobs.outcome import Outcome

EVERY_SECONDS = 1.0


class ServerProgress:
    """``report`` and ``cancelled`` are handed to long vault operations. ``unit``: what is counted,
    Bytes or Items."""

    def __init__(self, context: JobContext, job: JobRow, phase: str, unit: str = "Bytes") -> None:
        self._context = context
        self._job = job
        self._phase = phase
        self._unit = unit
        self._next_write = 0.0
        self._next_look = 0.0
        self._cancelled = False

    def report(self, done: int, total: int) -> None:
        """``done`` of ``total`` units."""
        now = self._context.clock.monotonic()
        if now < self._next_write and done < total:
            return
        self._next_write = now + EVERY_SECONDS
        progress = {f"done{self._unit}": done, f"total{self._unit}": total}
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

    def heed(self, done: int, total: int) -> None:
        """Report, and stop when that was asked for. CancelledError."""
        self.report(done, total)
        if self.cancelled():
            raise CancelledError("stopped as asked")

    def paused(self) -> Outcome | None:
        """Why a run stopped early: a cancel, or the server going down; None for its own reasons."""
        context = self._context
        if context.asked_to_cancel(self._job.id):
            return outcome.cancelled("stopped as asked; what was done stays done")
        if context.stopping():
            note = ["paused", "the server stops; the job goes on after its start"]
            return outcome.wait(context.clock.now(), "Paused", "waiting for the server", note)
        return None
