"""Telling the server which virtual machines this host has: at the start, when it changes, and when
the server asks."""

from __future__ import annotations

import logging
import threading

import msgspec

from holdfast.agent.client import AgentClient
from holdfast.agent.vm_work import VmWork
from holdfast.errors import HoldfastError
from holdfast.ports.clock import Clock
from holdfast.ports.vm_tasks import Inventory

log = logging.getLogger("holdfast.agent")
LOOK_SECONDS = 60.0  # between looks at the host
TELL_SECONDS = 600.0  # after which the same is told again
JSON = {"Content-Type": "application/json"}


class InventoryReporter:
    """A thread of its own, so that a hypervisor that hangs holds up no task."""

    def __init__(
        self,
        vms: VmWork,
        client: AgentClient,
        clock: Clock,
        stopping: threading.Event,
        wanted: threading.Event,
    ) -> None:
        """``wanted``: set by whoever changed the host's machines."""
        self._vms, self._client, self._clock, self._stopping = vms, client, clock, stopping
        self._wanted = wanted
        self._told, self._told_at = b"", 0.0
        self._thread = threading.Thread(target=self._run, name="inventory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """Report at once, whether it changed or not."""
        self._told = b""
        self._wanted.set()

    def stop(self) -> None:
        self._wanted.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.clear()
            try:
                self._report()
            except HoldfastError as error:
                log.warning("virtual machines could not be reported: %s", error.message)
            except Exception:
                log.exception("looking for virtual machines met a defect")
            self._wanted.wait(LOOK_SECONDS)

    def _report(self) -> None:
        found = sorted(self._vms.inventory(), key=lambda one: one.uuid)
        body = msgspec.json.encode(Inventory(virtual_machines=tuple(found)))
        now = self._clock.monotonic()
        if body == self._told and now - self._told_at < TELL_SECONDS:
            return
        self._client.send("PUT", "/virtualMachines", content=body, headers=JSON)
        self._told, self._told_at = body, now
