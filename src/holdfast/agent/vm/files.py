"""Files out of a machine's recovery point: listed, or restored into a folder of this host."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from holdfast.agent.vm_work import VmControl, VmSession
from holdfast.domain.path_text import decode_path, encode_path
from holdfast.errors import ConflictError, NotFoundError, SourceError
from holdfast.ports.point_files import FileLooker, FoundFile, PointFiles, Volume
from holdfast.ports.vm_tasks import (
    DOWNLOAD_PHASE,
    OS_DISK_LUN,
    FileRow,
    FilesListed,
    FilesOut,
    VmRestore,
    VmRestored,
)
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk
from holdfast.workloads.vm.found_files import FoundFilesWriter, Written

VOLUME = re.compile(rb"(osdisk|disk\d{1,2})(-p\d{1,3})?|lvm-[A-Za-z0-9+_.-]{1,250}")
SHOW_SECONDS = 0.5
CACHE_BYTES = 16 * 1024 * 1024  # of each disk: file systems read here and there


def list_files(
    looker: FileLooker | None, target: FilesListed, session: VmSession, control: VmControl
) -> VmRestored:
    """A folder's entries, or the volumes. NotFoundError (PathNotFound), SourceError."""
    path = _inner(target.path)
    if path:
        _check_volume(path)
    with _looking(looker, session, control, [path] if path else []) as files:
        if not path:
            return VmRestored(entries=tuple(map(_volume_row, files.volumes())))
        after = decode_path(target.after)
        rows, more = files.list(path, after, target.top)
    single = len(rows) == 1 and rows[0].path == path.rpartition(b"/")[2]
    folder = path.rpartition(b"/")[0] if single and rows[0].kind.value != "directory" else path
    return VmRestored(entries=tuple(_row(folder, row) for row in rows), more=more)


def restore_files(
    looker: FileLooker | None,
    asked: VmRestore,
    target: FilesOut,
    session: VmSession,
    control: VmControl,
) -> VmRestored:
    """Paths and all below them, each at FOLDER/VOLUME/PATH. NotFoundError (PathNotFound) when none
    of them is there; TargetError, SourceError, CancelledError."""
    paths = [_inner(path) for path in target.paths]
    for path in paths:
        _check_volume(path)
    folder = Path(os.fsdecode(decode_path(target.folder)))
    token = hashlib.sha256(b"\0".join((asked.recovery_point_id.encode(), *paths))).hexdigest()[:8]
    with _looking(looker, session, control, paths) as files:
        writer = FoundFilesWriter(
            folder,
            {path.split(b"/")[0] for path in paths},
            control.findings.add,
            conflict=target.conflict,
            token=token.encode(),
            suffix=f".restored-{asked.recovery_point_id}".encode(),
        )
        done = writer.take(files.read(paths), _teller(control, writer.written))
    if not done.files and not done.folders:
        _refuse_nothing(control)
    return VmRestored(
        files_restored=done.files,
        directories_restored=done.folders,
        files_skipped=done.skipped,
        logical_bytes=done.bytes,
    )


def _refuse_nothing(control: VmControl) -> None:
    """Nothing was restored: what was found says why, unless all that was asked for is there."""
    for one in control.findings.all():
        kind = NotFoundError if one.code == "PathNotFound" else SourceError
        raise kind(
            f"nothing was restored: {one.message}",
            code=one.code,
            hint="browse from the top: holdfast vm browse VM --recovery-point RP /",
        )


@contextmanager
def _looking(
    looker: FileLooker | None, session: VmSession, control: VmControl, paths: Sequence[bytes]
) -> Iterator[PointFiles]:
    """The disks of the session's point, opened for looking at ``paths``."""
    if looker is None:
        raise ConflictError(
            "this host cannot look into recovery points of virtual machines",
            code="ApplianceUnavailable",
            hint="install QEMU on it: apt-get install qemu-system-x86 qemu-utils",
        )
    control.show(DOWNLOAD_PHASE)
    point = MachinePoint(ChunkFetcher(session))
    names = {disk_name(entry.lun) for entry in point.disks}
    for path in paths:
        disk = path.split(b"/")[0].split(b"-")[0].decode(errors="replace")
        if disk != "lvm" and disk not in names:
            raise _no_volume(path)
    with ExitStack() as ending:
        disks = {}
        for entry in point.disks:
            opened = PointDisk(point, entry.lun, cache_bytes=CACHE_BYTES)
            ending.callback(opened.close)
            disks[disk_name(entry.lun)] = opened
        yield ending.enter_context(looker.open(disks, lambda: control.stopped))


def disk_name(lun: int) -> str:
    """As the names of its volumes begin."""
    return "osdisk" if lun == OS_DISK_LUN else f"disk{lun}"


def _inner(path: str) -> bytes:
    """Without slashes at its ends."""
    return decode_path(path).strip(b"/")


def _check_volume(path: bytes) -> None:
    """Only what a volume can be called: it names a folder that is made on this host."""
    if not VOLUME.fullmatch(path.split(b"/")[0]):
        raise _no_volume(path)


def _no_volume(path: bytes) -> NotFoundError:
    return NotFoundError(
        f"{encode_path(b'/' + path)} begins with no volume's name",
        code="PathNotFound",
        hint="see the volumes: holdfast vm browse VM --recovery-point RP /",
    )


def _teller(control: VmControl, written: Written) -> Callable[[], None]:
    """Tells the progress now and then, and stops when it is to."""
    last = [time.monotonic()]

    def moved() -> None:
        now = time.monotonic()
        if now - last[0] >= SHOW_SECONDS:
            last[0] = now
            control.check()
            control.count(DOWNLOAD_PHASE, written.files, written.bytes)

    return moved


def _volume_row(volume: Volume) -> FileRow:
    return FileRow(
        name=encode_path(volume.name),
        path=encode_path(b"/" + volume.name),
        type="volume",
        size=volume.size,
        file_system=volume.file_system,
        label=volume.label.decode(errors="replace"),
        problem=volume.problem[1],
    )


def _row(folder: bytes, found: FoundFile) -> FileRow:
    return FileRow(
        name=encode_path(found.path),
        path=encode_path(b"/".join((b"", folder, found.path))),
        type=found.kind.value,
        size=found.size,
        mtime_ns=found.mtime_ns,
        mode=found.mode,
        uid=found.uid,
        gid=found.gid,
        link_target=encode_path(found.link_target) if found.link_target else "",
    )
