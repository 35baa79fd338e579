"""Moving a machine's disks off the vault when something fails in the middle: the image the machine
writes is never removed, and never taken for another. The machine and its starter are in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast import crashpoint
from holdfast.adapters.clock import SystemRandom
from holdfast.agent.vm.instant.moving import move_disks
from holdfast.agent.vm.instant.records import KeptDisk, Record, to_path, to_text
from holdfast.agent.vm.instant.restore import InstantRestores
from holdfast.agent.vm.instant.watching import Live
from holdfast.agent.vm_work import VmControl
from holdfast.errors import ConflictError, HoldfastError, SourceError, TargetError
from holdfast.ports.machine_runner import Move, RunPlan
from holdfast.ports.vm_tasks import (
    CREATE_PHASE,
    MOVE_PHASE,
    InstantMachine,
    MoveDisks,
    VmRestore,
    VmRestored,
)

NAME, LUNS = "web-now", (-1, 0)


class Machine:
    """``refuses``: LUNs whose change-over fails; ``late``: those that change over all the same,
    just before the copies are stopped. ``dies``: when it is to change over.
    ``used``: LUN to image."""

    def __init__(self, record: Record) -> None:
        self.used = {disk.lun: disk.path for disk in record.disks}
        self.copies: dict[int, Path] = {}
        self.refuses: set[int] = set()
        self.late: set[int] = set()
        self.tells: Callable[[str], str] = str
        self.dies, self.lost, self.ended = False, False, False
        self.status = "running"

    def attached(self) -> dict[int, str]:
        if self.lost:
            raise SourceError("it ended", code="MachineLost")
        return {lun: self.tells(str(to_path(text))) for lun, text in self.used.items()}

    def move(self, lun: int, target: Path) -> None:
        assert target.is_file(), "the image is there before"
        self.copies[lun] = target

    def moves(self) -> list[Move]:
        return [Move(lun, 1, 1, ready=True) for lun in self.copies]

    def switch(self, lun: int) -> None:
        if self.dies:
            self.lost = True
            raise SourceError("it ended", code="MachineLost")
        if lun in self.refuses:
            raise SourceError("no end within 60 s", code="MoveFailed")
        self.used[lun] = to_text(self.copies.pop(lun))

    def stop_moving(self) -> None:
        self.refuses -= self.late
        for lun in self.late & set(self.copies):
            self.switch(lun)
        self.copies.clear()

    def end(self) -> None:
        self.ended = self.lost = True

    def close(self) -> None:
        pass

    def answers(self) -> bool:
        return True


class Runner:
    def __init__(self) -> None:
        self.machine: Any = None
        self.shown: list[str] = []

    def image(self, path: Path, size: int, backing: object) -> None:
        assert not path.is_symlink()
        path.write_bytes(bytes(8))

    def reach(self, _plan: RunPlan) -> Any:
        return self.machine

    def start(self, plan: RunPlan) -> Any:
        raise AssertionError(f"{plan.name} is started")

    def is_named(self, _uuid: str) -> bool:
        return False

    def show(self, plan: RunPlan) -> None:
        self.shown.append(plan.uuid)

    def forget(self, _uuid: str) -> None:
        pass

    @contextmanager
    def hold(self, _uuid: str) -> Iterator[None]:
        yield


class Host:
    """With a machine that runs from the vault."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner: Any = Runner()
        self.home = folder / f"{NAME}.instant"
        self.home.mkdir()
        record = Record(
            name=NAME,
            uuid="11111111-0000-4000-8000-000000000001",
            of_name="web",
            of_uuid="11111111-0000-4000-8000-000000000002",
            point="p1",
            job="instant-job",
            home=to_text(self.home),
            disks=[KeptDisk(lun=lun, path="", size=1 << 20) for lun in LUNS],
            described={},
        )
        for disk in record.disks:
            disk.path = record.overlay(disk.lun)
            to_path(disk.path).write_bytes(b"written by the guest")
        self.machine = Machine(record)
        self.runner.machine = self.machine
        self.restart().records.save(record)
        self.serve()

    def restart(self) -> InstantRestores:
        """The agent."""
        self.restores = InstantRestores(self.runner, self.folder / "data", SystemRandom())
        return self.restores

    def serve(self) -> None:
        machine: Any = self.machine
        self.restores.serves(Live(self.record, machine))

    @property
    def record(self) -> Record:
        found = self.restores.records.find(NAME)
        assert found is not None
        return found

    def move(self, job: str = "move-job", control: VmControl | None = None) -> VmRestored:
        control = control or VmControl(lambda: False)
        target = MoveDisks(name=NAME, folder=to_text(self.folder))
        return move_disks(self.restores, job, target, control)

    def run(self, control: VmControl, job: str = "instant-job", point: str = "p1") -> VmRestored:
        session: Any = None
        asked = VmRestore(
            recovery_point_id=point,
            uuid=self.record.of_uuid,
            name="web",
            target=InstantMachine(name=NAME),
            job_id=job,
        )
        return self.restores.run(asked, InstantMachine(name=NAME), session, control)

    def nothing_is_lost(self) -> None:
        """What is written down is what the machine uses, and that is there."""
        for disk in self.record.disks:
            assert disk.path == self.machine.used[disk.lun]
            assert to_path(disk.path).is_file()
            assert disk.backed == (to_path(disk.path).parent == self.home)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class KilledError(Exception):
    pass


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def reach(reached: str) -> None:
        if reached == name:
            raise KilledError

    monkeypatch.setattr(crashpoint, "reach", reach)


