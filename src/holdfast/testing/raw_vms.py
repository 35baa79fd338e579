"""Machines of a pretended host whose disks are real images: their points hold disks, so that files
can be read out of them."""

from __future__ import annotations

from pathlib import Path

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.ports.vm_tasks import SNAPSHOT_PHASE, UPLOAD_PHASE, DiskBackedUp, VmBackedUp, VmBackup
from holdfast.testing.little_vms import LittleVm, LittleVms
from holdfast.workloads.vm.disks.backup import DisksBackup
from holdfast.workloads.vm.disks.raw_file import RawFileSource
from holdfast.workloads.vm.disks.values import DiskInput, DisksPlan


class RawVms(LittleVms):
    """One machine; ``images``: LUN to raw file."""

    def __init__(self, folder: Path, uuid: str, name: str, images: dict[int, Path]) -> None:
        super().__init__(folder, LittleVm(uuid, name, dict.fromkeys(images, b"")))
        self._images = images

    def back_up(self, asked: VmBackup, session: VmSession, control: VmControl) -> VmBackedUp:
        control.show(SNAPSHOT_PHASE)
        disks = [
            DiskInput(lun=one.lun, source=RawFileSource(path), identity=str(path))
            for one in asked.disks
            if (path := self._images[one.lun])
        ]
        control.show(UPLOAD_PHASE)
        plan = DisksPlan(disks=disks, machine={"name": asked.name}, host="farm")
        done = DisksBackup(plan, session, SystemClock(), SystemRandom()).run()
        backed_up = [
            DiskBackedUp(lun=disk.lun, logical_bytes=disk.source.size, full="first")
            for disk in disks
        ]
        return VmBackedUp(
            recovery_point_id=done.recovery_point_id,
            consistency="CrashConsistent",
            disks=tuple(backed_up),
        )
