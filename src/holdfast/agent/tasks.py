"""Doing one task: a backup or a restore, with progress reports and an honest end."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agent.client import AgentClient
from holdfast.agent.state import AgentFolder, AgentState
from holdfast.agent.transports import HttpSession
from holdfast.agent.vm_work import VmControl, VmFigures, VmWork
from holdfast.domain.path_text import decode_path, encode_path, shown_text
from holdfast.domain.work_hours import read_work_hours
from holdfast.errors import (
    CancelledError,
    ConflictError,
    HoldfastError,
    InternalError,
    SourceError,
)
from holdfast.logs import log_context
from holdfast.ports import vm_tasks
from holdfast.ports.clock import Clock, Random
from holdfast.ports.volume_snapshot import SourceSnapshot, VolumeSnapshots
from holdfast.vaultstore.root import Finding
from holdfast.workloads.files.backup import BackupPlan, FilesBackup
from holdfast.workloads.files.restore import FilesRestore, RestorePlan
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.files.selection import normalise_includes

log = logging.getLogger("holdfast.agent")
REPORT_SECONDS = 0.5
CANCEL_SECONDS = 0.5  # how often a wait looks whether it was cancelled
MAX_FINDINGS_A_REPORT = 500


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the server handed it out."""

    task_id: str
    fence: int
    kind: str
    job_id: str
    item_key: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tools:
    """What tasks work with. ``vms``: None on a host without virtual machines, where ``recovery``
    restores those of other hosts; ``machines_changed``: set when the server should hear of them
    now."""

    client: AgentClient
    folder: AgentFolder
    state: AgentState
    clock: Clock
    rng: Random
    stopping: threading.Event
    snapshots: Sequence[VolumeSnapshots]
    vms: VmWork | None = None
    recovery: VmWork | None = None
    checkpoint_seconds: float = 600.0
    machines_changed: threading.Event = field(default_factory=threading.Event)


def take_snapshot(
    adapters: Sequence[VolumeSnapshots], includes: tuple[bytes, ...]
) -> tuple[VolumeSnapshots, SourceSnapshot]:
    """The first snapshot an adapter can take; when one fails, the next adapter serves and the
    reason is recorded."""
    failed = ""
    for adapter in adapters:
        try:
            found = adapter.take(includes)
        except SourceError as error:
            failed = f" (a snapshot failed: {error.message})"
            continue
        if found is not None:
            return adapter, replace(found, reason=found.reason + failed)
    raise InternalError("no snapshot adapter serves")


