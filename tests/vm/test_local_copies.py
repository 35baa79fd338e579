"""Copies beside the disks of a guest that goes on writing: they are of the very moment its backup
is of, compared byte for byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.clock import SystemClock
from holdfast.adapters.hypervisor.qemu import taking
from holdfast.adapters.image_copy import ReflinkCopies
from holdfast.agent.vm.kept.backup_copy import BackupCopy
from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.ports.hypervisor import Consistency, Wish
from holdfast.ports.vm_tasks import DiskAsked, VmBackup
from holdfast.testing.guest import flatten, guest_folder
from holdfast.testing.loop_volume import volume, volume_missing

BUSY = """
i=0
while [ $i -lt 40 ]; do
  at=$(( (i * 7) % 140 )); many=$(( i % 30 + 1 )); from=/dev/urandom
  dd if=$from of=/mnt/b/base bs=64k count=20 seek=$at conv=notrunc 2>/dev/null
  sync; rm -f /mnt/b/grows
  dd if=$from of=/mnt/b/grows bs=64k count=$many 2>/dev/null
  i=$((i + 1))
done
"""
CRASH = Wish(Consistency.CRASH)  # nothing is frozen: writes are under way in the moment


@pytest.fixture
def room(request: pytest.FixtureRequest) -> Iterator[Path]:
    kind = str(request.param)
    if why := volume_missing(kind):
        pytest.skip(why)
    with guest_folder() as folder, volume(folder, kind, megabytes=600) as made:
        yield made


def copying(place: Any, kept: KeptCopies, token: str) -> BackupCopy:
    disks = tuple(DiskAsked(lun=lun, name=str(lun)) for lun in place.luns)
    asked = VmBackup(uuid=place.entry.id, name="web1", disks=disks, instant_days=1)
    return BackupCopy(kept, asked, token)


@pytest.mark.parametrize(("room", "image"), [("xfs", "qcow2"), ("btrfs", "raw")], indirect=["room"])
def test_a_copy_is_of_the_moment_of_its_backup(
    room: Path, make: Callable[..., Any], image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make(room=room, image=image)
    truth: dict[int, bytes] = {}
    turn = taking._rotate

    def witness(*given: Any) -> None:
        turn(*given)
        truth.update({lun: place.truth(lun) for lun in place.luns})

    monkeypatch.setattr(taking, "_rotate", witness)
    place.guest.write_pattern("/mnt/b/base", count=160)
    writer = threading.Thread(target=place.guest.shell, args=(BUSY,))
    writer.start()
    kept = KeptCopies(ReflinkCopies(), room / "notes", SystemClock())
    try:
        for token in ("c1", "c2"):
            copy = copying(place, kept, token)
            snapshot = place.begin(CRASH, at_rest=copy.at_rest)
            copy.stand({}, snapshot.outcome)
            assert copy.standing, copy.told()
            assert writer.is_alive(), "it writes all along"
            found = kept.find(token)
            assert found is not None
            for disk in found.disks:
                flat = flatten(disk.place, room / "flat", image=image)
                assert flat.read_bytes() == truth[disk.lun]
            place.finish(snapshot)
            assert place.copies() == truth, "and the vault's is the same"
    finally:
        writer.join()
    place.guest.shell("cd /mnt/b && touch still && sync")
