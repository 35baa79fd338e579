"""One connection to libvirt, opened when it is needed and again when it was lost."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import UUID

from holdfast.adapters.hypervisor.libvirt import library
from holdfast.errors import HoldfastError, NotFoundError, SourceError

ASK_SECONDS = 3


class Connection:
    """Thread safe. ``error``: the class libvirt raises."""

    def __init__(self, uri: str) -> None:
        """SourceError (LibvirtMissing)."""
        self.uri = uri
        self.libvirt, self._qemu = library.load()
        self.error: type[Exception] = self.libvirt.libvirtError
        self._lock = threading.Lock()
        self._open: Any = None

    def get(self) -> Any:
        """The open connection. SourceError (LibvirtUnreachable)."""
        library.start_events(self.libvirt)
        with self._lock:
            if self._open is not None and self._open.isAlive():
                return self._open
            try:
                self._open = self.libvirt.open(self.uri)
            except self.error as error:
                raise SourceError(
                    f"libvirt at {self.uri} cannot be reached: {error}",
                    code="LibvirtUnreachable",
                    hint="see whether its daemon runs, and whether the agent's user may use it",
                    retry="later",
                ) from error
            return self._open

    def domains(self) -> list[Any]:
        """All of the host that last. SourceError."""
        try:
            return list(self.get().listAllDomains(self.libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT))
        except self.error as error:
            raise self.failed("libvirt does not list its machines", error) from error

    def domain(self, machine: str) -> Any:
        """NotFoundError (MachineNotFound)."""
        try:
            return self.get().lookupByUUIDString(str(UUID(machine)))
        except (self.error, ValueError) as error:
            raise NotFoundError(
                f"this host's libvirt has no machine {machine}",
                code="MachineNotFound",
                hint="see whether it was undefined, or moved to another host: virsh list --all",
            ) from error

    def agent_command(self, domain: Any, command: dict[str, Any], seconds: float) -> Any:
        """What the guest agent answers. libvirt's error when it does not."""
        text = self._qemu.qemuAgentCommand(domain, json.dumps(command), max(1, round(seconds)), 0)
        return json.loads(text).get("return")

    def failed(self, what: str, error: Exception) -> HoldfastError:
        """An error of libvirt's as one of ours."""
        return SourceError(
            f"{what}: {error}",
            code="LibvirtFailed",
            hint="see the log of libvirt's daemon (journalctl -u libvirtd, or virtqemud)",
            retry="later",
        )
