"""Backups that give way to a guest whose writes have become slow: a booted guest, and a vault in
this process. What is slow is QEMU's own throttle on the guest's device, so it is slow for sure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.agent.vm import easing
from holdfast.agent.vm.executor import VmExecutor
from holdfast.agent.vm_work import VmControl
from holdfast.domain import guest_pace
from holdfast.ports.vm_tasks import UPLOAD_PHASE, DiskAsked, Level, VmBackedUp, VmBackup
from holdfast.testing.disks_vault import DisksVault
from holdfast.testing.wait import eventually
from holdfast.workloads.vm.disks import blocks

MIB = 1 << 20
WRITES_A_SECOND = 10  # of a disk that is made slow: each waits for its turn
BOUND = 20.0  # [ms]
READ = 0  # the LUN of the disk that is backed up


class Yard:
    """The host of ``place``. The guest writes to its first disk; the second is backed up, and holds
    still, so that what is in the vault can be compared."""

    def __init__(self, place: Any) -> None:
        self.place, self.guest = place, place.guest
        self._executors: dict[float, VmExecutor] = {}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The guest writes blocks of 4 KiB, each to the disk before the next."""
        self.guest.shell(
            "(while [ ! -e /run/enough ]; do dd if=/dev/zero of=/mnt/a/busy bs=4k count=1 "
            "conv=notrunc,fsync 2>/dev/null; done) >/dev/null 2>&1 &"
        )
        try:
            yield
        finally:
            self.limit(0)
            self.guest.shell("touch /run/enough; sync")

    def limit(self, writes: int) -> None:
        """So many writes a second to the first disk, 0 for as many as come."""
        self.guest.limit_writes(0, writes)

    def executor(self, bound: float) -> VmExecutor:
        """Of the host, which has been looked at once."""
        if bound not in self._executors:
            found = VmExecutor(
                self.place.hypervisor,
                SystemDiskFiles(),
                SystemClock(),
                SystemRandom(),
                "host1",
                write_latency_ms=bound,
            )
            found.inventory()
            self._executors[bound] = found
        return self._executors[bound]

    def written(self) -> int:
        """How many writes of the guest ended, to all its disks."""
        (machine,) = self.place.hypervisor.machines()
        return sum(one.writes for one in machine.writes.values())

    def back_up(
        self, vault: DisksVault, bound: float, begun: Callable[[], object] | None = None
    ) -> VmBackedUp:
        """``begun`` is called when the point in time was taken."""

        def moved() -> None:
            if begun is not None and control.progress.phase == UPLOAD_PHASE:
                begun()

        control = VmControl(lambda: False, threading.Event().wait, moved)
        disks = (DiskAsked(lun=READ, name="data"),)
        wish: Level = "CrashConsistent"  # a freeze writes to the disk
        asked = VmBackup(uuid=self.guest.uuid, name="web1", disks=disks, wish=wish)
        session = vault.session()
        try:
            return self.executor(bound).back_up(asked, session, control)
        finally:
            session.close()


@pytest.fixture
def yard(place: Any, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """Disks are small here: looks are many, reads small, and the floor is high."""
    monkeypatch.setattr(easing, "INTERVAL", 0.05)
    monkeypatch.setattr(guest_pace, "FLOOR", 8 * MIB)
    monkeypatch.setattr(blocks, "WINDOW_BYTES", 256 * 1024)
    place.guest.write_pattern("/mnt/b/more", count=512)
    return Yard(place)


def test_what_the_guest_writes_is_counted_at_its_devices(yard: Yard) -> None:
    hypervisor = yard.place.hypervisor
    write = "dd if=/dev/zero of=/mnt/a/one bs=4k count=1 conv=notrunc,fsync 2>/dev/null"
    before = hypervisor.machines()[0].writes
    assert len(before) == 2
    first = next(disk for disk in before if "vd0" in disk)
    yard.guest.shell(write)
    during = yard.place.begin()
    try:
        between = during.guest_writes()
        quick = guest_pace.took(before, between)[first]
        yard.limit(1)
        yard.guest.shell(f"{write}; {write}")
        slow = guest_pace.took(between, during.guest_writes())[first]
        assert slow > 2 * quick
    finally:
        yard.limit(0)
        during.rollback()
    assert during.guest_writes() == {}
    yard.guest.quit()
    assert hypervisor.machines()[0].writes == {}


def test_a_backup_waits_for_a_guest_whose_writes_became_slow_and_is_right(
    yard: Yard, tmp_path: Path
) -> None:
    vaults = [DisksVault(tmp_path / name) for name in ("quick", "slow", "off")]
    yard.guest.shell("sync")
    with yard.writing():
        quick = yard.back_up(vaults[0], 60_000)
        slow = yard.back_up(vaults[1], BOUND, lambda: yard.limit(WRITES_A_SECOND))
        off = yard.back_up(vaults[2], 0)
    assert (quick.waited_ms, off.waited_ms) == (0, 0)
    assert slow.waited_ms > 500
    assert slow.guest_write_ms > max(BOUND, quick.guest_write_ms)
    yard.guest.control("stop")
    truth = yard.place.truth(READ)
    for vault in vaults:
        disk, _ = vault.restore(READ)
        same = bytes(disk.content) == truth
        assert same


def test_storage_that_is_always_slow_is_not_waited_for(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base line: the backup did not make it slow. A busy machine makes single writes slower
    than the base line, as no backup would: only several times of it count here."""
    monkeypatch.setattr(guest_pace, "ROSE", 8.0)
    with yard.writing():
        yard.limit(WRITES_A_SECOND)
        yard.executor(BOUND)
        before = yard.written()
        eventually(lambda: yard.written() >= before + 5, "the guest writes")
        done = yard.back_up(DisksVault(tmp_path / "vault"), BOUND)
    assert done.waited_ms == 0
