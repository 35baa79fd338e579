"""Disks out of their local copies: of any point that has them, and of one that has nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.agent.vm.kept.records import KeptDisk
from holdfast.agent.vm.keys import HostKeys
from holdfast.agent.vm_work import VmControl
from holdfast.errors import NotFoundError, SourceError
from holdfast.ports.disk_format import DiskFiles, DiskFormat
from holdfast.ports.image_copy import NotCopiedError
from holdfast.ports.vm_tasks import DOWNLOAD_PHASE, DiskProgress, KeyRestored, VmRestore
from holdfast.workloads.vm.disks.point import DiskEntry


def write_copy(
    kept: KeptCopies,
    files: DiskFiles,
    disk: KeptDisk,
    target: Path,
    form: str,
    *,
    progress: Callable[[int], None],
    cancelled: Callable[[], bool],
) -> None:
    """Make ``target`` hold a copy's disk: by sharing its blocks, or by reading it where ``target``
    has another format or lies elsewhere. NotCopiedError: the copy is not as it was left;
    SourceError, and as ports.disk_format.DiskFiles; nothing is left then."""
    if disk.format == form:
        with suppress(NotCopiedError, OSError):  # another file system
            kept.clone(disk, target)
            return
    try:
        with kept.opened(disk) as source:
            files.write(
                source,
                target,
                DiskFormat(form),
                progress=lambda done, _total: progress(done),
                cancelled=cancelled,
            )
    except OSError as error:
        raise NotCopiedError(f"it cannot be read ({error.strerror})") from error


class LocalDisks:
    """The disks asked for, of a point in time that only its host has. NotFoundError (DiskNotFound),
    SourceError (LocalCopyGone)."""

    def __init__(
        self, kept: KeptCopies, files: DiskFiles, asked: VmRestore, control: VmControl
    ) -> None:
        self._kept, self._files, self._asked, self._control = kept, files, asked, control
        found = kept.find(asked.local_token)
        if found is None:
            raise _gone(asked)
        self.described = found.described
        self._disks = {disk.lun: disk for disk in found.disks}
        luns = list(dict.fromkeys(asked.luns)) or sorted(self._disks)
        if missing := [lun for lun in luns if lun not in self._disks]:
            raise NotFoundError(
                f"the recovery point has no disk {missing[0]}",
                code="DiskNotFound",
                hint=f"it has {', '.join(map(str, self._disks))}",
            )
        self.entries = [
            DiskEntry(lun, self._disks[lun].size, self._disks[lun].size, 512, "", found.token)
            for lun in luns
        ]
        self.local = set(luns)
        self._done = dict.fromkeys(luns, 0)

    def put_keys(self, keys: HostKeys, *, in_place: bool = False) -> tuple[KeyRestored, ...]:
        """None: this is the host the machine was on, which has them."""
        return ()

    def write(self, entry: DiskEntry, target: Path, form: str) -> None:
        def reached(done: int) -> None:
            self._done[entry.lun] = done
            shown = [
                DiskProgress(lun=one.lun, done_bytes=self._done[one.lun], total_bytes=one.size)
                for one in self.entries
            ]
            self._control.show(DOWNLOAD_PHASE, shown)

        reached(0)
        try:
            write_copy(
                self._kept,
                self._files,
                self._disks[entry.lun],
                target,
                form,
                progress=reached,
                cancelled=lambda: self._control.stopped,
            )
        except NotCopiedError as error:
            raise _gone(self._asked) from error
        reached(entry.size)


def _gone(asked: VmRestore) -> SourceError:
    return SourceError(
        f"the local copy of {asked.name} that recovery point {asked.recovery_point_id} consists of "
        "is not there any more, or was touched",
        code="LocalCopyGone",
        hint="restore another point: holdfast recovery-point list",
    )
