"""Which image of a disk counts: the one QEMU uses, whatever was written down before."""

from __future__ import annotations

import json

from holdfast.agent.vm.instant.records import Record, to_path
from holdfast.ports.machine_runner import RunningMachine


def note_attached(record: Record, machine: RunningMachine) -> set[int]:
    """Set where the disks are; the LUNs of those of which it is known. SourceError (MachineLost):
    then nothing is."""
    attached = machine.attached()
    known = set()
    for disk in record.disks:
        used = _file_of(attached.get(disk.lun, ""))
        overlay = record.overlay(disk.lun)
        if disk.target and used == str(to_path(disk.target)):
            disk.path, disk.backed = disk.target, False
        elif used == str(to_path(overlay)):
            disk.path, disk.backed = overlay, True
        else:
            continue
        known.add(disk.lun)
    return known


def _file_of(told: str) -> str:
    """QEMU names an image with more than its file, such as what it lies over, as JSON."""
    if not told.startswith("json:"):
        return told
    try:
        return str(json.loads(told.removeprefix("json:"))["file"]["filename"])
    except (ValueError, KeyError, TypeError):
        return ""
