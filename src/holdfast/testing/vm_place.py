"""A vault of a live server whose hosts report virtual machines, for tests of the API. Tasks are
taken and ended by the test, as an agent would, or not at all."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx2

from holdfast.testing.live_server import LiveServer
from holdfast.testing.scripted_agent import ScriptedAgent

GIB = 1 << 30


def machine(name: str, number: int = 1, **more: Any) -> dict[str, Any]:
    """A running machine with two disks, as a host reports it; equal numbers are one machine."""
    disks = [
        {"lun": -1, "name": "vda", "sizeBytes": 4 * GIB, "format": "qcow2"},
        {"lun": 0, "name": "vdb", "sizeBytes": GIB, "format": "raw"},
    ]
    return {
        "uuid": str(uuid.UUID(int=number)),
        "name": name,
        "hypervisor": "qemu",
        "powerState": "running",
        "agentState": "ready",
        "osType": "Linux",
        "processors": 2,
        "memoryBytes": GIB,
        "disks": disks,
        "tags": {"team": "shop"},
        **more,
    }


class VmPlace:
    """The vault ``name`` in a group of its own, with the host ``hv1``."""

    def __init__(self, server: LiveServer, name: str, now: datetime | None = None) -> None:
        self.server = server
        self.now = now or datetime.now(UTC)
        self.group = f"rg-{name}"
        self.vault = server.make_vault(name, self.group)
        self.host = self.add_host("hv1")

    def add_host(self, name: str) -> ScriptedAgent:
        return ScriptedAgent(self.server, self.vault, name, self.now)

    def report(self, *machines: dict[str, Any], host: ScriptedAgent | None = None) -> None:
        answer = (host or self.host).report(*machines)
        assert answer.status_code == 200, answer.text

    def resource(self, name: str) -> str:
        group = self.server.group(self.group)
        return f"{group}/providers/Microsoft.Compute/virtualMachines/{name}"

    def show(self, name: str, **query: str) -> Any:
        return self.server.ok("GET", self.resource(name), **query)

    def ours(self, name: str) -> Any:
        """What we say of a machine beside Azure's fields."""
        return self.show(name)["properties"]["holdfast"]

    def container(self, name: str) -> str:
        full = f"IaasVMContainer;iaasvmcontainerv2;{self.group};{name}"
        return f"{self.vault}/backupFabrics/Azure/protectionContainers/{full}"

    def item(self, name: str) -> str:
        full = f"VM;iaasvmcontainerv2;{self.group};{name}"
        return f"{self.container(name)}/protectedItems/{full}"

    def put(self, name: str, policy: str = "DefaultPolicy", **more: Any) -> httpx2.Response:
        """Protect a machine, or change its protection, as the Azure command line does."""
        properties = {
            "protectedItemType": "Microsoft.Compute/virtualMachines",
            "policyId": f"{self.vault}/backupPolicies/{policy}" if policy else "",
            "sourceResourceId": self.resource(name),
            **more,
        }
        return self.server.call("PUT", self.item(name), {"properties": properties})

    def protect(self, name: str, policy: str = "DefaultPolicy", **more: Any) -> None:
        ended = self.server.finish(self.put(name, policy, **more))
        assert ended["status"] == "Succeeded", ended

    def rows(self, name: str, **query: str) -> list[dict[str, Any]]:
        """A list below the vault."""
        found = self.server.ok("GET", f"{self.vault}/{name}", **query)["value"]
        assert isinstance(found, list)
        return found
