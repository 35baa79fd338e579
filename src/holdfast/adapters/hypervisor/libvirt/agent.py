"""The guest agent through libvirt, which owns its channel, and the freeze over it."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from typing import Any

from holdfast.adapters.hypervisor.libvirt.connection import ASK_SECONDS, Connection
from holdfast.adapters.hypervisor.qemu.guest_agent import (
    CALL_SECONDS,
    AgentRefusedError,
    AgentSilentError,
    GuestAgent,
)
from holdfast.adapters.hypervisor.qemu.quiesce import ODD, Quiesce
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import AgentState, Consistency, Wish

REFUSED = re.compile(r"unable to execute QEMU agent command '[^']*': (.*)", re.DOTALL)
THAW_SECONDS = 15.0  # an agent that is busy freezing hears nothing else
RETRY_SECONDS = 0.5


class LibvirtAgent(GuestAgent):
    """libvirt syncs with the agent before each call, so nothing is sent to one that sleeps."""

    def __init__(self, connection: Connection, domain: Any) -> None:
        self._connection, self._domain = connection, domain
        self._lock = threading.Lock()
        self._closed = False
        self.call("guest-ping", timeout=ASK_SECONDS)

    def call(self, command: str, *, timeout: float = CALL_SECONDS, **arguments: Any) -> Any:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        message = {"execute": command, **({"arguments": named} if named else {})}
        with self._lock:
            if self._closed:
                raise _silent(command, "the channel was closed")
            try:
                return self._connection.agent_command(self._domain, message, timeout)
            except self._connection.error as error:
                if said := REFUSED.search(str(error)):
                    raise AgentRefusedError(command, "", said.group(1)) from error
                raise _silent(command, str(error)) from error

    def close(self) -> None:
        self._closed = True


def _silent(command: str, why: str) -> AgentSilentError:
    return AgentSilentError(
        f"the guest agent does not answer: {command}: {why}",
        hint="see whether qemu-ga runs in the guest",
        retry="later",
    )


def ask_agent(connection: Connection, domain: Any, channel: str) -> tuple[AgentState, str]:
    """Its state, and the guest's operating system: linux, windows or empty. ``channel``: see
    domains.Domain.agent."""
    if channel != "connected":
        return (AgentState.MISSING if channel else AgentState.UNKNOWN), ""
    try:
        agent = LibvirtAgent(connection, domain)
    except (AgentSilentError, AgentRefusedError):
        return AgentState.SILENT, ""
    with suppress(AgentSilentError, AgentRefusedError):
        told = agent.call("guest-get-osinfo", timeout=ASK_SECONDS)
        windows = isinstance(told, dict) and told.get("id") == "mswindows"
        return AgentState.READY, "windows" if windows else "linux"
    return AgentState.READY, ""


class LibvirtQuiesce(Quiesce):
    """The same ladder over libvirt's channel."""

    def __init__(self, connection: Connection, domain: Any, seconds: int, wish: Wish) -> None:
        name, uuid = str(domain.name()), str(domain.UUIDString())
        settings = MachineEntry(name=name, uuid=uuid, qmp="", disk=[], freeze_seconds=seconds)
        super().__init__(settings, wish)
        self._connection, self._domain = connection, domain

    def ask(self, channel: str) -> None:
        """Instead of ``prepare``: connect and ask what cannot be asked of a frozen guest."""
        if self._wish.best is Consistency.CRASH:
            return self._not("crash consistency was asked for", "")
        if not channel:
            return self._not("the machine has no guest agent channel", "")
        if channel != "connected":
            return self._not("no guest agent runs in the guest", "GuestAgentMissing")
        try:
            self._agent = LibvirtAgent(self._connection, self._domain)
            self._ask_before(self._agent)
        except (AgentSilentError, AgentRefusedError) as error:
            self.close()
            self._not(error.message, error.code)
        except ODD as error:
            self.close()
            self._not(f"the guest agent gave an odd answer: {error}", "GuestAgentSilent")
        return None

    def _send_thaw(self) -> None:
        """libvirt sends nothing to an agent that does not answer, so this waits for it a while; the
        guard goes on after us."""
        until = time.monotonic() + THAW_SECONDS
        while self.owed and time.monotonic() < until:
            try:
                LibvirtAgent(self._connection, self._domain).call("guest-fsfreeze-thaw")
                self.owed = False
            except AgentRefusedError:
                self.owed = False
            except AgentSilentError:
                time.sleep(RETRY_SECONDS)
