"""Disks of a machine that is off, opened by a qemu-storage-daemon of ours.

It takes the same monitor commands as a running machine. While it has the images, the machine cannot
be started (QEMU locks them), and an image that is locked already means that the machine runs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.qemu import keeper
from holdfast.adapters.hypervisor.qemu.bitmaps import read_bitmaps
from holdfast.adapters.hypervisor.qemu.drives import (
    Drive,
    keeps_bitmaps,
    named_disk,
    nodes_of,
)
from holdfast.adapters.hypervisor.qemu.guard import piped
from holdfast.adapters.hypervisor.qemu.qmp import (
    NobodyListensError,
    QmpConnection,
    QmpRefusedError,
)
from holdfast.errors import SourceError
from holdfast.machine_settings import MachineDisk, MachineEntry

PROGRAM = "qemu-storage-daemon"
START_SECONDS = 10.0
STARTS = 3  # it may never greet a client that comes while it sets its monitor up
POLL_SECONDS = 0.005
END_SECONDS = 30.0


class StorageDaemon:
    """Started by construction with its socket in ``folder`` (mode 0700); ``close`` it."""

    def __init__(self, folder: Path) -> None:
        self._errors = folder / "qsd.log"
        socket = folder / "qsd.sock"
        for at in range(1, STARTS + 1):
            self._process = self._started(socket)
            try:
                self.monitor = self._connect(socket)
            except BaseException as error:
                self._end()
                if at == STARTS or not _is_mute(error):
                    raise
            else:
                return

    def _started(self, socket: Path) -> subprocess.Popen[bytes]:
        monitor = f"socket,id=m,path={socket},server=on,wait=off"
        words = (PROGRAM, "--chardev", monitor, "--monitor", "chardev=m")
        with self._errors.open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-I", str(keeper.__file__), *words],
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
            )

    def _connect(self, socket: Path) -> QmpConnection:
        """It makes the socket first and listens a moment later."""
        until = time.monotonic() + START_SECONDS
        while True:
            if socket.is_socket():
                with suppress(NobodyListensError):
                    return QmpConnection(socket)
            if self._process.poll() is not None or time.monotonic() > until:
                said = self._errors.read_text(errors="replace").strip().splitlines()
                raise SourceError(
                    f"{PROGRAM} did not start: {said[-1] if said else 'no answer'}",
                    code="ToolMissing",
                    hint="install QEMU's storage daemon (qemu-system-common, or qemu-img)",
                )
            time.sleep(POLL_SECONDS)

    def open_disks(self, entry: MachineEntry) -> list[Drive]:
        """All disks of the settings. SourceError (MachineUnreachable: the image is in use),
        (DiskUnreadable)."""
        for lun, disk in zip(entry.luns, entry.disk, strict=True):
            self._open(entry, _node(lun), disk)
        nodes = {str(one["node-name"]): one for one in nodes_of(self.monitor)}
        return [self._drive(entry, at, nodes[_node(lun)]) for at, lun in enumerate(entry.luns)]

    def _open(self, entry: MachineEntry, node: str, disk: MachineDisk) -> None:
        driver = "host_device" if Path(disk.path).is_block_device() else "file"
        file = {"driver": driver, "filename": disk.path}
        try:
            self.monitor.execute(
                "blockdev-add", driver=disk.format, node_name=node, file=file, discard="unmap"
            )
        except QmpRefusedError as error:
            raise _not_opened(entry, disk, error.said) from error

    @staticmethod
    def _drive(entry: MachineEntry, at: int, node: dict[str, Any]) -> Drive:
        disk = named_disk(entry, at, int(node["image"]["virtual-size"]))
        bitmaps = read_bitmaps(node.get("dirty-bitmaps") or ())
        name = str(node["node-name"])
        return Drive(disk, name, "", name, keeps_bitmaps(node), bitmaps)

    def close(self) -> None:
        """Store the bitmaps and end. Idempotent."""
        if self._process.poll() is None:
            with suppress(SourceError):
                self.monitor.execute("quit")
        self.monitor.close()
        self._end()

    def _end(self) -> None:
        piped(self._process).close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _is_mute(error: BaseException) -> bool:
    """A daemon that took the client and did not greet it. It has opened no disk yet."""
    return isinstance(error, SourceError) and error.code in ("MonitorBusy", "MonitorUnreachable")


def _node(lun: int) -> str:
    return f"disk{lun}"


def _not_opened(entry: MachineEntry, disk: MachineDisk, said: str) -> SourceError:
    if "lock" in said:
        return SourceError(
            f"machine {entry.name} runs, for {disk.path} is in use, and its monitor {entry.qmp} "
            "cannot be reached",
            code="MachineUnreachable",
            hint="see whether qmp in the settings is a monitor socket of this machine, "
            "and whether another program holds its image",
            retry="later",
        )
    return SourceError(
        f"the disk image {disk.path} cannot be opened: {said}",
        code="DiskUnreadable",
        hint="see whether path and format of the disk in the settings are right",
        target=disk.path,
    )
