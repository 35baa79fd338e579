"""A job engine with a real catalog, a real vault and an agent in the same process, for tests.

``live`` as a process of its own is one server that a recovery test kills: it submits a job of a
kind unless one was submitted before, and ends when that has ended. Crash points are armed by the
environment, which may also name this server among others of the same catalog (YARD_DRIVER) and the
vault's store (YARD_STORE: JSON of ``url`` and ``credentials``).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from holdfast import crashpoint
from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.object_store import open_store
from holdfast.adapters.object_store.local import LocalStore
from holdfast.catalog import containers, items, jobs, places
from holdfast.catalog.containers import AgentRow
from holdfast.catalog.database import Catalog
from holdfast.catalog.identifiers import id_bytes
from holdfast.catalog.jobs import JobRow
from holdfast.catalog.migrate import upgrade
from holdfast.catalog.tasks import TaskRow
from holdfast.errors import HoldfastError
from holdfast.jobs.durable import DurableTurns
from holdfast.jobs.engine import JobEngine
from holdfast.jobs.settings import JobSettings
from holdfast.ports.clock import Clock, Random
from holdfast.ports.jobs import JobKind, JobSpec
from holdfast.ports.object_store import ObjectStore
from holdfast.services.agent_desk import AgentDesk
from holdfast.services.agent_tasks import Completion, Report
from holdfast.testing.catalog_rows import furnish
from holdfast.testing.little_agent import BackupRun, LittleAgent
from holdfast.vaultstore.values import PointClaims, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import Vault

VAULT_ID = "5b1f3c52-0000-4000-8000-000000000001"
PLATFORM_KEY = bytes(range(32))
STORE = "YARD_STORE"
PREPARED = "prepared"  # in the folder of a yard: the words for its job
FILES = {b"a/%d" % number: bytes([number]) * 5000 for number in range(20)}
INCREMENTAL = "incremental"  # a backup after one of FILES
CHANGED = {**FILES, b"new": b"n" * 9000}
QUICK = JobSettings(
    tick_seconds=0.1, retry_seconds=(0.2, 0.2), lease_seconds=2.0, worker_lease_seconds=2.0
)


class _SessionDoor:
    """The vault as an agent reaches it: through the desk's checks."""

    def __init__(self, desk: AgentDesk, agent: AgentRow, vault: Vault) -> None:
        self._desk = desk
        self._agent = agent
        self.file_tree, self.root = vault.file_tree, vault.root

    def locate(self, session_id: bytes, ids: bytes) -> Any:
        return self._desk.data.locate(self._agent, session_id.hex(), ids)

    def read_frames(self, session_id: bytes, pack_id: bytes, frames: Sequence[int]) -> Any:
        return self._desk.data.read_frames(self._agent, session_id.hex(), pack_id, frames)

    def lookup(self, session_id: bytes, packed: bytes) -> bytes:
        return self._desk.data.lookup(self._agent, session_id.hex(), packed)

    def start_pack(self, session_id: bytes, pack_id: bytes, size: int) -> Any:
        upload = self._desk.data.start_pack(self._agent, session_id.hex(), pack_id, size)
        return _Counted(upload.receiver, upload.done)


@dataclass
class _Counted:
    receiver: Any
    done: Callable[[], None]

    def write(self, data: Any) -> None:
        self.receiver.write(data)

    def finish(self) -> bytes:
        receipt: bytes = self.receiver.finish()
        self.done()
        return receipt

    def abort(self) -> None:
        self.receiver.abort()


