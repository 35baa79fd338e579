"""A policy that asks for at least a level of consistency: the way from the policy to a backup that
fails for it. A real server, the real agent, and a machine that is off, so of crash consistency."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.qemu import QemuHypervisor
from holdfast.agent.vm.executor import VmExecutor
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.ports.vm_tasks import MachineSeen, VmBackedUp, VmBackup
from holdfast.testing.guest import guest_folder
from holdfast.testing.little_vms import LittleVm, LittleVms
from holdfast.testing.live_server import LiveServer
from holdfast.testing.vm_farm import Farm, vm_farm
from holdfast.testing.vm_typing import Type, typist

NEEDED = ("qemu-img", "qemu-storage-daemon")
FILES = {"atLeast": "FileSystemConsistent"}


class RealVms(LittleVms):
    """One machine that is off; its backups are the agent's own."""

    def __init__(self, folder: Path) -> None:
        uuid, image = str(uuid4()), folder / "root.qcow2"
        super().__init__(folder, LittleVm(uuid, "web", {}))
        words = ("qemu-img", "create", "-q", "-f", "qcow2", str(image), "4M")
        subprocess.run(words, check=True, timeout=60)
        disks = [MachineDisk(path=str(image))]
        entry = MachineEntry(name="web", uuid=uuid, qmp=str(folder / "qmp.sock"), disk=disks)
        hypervisor = QemuHypervisor([entry], folder / "state")
        self.executor = VmExecutor(
            hypervisor, SystemDiskFiles(), SystemClock(), SystemRandom(), "farm"
        )

    def inventory(self) -> Sequence[MachineSeen]:
        return self.executor.inventory()

    def back_up(self, asked: VmBackup, session: VmSession, control: VmControl) -> VmBackedUp:
        return self.executor.back_up(asked, session, control)


@pytest.fixture(scope="module")
def yard(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    with (
        guest_folder() as folder,
        vm_farm(live, tmp_path_factory.mktemp("least"), "least", RealVms(folder)) as made,
    ):
        yield made


@pytest.fixture
def typed(yard: Farm, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    return typist(yard, "least", monkeypatch.setenv, capfd.readouterr)


def shown(yard: Farm, name: str = "EnhancedPolicy") -> Any:
    """A policy's properties as they are shown."""
    found = yard.server.ok("GET", f"{yard.spot.vault}/backupPolicies/{name}")
    return found["properties"]


def save(yard: Farm, name: str, properties: Any) -> Any:
    address = f"{yard.spot.vault}/backupPolicies/{name}"
    return yard.server.ok("PUT", address, {"properties": properties})["properties"]


def in_force(yard: Farm) -> tuple[str, str]:
    """(minimum, who asks for it) of the machine."""
    item = yard.server.ok("GET", yard.spot.item("web"))["properties"]
    found = item["holdfast"]["consistencyInForce"]
    return found["atLeast"], found["atLeastBy"]


def test_a_backup_below_what_the_policy_asks_for_fails_unless_the_machine_asks_for_less(
    yard: Farm, typed: Type
) -> None:
    made = save(yard, "careful", {**shown(yard), "consistency": {"atLeast": "file-system"}})
    assert made["consistency"] == FILES
    assert "not at least FileSystemConsistent" in typed("policy", "show", "careful")[1]
    assert "not at least" not in typed("policy", "show", "EnhancedPolicy")[1]
    yard.spot.protect("web", "EnhancedPolicy")
    assert in_force(yard) == ("CrashConsistent", "default")
    yard.back_up("web")

    protect = ("vm", "protect", "web", "--policy", "careful")
    assert typed(*protect)[0] == 0
    assert in_force(yard) == ("FileSystemConsistent", "policy")
    job = yard.job(yard.start_backup("web"))
    assert (job["status"], job["holdfast"]["errorCode"]) == ("Failed", "ConsistencyNotReached")
    told = job["errorDetails"][0]
    assert "policy careful asks for at least FileSystemConsistent" in told["errorString"]
    assert "the machine was off" in told["errorString"]

    assert typed(*protect, "--at-least", "crash")[0] == 0
    assert in_force(yard) == ("CrashConsistent", "machine")
    yard.back_up("web")

    assert typed(*protect, "--at-least", "application")[0] == 0
    job = yard.job(yard.start_backup("web"))
    said = job["errorDetails"][0]["errorString"]
    assert "the protection of web asks for at least AppConsistent" in said

    _, out, _ = typed(*protect, "--at-least", "policy")
    assert "FileSystemConsistent" in out
    assert in_force(yard) == ("FileSystemConsistent", "policy")


def test_a_minimum_above_what_is_tried_is_refused(yard: Farm, typed: Type) -> None:
    save(yard, "strict", {**shown(yard), "consistency": {"atLeast": "application"}})
    code, _, said = typed("vm", "protect", "web", "--policy", "strict", "--consistency", "crash")
    assert code != 0
    assert "InvalidConsistency" in said
    assert "policy strict asks for at least AppConsistent" in said


def test_a_client_that_does_not_know_it_keeps_it(yard: Farm) -> None:
    """It sends a policy back with the fields it knows alone."""
    tests = {"everyDays": 7}
    asked = {**shown(yard), "consistency": FILES, "restoreTest": tests}
    save(yard, "shared", asked)
    plain = shown(yard)
    assert "consistency" not in plain
    assert save(yard, "shared", {**plain, "instantRpRetentionRangeInDays": 3})["consistency"]
    kept = shown(yard, "shared")
    assert (kept["consistency"], kept["restoreTest"]) == (FILES, tests)
    assert kept["instantRpRetentionRangeInDays"] == 3
    save(yard, "shared", {**plain, "consistency": None})
    kept = shown(yard, "shared")
    assert "consistency" not in kept
    assert kept["restoreTest"] == tests


@pytest.mark.parametrize("least", ["good", None, 3])
def test_a_policy_that_asks_for_no_level_there_is_is_refused(yard: Farm, least: Any) -> None:
    asked = {**shown(yard), "consistency": {"atLeast": least}}
    address = f"{yard.spot.vault}/backupPolicies/wrong"
    answer = yard.server.call("PUT", address, {"properties": asked})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "UserErrorInvalidPolicyInput"
