"""The scratch area: where the old content of blocks goes that the guest overwrites meanwhile.

One sparse file per disk. QEMU itself holds each to its budget (a raw node of fixed size under the
qcow2): a write beyond it fails, which ends the point in time and leaves the guest alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.qemu import handing
from holdfast.adapters.hypervisor.qemu.drives import Drive
from holdfast.adapters.hypervisor.qemu.images import run_tool
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection, QmpRefusedError
from holdfast.errors import LimitError, SourceError
from holdfast.ports.hypervisor import ScratchUse

MIB = 1024 * 1024
FLOOR = 4 * MIB  # bytes for each disk: tables of a qcow2 and a few clusters
LEAST = 64 * MIB  # bytes for a disk, where the folder has them: small disks overwrite all of theirs
WARNING = 0.8  # of the budget
KEPT_FREE = 0.05  # of the folder's room
EMPTY_FOLDER = 1 * MIB  # free bytes below which a failed write is the folder's fault


@dataclass(frozen=True, slots=True)
class ScratchArea:
    """Of one disk. ``budget`` in bytes."""

    drive: Drive
    path: Path
    budget: int


def share(sizes: Sequence[int], free: int, percent: int) -> list[int]:
    """The budget of each disk: ``percent`` of its size, at least LEAST, never more than the disk
    could need; all scaled down when the folder has less. LimitError (ScratchTooSmall)."""
    wanted = [min(max(size * percent // 100, LEAST), size + size // 100 + FLOOR) for size in sizes]
    room = int(free * (1 - KEPT_FREE))
    if sum(wanted) > room:
        wanted = [budget * room // sum(wanted) for budget in wanted]
    if any(budget < FLOOR for budget in wanted):
        raise LimitError(
            f"the scratch folder has {free // MIB} MiB free, too few for {len(sizes)} disks",
            code="ScratchTooSmall",
            hint="free some space, or name a larger folder as scratch of the machine",
        )
    return [budget // 65536 * 65536 for budget in wanted]


def make_areas(folder: Path, drives: Sequence[Drive], percent: int) -> list[ScratchArea]:
    """The files in a folder of their own, at the end all owned by who owns the disk. LimitError
    (ScratchTooSmall), SourceError (ScratchUnusable)."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with handing.new_folder(folder) as handle:
            found = os.fstatvfs(handle)
            sizes = [drive.disk.size for drive in drives]
            budgets = share(sizes, found.f_bavail * found.f_frsize, percent)
            areas = [
                ScratchArea(drive, folder / f"{drive.ours('scr')}.qcow2", budget)
                for drive, budget in zip(drives, budgets, strict=True)
            ]
            for area in areas:
                _make_file(handle, area)
            handing.give(handle, drives[0])
    except OSError as error:
        raise unusable(folder, error.strerror or str(error)) from error
    return areas


def _make_file(folder: int, area: ScratchArea) -> None:
    with handing.opened(area.path.name, handing.FILE, folder) as handle:
        place, size = f"/dev/fd/{handle}", str(area.drive.disk.size)
        words = ("qemu-img", "create", "-q", "-f", "qcow2", place, size)
        run_tool(area.path, *words, handles=(handle,))
        os.ftruncate(handle, area.budget)
        handing.give(handle, area.drive)


def unusable(what: Path, why: str) -> SourceError:
    return SourceError(
        f"the scratch area {what} cannot be used: {why}",
        code="ScratchUnusable",
        hint="name a folder as scratch of the machine where the agent can write, which the user "
        "QEMU runs as can reach, and where nothing has that name",
    )


def add_node(monitor: QmpConnection, area: ScratchArea) -> None:
    """Give it to QEMU, with a warning set at four fifths."""
    limit = area.drive.ours("lim")
    file: dict[str, Any] = {"driver": "file", "filename": str(area.path)}
    held = {"driver": "raw", "node-name": limit, "size": area.budget, "file": file}
    name = area.drive.ours("scr")
    try:
        monitor.execute("blockdev-add", driver="qcow2", node_name=name, file=held)
    except QmpRefusedError as error:
        raise unusable(area.path, error.said) from error
    at = int(area.budget * WARNING)
    monitor.execute("block-set-write-threshold", node_name=limit, write_threshold=at)


def measure(monitor: QmpConnection, areas: Sequence[ScratchArea]) -> ScratchUse:
    """How full they are; the highest offset QEMU tried to write tells, whether it could or not."""
    shown = monitor.execute("query-blockstats", query_nodes=True)
    highest = {one.get("node-name"): int(one["stats"]["wr_highest_offset"]) for one in shown}
    tried = [highest.get(area.drive.ours("lim"), 0) for area in areas]
    over = any(used > area.budget for used, area in zip(tried, areas, strict=True))
    warned = any(used > area.budget * WARNING for used, area in zip(tried, areas, strict=True))
    full = bool(areas) and shutil.disk_usage(areas[0].path.parent).free < EMPTY_FOLDER
    used = sum(min(used, area.budget) for used, area in zip(tried, areas, strict=True))
    budget = sum(area.budget for area in areas)
    return ScratchUse(used, budget, warned or full, over or full)
