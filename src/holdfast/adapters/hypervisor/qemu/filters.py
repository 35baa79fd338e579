"""Copy-before-write: putting our filter between a device and its disk, and taking it out again.

    device → cbw → disk          the guest's way; the old content of what it overwrites goes to scr
             acc → cbw, scr      the picture of the moment the filter was put in

Order matters: the filter goes in before ``acc`` is added, and ``acc`` is gone before it goes out,
otherwise QEMU finds a "permission conflict". Insertion is one disk at a time, so the virtual CPUs
stand still meanwhile. A write that finds the scratch area full breaks the picture, not the guest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.adapters.hypervisor.qemu.drives import OURS, Drive, disk_node, nodes_of, our_nodes
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.errors import SourceError

COPY_SECONDS = 45  # how long a guest's write may wait for its copy before the picture breaks


def insert(monitor: QmpConnection, drive: Drive) -> None:
    """With the virtual CPUs stopped. The filter is not given the bitmap of the increment: it would
    refuse to read what is clean, and the vault's blocks are larger than a bitmap's, and the audit
    reads clean ones."""
    filter_node: dict[str, Any] = {
        "driver": "copy-before-write",
        "node-name": drive.ours("cbw"),
        "file": drive.node,
        "target": drive.ours("scr"),
        "on-cbw-error": "break-snapshot",
        "cbw-timeout": COPY_SECONDS,
    }
    monitor.call("blockdev-add", filter_node)
    attach(monitor, drive.device, drive.ours("cbw"))


def attach(monitor: QmpConnection, device: str, node: str) -> None:
    """Let the guest's device read and write that node."""
    monitor.execute("qom-set", path=device, property="drive", value=node)


def add_access(monitor: QmpConnection, drive: Drive) -> None:
    """The node that shows the picture."""
    name, below = drive.ours("acc"), drive.ours("cbw")
    monitor.execute("blockdev-add", driver="snapshot-access", node_name=name, file=below)


def remove(monitor: QmpConnection) -> None:
    """All of ours in the machine, wherever an insertion or removal ended, and whatever the settings
    say by now; idempotent."""
    nodes = nodes_of(monitor)
    ours = our_nodes(nodes)
    if not ours:
        return
    _delete(monitor, ours, "acc")
    for one in monitor.execute("query-block"):
        shown = one.get("inserted") or {}
        if one.get("qdev") and str(shown.get("node-name", "")).startswith(f"{OURS}cbw-"):
            attach(monitor, str(one["qdev"]), _below(nodes, str(shown.get("file"))))
    _delete(monitor, ours, "cbw")
    _delete(monitor, ours, "scr")  # lim goes with it


def _delete(monitor: QmpConnection, ours: Sequence[str], kind: str) -> None:
    for name in ours:
        if name.startswith(f"{OURS}{kind}-"):
            monitor.execute("blockdev-del", node_name=name)


def _below(nodes: Sequence[dict[str, Any]], path: str) -> str:
    """The disk under a filter. SourceError (FilterStuck)."""
    found = disk_node(nodes, path)
    if found is None:
        raise SourceError(
            f"the filter of a backup that broke off lies over {path}, which the machine does not "
            "show as a disk",
            code="FilterStuck",
            hint="restart the machine when it may stand still: the filter ends with it",
        )
    return str(found["node-name"])
