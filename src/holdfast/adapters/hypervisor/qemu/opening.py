"""Reaching a machine's disks: through its monitor when it runs, through a storage daemon if not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from holdfast.adapters.hypervisor.qemu.drives import Drive, nodes_of, our_nodes, read_drives
from holdfast.adapters.hypervisor.qemu.qmp import NobodyListensError, QmpConnection
from holdfast.adapters.hypervisor.qemu.snapshot import take_down
from holdfast.adapters.hypervisor.qemu.storage_daemon import StorageDaemon
from holdfast.errors import NotFoundError, SourceError
from holdfast.machine_settings import MachineEntry

OLDEST = (7, 1)  # copy-before-write learned to break the picture instead of the guest
NOBODY = UUID(int=0)  # QEMU was started without -uuid


@dataclass(frozen=True, slots=True)
class Opened:
    """``live``: the machine runs (or is paused) and has devices on its disks."""

    entry: MachineEntry
    monitor: QmpConnection
    live: bool
    drives: tuple[Drive, ...]

    def select(self, luns: Sequence[int]) -> list[Drive]:
        """NotFoundError (DiskNotFound)."""
        by_lun = {drive.disk.lun: drive for drive in self.drives}
        missing = [str(lun) for lun in luns if lun not in by_lun]
        if missing or not luns:
            raise NotFoundError(
                f"machine {self.entry.name} has no disk with LUN {', '.join(missing) or '(none)'}",
                code="DiskNotFound",
                hint=f"its disks have the LUNs {', '.join(map(str, by_lun))}",
            )
        return [by_lun[lun] for lun in dict.fromkeys(luns)]


def open_machine(
    entry: MachineEntry, folder: Path, ending: ExitStack, *, cleaned: bool = False
) -> Opened:
    """``folder``: for the storage daemon's socket. ``ending`` closes what was opened. ``cleaned``:
    what an interrupted backup left in the machine is removed first, whatever its disks are now."""
    monitor = connect(entry)
    if monitor is not None:
        ending.callback(monitor.close)
        if cleaned:
            clean(monitor)
        return Opened(entry, monitor, True, tuple(read_drives(monitor, entry)))
    daemon = StorageDaemon(folder)
    ending.callback(daemon.close)
    return Opened(entry, daemon.monitor, False, tuple(daemon.open_disks(entry)))


def clean(monitor: QmpConnection) -> None:
    """Our nodes tell that a server for NBD is ours."""
    take_down(monitor, started=bool(our_nodes(nodes_of(monitor))))


def connect(entry: MachineEntry) -> QmpConnection | None:
    """The monitor, or None when nobody listens there: the machine is off. SourceError
    (MonitorUnreachable, MonitorBusy, MachineMismatch, HypervisorTooOld)."""
    try:
        monitor = QmpConnection(Path(entry.qmp))
    except NobodyListensError:
        return None
    try:
        _check(monitor, entry)
    except BaseException:
        monitor.close()
        raise
    return monitor


def _check(monitor: QmpConnection, entry: MachineEntry) -> None:
    found = UUID(monitor.execute("query-uuid")["UUID"])
    if found not in (NOBODY, UUID(entry.id)):
        raise SourceError(
            f"the monitor {entry.qmp} belongs to machine {found}, not to {entry.name} ({entry.id})",
            code="MachineMismatch",
            hint="correct uuid or qmp of the machine in the settings",
        )
    version = monitor.execute("query-version")["qemu"]
    if (version["major"], version["minor"]) < OLDEST:
        raise SourceError(
            f"machine {entry.name} runs on QEMU {version['major']}.{version['minor']}",
            code="HypervisorTooOld",
            hint=f"backup needs QEMU {OLDEST[0]}.{OLDEST[1]} or newer",
        )
