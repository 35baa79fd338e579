"""Putting disks of a recovery point in the place of a machine's own, which must be off.

All new images are written first, beside the old ones. Then, disk by disk, the old image gets a
second name, which is told, and the new one takes its place in one step: a disk's path never leads
to nothing, and an interrupted run leaves every old image where somebody finds it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from holdfast.adapters.disk_format.partial import failed
from holdfast.agent.vm.definition import described_disk
from holdfast.agent.vm.restore import IMAGES, Disks, RestoreMeans, restored, told_path
from holdfast.agent.vm.staging import FILE, FOLDER, free_name, give, opened, staged_folder
from holdfast.agent.vm_work import VmControl
from holdfast.errors import ConflictError, TargetError
from holdfast.ports.hypervisor import Machine, PowerState
from holdfast.ports.vm_tasks import CREATE_PHASE, VmRestore, VmRestored
from holdfast.workloads.vm.disks.point import DiskEntry


@dataclass(frozen=True, slots=True)
class _Swap:
    """``fresh`` takes the place of ``place``."""

    entry: DiskEntry
    place: Path
    fresh: Path


def replace_disks(
    means: RestoreMeans, asked: VmRestore, disks: Disks, control: VmControl
) -> VmRestored:
    """ConflictError (UserErrorVmNotShutDown, DiskNotReplaceable), SourceError
    (UserErrorVmNotFoundV2), TargetError, CancelledError: then the machine's disks are as they
    were."""
    machine = _off(means, asked)
    places = [_place(machine, disks, entry) for entry in disks.entries]
    with ExitStack() as ending:
        swaps = []
        for entry, (place, form) in zip(disks.entries, places, strict=True):
            name = f"{place.name}-{asked.recovery_point_id}"
            staged = ending.enter_context(staged_folder(place.parent, name))
            fresh = staged / place.name
            disks.write(entry, fresh, form)
            swaps.append(_Swap(entry, place, fresh))
        control.show(CREATE_PHASE)
        control.check()
        _off(means, asked)
        keys = disks.put_keys(means.keys, in_place=True)
        kept = [_swap(one, asked.recovery_point_id) for one in swaps]
    return VmRestored(
        disks=tuple(restored(disks, one.entry, one.place) for one in swaps),
        machine_uuid=machine.id,
        kept=tuple(told_path(path) for path in kept if path is not None),
        keys=keys,
    )


def _off(means: RestoreMeans, asked: VmRestore) -> Machine:
    machine = means.look(asked.uuid)
    if machine.power is PowerState.OFF:
        return machine
    raise ConflictError(
        f"virtual machine {asked.name} is not off: its disks cannot be replaced",
        code="UserErrorVmNotShutDown",
        hint="shut it down, wait until holdfast vm show says stopped, then restore again",
    )


def _place(machine: Machine, disks: Disks, entry: DiskEntry) -> tuple[Path, str]:
    """Path and format of a disk's image: of the settings, or where it lay when the point was made
    if that is known of none and nothing lies there."""
    own = next((disk for disk in machine.disks if disk.lun == entry.lun), None)
    before = described_disk(disks.described, entry.lun)
    path = own.path if own is not None else str(before.get("path") or "")
    form = own.format if own is not None else str(before.get("format") or "")
    place = Path(os.path.realpath(path)) if path else Path()
    fits = place.is_absolute() and form in IMAGES and (place.is_file() or not place.exists())
    if own is None and (machine.disks or os.path.lexists(path)):
        fits = False  # what lies there by now may be another machine's
    if not fits:
        raise ConflictError(
            f"disk {entry.lun} of {machine.name} cannot be replaced: it is not an image file of "
            "the machine's settings",
            code="DiskNotReplaceable",
            hint="restore its disks into a storage account, and copy them where they belong",
        )
    return place, form


def _swap(one: _Swap, point: str) -> Path | None:
    """The old image's second name. TargetError."""
    place, kept = one.place, None
    try:
        _own_as(one.fresh, place if place.exists() else place.parent)
        if place.exists():
            kept = free_name(place.with_name(f"{place.name}.before-{point}"))
            kept.hardlink_to(place)
        one.fresh.replace(place)
        with opened(place.parent, FOLDER) as folder:
            os.fsync(folder)
    except OSError as error:
        raise _stopped(place, error) from error
    return kept


def _own_as(fresh: Path, like: Path) -> None:
    """QEMU may run as another user."""
    owner = like.stat()
    with opened(fresh, FILE) as handle:
        os.fchmod(handle, owner.st_mode & 0o666)
        give(handle, owner)


def _stopped(place: Path, error: OSError) -> TargetError:
    found = failed(place, error)
    return TargetError(
        f"{found.message}; disks before it may have been replaced, the old ones are kept beside",
        code="DisksPartlyReplaced",
        hint="see the files *.before-* beside the disks; restore again when the cause is mended",
    )
