"""A recovery point tested: started without a network, its guest asked, the machine thrown away.

The folder it lies in may be QEMU's user's, who can put links there: its images are made through a
handle of a folder that is ours until then, and what QEMU wrote is read with care.
"""

from __future__ import annotations

import base64
import logging
import os
import shutil
import time
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import msgspec

from holdfast.adapters.disk_format.partial import failed
from holdfast.agent.vm.instant.records import KeptDisk, Record, Records, to_text
from holdfast.agent.vm.instant.serving import served
from holdfast.agent.vm.instant.startable import check_startable
from holdfast.agent.vm.places import home_of
from holdfast.agent.vm.staging import ROOM, opened
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.errors import HoldfastError, SourceError, TargetError
from holdfast.files import read_small, read_theirs
from holdfast.ports.machine_runner import MachineRunner, RunningMachine
from holdfast.ports.vm_tasks import (
    MAX_SCREENSHOT,
    TEST_PHASE,
    RestoreTest,
    VmRestore,
    VmTested,
)
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.point import MachinePoint

log = logging.getLogger("holdfast.agent")
LOOK_SECONDS = 0.2
NAME = "restore-test"
SCRIPT_RUNS = "its script runs in the guest"


class Trial:
    """One test; its machine is none of the host's, and nothing of it is left. ``data``: the agent's
    folder for machines."""

    def __init__(self, runner: MachineRunner, data: Path) -> None:
        self._runner, self._data = runner, data
        self._folder = data / "trials"
        self._records = Records(self._folder)

    def tidy(self) -> None:
        """End the machines of tests that were interrupted; before any begins."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                self._clear(msgspec.json.decode(read_small(path), type=Record))
            except (OSError, msgspec.MsgspecError, HoldfastError) as error:
                log.warning("what an interrupted test left stays: %s: %s", path, error)

    def run(
        self, asked: VmRestore, target: RestoreTest, session: VmSession, control: VmControl
    ) -> VmTested:
        """What fails in the machine is the test's result. TargetError, CancelledError."""
        control.show(TEST_PHASE)
        begun = time.monotonic()
        point = MachinePoint(ChunkFetcher(session))
        record = self._record(asked, point)
        self._clear(record)
        try:
            self._make(record)
            luns = [disk.lun for disk in record.disks]
            with served(point, luns, record.socket, record.plan().owner):
                return self._started(record, target, control, begun)
        finally:
            self._clear(record)

    def _record(self, asked: VmRestore, point: MachinePoint) -> Record:
        told = point.machine().get("machine")
        described = told if isinstance(told, dict) else {}
        home = home_of(described, self._data) / f".{NAME}-{asked.job_id[:8]}"
        record = Record(
            name=f"{NAME}-{asked.name}"[:60],
            uuid=str(uuid5(NAMESPACE_OID, f"{NAME} {asked.job_id}")),  # the same when done again
            of_name=asked.name,
            of_uuid=asked.uuid,
            point=asked.recovery_point_id,
            job=asked.job_id,
            home=to_text(home),
            disks=[],
            described=described,
        )
        record.disks = [
            KeptDisk(lun=disk.lun, path=record.overlay(disk.lun), size=disk.size)
            for disk in point.disks
        ]
        return record

    def _make(self, record: Record) -> None:
        """Its folder with the overlays in it, once it is written down. TargetError."""
        home = record.home_path
        try:
            self._records.save(record)
        except OSError as error:
            raise failed(self._folder, error) from error
        try:
            home.mkdir(mode=0o700)
            with opened(home, ROOM) as folder:
                found = os.fstat(folder)
                if found.st_uid != os.geteuid() or os.listdir(folder):
                    raise FileExistsError(None, "somebody put another folder in its place")
                self._make_overlays(record, f"/proc/{os.getpid()}/fd/{folder}")
        except OSError as error:
            raise failed(home, error) from error

    def _make_overlays(self, record: Record, inside: str) -> None:
        try:
            for disk in record.plan().disks:
                backing = None if disk.socket is None else (disk.socket, disk.export)
                self._runner.image(Path(inside, disk.path.name), disk.size, backing)
        except TargetError as error:
            error.message = error.message.replace(inside, str(record.home_path))
            raise

    def _started(
        self, record: Record, target: RestoreTest, control: VmControl, begun: float
    ) -> VmTested:
        try:
            check_startable(record.described)
            machine = self._runner.start(record.plan())
        except SourceError as error:
            return VmTested(passed=False, reason=error.message)
        try:
            return self._probe(machine, record, target, control, begun)
        except SourceError as error:
            return VmTested(passed=False, reason=f"the machine ended: {error.message}")
        finally:
            machine.end()

    def _probe(
        self,
        machine: RunningMachine,
        record: Record,
        target: RestoreTest,
        control: VmControl,
        begun: float,
    ) -> VmTested:
        ready = _wait_ready(machine, control, begun, begun + target.seconds)
        code, output, reason = None, "", ""
        if ready is None:
            reason = f"the guest's agent did not answer within {target.seconds} s"
        elif target.script:
            control.show(TEST_PHASE, detail=SCRIPT_RUNS)
            code, output = machine.run(target.script, target.seconds, control.check)
            if code != 0:
                reason = (
                    "the script did not end" if code is None else f"the script ended with {code}"
                )
        return VmTested(
            passed=not reason,
            reason=reason,
            ready_seconds=ready,
            exit_code=code,
            output=output,
            screenshot=_screenshot(machine, record),
        )

    def _clear(self, record: Record) -> None:
        """Also what an interrupted test of the same job left."""
        home = record.home_path
        if home.exists():
            left = self._runner.reach(record.plan())
            if left is not None:
                left.end()
        shutil.rmtree(home, ignore_errors=True)
        self._records.remove(record)


def _wait_ready(
    machine: RunningMachine, control: VmControl, begun: float, until: float
) -> float | None:
    while time.monotonic() < until:
        control.check()
        status = machine.status
        control.show(TEST_PHASE, detail=f"the machine is {status}; its guest is asked")
        if machine.answers():
            return time.monotonic() - begun
        control.wait(LOOK_SECONDS)
    return None


def _screenshot(machine: RunningMachine, record: Record) -> str:
    """Empty when there is none, or a large one."""
    path = record.home_path / "screen.png"
    try:
        machine.screenshot(path)
        return base64.b64encode(read_theirs(path, MAX_SCREENSHOT * 3 // 4)).decode()
    except (HoldfastError, OSError):
        return ""
