"""A vault with a host whose agent runs and whose machines are in memory: the way from a request to
its result, without a hypervisor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from holdfast.ports.clock import Clock
from holdfast.testing.little_vms import LittleVm, LittleVms, running_host
from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_place import VmPlace
from holdfast.testing.wait import eventually

WEB = "11111111-0000-4000-8000-000000000001"
OFF = "11111111-0000-4000-8000-000000000002"
SYSTEM, DATA = b"boot" * 5000, b"rows" * 9000


class Farm:
    """A vault whose host ``farm`` has the machines `web` (running) and `off`."""

    def __init__(self, spot: VmPlace, folder: Path, vms: LittleVms | None = None) -> None:
        self.spot, self.folder, self.server = spot, folder, spot.server
        self.vms = vms or LittleVms(
            folder,
            LittleVm(WEB, "web", {-1: SYSTEM, 0: DATA}),
            LittleVm(OFF, "off", {-1: SYSTEM, 0: DATA}, power="stopped"),
        )

    def start_backup(self, name: str) -> httpx2.Response:
        asked = {"objectType": "IaasVMBackupRequest"}
        address = f"{self.spot.item(name)}/backup"
        answer = self.server.call("POST", address, {"properties": asked})
        assert answer.status_code == 202, answer.text
        return answer

    def job(self, answer: httpx2.Response, *, ended: bool = True) -> Any:
        operation = answer.headers["Azure-AsyncOperation"].split("?")[0].rpartition("/")[2]
        told = self.server.ok("GET", f"{self.spot.vault}/backupOperations/{operation}")
        address = f"{self.spot.vault}/backupJobs/{told['properties']['jobId']}"
        found = self.server.ok("GET", address, waitSeconds="5" if ended else "0")["properties"]
        assert not ended or found["status"] not in ("InProgress", "Cancelling"), found
        return found

    def end(self, answer: httpx2.Response) -> Any:
        """A job that takes several steps, when it has ended."""
        going = ("InProgress", "Cancelling")
        eventually(
            lambda: self.job(answer, ended=False)["status"] not in going, "it ends", seconds=60
        )
        return self.job(answer)

    def back_up(self, name: str) -> str:
        """The new recovery point's id."""
        job = self.job(self.start_backup(name))
        assert job["status"] == "Completed", job
        return str(job["holdfast"]["result"]["recoveryPointId"])

    def point(self, name: str, point: str) -> Any:
        address = f"{self.spot.item(name)}/recoveryPoints/{point}"
        return self.server.ok("GET", address)["properties"]

    def restore(self, name: str, point: str, kind: str, **more: Any) -> httpx2.Response:
        asked = {"objectType": "IaasVMRestoreRequest", "recoveryType": kind, **more}
        asked["sourceResourceId"] = self.spot.resource(name)
        address = f"{self.spot.item(name)}/recoveryPoints/{point}/restore"
        return self.server.call("POST", address, {"properties": asked})

    def account(self, name: str, path: Path, host: str = "farm") -> str:
        group = self.server.group(self.spot.group)
        address = f"{group}/providers/Microsoft.Storage/storageAccounts/{name}"
        folder = {"vaultId": self.spot.vault, "container": host, "path": str(path)}
        body = {"location": "local", "properties": {"holdfast": folder}}
        made = self.server.ok("PUT", address, body)
        assert made["properties"]["holdfast"] == folder
        return str(made["id"])

    def seen(self) -> set[str]:
        """Names of the machines that hosts of the vault report."""
        rows = self.spot.rows("providers/Holdfast.Backup/virtualMachines")
        return {row["name"] for row in rows}


@contextmanager
def vm_farm(
    server: LiveServer,
    folder: Path,
    name: str = "farm",
    vms: LittleVms | None = None,
    clock: Clock | None = None,
) -> Iterator[Farm]:
    """The vault ``name`` with its host `farm`, which has reported; nothing is protected. ``vms``:
    its machines, if not those two; ``clock``: as ``running_host`` takes it."""
    made = Farm(VmPlace(server, name), folder, vms)
    names = {one.name for one in made.vms.machines.values()}
    with running_host(server, made.spot.vault, "farm", folder, made.vms, clock):
        eventually(lambda: made.seen() == names, "the host reports its machines", seconds=20)
        yield made
