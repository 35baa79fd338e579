"""Disks of a recovery point over a socket file only the machine's user reaches, read-only.

That user owns the folder above the socket's, and can put a link in the place of anything in it. So
root reaches the socket's folder by a handle, and makes the socket while that folder is root's.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from holdfast.adapters.disk_format.partial import failed
from holdfast.agent.vm.staging import ROOM, opened
from holdfast.errors import HoldfastError, TargetError
from holdfast.nbd.server import NbdServer
from holdfast.ports.block_device import Extent
from holdfast.ports.machine_runner import Owner
from holdfast.workloads.vm.disks.point import MachinePoint
from holdfast.workloads.vm.disks.point_disk import PointDisk
from holdfast.workloads.vm.disks.values import stream_name


class CountedDisk:
    """A disk of a point that tells how much was read of it."""

    def __init__(self, disk: PointDisk) -> None:
        self._disk = disk
        self._lock = threading.Lock()
        self.read_bytes = 0

    @property
    def size(self) -> int:
        return self._disk.size

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self._disk.extents(offset, length)

    def read_into(self, offset: int, view: memoryview) -> None:
        self._disk.read_into(offset, view)
        with self._lock:
            self.read_bytes += len(view)

    def close(self) -> None:
        self._disk.close()


@contextmanager
def served(
    point: MachinePoint, luns: Sequence[int], socket: Path, owner: Owner | None
) -> Iterator[list[CountedDisk]]:
    """While in the ``with``, each disk under the name of its stream. The socket stays the same when
    this is done again, so that whoever waits for it goes on. ConflictError (AddressInUse)."""
    with ExitStack() as ending:
        disks = [CountedDisk(PointDisk(point, lun)) for lun in luns]
        for disk in disks:
            ending.callback(disk.close)
        try:
            folder = ending.enter_context(_ours(socket.parent, owner))
        except OSError as error:
            raise failed(socket.parent, error) from error
        server = ending.enter_context(NbdServer())
        for lun, disk in zip(luns, disks, strict=True):
            server.add(stream_name(lun), disk)
        _listen(server, socket, folder)
        if owner is not None:
            os.chown(socket.name, owner.uid, owner.gid, dir_fd=folder, follow_symlinks=False)
            os.fchown(folder, owner.uid, owner.gid)
        yield disks


@contextmanager
def _ours(path: Path, owner: Owner | None) -> Iterator[int]:
    """A folder only we reach, made if need be; its handle. OSError, TargetError (TargetUnavailable)
    when somebody put another in its place."""
    with opened(path.parent, ROOM) as home:
        with suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=home)
        with opened(path.name, ROOM, home) as folder:
            found = os.fstat(folder)
            users = {os.geteuid()} if owner is None else {os.geteuid(), owner.uid}
            if found.st_uid not in users or stat.S_IMODE(found.st_mode) & 0o077:
                raise TargetError(
                    f"{path} is not the folder that was made for the machine's socket",
                    code="TargetUnavailable",
                    hint=f"see who put it there, remove it, and start the machine again: {path}",
                )
            if owner is not None:
                os.fchown(folder, os.geteuid(), os.getegid())
            yield folder


def _listen(server: NbdServer, socket: Path, folder: int) -> None:
    """ConflictError (AddressInUse)."""
    inside = f"/proc/{os.getpid()}/fd/{folder}"
    try:
        server.listen_unix(Path(inside, socket.name))
    except HoldfastError as error:
        error.message = error.message.replace(inside, str(socket.parent))
        raise