class YardAgent:
    """Takes tasks one after the other in a thread. ``files`` is what it protects; ``before`` is
    called with each task it takes, and may raise or wait."""

    def __init__(self, desk: AgentDesk, agent: AgentRow, vault: Vault, rng: Random) -> None:
        self.desk = desk
        self.row = agent
        self._door: Any = _SessionDoor(desk, agent, vault)
        self.files: dict[bytes, bytes] = dict(FILES)
        self.restored: dict[bytes, bytes] = {}
        self.before: Callable[[TaskRow], None] = lambda _task: None
        self._rng = rng
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._loop, name="yard-agent", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _loop(self) -> None:
        while not self._stop.wait(0.02):
            try:
                handed = self.desk.tasks.next(self.row, {})
                if handed.task is not None:
                    self.work(handed.task)
            except HoldfastError:
                continue

    def work(self, task: TaskRow) -> None:
        """One task to its end."""
        try:
            self.before(task)
            done = self._back_up(task) if task.kind == "files-backup" else self._restore(task)
        except HoldfastError as error:
            problem = {"code": error.code, "message": error.message, "hint": error.hint}
            done = Completion("failed", problem, {}, [])
        crashpoint.reach("agent.complete.before")
        self.desk.tasks.complete(self.row, task.id, task.fence, done)
        crashpoint.reach("agent.complete.after")

    def _back_up(self, task: TaskRow) -> Completion:
        little = LittleAgent(self._door, self._rng)
        grant = self.desk.data.open_session(self.row, task.id, task.fence)
        crashpoint.reach("agent.session.after")
        run = BackupRun(little, grant)
        root_id = run.send(self.files)
        crashpoint.reach("agent.sent.after")
        report = Report("Transfer", little.sent_bytes, None, 20, 20, little.sent_bytes, [], "")
        self.desk.tasks.progress(self.row, task.id, task.fence, report)
        claims = PointClaims(transferred_bytes=little.sent_bytes, file_count=len(self.files))
        session = grant.session_id.hex()
        record = self.desk.data.commit(self.row, session, run.receipts, root_id, claims)
        crashpoint.reach("agent.commit.after")
        self.desk.data.close(self.row, session)
        return Completion("succeeded", {}, {"recoveryPointId": record.rp_id}, [])

    def _restore(self, task: TaskRow) -> Completion:
        grant = self.desk.data.open_session(self.row, task.id, task.fence)
        crashpoint.reach("agent.session.after")
        reader = LittleAgent(self._door, self._rng)
        self.restored = reader.read_all(grant, str(task.payload["recoveryPointId"]))
        crashpoint.reach("agent.restored.after")
        self.desk.data.close(self.row, grant.session_id.hex())
        return Completion("succeeded", {}, {"filesRestored": len(self.restored)}, [])


class JobYard:
    """Everything below ``folder``; the catalog at ``url``. Opening it again finds what is there."""

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        clock: Clock | None = None,
        settings: JobSettings = QUICK,
        driver: str = "yard",
        store: ObjectStore | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.rng = SystemRandom()
        self.catalog = Catalog.open(url)
        upgrade(self.catalog.engine)
        self.store = store or LocalStore(folder / "vaults")
        self.vault = self._open_vault()
        self._furnish()
        jobs_url = DurableTurns.sqlite_url(folder) if self.catalog.is_sqlite else url
        self.durable = DurableTurns(jobs_url, driver, settings.threads, settings.tick_seconds)
        self.vault_errors: list[HoldfastError] = []
        self.engine = JobEngine(
            self.catalog,
            self.open_vault,
            self.clock,
            self.rng,
            durable=self.durable,
            driver=driver,
            settings=settings,
        )
        self.desk = AgentDesk.build(self.catalog, self.engine, self.open_vault)
        self.agent = YardAgent(self.desk, self.agent_row(), self.vault, self.rng)

    def open_vault(self, _vault_id: str) -> Vault:
        """The vault; or the next of ``vault_errors``, once each."""
        if self.vault_errors:
            raise self.vault_errors.pop(0)
        return self.vault

    def _open_vault(self) -> Vault:
        ids = VaultIds(vault_id=id_bytes(VAULT_ID), domain_id=bytes(16))
        options = VaultOptions(pack_target_bytes=65536, reserve_bytes=0, probe=False)
        try:
            return Vault.create(
                self.store, PLATFORM_KEY, ids=ids, options=options, clock=self.clock, rng=self.rng
            )
        except HoldfastError as error:
            if error.code != "VaultExists":
                raise
        unlock = Unlock(platform_key=PLATFORM_KEY)
        return Vault.open(self.store, ids.vault_id, unlock, clock=self.clock, rng=self.rng)

    def _furnish(self) -> None:
        with self.catalog.write() as connection:
            if not places.list_subscriptions(connection):
                furnish(connection, self.rng, self.clock.now(), vault_id=VAULT_ID)

    def agent_row(self) -> AgentRow:
        with self.catalog.read() as connection:
            return containers.list_agents(connection)[0]

    def item(self) -> items.ItemRow:
        with self.catalog.read() as connection:
            return items.items_of_vault(connection, VAULT_ID)[0]

    def submit(self, kind: JobKind, **parameters: Any) -> str:
        spec = JobSpec(kind, VAULT_ID, "v1", parameters=parameters)
        if kind in ("backup", "restore", "purge"):
            item = self.item()
            spec = replace(
                spec, entity_name="docs", item_id=item.id, container_id=item.container_id
            )
        return self.engine.submit(spec)

    def job(self, job_id: str) -> JobRow:
        with self.catalog.read() as connection:
            return self.engine.ledger.get(connection, job_id)

    def history(self, job_id: str) -> list[str]:
        with self.catalog.read() as connection:
            return [event.event for event in jobs.history_of(connection, job_id)]

    def ended(self, job_id: str, seconds: float = 30.0) -> JobRow:
        """The job once it has ended; AssertionError with its history when it does not."""
        give_up = time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            if not job.active:
                return job
            if time.monotonic() > give_up:
                raise AssertionError(f"{job} does not end: {self.history(job_id)}")
            time.sleep(0.02)

    def rest(self) -> None:
        """Let the turns and tasks that run here come to their ends: a job's row says that it ended
        a moment before the turn that wrote this, and the agent that reported, are through. The
        agent takes nothing more until it is started again."""
        self.agent.stop()
        give_up = time.monotonic() + 30.0
        while self.durable.running_count():
            if time.monotonic() > give_up:
                raise AssertionError("a turn of an ended job does not end")
            time.sleep(0.005)

    def run(self, kind: JobKind, **parameters: Any) -> JobRow:
        return self.ended(self.submit(kind, **parameters))

    def start(self) -> None:
        self.engine.start()
        self.agent.start()

    def stop(self) -> None:
        self.agent.stop()
        self.engine.stop()
        self.vault.close()
        self.catalog.close()

    def __enter__(self) -> JobYard:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _prepare(yard: JobYard, kind: str) -> Mapping[str, Any]:
    """What a job of this kind needs to have something to do."""
    if kind == INCREMENTAL:
        yard.run("backup")
    if kind in ("expire", "collect", "verify", "restore", "purge"):
        first = yard.run("backup")
        yard.agent.files[b"new"] = b"n" * 9000
        yard.run("backup")
        rp_id = str(first.result["recoveryPointId"])
        if kind == "restore":
            return {"recoveryPointId": rp_id}
        if kind == "expire":
            return {"drops": {rp_id: "test"}, "explicit": True}
        if kind == "purge":
            return {"immediate": True}
        if kind == "collect":
            yard.run("expire", drops={rp_id: "test"}, explicit=True)
    return {}


