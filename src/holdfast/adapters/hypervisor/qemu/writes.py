"""How long a guest's writes take, by QEMU's own count."""

from __future__ import annotations

from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.domain.guest_pace import Written


def count_writes(monitor: QmpConnection) -> dict[str, Written]:
    """By the guest's device, of all it has: disks that are left out of backups may share their
    storage with others. A device counts what it waits for, so a filter below it makes no
    difference. MachineLostError."""
    shown = monitor.execute("query-blockstats")
    return {
        str(one["qdev"]): Written(
            int(one["stats"]["wr_operations"]), int(one["stats"]["wr_total_time_ns"])
        )
        for one in shown
        if one.get("qdev")
    }
