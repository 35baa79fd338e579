"""DBOS behind one small door: durable execution of turns on SQLite or PostgreSQL.

DBOS is configured against its defaults here: no pickle in the database (portable JSON), a constant
application version (its own would orphan running work at every upgrade), an executor id that is
unique per process, a bounded thread pool, SQLite with our durability rules, no telemetry.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from sqlalchemy import Engine
from structlog.contextvars import bound_contextvars

from holdfast.catalog.database import engine_for_guests, open_engine

log = logging.getLogger(__name__)

COMPATIBILITY_EPOCH = "1"  # raised by hand when running turns of an older program cannot go on
MAX_RECOVERIES = 1000
WAIT_SECONDS = 30.0
ALIVE = ("PENDING", "ENQUEUED", "DELAYED")
Begun = Literal["here", "noted", "over"]

RunTurn = Callable[[str, int, Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]], str]


class _Current:
    """The one engine of this process; DBOS finds workflow functions by name, not by object."""

    run: RunTurn | None = None
    lock = threading.Lock()
    running: set[str] = set()
    begun: dict[str, float] = {}  # turns that wait for a thread, since when (monotonic)


@DBOS.workflow(  # type: ignore[untyped-decorator]
    name="holdfast.turn", max_recovery_attempts=MAX_RECOVERIES
)
def _turn(job_id: str, turn: int) -> str:
    """The one workflow: a turn of a job, by name so that a later program finds it."""
    run = _Current.run
    if run is None:
        raise RuntimeError("the job engine is not started")
    key = workflow_id(job_id, turn)
    with _Current.lock:
        _Current.running.add(key)
        _Current.begun.pop(key, None)
    try:
        with bound_contextvars(job_id=job_id, turn=turn):
            return run(job_id, turn, _step)
    finally:
        with _Current.lock:
            _Current.running.discard(key)


def _step(name: str, body: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    stored: dict[str, Any] = DBOS.run_step({"name": name}, body)
    return stored


def workflow_id(job_id: str, turn: int) -> str:
    return f"{job_id}:{turn}"


class DurableTurns:
    """Starts and stops DBOS, and runs turns through it. One per process. ``look_seconds``: how
    often DBOS looks into its database, and how long ``stop`` may wait for it."""

    def __init__(self, url: str, executor_id: str, threads: int, look_seconds: float = 1.0) -> None:
        self._url = url
        self._look_seconds = min(max(look_seconds, 0.05), 1.0)
        self._executor_id = executor_id
        self._threads = threads
        self._engine: Engine | None = None

    @classmethod
    def sqlite_url(cls, folder: Path) -> str:
        """The engine's own file, beside an SQLite catalog."""
        return f"sqlite:///{folder / 'jobs.sqlite'}"

    def start(self, run: RunTurn) -> None:
        """Launch, and take up what this executor was at when it died."""
        logging.getLogger("dbos").setLevel(logging.WARNING)
        _Current.run = run
        _Current.running.clear()
        _Current.begun.clear()
        self._engine = self._open()
        config: DBOSConfig = {
            "name": "holdfast",
            "system_database_url": self._url,
            "system_database_engine": self._engine,
            "application_version": COMPATIBILITY_EPOCH,
            "executor_id": self._executor_id,
            "serializer": DBOSPortableJSONSerializer(),
            "max_executor_threads": self._threads,
            "enable_otlp": False,
            "log_level": "WARNING",
            "console_log_level": "WARNING",
            "scheduler_polling_interval_sec": 3600.0,
            "notification_listener_polling_interval_sec": self._look_seconds,
        }
        DBOS(config=config)
        DBOS.launch()

    def _open(self) -> Engine:
        if self._url.startswith("sqlite"):
            return engine_for_guests(Path(self._url.removeprefix("sqlite:///")))
        return open_engine(self._url)

    def begin(self, job_id: str, turn: int) -> Begun:
        """Start a turn unless it was started before: "here" when this process runs it or is about
        to, "noted" when only the records say that it runs, "over" when it ended or was lost."""
        key = workflow_id(job_id, turn)
        if self.is_running(job_id, turn) or self._waits(key):
            return "here"
        status = DBOS.get_workflow_status(key)
        if status is not None:
            return "noted" if status.status in ALIVE else "over"
        with _Current.lock:
            _Current.begun[key] = time.monotonic()
        with SetWorkflowID(key):
            DBOS.start_workflow(_turn, job_id, turn)
        return "here"

    def _waits(self, key: str) -> bool:
        """Whether a turn was begun here a short while ago and has no thread yet."""
        with _Current.lock:
            since = _Current.begun.get(key)
            if since is not None and time.monotonic() - since > WAIT_SECONDS:
                del _Current.begun[key]
                return False
            return since is not None

    @property
    def is_full(self) -> bool:
        """Whether as many turns wait for a thread as make sense; the catalog keeps the others."""
        with _Current.lock:
            return len(_Current.begun) >= 4 * self._threads

    def is_running(self, job_id: str, turn: int) -> bool:
        with _Current.lock:
            return workflow_id(job_id, turn) in _Current.running

    def running_count(self) -> int:
        with _Current.lock:
            return len(_Current.running)

    def adopt(self, executor_ids: list[str]) -> None:
        """Take over what executors that died were at. Idempotent."""
        DBOS._recover_pending_workflows(executor_ids)

    def forget(self, before: datetime, limit: int = 500) -> int:
        """Drop the records of turns that ended before a time; how many."""
        found = DBOS.list_workflows(
            completed_before=before.isoformat(), limit=limit, load_input=False, load_output=False
        )
        ids = [status.workflow_id for status in found]
        if ids:
            DBOS.delete_workflows(ids)
        return len(ids)

    def stop(self) -> None:
        """Let go of the database; turns cut off here go on after the next start."""
        with contextlib.suppress(Exception):
            DBOS.destroy()
        _Current.run = None
        if self._engine is not None:
            self._engine.dispose()
