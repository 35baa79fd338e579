"""The job engine: one thread that looks for due work, and turns run durably by a thread pool.

The catalog says what is due (a job's ``wake_at``, an item's ``next_run_at``, a lease's end); the
engine starts turns for it. A job that waits for its agent costs a row, no thread. A turn's
execution has the turn's number in its id, so starting it twice, here or on another server, runs it
once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import jobs as rows
from holdfast.catalog import tasks, upkeep
from holdfast.catalog.database import Catalog
from holdfast.catalog.jobs import JobRow
from holdfast.errors import ConflictError, HoldfastError
from holdfast.jobs.bell import Bell
from holdfast.jobs.context import JobContext, OpenVault, VaultDoor
from holdfast.jobs.durable import DurableTurns
from holdfast.jobs.ledger import MAINTENANCE, SNAPSHOT_AT, Ledger, backup_running, may_cancel_job
from holdfast.jobs.life_writing import LifeWriter
from holdfast.jobs.settings import JobSettings
from holdfast.jobs.ticker import Ticker
from holdfast.jobs.turns import Turns
from holdfast.ports.clock import Clock, Random
from holdfast.ports.jobs import JobSpec

log = logging.getLogger(__name__)

PURGE_EVERY = 3600.0
SETTLE_EVERY = 60.0
STRANDED_SECONDS = 60.0
STOP_SECONDS = 20.0
LONG_KINDS = (*MAINTENANCE, "import", "purge", "erase")


class JobEngine:
    """The Jobs port. ``driver`` names this process among the servers of one catalog."""

    def __init__(
        self,
        catalog: Catalog,
        open_vault: OpenVault,
        clock: Clock,
        rng: Random,
        *,
        durable: DurableTurns,
        driver: str,
        settings: JobSettings | None = None,
        door: VaultDoor | None = None,
    ) -> None:
        self.settings = settings or JobSettings()
        self.ledger = Ledger(clock, rng)
        self.bell = Bell()
        self._catalog = catalog
        self._clock = clock
        self._durable = durable
        self._driver = driver
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None
        self._teller: threading.Thread | None = None
        self._last_tick = 0.0
        self._noted: dict[tuple[str, int], float] = {}  # turns seen only in records, since when
        self.context = JobContext(
            catalog=catalog,
            ledger=self.ledger,
            open_vault=open_vault,
            settings=self.settings,
            bell=self.bell,
            stopping=self._stopping.is_set,
            door=door,
        )
        self._turns = Turns(self.context, driver)
        self._ticker = Ticker(self.context)
        self._life = LifeWriter(self.context)
        self._shared = not catalog.is_sqlite

    # the port

    def submit(self, spec: JobSpec) -> str:
        try:
            with self._catalog.write() as connection:
                job_id = self.create(connection, spec)
        except ConflictError as error:
            if error.code == "CatalogConflict" and spec.kind == "backup":
                raise backup_running(spec.entity_name, "") from error
            raise
        self.wake()
        return job_id

    def create(self, transaction: Connection, spec: JobSpec) -> str:
        return self.ledger.create(transaction, spec).id

    def record(self, transaction: Connection, spec: JobSpec, result: Mapping[str, Any]) -> str:
        return self.ledger.record(transaction, spec, result).id

    def cancel(self, job_id: str, by: str) -> None:
        now = self._clock.now()
        with self._catalog.write() as connection:
            job = self.ledger.get(connection, job_id)
            if job.status == "Cancelling":
                return
            if not may_cancel_job(job):
                raise _not_cancellable(job)
            rows.signal_job(
                connection,
                job_id,
                now,
                status="Cancelling",
                cancel_requested_at=now,
                detail="cancelling",
            )
            self.ledger.note(connection, job_id, "cancel-requested", f"by {by}")
            task = tasks.task_of_job(connection, job_id)
            if task is not None:
                tasks.change_task(connection, task.id, cancel_requested=True)
        if task is not None:
            self.bell.ring(task.agent_id)
        self.wake()

    def wake(self) -> None:
        self._wake.set()
        self._changed.set()

    def healthy(self) -> bool:
        alive = self._thread is not None and self._thread.is_alive()
        late = time.monotonic() - self._last_tick
        return alive and late < 60 + 10 * self.settings.tick_seconds

    # life

    def start(self) -> None:
        """Launch, take up what was interrupted, and begin to tick."""
        self._stopping.clear()
        self.bell.closed = False
        if self._shared:
            self._renew_lease()
        self._note_restart()
        self._durable.start(self._turns.run)
        self._last_tick = time.monotonic()
        self._thread = threading.Thread(target=self._loop, name="holdfast-jobs", daemon=True)
        self._thread.start()
        self._teller = threading.Thread(target=self._tell, name="holdfast-life", daemon=True)
        self._teller.start()

    def stop(self) -> None:
        """Stop ticking, let running steps come to a pause, let go of the database."""
        self._stopping.set()
        self.wake()
        self.bell.close()
        for thread in (self._thread, self._teller):
            if thread is not None:
                thread.join(timeout=STOP_SECONDS)
        give_up = time.monotonic() + STOP_SECONDS
        while self._durable.running_count() and time.monotonic() < give_up:
            self._stopping.wait(0.02)
            time.sleep(0.02)
        self._durable.stop()
        if self._shared:
            with self._catalog.write() as connection:
                upkeep.remove_worker(connection, self._driver)

    def _note_restart(self) -> None:
        """Say in the history of every interrupted job that it goes on; give agents a grace."""
        now = self._clock.now()
        grace = now + timedelta(seconds=self.settings.lease_seconds)
        with self._catalog.write() as connection:
            tasks.extend_leases(connection, grace)
            for job in rows.active_jobs(connection):
                if job.driver == self._driver:
                    message = f"the server was restarted; the job goes on ({job.phase})"
                    self.ledger.note(connection, job.id, "resumed", message)

    # the loop

    def _loop(self) -> None:
        purge_at = settle_at = 0.0
        while not self._stopping.is_set():
            self._guard("drive", self._drive)
            if self._guard("ticker", self._ticker.tick):
                self.wake()
            self._guard("leases", self._lapse)
            if self._shared:
                self._guard("workers", self._keep_workers)
                self._guard("news", self._ring_news)
            if time.monotonic() >= settle_at:
                settle_at = time.monotonic() + SETTLE_EVERY
                self._guard("clock", self.pull_clock)
            if time.monotonic() >= purge_at:
                purge_at = time.monotonic() + PURGE_EVERY
                self._guard("purge", self._purge)
            self._last_tick = time.monotonic()
            self._wake.wait(self.settings.tick_seconds)
            self._wake.clear()

    def _tell(self) -> None:
        """Let vaults know how their items stand; beside the loop, for a store may be slow."""
        while not self._stopping.is_set():
            self._changed.clear()
            self._guard("life", self._life.write)
            self._changed.wait(self.settings.tick_seconds)

    def pull_clock(self) -> None:
        """Bring back what a clock that was ahead once had put off; every minute by itself."""
        self._ticker.settle_clock()
        self.wake()

    def _guard(self, name: str, work: Callable[[], Any]) -> Any:
        """A failing part must not stop the others; the next tick tries again."""
        try:
            return work()
        except HoldfastError as error:
            log.warning("jobs: %s: %s (%s)", name, error.message, error.code)
        except Exception:
            log.exception("jobs: %s failed", name)
        return None

    def _drive(self) -> None:
        """Start the turns that are due."""
        now = self._clock.now()
        with self._catalog.read() as connection:
            due = rows.jobs_to_drive(connection, now)
            alive = upkeep.live_workers(connection, now) if due and self._shared else set()
        long_running = 0
        noted: dict[tuple[str, int], float] = {}
        for job in due:
            running = self._durable.is_running(job.id, job.turn)
            long = job.kind in LONG_KINDS
            long_running += long and running
            if running or (job.driver != self._driver and job.driver in alive and job.turn > 0):
                continue
            if long and long_running >= self.settings.long_jobs:
                continue
            if self._durable.is_full:
                break
            long_running += long
            begun = self._durable.begin(job.id, job.turn)
            if begun == "over":
                self._turns.skip(job, "its last turn was cut off; it goes on")
                self.wake()
            elif begun == "noted":
                noted[job.id, job.turn] = self._noted.get((job.id, job.turn), time.monotonic())
                self._skip_if_stranded(job, noted[job.id, job.turn])
        self._noted = noted

    def _skip_if_stranded(self, job: JobRow, since: float) -> None:
        """Go on without a turn that should run and ran nowhere for a while. The wait is measured on
        the monotonic clock: after a leap of the other one every job looks late. Should the turn
        run after all, its number is past and it changes nothing."""
        if time.monotonic() - since > STRANDED_SECONDS:
            log.warning("job %s: turn %d is stranded; going on without it", job.id, job.turn)
            self._turns.skip(job, "its last turn ran nowhere; it goes on")
            self.wake()

    def _lapse(self) -> None:
        """Notice agents that gave no sign in time."""
        now = self._clock.now()
        longest = 2 * timedelta(seconds=self.settings.lease_seconds)
        with self._catalog.read() as connection:
            lapsing = tasks.lapsing_tasks(connection, now, longest)
        for task in lapsing:
            with self._catalog.write() as connection:
                if tasks.mark_lapsed(connection, task, now):
                    self.ledger.note(
                        connection, task.job_id, "agent-lost", "no sign of the agent in time"
                    )
                    rows.signal_job(connection, task.job_id, now)
                    self.wake()

    def _ring_news(self) -> None:
        """Wake agents that wait here for what another server wrote."""
        if self.bell.waiting():
            with self._catalog.read() as connection:
                news = tasks.agents_with_news(connection)
            self.bell.ring_any(news)

    def _renew_lease(self) -> None:
        now = self._clock.now()
        until = now + timedelta(seconds=self.settings.worker_lease_seconds)
        with self._catalog.write() as connection:
            upkeep.renew_worker(connection, self._driver, until, now)

    def _keep_workers(self) -> None:
        """Renew our lease; take over the turns of workers whose lease ended."""
        self._renew_lease()
        now = self._clock.now()
        with self._catalog.read() as connection:
            dead = upkeep.dead_workers(connection, now)
        if not dead:
            return
        log.warning("taking over the jobs of workers %s", ", ".join(dead))
        self._durable.adopt(dead)
        with self._catalog.write() as connection:
            for job in rows.active_jobs(connection):
                if job.driver in dead:
                    self.ledger.note(connection, job.id, "resumed", "another server took it over")
                    rows.change_job(connection, job.id, driver=self._driver)
            for executor_id in dead:
                upkeep.remove_worker(connection, executor_id)

    def _purge(self) -> None:
        self._ticker.purge()
        before = self._clock.now() - timedelta(days=7)
        self._durable.forget(before)


def _not_cancellable(job: JobRow) -> ConflictError:
    if job.active and SNAPSHOT_AT in job.progress:
        return ConflictError(
            f"the snapshot of {job.entity_name} is taken, its transfer is not cancelled",
            code="UserErrorJobNotCancellable",
            hint="It ends by itself; a backup of a machine can be cancelled while its snapshot is "
            "taken.",
        )
    if job.active:
        return ConflictError(
            f"a {job.operation} job cannot be cancelled",
            code="UserErrorJobNotCancellable",
            hint="It ends by itself; only backups, restores, imports and a vault's upkeep can be "
            "cancelled.",
        )
    return ConflictError(
        f"job {job.id} has ended ({job.status})",
        code="JobEnded",
        hint="There is nothing left to cancel.",
    )
