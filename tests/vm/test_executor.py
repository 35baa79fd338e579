"""What goes wrong between a point in time and its commit: the executor with a booted guest and a
vault in this process. The guest is unharmed, and the next backup is right."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.adapters.clock import SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.qemu import scratch
from holdfast.agent.vm import backup
from holdfast.agent.vm.executor import VmExecutor
from holdfast.agent.vm_work import VmControl
from holdfast.errors import CancelledError, HoldfastError, SourceError, StoreUnavailableError
from holdfast.nbd.device import NbdSource
from holdfast.ports.vm_tasks import DiskAsked, VmBackedUp, VmBackup
from holdfast.testing.disks_vault import DisksVault

OVERWRITE = (
    "dd if=/dev/urandom of=/mnt/b/base bs=64k count={} seek=20 conv=notrunc,fsync 2>/dev/null"
    "; sha256sum /mnt/b/base > /mnt/b/base.sum; sync"
)
Hook = Callable[[], object]


class Meddling:
    """A session of a vault; ``commit``: what happens in place of the real one."""

    def __init__(self, session: Any, commit: Callable[..., str] | None) -> None:
        self._session = session
        self._commit = commit

    def __getattr__(self, name: str) -> Any:
        if name == "commit" and self._commit is not None:
            real = self._session.commit
            return lambda *given: self._commit(lambda: real(*given))  # type: ignore[misc]
        return getattr(self._session, name)


class Bench:
    """The executor of the host of ``place``, and a vault."""

    def __init__(self, place: Any, folder: Path) -> None:
        self.place, self.guest = place, place.guest
        self.vault = DisksVault(folder)
        self.findings: list[str] = []

    def back_up(
        self,
        commit: Callable[..., str] | None = None,
        job_id: bytes | None = None,
        luns: Sequence[int] = (-1, 0),
    ) -> VmBackedUp:
        clock, rng, files = self.vault.files.clock, SystemRandom(), SystemDiskFiles()
        executor = VmExecutor(self.place.hypervisor, files, clock, rng, "host1")
        disks = tuple(DiskAsked(lun=lun, name=f"disk{lun}") for lun in luns)
        asked = VmBackup(uuid=self.guest.uuid, name="web1", disks=disks)
        control = VmControl(lambda: False)
        session = Meddling(self.vault.session(job_id), commit)
        try:
            return executor.back_up(asked, session, control)
        finally:
            self.findings = [one.code for one in control.findings.all()]
            session.close()

    def fails(self, code: str, commit: Callable[..., str] | None = None) -> None:
        with pytest.raises(HoldfastError) as failed:
            self.back_up(commit)
        assert failed.value.code == code

    def is_right(self, *, increments: bool) -> VmBackedUp:
        """The next backup: what its disks hold is what the guest's do."""
        if self.guest.running:
            self.guest.shell("sync")
            self.guest.control("stop")
        done = self.back_up()
        for lun in self.place.luns:
            assert bytes(self.vault.restore(lun)[0].content) == self.place.truth(lun), lun
        assert [not disk.full for disk in done.disks] == [increments] * 2, done
        if self.guest.running:
            self.guest.control("cont")
            assert self.place.nothing_left()
            assert self.guest.patterns_hold("/mnt/b/base")
        return done


@pytest.fixture
def bench(place: Any, tmp_path: Path) -> Bench:
    return Bench(place, tmp_path)


@pytest.fixture
def at_first_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hook], None]:
    """Have something happen before the first byte of the next backup is read."""

    def arrange(hook: Hook) -> None:
        left, one_by_one = [hook], threading.Lock()
        read = NbdSource.read_into

        def read_into(self: NbdSource, offset: int, view: memoryview) -> None:
            with one_by_one:  # the others wait until it has happened
                if left:
                    left.pop()()
            read(self, offset, view)

        monkeypatch.setattr(backup.NbdSource, "read_into", read_into)

    return arrange


