"""A machine started from a recovery point, kept going until its disks are moved or it is given up.

The job lasts as long as the machine needs the vault. When the agent is stopped or killed, the
machine waits for its disks and goes on when the agent is back; when the machine itself ended, what
it wrote is in its overlays, and the next restore of that name from that point goes on with it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import UUID

from holdfast import crashpoint
from holdfast.adapters.disk_format.partial import failed
from holdfast.agent.vm.instant.records import KeptDisk, Record, Records, to_path, to_text
from holdfast.agent.vm.instant.rooms import Room, new_room, remove_file
from holdfast.agent.vm.instant.serving import CountedDisk, served
from holdfast.agent.vm.instant.startable import check_startable
from holdfast.agent.vm.instant.watching import LOOK_SECONDS, Live, Watch, machine_of
from holdfast.agent.vm.keys import HostKeys, put_back
from holdfast.agent.vm.places import home_of, instant_folder
from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.errors import CancelledError, ConflictError, SourceError, TargetError
from holdfast.ports.clock import Random
from holdfast.ports.machine_runner import MachineRunner, RunningMachine
from holdfast.ports.vm_tasks import (
    START_PHASE,
    DiskRestored,
    InstantMachine,
    VmRestore,
    VmRestored,
)
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.point import MachinePoint

log = logging.getLogger("holdfast.agent")
NOT_STARTED = "MachineNotStarted"


class InstantRestores:
    """Those of this host. ``data``: the agent's folder for machines."""

    def __init__(
        self, runner: MachineRunner, data: Path, rng: Random, keys: HostKeys | None = None
    ) -> None:
        self.runner, self._data, self._rng = runner, data, rng
        self._keys = keys or HostKeys()
        self.records = Records(data / "instant")
        self._lock = threading.Lock()
        self.ending = threading.Lock()  # either a machine is moved or it is undone
        self._live: dict[str, Live | None] = {}
        self._unseen: set[str] = set()

    def adopt(self) -> None:
        """Show those there are among the host's machines; those the settings name are theirs. One
        whose images are not there is shown when they are: see ``tags``."""
        for record in self.records.all():
            if self.runner.is_named(record.uuid):
                self.records.remove(record)
            elif missing := record.missing():
                log.warning("%s waits for %s, which is not there", record.name, missing[0])
                self._unseen.add(record.uuid)
            else:
                self.runner.show(record.plan())

    def tags(self) -> Mapping[str, dict[str, str]]:
        """By UUID, what the server is told beside; looks again for images that were not there."""
        for record in self.records.all() if self._unseen else ():
            if record.uuid in self._unseen and not record.missing():
                self._unseen.discard(record.uuid)
                self.runner.show(record.plan())
        return self.records.tags()

    def live(self, name: str) -> Live | None:
        with self._lock:
            return self._live.get(name)

    def serves(self, live: Live) -> None:
        with self._lock:
            self._live[live.record.name] = live

    def run(
        self,
        asked: VmRestore,
        target: InstantMachine,
        session: VmSession,
        control: VmControl,
    ) -> VmRestored:
        """ConflictError (InstantRestoreUnderWay, TargetExists), SourceError (MachineNotStarted,
        InstantMachineEnded), TargetError, CancelledError."""
        begun = time.monotonic()
        with self._claimed(target.name), ExitStack() as ending:
            control.show(START_PHASE)
            record = self._found(asked, target)
            if record is not None and record.moved:
                return self._moved(record)
            self._refuse_cancelled(record, control)
            fresh = record is None
            if record is not None:
                self._await_images(record, control)
            point = MachinePoint(ChunkFetcher(session))
            record = record or self._make(asked, target, point)
            self._put_keys(record, asked, point, session, control)
            luns = [disk.lun for disk in record.disks]
            try:
                of = (point, luns, record.socket, record.plan().owner)
                self._run(record, ending.enter_context(served(*of)), control, begun)
            except (CancelledError, SourceError) as error:
                never_ran = fresh and error.code == NOT_STARTED
                given_up = isinstance(error, CancelledError) and control.undone
                if not (never_ran or given_up):
                    raise
                if self.undo(record):
                    control.machines_changed()
                    raise
            return self._result(record)

    def _put_keys(
        self,
        record: Record,
        asked: VmRestore,
        point: MachinePoint,
        session: VmSession,
        control: VmControl,
    ) -> None:
        """Noted for the definition the machine gets when it is moved."""
        found = put_back(self._keys, asked, point, session.grant, control)
        if found:
            record.keys = list(found)
            self.records.save(record)

    def _refuse_cancelled(self, record: Record | None, control: VmControl) -> None:
        """A job that was cancelled while the agent was down is handed out again for this alone."""
        if control.undone:
            if record is not None and self.undo(record):
                control.machines_changed()
            raise CancelledError("the task was cancelled")

    def _await_images(self, record: Record, control: VmControl) -> None:
        """Those of a machine that was started before: the agent may be up before the file system
        they are on. Nothing may be made in their place."""
        while (missing := record.missing()) and not self._reaches(record):
            if control.stopped:
                self._refuse_cancelled(record, control)
            control.check()
            control.show(
                START_PHASE,
                detail=f"waiting for {missing[0]}, which is not there: mount its file system, or "
                "give the machine up by cancelling this job",
            )
            control.wait(LOOK_SECONDS)

    def _reaches(self, record: Record) -> bool:
        running = self.runner.reach(record.plan())
        if running is not None:
            running.close()
        return running is not None

    def _run(
        self, record: Record, disks: Sequence[CountedDisk], control: VmControl, begun: float
    ) -> None:
        crashpoint.reach("agent.vm.instant.served")
        live = Live(record, self._bring_up(record))
        crashpoint.reach("agent.vm.instant.started")
        self.runner.show(record.plan())
        self.serves(live)
        control.machines_changed()
        watch = Watch(live, disks, control)
        try:
            if record.ready_seconds is None:
                record.ready_seconds = watch.wait_ready(begun)
                self.records.save(record)
            watch.keep()
        finally:
            machine_of(live).close()
        control.machines_changed()

    def _bring_up(self, record: Record) -> RunningMachine:
        plan = record.plan()
        found = self.runner.reach(plan)
        if found is not None:
            log.info("%s runs; its disks are served again", record.name)
            return found
        return self.runner.start(plan)

    @contextmanager
    def _claimed(self, name: str) -> Iterator[None]:
        with self._lock:
            if name in self._live:
                raise ConflictError(
                    f"{name} runs from the vault already",
                    code="InstantRestoreUnderWay",
                    hint="give the machine another name, or cancel the job of that one",
                )
            self._live[name] = None
        try:
            yield
        finally:
            with self._lock:
                self._live.pop(name, None)

    # what is kept

    def _found(self, asked: VmRestore, target: InstantMachine) -> Record | None:
        """Of this name from this point. ConflictError (TargetExists), TargetError
        (TargetUnavailable)."""
        found = self.records.find(target.name)
        if found is None or (found.is_gone and found.job != asked.job_id):
            return None
        if found.job == asked.job_id:  # handed out again
            return found
        if (found.of_uuid, found.point) != (asked.uuid, asked.recovery_point_id) or found.moved:
            raise _exists(target.name, found.home_path)
        if (missing := found.missing()) and not self._reaches(found):
            raise _not_there(found, missing[0], self.records.place(found))
        found.job = asked.job_id
        self.records.save(found)
        return found

    def _moved(self, record: Record) -> VmRestored:
        drop_overlays(record)
        return self._result(record)

    def _make(self, asked: VmRestore, target: InstantMachine, point: MachinePoint) -> Record:
        told = point.machine().get("machine")
        described = told if isinstance(told, dict) else {}
        check_startable(described)
        home = home_of(described, self._data) / instant_folder(target.name)
        if home.exists():
            raise _exists(target.name, home)
        record = Record(
            name=target.name,
            uuid=str(UUID(bytes=self._rng.token(16), version=4)),
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
        try:
            with new_room(home, record.plan().owner) as room:
                try:
                    self._fill(room, record)
                except BaseException:
                    room.clear()
                    home.rmdir()
                    raise
        except OSError as error:
            raise failed(home, error) from error
        return record

    def _fill(self, room: Room, record: Record) -> None:
        for disk in record.plan().disks:
            backing = None if disk.socket is None else (disk.socket, disk.export)
            room.image(self.runner, disk.path.name, disk.size, backing)
        self.records.save(record)

    def undo(self, record: Record) -> bool:
        """End the machine and remove what it wrote, while its disks are still served: one that
        waits for them takes long to end. False when it was moved meanwhile: then it stays."""
        with self.ending:
            if record.moved:
                return False
            live = self.live(record.name)
            if live is not None:
                live.undone = True
            running = self.runner.reach(record.plan())
            if running is not None:
                running.end()
            self.runner.forget(record.uuid)
            self.records.remove(record)
        images = {to_path(one) for disk in record.disks for one in (disk.path, disk.target) if one}
        with suppress(OSError):
            for image in images:
                remove_file(image)
        shutil.rmtree(record.home_path, ignore_errors=True)
        for folder in {image.parent for image in images} - {record.home_path}:
            with suppress(OSError):
                folder.rmdir()
        return True

    @staticmethod
    def _result(record: Record) -> VmRestored:
        disks = [
            DiskRestored(lun=disk.lun, path=disk.path, logical_bytes=disk.size)
            for disk in record.disks
        ]
        return VmRestored(
            disks=tuple(disks), machine_uuid=record.uuid, ready_seconds=record.ready_seconds
        )


def make_overlays(runner: MachineRunner, record: Record) -> None:
    """TargetError."""
    for disk in record.plan().disks:
        backing = None if disk.socket is None else (disk.socket, disk.export)
        runner.image(disk.path, disk.size, backing)


def drop_overlays(record: Record) -> None:
    """Of a machine that was moved."""
    for disk in record.disks:
        with suppress(OSError):
            remove_file(to_path(record.overlay(disk.lun)))


def _not_there(record: Record, image: Path, kept: Path) -> TargetError:
    return TargetError(
        f"{record.name} was started before, and its image {image} is not there",
        code="TargetUnavailable",
        hint="mount the file system it is on, then start it again; if it was removed for good, "
        f"remove {kept} on the host as well",
    )


def _exists(name: str, where: Path) -> ConflictError:
    return ConflictError(
        f"there is an instantly restored machine {name} of another recovery point already, or its "
        f"folder {where}",
        code="TargetExists",
        hint="give the new one another name, or remove that one (holdfast job cancel JOB)",
    )
