"""A machine that is off: libvirt backs up none, so a storage daemon of ours serves its images.

Its checkpoints stay as they are in the images, and no new one is begun, for libvirt would not know
of it. So such a point is a full compare, and so is the first one after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from holdfast.adapters.hypervisor.libvirt.domains import Domain
from holdfast.adapters.hypervisor.qemu import exports
from holdfast.adapters.hypervisor.qemu.levels import FreezeRecord, judge
from holdfast.adapters.hypervisor.qemu.opening import Opened
from holdfast.adapters.hypervisor.qemu.snapshot import QemuSnapshot, Turn
from holdfast.adapters.hypervisor.qemu.storage_daemon import StorageDaemon
from holdfast.errors import SourceError
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.ports.hypervisor import DiskExport, Wish

WHY_FULL = "libvirt keeps no record for a machine that is off"


def entry_of(domain: Domain) -> MachineEntry:
    """As the provider for bare QEMU has a machine; nobody listens on its monitor."""
    disks = [
        MachineDisk(path=disk.path, format="qcow2" if disk.format == "qcow2" else "raw",
                    name=disk.name, lun=disk.lun)
        for disk in domain.disks
    ]  # fmt: skip
    return MachineEntry(name=domain.name, uuid=domain.id, qmp="", disk=disks)


def take_off(
    domain: Domain, luns: Sequence[int], wish: Wish, token: str, sockets: Path, ending: ExitStack
) -> QemuSnapshot:
    """SourceError (MachineUnreachable: it was started meanwhile), (ConsistencyNotReached)."""
    record = FreezeRecord(why_not="the machine was off")
    outcome = judge(record, wish, len(luns), 0.0)
    daemon = StorageDaemon(sockets)
    ending.callback(daemon.close)
    entry = entry_of(domain)
    opened = Opened(entry, daemon.monitor, False, tuple(daemon.open_disks(entry)))
    turns = [Turn(drive, None, None, WHY_FULL) for drive in opened.select(luns)]
    socket = sockets / "nbd.sock"
    exports.start_server(daemon.monitor, socket)
    ending.callback(_stop, opened)
    shown = [
        DiskExport(
            turn.drive.disk,
            str(socket),
            exports.export(daemon.monitor, turn.drive, turn.drive.node, None),
            None,
            WHY_FULL,
        )
        for turn in turns
    ]
    kept = ending.pop_all()
    monitor, folder = daemon.monitor, sockets / "scratch"
    return QemuSnapshot(token, outcome, shown, turns, (), monitor, folder, kept.close)


def _stop(opened: Opened) -> None:
    with suppress(SourceError):
        exports.stop(opened.monitor, started=True)
