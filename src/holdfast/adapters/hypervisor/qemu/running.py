"""A machine of ours that runs: its state, its guest, its screen, its end."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.qemu import moving
from holdfast.adapters.hypervisor.qemu.booting import AGENT, DEVICE, PID, node
from holdfast.adapters.hypervisor.qemu.guest_agent import (
    AgentRefusedError,
    AgentSilentError,
    GuestAgent,
)
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.errors import SourceError
from holdfast.files import read_theirs
from holdfast.ports.machine_runner import Move, RunPlan

LOOK_SECONDS, END_SECONDS, CALL_SECONDS = 0.2, 20.0, 10.0
MAX_OUTPUT = 4000  # characters
MAX_PID = 20  # bytes


class QemuRunning:
    """See ports.machine_runner.RunningMachine."""

    def __init__(self, plan: RunPlan, monitor: QmpConnection) -> None:
        self._plan, self._monitor = plan, monitor

    @property
    def status(self) -> str:
        return str(self._monitor.execute("query-status")["status"])

    def resume(self) -> None:
        self._monitor.execute("cont")

    def answers(self) -> bool:
        try:
            with GuestAgent(self._plan.home / AGENT) as agent:
                agent.call("guest-ping")
        except (AgentSilentError, AgentRefusedError):
            return False
        return True

    def run(self, script: str, seconds: float, check: Callable[[], None]) -> tuple[int | None, str]:
        try:
            with GuestAgent(self._plan.home / AGENT) as agent:
                return _run(agent, script, time.monotonic() + seconds, check)
        except (AgentSilentError, AgentRefusedError) as error:
            return None, error.message

    def screenshot(self, path: Path) -> None:
        self._monitor.execute("screendump", filename=str(path), format="png")

    def attached(self) -> dict[int, str]:
        by_device = {f"/{node(DEVICE, disk.lun)}/": disk.lun for disk in self._plan.disks}
        found = {}
        for one in self._monitor.execute("query-block"):
            for part, lun in by_device.items():
                if one.get("inserted") and part in str(one.get("qdev")):
                    found[lun] = str(one["inserted"]["image"]["filename"])
        return found

    def move(self, lun: int, target: Path) -> None:
        moving.begin(self._monitor, lun, target)

    def moves(self) -> list[Move]:
        return moving.shown(self._monitor)

    def switch(self, lun: int) -> None:
        moving.switch(self._monitor, lun)

    def stop_moving(self) -> None:
        moving.stop(self._monitor)

    def end(self) -> None:
        """Returns when its process is gone: then its images are free. One that waits for a disk
        does not end by itself."""
        with suppress(SourceError):
            self._monitor.execute("quit", timeout=CALL_SECONDS)
        self.close()
        if not self._gone(END_SECONDS) and (pid := self._pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._gone(END_SECONDS)

    def _gone(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._pid() is not None:
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def _pid(self) -> int | None:
        """Of its process, if that still is the one that was started: its UUID is among the words
        it was started with."""
        try:
            pid = int(read_theirs(self._plan.home / PID, MAX_PID))
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if self._plan.uuid.encode() in words.split(b"\0") else None

    def close(self) -> None:
        self._monitor.close()


def _run(
    agent: GuestAgent, script: str, until: float, check: Callable[[], None]
) -> tuple[int | None, str]:
    words = ["-c", script]
    pid = agent.call("guest-exec", path="/bin/sh", arg=words, capture_output=True)["pid"]
    while True:
        check()
        state: dict[str, Any] = agent.call("guest-exec-status", pid=pid, timeout=CALL_SECONDS)
        if state["exited"]:
            parts = (base64.b64decode(state.get(name, "")) for name in ("out-data", "err-data"))
            code = state.get("exitcode", -int(state.get("signal", 0)))
            return int(code), b"".join(parts).decode(errors="replace")[-MAX_OUTPUT:]
        if time.monotonic() > until:
            return None, "the script did not end in time"
        time.sleep(LOOK_SECONDS)
