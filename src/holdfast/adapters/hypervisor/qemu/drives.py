"""The disks of a machine as its monitor shows them: nodes, devices, bitmaps, and what is ours.

Node names of ours are ``hf-KIND-LUN`` (QEMU takes 31 characters): ``cbw`` the filter between device
and disk, ``scr`` and ``lim`` the scratch area, ``acc`` what is exported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.qemu import images
from holdfast.adapters.hypervisor.qemu.bitmaps import Bitmap, read_bitmaps
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.errors import SourceError
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import OS_DISK_LUN, Disk

OURS = "hf-"
FORMATS = ("qcow2", "raw", "file", "host_device")  # what stands for a disk, best first


@dataclass(frozen=True, slots=True)
class Drive:
    """``node``: the disk's own node. ``device``: the QOM path of what the guest sees, empty in a
    storage daemon. ``attached``: the node the device reads, ours while a backup runs.
    ``persistent``: whether the image can keep bitmaps."""

    disk: Disk
    node: str
    device: str
    attached: str
    persistent: bool
    bitmaps: tuple[Bitmap, ...]

    def ours(self, kind: str) -> str:
        return our_node(kind, self.disk.lun)


def our_node(kind: str, lun: int) -> str:
    return f"{OURS}{kind}-{lun_name(lun)}"


def lun_name(lun: int) -> str:
    return "os" if lun == OS_DISK_LUN else str(lun)


def named_disk(entry: MachineEntry, at: int, size: int) -> Disk:
    """Of the settings. SourceError (DiskUnreadable)."""
    disk, lun = entry.disk[at], entry.luns[at]
    name = disk.name or ("os-disk" if lun == OS_DISK_LUN else f"data-disk-{lun}")
    mark = images.identity(Path(disk.path), disk.format)
    return Disk(lun, name, disk.path, disk.format, size, mark)


def read_drives(monitor: QmpConnection, entry: MachineEntry) -> list[Drive]:
    """All disks of the settings, in their order. SourceError (DiskNotAttached) when the machine
    does not have one, (DiskReadOnly) when it is attached as such."""
    nodes = nodes_of(monitor)
    attached = [
        one for one in monitor.execute("query-block") if one.get("inserted") and one.get("qdev")
    ]
    return [_drive(entry, at, nodes, attached) for at in range(len(entry.disk))]


def nodes_of(monitor: QmpConnection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = monitor.execute("query-named-block-nodes", flat=True)
    return found


def bitmaps_of(monitor: QmpConnection) -> dict[str, tuple[Bitmap, ...]]:
    """By node, of all disks the machine has."""
    return {
        str(one["node-name"]): read_bitmaps(one["dirty-bitmaps"])
        for one in nodes_of(monitor)
        if one.get("dirty-bitmaps")
    }


def our_nodes(nodes: Sequence[dict[str, Any]]) -> list[str]:
    return [str(one["node-name"]) for one in nodes if str(one["node-name"]).startswith(OURS)]


def _drive(
    entry: MachineEntry,
    at: int,
    nodes: Sequence[dict[str, Any]],
    attached: Sequence[dict[str, Any]],
) -> Drive:
    disk = entry.disk[at]
    node = disk_node(nodes, disk.path, disk.format)
    device = next((one for one in attached if _same(one["inserted"].get("file"), disk.path)), None)
    if node is None or device is None:
        raise SourceError(
            f"machine {entry.name} has no disk {disk.path} ({disk.format})",
            code="DiskNotAttached",
            hint="see whether the disk was replaced, or a snapshot was put on top of it, and "
            "correct the machine's disks in the settings",
            target=disk.path,
        )
    if node.get("ro"):
        raise SourceError(
            f"disk {disk.path} of machine {entry.name} is attached read-only",
            code="DiskReadOnly",
            hint="leave it out of the machine's disks in the settings",
            target=disk.path,
        )
    return Drive(
        named_disk(entry, at, int(node["image"]["virtual-size"])),
        str(node["node-name"]),
        str(device["qdev"]),
        str(device["inserted"]["node-name"]),
        keeps_bitmaps(node),
        read_bitmaps(node.get("dirty-bitmaps") or ()),
    )


def disk_node(
    nodes: Sequence[dict[str, Any]], path: str, image: str | None = None
) -> dict[str, Any] | None:
    """The topmost node of the image at ``path``: its format's, below any filter. ``image``: only
    one of that format (qcow2 or raw)."""
    fitting = [
        one
        for one in nodes
        if one["drv"] in FORMATS
        and not str(one["node-name"]).startswith(OURS)
        and _same(one.get("file"), path)
        and (image is None or (one["drv"] == "qcow2") == (image == "qcow2"))
    ]
    return min(fitting, key=lambda one: FORMATS.index(one["drv"]), default=None)


def keeps_bitmaps(node: dict[str, Any]) -> bool:
    """qcow2 of version 3 does."""
    details = node["image"].get("format-specific", {}).get("data", {})
    return bool(node["drv"] == "qcow2") and details.get("compat") != "0.10"


def _same(shown: str | None, path: str) -> bool:
    return shown is not None and os.path.realpath(shown) == os.path.realpath(path)
