"""Freezing a guest around the point in time, as far as it lets us.

A guest is never left frozen: whatever happens after a freeze was sent, a thaw is sent too, the hook
in the guest thaws by itself after WATCHDOG_SECONDS, and a guard process stands by on the host.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from holdfast.adapters.hypervisor.qemu.guest_agent import (
    AgentRefusedError,
    AgentSilentError,
    GuestAgent,
    send_unheard,
)
from holdfast.adapters.hypervisor.qemu.levels import (
    NO_FREEZE,
    FreezeRecord,
    hook_status,
    read_report,
)
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.guest_files import REPORT_PLACE, REQUEST_PLACE
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import AgentState, Consistency, Wish

SYSTEM_SECONDS = 3.0
WATCHDOG_SECONDS = 30
ODD = (TypeError, ValueError, AttributeError, OverflowError)  # what an odd answer ends in


def ask_agent(monitor: QmpConnection, entry: MachineEntry) -> tuple[AgentState, str]:
    """Asks the agent, unless the monitor says that nobody listens in the guest. Its state, and the
    guest's operating system: linux, windows, or empty when it does not tell."""
    if not entry.agent:
        return AgentState.UNKNOWN, ""
    if not _guest_listens(monitor, entry.agent):
        return AgentState.MISSING, ""
    try:
        with GuestAgent(Path(entry.agent)) as agent:
            return AgentState.READY, _system(agent)
    except AgentSilentError:
        return AgentState.SILENT, ""


def _system(agent: GuestAgent) -> str:
    try:
        told = agent.call("guest-get-osinfo", timeout=SYSTEM_SECONDS)
    except AgentRefusedError:  # agents may have the command forbidden
        return ""
    return "windows" if isinstance(told, dict) and told.get("id") == "mswindows" else "linux"


def _guest_listens(monitor: QmpConnection, socket: str) -> bool:
    """False when the guest has not opened the port of that channel."""
    for one in monitor.execute("query-chardev"):
        place = str(one.get("filename", "")).removeprefix("disconnected:").split(",")[0]
        if place == f"unix:{socket}":
            return bool(one.get("frontend-open", True))
    return True


class Quiesce:
    """One freeze and its thaw. ``freeze`` and ``thaw`` never raise for what the guest does; what
    happened is in ``record``."""

    def __init__(self, entry: MachineEntry, wish: Wish) -> None:
        self.record = FreezeRecord()
        self._entry = entry
        self._wish = wish
        self._agent: GuestAgent | None = None
        self._nonce = os.urandom(8).hex()
        self._began = 0.0
        self.owed = False  # a thaw has yet to be sent

    def prepare(self, monitor: QmpConnection) -> None:
        """Connect and ask what cannot be asked of a frozen guest."""
        if self._wish.best is Consistency.CRASH:
            return self._not("crash consistency was asked for", "")
        if not self._entry.agent:
            return self._not("the machine has no guest agent channel", "")
        if not _guest_listens(monitor, self._entry.agent):
            return self._not("no guest agent runs in the guest", "GuestAgentMissing")
        try:
            self._agent = GuestAgent(Path(self._entry.agent))
            self._ask_before(self._agent)
        except (AgentSilentError, AgentRefusedError) as error:
            self.close()
            self._not(error.message, error.code)
        except ODD as error:
            self.close()
            self._not(f"the guest agent gave an odd answer: {error}", "GuestAgentSilent")
        return None

    @property
    def ready(self) -> bool:
        """``freeze`` will send a freeze."""
        return self._agent is not None and not self.record.why_not

    def _ask_before(self, agent: GuestAgent) -> None:
        if agent.call("guest-fsfreeze-status") != "thawed":
            self._not("somebody else froze the guest", "UserErrorFsFreezeFailed")
            return
        with suppress(AgentRefusedError):
            self.record.listed = len(agent.call("guest-get-fsinfo"))
        with suppress(AgentRefusedError):
            self.record.windows = agent.call("guest-get-osinfo").get("id") == "mswindows"
        if not self.record.windows:
            scripts = "yes" if self._wish.best is Consistency.APPLICATION else "no"
            wanted = f"nonce={self._nonce}\nscripts={scripts}\nthaw_after={WATCHDOG_SECONDS}\n"
            agent.write_file(REQUEST_PLACE, wanted.encode())

    def _not(self, why: str, code: str) -> None:
        self.record.why_not, self.record.code = why, code

    def freeze(self) -> None:
        """Send it once, after a sync that was answered."""
        if self._agent is None or self.record.why_not:
            return
        self._began = time.monotonic()
        self.owed = True
        try:
            seconds = self._entry.freeze_seconds
            self.record.frozen = int(self._agent.call("guest-fsfreeze-freeze", timeout=seconds))
        except AgentRefusedError as error:
            self.record.refused = error.said
            self.owed = hook_status(error.said) == NO_FREEZE  # its post-script is owed
        except (AgentSilentError, *ODD):
            self._agent.close()
            self._not(
                f"the guest did not freeze within {self._entry.freeze_seconds} s",
                "GuestAgentSilent",
            )

    def thaw(self, *, heard: bool = True) -> None:
        """Idempotent. ``heard`` False: the guest stands still, so nobody waits for its answer."""
        if not self.owed:
            return
        if self._agent is not None and not heard:
            self._agent.close()
        if self._agent is None or self.record.why_not or not heard:
            self._send_thaw()
            return
        try:
            seconds = self._entry.freeze_seconds
            self.record.thawed = int(self._agent.call("guest-fsfreeze-thaw", timeout=seconds))
            self.owed = False
        except AgentRefusedError:
            self._thaw_again(self._agent)
        except (AgentSilentError, *ODD):
            self._agent.close()
            self._send_thaw()
        self.record.freeze_ms = (time.monotonic() - self._began) * 1000

    def _thaw_again(self, agent: GuestAgent) -> None:
        """Unless the agent says that nothing is frozen."""
        with suppress(AgentSilentError, AgentRefusedError):
            if agent.call("guest-fsfreeze-status") == "thawed":
                self.owed = False
                return
        agent.close()
        self._send_thaw()

    def _send_thaw(self) -> None:
        self.owed = not send_unheard(Path(self._entry.agent), "guest-fsfreeze-thaw")

    def finish(self) -> None:
        """Read what the hook reported."""
        if self._agent is None or self.record.windows:
            return
        with suppress(AgentSilentError, AgentRefusedError):
            found = self._agent.read_file(REPORT_PLACE)
            if found is not None:
                self.record.report = read_report(found, self._nonce)

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None