def test_a_disk_that_changes_over_late_keeps_its_new_image(host: Host) -> None:
    host.machine.refuses, host.machine.late = {0}, {0}
    with pytest.raises(SourceError):
        host.move()
    host.nothing_is_lost()
    assert not any(disk.backed for disk in host.record.disks)
    host.move("again")
    host.nothing_is_lost()
    assert host.record.moved


def test_a_disk_noted_as_moved_that_is_not_stays_on_its_overlay(host: Host) -> None:
    record, target = host.record, host.folder / NAME / "disk-os.qcow2"
    target.parent.mkdir()
    target.write_bytes(b"old")
    record.room = target.parent.stat().st_ino
    first = record.disks[0]
    first.path = first.target = to_text(target)
    first.backed = False
    host.restart().records.save(record)
    host.serve()
    host.machine.copies, host.machine.refuses = {-1: target}, {-1}
    with pytest.raises(SourceError):
        host.move()
    host.nothing_is_lost()
    assert all(disk.backed for disk in host.record.disks)
    assert not target.exists()


def test_nothing_is_removed_when_the_machine_does_not_answer(host: Host) -> None:
    host.machine.dies = True
    with pytest.raises(SourceError):
        host.move()
    assert {path.name for path in (host.folder / NAME).iterdir()} == {
        "disk-os.qcow2",
        "disk-0.qcow2",
    }
    assert len(list(host.home.glob("*.qcow2"))) == 2


def test_a_disk_that_was_left_is_moved_later(host: Host) -> None:
    host.machine.refuses = {0}
    with pytest.raises(SourceError):
        host.move()
    host.nothing_is_lost()
    assert [disk.backed for disk in host.record.disks] == [False, True]
    host.machine.refuses = set()
    host.restart()
    host.serve()
    done = host.move("again")
    host.nothing_is_lost()
    assert {to_path(disk.path).parent for disk in done.disks} == {host.folder / NAME}