def yard_store(folder: Path, environment: Mapping[str, str]) -> ObjectStore:
    """The store the environment names, or a folder."""
    if (named := environment.get(STORE)) is None:
        return LocalStore(folder / "vaults")
    found = json.loads(named)
    return open_store(found["url"], found["credentials"])


def prepare(folder: Path, url: str, kind: str) -> None:
    """A server's life before it is asked for a job of this kind, as a process; ``live`` in this
    folder, or in a copy of it, goes on from there."""
    _log_to(folder)
    with JobYard(folder, url) as yard:
        words = _prepare(yard, kind)
        yard.rest()
    (folder / PREPARED).write_text(json.dumps(words))


def _prepared(yard: JobYard, folder: Path, kind: str) -> Mapping[str, Any]:
    """What was prepared in this folder; otherwise it is done now."""
    words = folder / PREPARED
    if words.exists():
        found: dict[str, Any] = json.loads(words.read_text())
        return found
    return _prepare(yard, kind)


def _log_to(folder: Path) -> None:
    with (folder / "yard.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def live(folder: Path, url: str, kind: str, environment: Mapping[str, str]) -> None:
    """One server's life; output goes to ``yard.log``. The process is gone as soon as the job and
    who worked for it have ended, without a farewell."""
    _log_to(folder)
    os.environ.update(environment)
    marker = folder / f"submitted-{kind}"
    store, driver = yard_store(folder, environment), environment.get("YARD_DRIVER", "yard")
    files = dict(CHANGED if kind == INCREMENTAL else FILES)
    job_kind = cast(JobKind, "backup" if kind == INCREMENTAL else kind)
    yard = JobYard(folder, url, driver=driver, store=store)
    if marker.exists():
        yard.agent.files = files
    with yard:
        if marker.exists():
            job_id = marker.read_text()
        else:
            prepared = _prepared(yard, folder, kind)
            yard.rest()  # or its last points would count as the job's own
            crashpoint.arm(os.environ)
            yard.agent.files = files
            yard.agent.start()
            job_id = yard.submit(job_kind, **prepared)
            marker.write_text(job_id)
        yard.ended(job_id)
        yard.rest()
        os._exit(0)
