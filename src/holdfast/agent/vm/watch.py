"""Beside a transfer: shows how far it is, and sees whether the point in time still holds."""

from __future__ import annotations

import threading
from types import TracebackType

from holdfast.agent.vm_work import VmControl
from holdfast.errors import HoldfastError
from holdfast.ports.hypervisor import Snapshot
from holdfast.ports.vm_tasks import UPLOAD_PHASE, DiskProgress
from holdfast.workloads.vm.disks.backup import DisksBackup

SHOW_SECONDS = 1.0
MIB = 1 << 20


class Watch:
    """A thread of its own while in the ``with``. ``broken``: the point in time is lost."""

    def __init__(self, snapshot: Snapshot, control: VmControl) -> None:
        self._snapshot, self._control = snapshot, control
        self._work: DisksBackup | None = None
        self._over, self._broken = threading.Event(), threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="watch-machine", daemon=True)

    @property
    def broken(self) -> bool:
        return self._broken.is_set()

    def should_stop(self) -> bool:
        return self.broken or self._control.stopped

    def follow(self, work: DisksBackup) -> Watch:
        self._work = work
        return self

    def show(self) -> None:
        work = self._work
        if work is None:
            return
        disks = [
            DiskProgress(lun=one.lun, done_bytes=one.done_bytes, total_bytes=one.total_bytes)
            for one in work.disks
        ]
        sent = work.progress.transferred_bytes
        self._control.show(UPLOAD_PHASE, disks, transferred_bytes=sent)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self.show()

    def _run(self) -> None:
        while not self._over.wait(SHOW_SECONDS):
            self.show()
            try:
                use = self._snapshot.scratch()
            except HoldfastError:
                self._broken.set()  # the transfer stops, and asks why
                return
            if use.broken:
                self._broken.set()
                return
            if use.warning and not self._warned:
                self._warned = True
                self._control.finding(
                    "ScratchNearlyFull",
                    "",
                    f"what the guest overwrites meanwhile has taken {use.used // MIB} of "
                    f"{use.budget // MIB} MiB; when it is full the backup fails",
                )