def test_increments_are_audited_and_go_on_when_the_machine_is_off(bench: Bench) -> None:
    bench.back_up()
    bench.guest.shell(OVERWRITE.format(8))
    done = bench.is_right(increments=True)
    assert all(disk.audited_bytes for disk in done.disks)
    bench.guest.shell(OVERWRITE.format(8))
    bench.guest.quit()
    bench.is_right(increments=True)
    bench.guest.boot()
    bench.is_right(increments=True)


def test_a_disk_that_grows(bench: Bench) -> None:
    bench.back_up()
    size = bench.place.images[1].stat().st_size
    bench.guest.control("block_resize", node_name="disk1", size=96 * 1024 * 1024)
    bench.guest.shell(
        "dd if=/dev/urandom of=/dev/vdb bs=64k count=4 seek=1300 conv=fsync 2>/dev/null"
    )
    assert bench.place.images[1].stat().st_size > size
    done = bench.is_right(increments=True)
    assert done.disks[1].logical_bytes == 96 * 1024 * 1024
    assert done.disks[1].read_bytes < 48 * 1024 * 1024


def test_a_disk_that_is_left_out_for_a_while(bench: Bench) -> None:
    bench.back_up()
    done = bench.back_up(luns=[-1])
    assert [disk.full for disk in done.disks] == [""]
    bench.guest.shell(OVERWRITE.format(8))
    done = bench.back_up()
    assert [bool(disk.full) for disk in done.disks] == [False, True]
    bench.guest.shell(OVERWRITE.format(8))
    bench.is_right(increments=True)


def test_a_machine_that_dies_while_it_is_read(
    bench: Bench, at_first_read: Callable[[Hook], None]
) -> None:
    at_first_read(bench.guest.kill)
    bench.fails("MachineLost")
    bench.guest.boot()
    bench.is_right(increments=False)


def test_a_scratch_area_that_is_full_while_it_is_read(
    bench: Bench, at_first_read: Callable[[Hook], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.back_up()
    bench.guest.shell(OVERWRITE.format(100))
    with monkeypatch.context() as little:
        little.setattr(scratch, "LEAST", scratch.FLOOR)
        bench.place.use(msgspec.structs.replace(bench.place.entry, scratch_percent=1))
        at_first_read(lambda: bench.guest.shell(OVERWRITE.format(120)))
        bench.fails("ScratchFull")
    assert bench.guest.status == "running"
    assert bench.place.nothing_left()
    bench.is_right(increments=True)


def test_a_vault_that_does_not_take_the_point(bench: Bench) -> None:
    def away(_: Callable[[], str]) -> str:
        raise StoreUnavailableError("the store is away")

    bench.back_up()
    bench.guest.shell(OVERWRITE.format(8))
    bench.fails("StoreUnavailable", away)
    assert bench.place.nothing_left()
    bench.is_right(increments=True)


def test_a_commit_whose_answer_is_lost(bench: Bench) -> None:
    """The same job does its work again, as after a restart of the agent."""

    def lost(commit: Callable[[], str]) -> str:
        commit()
        raise CancelledError("the agent is stopping", code="AgentStopped")

    job_id = bench.vault.files.job_id()
    bench.back_up()
    with pytest.raises((CancelledError, SourceError)):
        bench.back_up(lost, job_id)
    first = bench.vault.latest()
    bench.guest.shell(OVERWRITE.format(8))
    assert bench.back_up(None, job_id).recovery_point_id == first
    bench.guest.shell(OVERWRITE.format(4))
    bench.is_right(increments=False)
    bench.guest.shell(OVERWRITE.format(2))
    bench.is_right(increments=True)


def test_a_machine_that_dies_after_the_commit(bench: Bench) -> None:
    def then_dies(commit: Callable[[], str]) -> str:
        point = commit()
        bench.guest.kill()
        return point

    done = bench.back_up(then_dies)
    assert done.recovery_point_id == bench.vault.latest()
    assert bench.findings == ["SnapshotLeft"]
    bench.guest.boot()
    bench.is_right(increments=False)