@pytest.mark.parametrize("point", ["agent.vm.move.described", "agent.vm.move.moved"])
def test_both_jobs_end_well_after_a_kill_at_the_end(
    host: Host, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    with monkeypatch.context() as patched:
        kill_at(patched, point)
        with pytest.raises(KilledError):
            host.move()
    host.restart()
    if not host.record.moved:
        host.serve()
    done = host.move()
    assert to_path(done.definition).is_file()
    assert (to_path(done.definition).with_name("machine.toml")).is_file()
    host.nothing_is_lost()
    control = VmControl(lambda: False)
    host.restart()
    assert host.run(control).disks == done.disks
    assert not list(host.home.glob("*.qcow2"))
    with pytest.raises(ConflictError):
        host.run(control, job="another")
    with pytest.raises(ConflictError):
        host.move("another")


def test_a_cancelled_machine_that_was_moved_meanwhile_stays(host: Host) -> None:
    """The user cancels while the last files of the move are written."""
    done = host.move()
    live = host.restores.live(NAME)
    assert live is not None
    assert live.moved.is_set()
    assert not host.restores.undo(live.record)
    host.nothing_is_lost()
    assert not host.machine.ended
    assert all(to_path(disk.path).is_file() for disk in done.disks)


@pytest.mark.parametrize("phase", [MOVE_PHASE, CREATE_PHASE])
def test_a_move_of_a_machine_that_was_undone_meanwhile_fails(host: Host, phase: str) -> None:
    live = host.restores.live(NAME)
    assert live is not None
    record = live.record

    def moved_on() -> None:
        if control.progress.phase == phase:
            host.restores.undo(record)

    control = VmControl(lambda: False, moved_on=moved_on)
    with pytest.raises(HoldfastError):
        host.move(control=control)
    assert host.machine.ended
    assert host.restores.records.all() == []
    assert not record.moved


def test_an_image_of_which_qemu_says_nothing_clear_stays(host: Host) -> None:
    host.machine.tells = lambda path: path if path.startswith(str(host.home)) else "json:{}"
    with pytest.raises(TargetError) as refused:
        host.move()
    assert refused.value.code == "MoveFailed"
    host.nothing_is_lost()
    assert len(list(host.home.glob("*.qcow2"))) == 2
    host.machine.tells = lambda path: f'json:{{"file": {{"filename": "{path}"}}}}'
    host.move("again")
    host.nothing_is_lost()


def test_links_in_the_way_are_not_followed(host: Host) -> None:
    """A user who owns the folder puts them there between two attempts."""
    host.machine.refuses = {0}
    with pytest.raises(SourceError):
        host.move()
    secret = host.folder / "secret"
    secret.write_text("of root")
    for name in ("disk-0.qcow2", "machine.json", "machine.toml"):
        (host.folder / NAME / name).symlink_to(secret)
    host.machine.refuses = set()
    host.move("again")
    assert secret.read_text() == "of root"
    assert not any(path.is_symlink() for path in (host.folder / NAME).iterdir())


@pytest.mark.parametrize("linked", [True, False])
def test_another_folder_in_the_place_of_ours_is_not_used(host: Host, linked: bool) -> None:
    host.machine.refuses = {0}
    with pytest.raises(SourceError):
        host.move()
    (host.folder / NAME).rename(host.folder / "away")
    other = host.folder / ("other" if linked else NAME)
    other.mkdir()
    if linked:
        (host.folder / NAME).symlink_to(other)
    host.machine.refuses = set()
    with pytest.raises(TargetError) as refused:
        host.move("again")
    assert refused.value.code == "TargetUnavailable"
    assert list(other.iterdir()) == []


def test_a_machine_whose_file_system_is_not_mounted_is_waited_for(host: Host) -> None:
    host.home.rename(host.folder / "not mounted")
    host.runner.machine = None
    host.restart().adopt()
    assert host.runner.shown == []
    stop, waits = threading.Event(), threading.Event()

    def wait(_seconds: float) -> None:
        waits.set()
        stop.set()

    control = VmControl(stop.is_set, wait)
    with pytest.raises(HoldfastError) as ended:
        host.run(control)
    assert ended.value.code == "OperationCancelled"
    assert waits.is_set()
    assert "disk-os.qcow2" in control.progress.detail
    assert not host.home.exists(), "nothing is made in its place"
    with pytest.raises(TargetError) as refused:
        host.run(VmControl(lambda: False), job="another")
    assert refused.value.code == "TargetUnavailable"
    (host.folder / "not mounted").rename(host.home)
    host.restores.tags()
    assert host.runner.shown == [host.record.uuid]


def test_a_machine_cancelled_while_the_agent_was_down_is_removed(host: Host) -> None:
    host.restart().adopt()
    with pytest.raises(HoldfastError) as ended:
        host.run(VmControl(lambda: True, undone=lambda: True))
    assert ended.value.code == "OperationCancelled"
    assert host.machine.ended
    assert not host.home.exists()
    assert host.restores.records.all() == []