def release_memory() -> None:
    """Give a finished task's buffers back to the system at once."""
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def machine_failed(error: OSError) -> HoldfastError:
    """What a server is told of an error of the machine itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return HoldfastError(
            f"the agent's machine has no room for what a backup keeps there{where}",
            code="SpoolFull",
            hint="free space on the disk of the agent's data folder; the job goes on by itself "
            "when it is tried again",
        )
    return HoldfastError(
        f"the agent's machine failed: {error}",
        code="AgentFailed",
        hint="look into the agent's log and its data folder's disk",
    )


class TaskRun:
    """One task on its own thread. ``cancel`` asks it to stop; ``lost`` makes it forget the task,
    because the server handed it to somebody else."""

    def __init__(self, task: Task, tools: Tools, ended: Callable[[str], None]) -> None:
        self.task = task
        self._tools = tools
        self._ended = ended
        self._cancel = threading.Event()
        self._lost = threading.Event()
        self._undo = threading.Event()
        self._work: FilesBackup | FilesRestore | VmControl | None = None
        with log_context(job_id=task.job_id, task_id=task.task_id):
            run = copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._run,), name=f"task-{task.task_id[:8]}"
        )

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        self._cancel.set()

    def join(self) -> None:
        self._thread.join()

    def _should_stop(self) -> bool:
        return self._cancel.is_set() or self._lost.is_set() or self._tools.stopping.is_set()

    def _wait(self, seconds: float) -> None:
        """Wait for a throttled backup, but not when the task should stop."""
        until = time.monotonic() + seconds
        while not self._should_stop() and (left := until - time.monotonic()) > 0:
            self._tools.stopping.wait(min(left, CANCEL_SECONDS))

    def _run(self) -> None:
        done = threading.Event()
        run = copy_context().run
        reporter = threading.Thread(target=run, args=(self._report_until, done), daemon=True)
        reporter.start()
        try:
            outcome, result, error = self._attempt()
        finally:
            done.set()
            reporter.join()
        try:
            if not self._lost.is_set() and not (outcome == "cancelled" and self._stops_only()):
                self._complete(outcome, result, error)
        except HoldfastError as failure:
            log.warning("task %s could not be completed: %s", self.task.task_id, failure)
        finally:
            self._work = None
            release_memory()
            self._ended(self.task.task_id)

    def _stops_only(self) -> bool:
        """The agent stops, the user did not: the task stays ours for the next start."""
        return self._tools.stopping.is_set() and not self._cancel.is_set()

    def _attempt(self) -> tuple[str, dict[str, Any], HoldfastError | None]:
        try:
            if self.task.kind == "files-backup":
                return "succeeded", self._back_up(), None
            if self.task.kind == "files-restore":
                return "succeeded", self._restore(), None
            if self.task.kind in (vm_tasks.BACKUP, vm_tasks.RESTORE):
                return "succeeded", self._work_on_machine(), None
            raise InternalError(f"this agent cannot do {self.task.kind}", hint="upgrade the agent")
        except CancelledError as error:
            return "cancelled", {}, error
        except HoldfastError as error:
            if error.code == "TaskFenced":
                self._lost.set()
            log.warning("task %s failed: %s (%s)", self.task.task_id, error.message, error.code)
            return "failed", {}, error
        except OSError as error:
            log.exception("task %s failed", self.task.task_id)
            return "failed", {}, machine_failed(error)
        except Exception as error:
            log.exception("task %s met a defect", self.task.task_id)
            name = type(error).__name__
            return "failed", {}, InternalError(f"the agent met a defect ({name})")

    def _back_up(self) -> dict[str, Any]:
        includes = normalise_includes(_paths(self.task.payload["includePaths"]))
        adapter, snapshot = take_snapshot(self._tools.snapshots, includes)
        try:
            return self._back_up_from(snapshot)
        finally:
            adapter.release(snapshot)

    def _back_up_from(self, snapshot: SourceSnapshot) -> dict[str, Any]:
        payload, tools = self.task.payload, self._tools
        plan = BackupPlan(
            include_paths=_paths(payload["includePaths"]),
            exclude_globs=payload.get("excludeGlobs") or (),
            throttle_bytes_per_second=payload.get("throttleBytesPerSecond"),
            work_hours=read_work_hours(payload.get("workHours")),
            base=snapshot.base,
            consistency=snapshot.consistency,
            consistency_reason=snapshot.reason,
            host=tools.state.host,
            settle_seconds=tools.checkpoint_seconds,
        )
        session = HttpSession(tools.client, self.task.task_id, self.task.fence, tools.folder.heads)
        cache = tools.folder.cache_file(self.task.item_key)
        work = FilesBackup(
            plan,
            session,
            cache,
            tools.clock,
            tools.rng,
            cancelled=self._should_stop,
            wait=self._wait,
        )
        self._work = work
        result = work.run()
        session.close()
        return {
            "recoveryPointId": result.recovery_point_id,
            "logicalBytes": result.logical_bytes,
            "transferredBytes": result.transferred_bytes,
            "files": result.files,
            "findingsCount": result.findings_count,
        }

    def _restore(self) -> dict[str, Any]:
        payload, tools = self.task.payload, self._tools
        target = payload.get("target")
        plan = RestorePlan(
            target=Path(os.fsdecode(decode_path(target))) if target else None,
            paths=_paths(payload.get("paths")),
            conflict=payload.get("conflict") or "overwrite",
            dry_run=bool(payload.get("dryRun")),
            suffix=f".restored-{payload['recoveryPointId']}",
        )
        session = HttpSession(tools.client, self.task.task_id, self.task.fence, tools.folder.heads)
        journal = None if plan.dry_run else tools.folder.journal_file(self.task.job_id)
        work = FilesRestore(plan, ChunkFetcher(session), journal, cancelled=self._should_stop)
        self._work = work
        result = work.run()
        session.close()
        return {
            "filesRestored": result.files,
            "directoriesRestored": result.directories,
            "logicalBytes": result.logical_bytes,
            "filesSkipped": result.skipped,
            "findingsCount": result.findings_count,
            "dryRun": result.dry_run,
        }

    def _work_on_machine(self) -> dict[str, Any]:
        tools, task = self._tools, self.task
        vms = tools.vms or tools.recovery
        if vms is None:
            raise ConflictError(
                f"the agent on {tools.state.host} serves no virtual machines",
                code="AgentWithoutVirtualMachines",
                hint="run it on a host with libvirt, or name the machines in its holdfast.toml",
            )
        control = VmControl(
            self._should_stop,
            self._wait,
            self._tell,
            undone=self._is_undone,
            machines_changed=tools.machines_changed.set,
        )
        self._work = control
        done: vm_tasks.VmBody
        if task.kind == vm_tasks.RESTORE:
            asked = vm_tasks.read_restore(task.payload)
            if asked.local_token:  # nothing of it is in the vault
                done = vms.restore_local(asked, control)
                return {**vm_tasks.to_body(done), "findingsCount": control.findings.count}
        session = HttpSession(tools.client, task.task_id, task.fence, tools.folder.heads)
        if task.kind == vm_tasks.BACKUP:
            done = vms.back_up(vm_tasks.read_backup(task.payload), session, control)
        else:
            done = vms.restore(asked, session, control)
        session.close()
        return {**vm_tasks.to_body(done), "findingsCount": control.findings.count}

    def _is_undone(self) -> bool:
        """Whether a user cancelled the job, by the server's word: a task is stopped for other
        reasons too."""
        self._tell()
        return self._undo.is_set() and not self._lost.is_set()

    # reports

    def _report_until(self, done: threading.Event) -> None:
        while not done.wait(REPORT_SECONDS) and not self._lost.is_set():
            self._tell()

    def _tell(self) -> None:
        """Report progress once, and take what the server answers."""
        try:
            answer = self._tools.client.json(self._path("progress"), self._report())
            if answer.get("cancel"):
                self._cancel.set()
            if answer.get("undo"):
                self._undo.set()
            self._take_limits(answer.get("limits"))
        except HoldfastError as error:
            if error.code in ("TaskFenced", "TaskNotFound", "AgentRevoked"):
                self._lost.set()
                return
            log.info("progress was not reported: %s", error.message)

    def _take_limits(self, given: dict[str, Any] | None) -> None:
        """What a person changed while the backup runs counts from now on."""
        if given is not None and isinstance(self._work, FilesBackup):
            hours = read_work_hours(given.get("workHours"))
            self._work.limit(given.get("throttleBytesPerSecond"), hours)

    def _report(self) -> dict[str, Any]:
        body: dict[str, Any] = {"fence": self.task.fence, "phase": "Preparing", "findings": []}
        body |= {"doneBytes": 0, "doneFiles": 0, "transferredBytes": 0, "detail": ""}
        body |= {"totalBytes": None, "totalFiles": None}
        work = self._work
        if work is None:
            return body
        figures = work.progress
        body |= {
            "phase": figures.phase,
            "doneBytes": figures.done_bytes,
            "doneFiles": figures.done_files,
            "transferredBytes": figures.transferred_bytes,
            "totalBytes": figures.total_bytes,
            "totalFiles": figures.total_files,
            "findings": [_finding(one) for one in work.findings.take_new()[:MAX_FINDINGS_A_REPORT]],
        }
        if isinstance(figures, VmFigures):
            disks = [msgspec.to_builtins(disk) for disk in figures.disks]
            body |= {"detail": figures.detail, "disks": disks}
        return body

    def _complete(self, outcome: str, result: dict[str, Any], error: HoldfastError | None) -> None:
        last = [_finding(one) for one in self._work.findings.all()] if self._work else []
        for start in range(0, len(last), MAX_FINDINGS_A_REPORT):
            body = {**self._report(), "findings": last[start : start + MAX_FINDINGS_A_REPORT]}
            self._tools.client.json(self._path("progress"), body)
        shown = None
        if error is not None:
            message = shown_text(error.message)
            shown = {"code": error.code, "message": message, "hint": shown_text(error.hint)}
        body = {
            "fence": self.task.fence,
            "outcome": outcome,
            "error": shown,
            "result": result,
            "findings": [],
        }
        self._tools.client.json(self._path("complete"), body)

    def _path(self, name: str) -> str:
        return f"/tasks/{self.task.task_id}/{name}"


def _finding(one: Finding) -> dict[str, str]:
    path = encode_path(b"/" + one.path)
    return {"code": one.code, "path": path, "message": shown_text(one.message)}


def _paths(given: Sequence[str] | None) -> tuple[str, ...]:
    """Paths of a task as the system's calls take them."""
    return tuple(os.fsdecode(decode_path(path)) for path in given or ())
