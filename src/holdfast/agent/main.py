"""The agent program: enrol once, then take tasks from the server until told to stop."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from holdfast import __version__, crashpoint
from holdfast.adapters.clock import SystemRandom, choose_clock
from holdfast.adapters.volume_snapshot import snapshot_adapters
from holdfast.agent.client import AgentClient, error_of, tls_context, unreachable
from holdfast.agent.hypervisors import find_vms, recovery_host
from holdfast.agent.inventory import InventoryReporter
from holdfast.agent.state import AgentFolder, AgentState, public_pem, read_credentials
from holdfast.agent.tasks import Task, TaskRun, Tools
from holdfast.errors import CancelledError, ConflictError, HoldfastError
from holdfast.files import write_whole
from holdfast.logs import set_up_logs
from holdfast.settings import load_agent_settings

log = logging.getLogger("holdfast.agent")
WAIT_SECONDS = 25
FIRST_PAUSE, LAST_PAUSE = 0.25, 4.0
MALLOC_ARENA_MAX = -8  # glibc's number of the option
SWITCH_SECONDS = 0.0005  # threads back from a system call must not wait long for the interpreter
FOREIGN = ("AgentRevoked", "AgentCopied", "invalid_client", "AuthorizationFailed")


def enroll(
    credentials: Path, data: Path, *, name: str | None = None, replace: bool = False
) -> AgentState:
    """Register this machine with a vault. ConflictError (ContainerAlreadyRegistered,
    AgentAlreadyEnrolled), AuthenticationError (VaultCredentialsExpired, ...)."""
    file = read_credentials(credentials)
    folder = AgentFolder(data)
    folder.prepare()
    if (data / "agent.json").exists() and not replace:
        raise ConflictError(
            f"{data} holds an enrolled agent already",
            code="AgentAlreadyEnrolled",
            hint="start it (holdfast agent start), or enrol anew with --replace",
        )
    key = folder.make_key(SystemRandom())
    host = name or socket.gethostname()
    body = {
        "vaultCredentials": file.token,
        "host": host,
        "platform": platform.system().lower() or "linux",
        "publicKeyPem": public_pem(key),
        "replace": replace,
        "version": __version__,
    }
    ca = data / "enrolling.pem"
    write_whole(ca, file.ca.encode(), 0o644)
    try:
        answer = _call_enroll(file.server, ca, body)
    finally:
        ca.unlink(missing_ok=True)
    state = AgentState(
        server=file.server,
        agent_id=answer["agentId"],
        client_id=answer["clientId"],
        container=answer["containerName"],
        vault_id=answer["vaultId"],
        host=host,
    )
    folder.save(state, key, file.ca)
    return state


def _call_enroll(server: str, ca: Path, body: dict[str, Any]) -> dict[str, Any]:
    try:
        with httpx2.Client(base_url=server, verify=tls_context(ca), trust_env=False) as http:
            response = http.post(
                "/providers/Holdfast.Backup/agents/enroll",
                params={"api-version": "2026-11-01"},
                content=msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
                timeout=60.0,
            )
    except httpx2.TransportError as error:
        raise unreachable(server, error) from error
    if not response.is_success:
        raise error_of(response)
    found: dict[str, Any] = response.json()
    return found


def tune_process() -> None:
    """Short waits for the interpreter, few collections over many small objects, few heaps."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(MALLOC_ARENA_MAX, 2)


def run_agent(data: Path, *, test_mode: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. HoldfastError when it cannot start or is not welcome."""
    folder = AgentFolder(data.absolute())
    state, key = folder.load()
    settings = load_agent_settings(folder.path, os.environ)
    lock = folder.hold()
    set_up_logs(settings.log_level)
    os.umask(0o077)
    tune_process()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else soft, hard))
    if test_mode:
        crashpoint.arm(os.environ)
        sys.stderr.write("warning: --test-mode: the clock may be a file; not for real data\n")
    clock, rng = choose_clock(os.environ, test_mode=test_mode), SystemRandom()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    client = AgentClient(state, key, folder.ca, clock, rng, stopping)
    snapshots = snapshot_adapters(folder.path)
    try:
        for adapter in snapshots:
            adapter.remove_leftovers()
        log.info("agent of %s serves %s", state.host, state.server)
        vms = find_vms(settings, folder.path, clock, rng, state.host)
        recovery = recovery_host(settings, clock, rng, state.host)
        seconds = settings.checkpoint_seconds
        given = (client, folder, state, clock, rng, stopping, snapshots, vms, recovery, seconds)
        Agent(Tools(*given)).serve()
    finally:
        client.close()
        lock.close()


class Agent:
    """The loop that asks for tasks, and the tasks that run."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._running: dict[str, TaskRun] = {}
        self._lock = threading.Lock()
        self._polling = threading.Thread(target=self._poll, name="poll", daemon=True)
        self._failure: HoldfastError | None = None
        self._failed = 0  # calls for work in a row
        self._instance = tools.rng.token(16).hex()
        self._inventory = None
        if tools.vms is not None:
            self._inventory = InventoryReporter(
                tools.vms, tools.client, tools.clock, tools.stopping, tools.machines_changed
            )

    def serve(self) -> None:
        if self._inventory is not None:
            self._inventory.start()
        self._polling.start()
        self._tools.stopping.wait()
        if self._inventory is not None:
            self._inventory.stop()
        with self._lock:
            running = list(self._running.values())
        for run in running:
            run.join()
        if self._failure is not None:
            raise self._failure

    def _poll(self) -> None:
        while not self._tools.stopping.is_set():
            try:
                self._handle(self._ask())
                self._failed = 0
            except CancelledError:
                return
            except HoldfastError as error:
                if error.code in FOREIGN:
                    self._failure = error
                    self._tools.stopping.set()
                    return
                self._pause(error)
            except Exception as error:
                log.exception("asking for work failed")
                self._pause(error)

    def _pause(self, error: BaseException) -> None:
        """Short at first, for a server that is started again; longer with each failure."""
        log.warning("asking for work: %s", error)
        self._tools.stopping.wait(min(FIRST_PAUSE * 2**self._failed, LAST_PAUSE))
        self._failed = min(self._failed + 1, 10)

    def _ask(self) -> dict[str, Any]:
        with self._lock:
            running = [
                {"taskId": run.task.task_id, "fence": run.task.fence}
                for run in self._running.values()
            ]
        wait = WAIT_SECONDS
        body = {"waitSeconds": wait, "running": running, "instance": self._instance}
        answer: dict[str, Any] = self._tools.client.json("/next", body)
        return answer

    def _handle(self, answer: dict[str, Any]) -> None:
        with self._lock:
            for task_id in answer.get("cancel") or ():
                if task_id in self._running:
                    self._running[task_id].cancel()
        if answer.get("inventory") and self._inventory is not None:
            self._inventory.ask()
        given = answer.get("task")
        if not given:
            return
        task = Task(
            given["taskId"],
            int(given["fence"]),
            given["kind"],
            given["jobId"],
            given["itemKey"],
            given["payload"],
        )
        names = {"job_id": task.job_id, "task_id": task.task_id}
        log.info("task %s: %s for job %s", task.task_id, task.kind, task.job_id, extra=names)
        run = TaskRun(task, self._tools, self._end)
        with self._lock:
            self._running[task.task_id] = run
        run.start()

    def _end(self, task_id: str) -> None:
        with self._lock:
            self._running.pop(task_id, None)
