"""A host whose one machine is off: real images, a real storage daemon, a vault in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.qemu import QemuHypervisor, read_image
from holdfast.adapters.image_copy import ReflinkCopies
from holdfast.agent.vm.executor import VmExecutor
from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.agent.vm_work import VmControl
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.ports.block_device import ExtentKind
from holdfast.ports.vm_tasks import (
    DiskAsked,
    DiskFiles,
    NewMachine,
    ReplaceDisks,
    VmBackedUp,
    VmBackup,
    VmRestore,
    VmRestored,
)
from holdfast.testing.disks_vault import CONTAINER, MACHINE, DisksVault
from holdfast.testing.files_vault import DirectSession
from holdfast.workloads.vm.disks.point_disk import PointDisk

MIB = 1024 * 1024
NEEDED = ("qemu-img", "qemu-io", "qemu-storage-daemon")


class AheadClock(SystemClock):
    """The system's, ``ahead`` of it."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class Host:
    """A host with one machine that is off, of a qcow2 and a raw disk in ``folder``, and a vault.
    ``days``: for how long copies are kept beside the disks."""

    def __init__(self, folder: Path, vault: Path, *, days: int = 0) -> None:
        self.days, self.clock = days, AheadClock()
        self.images = {"qcow2": folder / "root.qcow2", "raw": folder / "data.img"}
        for image, path in self.images.items():
            self.qemu("qemu-img", "create", "-q", "-f", image, str(path), str(32 * MIB))
            self.write(image, 7, 0)
        disks = [
            MachineDisk(path=str(path), format=image)  # type: ignore[arg-type]
            for image, path in self.images.items()
        ]
        qmp = str(folder / "qmp.sock")
        self.entry = MachineEntry(name="web1", uuid=str(uuid4()), qmp=qmp, disk=disks)
        self.folder, self.vault = folder, DisksVault(vault)
        self.know(disks)

    def know(self, disks: list[MachineDisk]) -> None:
        """The agent starts with these disks in its settings."""
        entry = msgspec.structs.replace(self.entry, disk=disks)
        hypervisor = QemuHypervisor([entry], self.folder / "agent")
        clock, files = self.vault.files.clock, SystemDiskFiles()
        self.kept = KeptCopies(
            ReflinkCopies(), self.folder / "agent" / "machines", self.clock, read_image
        )
        self.executor = VmExecutor(
            hypervisor, files, clock, SystemRandom(), "host1", kept=self.kept
        )

    def qemu(self, *words: str) -> str:
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    def write(self, image: str, fill: int, offset: int) -> None:
        words = ("qemu-io", "-f", image, "-c", f"write -P {fill} {offset} {MIB}")
        self.qemu(*words, str(self.images[image]))

    def check_same(self, path: str, image: str) -> None:
        """A restored file holds the disk's bytes, by qemu-img's word. Failing, it says what
        qemu-img said, which is not always that they differ, and what both and the point have."""
        words = ["qemu-img", "compare", "-F", image, path, str(self.images[image])]
        done = self.ask(*words)
        if done == (0, "Images are identical.\n", ""):
            return
        told = {
            "compared": done,
            "compared again": self.ask(*words),
            "restored": self.ask("qemu-img", "map", "--output=json", path),
            "image": self.ask(
                "qemu-img", "map", "-f", image, "--output=json", str(self.images[image])
            ),
            "checked": self.ask("qemu-img", "check", path),
            "stored": {entry.lun: self.stored(entry.lun) for entry in self.vault.open().disks},
            "programs": self.ask("ps", "-eo", "pid,ppid,etimes,args"),
        }
        raise AssertionError("\n".join(f"{name}: {what}" for name, what in told.items()))

    def ask(self, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def stored(self, lun: int) -> list[tuple[int, str, str]]:
        """The runs of data of a disk of the latest point: offset, length, the first bytes."""
        disk = PointDisk(self.vault.open(), lun)
        try:
            found = []
            for run in disk.extents(0, disk.size):
                if run.kind is ExtentKind.DATA:
                    view = memoryview(bytearray(run.length))
                    disk.read_into(run.offset, view)
                    found.append((run.offset, f"{run.length:,} bytes", bytes(view[:8]).hex()))
            return found
        finally:
            disk.close()

    def back_up(
        self,
        control: VmControl | None = None,
        through: Callable[[Any], Any] = lambda one: one,
        *,
        local_only: bool = False,
    ) -> VmBackedUp:
        """``through``: what stands between the agent and the vault's session."""
        disks = (DiskAsked(lun=-1, name="os-disk"), DiskAsked(lun=0, name="data-disk-0"))
        job_id = self.vault.files.job_id()
        session = self.vault.session(job_id)
        try:
            asked = VmBackup(
                uuid=self.entry.id,
                name="web1",
                disks=disks,
                instant_days=self.days,
                local_only=local_only,
                job_id=job_id.hex(),
            )
            return self.executor.back_up(
                asked, through(session), control or VmControl(lambda: False)
            )
        finally:
            session.close()

    def restore(
        self,
        target: DiskFiles | NewMachine | ReplaceDisks,
        control: VmControl | None = None,
        *,
        point: str = "",
    ) -> VmRestored:
        """Of the latest point, unless another is named."""
        point, job_id = point or self.vault.latest(), self.vault.files.job_id()
        grant = self.vault.vault.begin_session("restore", CONTAINER, MACHINE, job_id, pins=[point])
        session = DirectSession(self.vault.vault, grant, self.vault.files.clock)
        asked = VmRestore(recovery_point_id=point, uuid=self.entry.id, name="web1", target=target)
        done = self.executor.restore(asked, session, control or VmControl(lambda: False))
        assert isinstance(done, VmRestored)
        return done
