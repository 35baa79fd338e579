"""Machines that run from the vault: the executor with real guests and a vault in this process."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.clock import SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.qemu import QemuHypervisor, QemuRunner, running
from holdfast.agent.vm.executor import Running, VmExecutor
from holdfast.agent.vm.instant.trial import SCRIPT_RUNS, Trial
from holdfast.agent.vm_work import VmControl
from holdfast.domain.path_text import decode_path
from holdfast.errors import HoldfastError
from holdfast.ports.vm_tasks import (
    SERVE_PHASE,
    DiskAsked,
    InstantMachine,
    MoveDisks,
    RestoreTest,
    VmBackup,
    VmRestore,
)
from holdfast.testing.disks_vault import CONTAINER, MACHINE, DisksVault
from holdfast.testing.files_vault import DirectSession
from holdfast.testing.guest import GuestDisk, GuestMachine
from holdfast.testing.guest.twin import Twin, kill
from holdfast.testing.small_disk import can_mount, small_disk
from holdfast.testing.wait import eventually

TWIN = "web1-now"


class Task:
    """A restore's task as the agent runs it, in a thread."""

    def __init__(self, bench: Bench, target: Any, executor: VmExecutor | None = None) -> None:
        self.stop, self.undo = threading.Event(), threading.Event()
        self.control = VmControl(
            lambda: self.stop.is_set() or self.undo.is_set(),
            self.stop.wait,
            undone=self.undo.is_set,
        )
        self.result: Any = None
        self.error: HoldfastError | None = None
        self._asked = VmRestore(
            recovery_point_id=bench.point,
            uuid=bench.place.guest.uuid,
            name="web1",
            target=target,
            job_id="0123456789abcdef",
        )
        self._session, self._executor = bench.restore_session(), executor or bench.executor
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._executor.restore(self._asked, self._session, self.control)
        except HoldfastError as error:
            self.error = error

    def ended(self, seconds: float = 120) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), self.control.progress
        return self.result

    def fails(self, code: str) -> None:
        self.ended()
        assert self.error is not None, self.result
        assert self.error.code == code, self.error

    def runs(self) -> None:
        """Until its machine's guest has answered."""

        def ready() -> bool:
            assert self._thread.is_alive(), self.error
            return self.control.progress.phase == SERVE_PHASE

        eventually(ready, "the machine runs from the vault", seconds=90)


class Bench:
    """The host of ``place`` with a point of its guest in a vault."""

    def __init__(self, place: Any, folder: Path) -> None:
        self.place, self.vault = place, DisksVault(folder)
        self.executor = self.started()
        self.point = self.back_up(place.guest.uuid)
        self.truth = {lun: place.truth(lun) for lun in place.luns}

    def started(self) -> VmExecutor:
        """The agent's, as when it is started (again)."""
        hypervisor = QemuHypervisor([self.place.entry], self.place.folder / "agent")
        self.place.hypervisor = hypervisor
        running = Running(QemuRunner(hypervisor), self.place.folder / "agent" / "machines")
        clock, rng = self.vault.files.clock, SystemRandom()
        return VmExecutor(hypervisor, SystemDiskFiles(), clock, rng, "host1", running)

    def back_up(self, uuid: str) -> str:
        disks = tuple(DiskAsked(lun=lun, name=f"disk{lun}") for lun in self.place.luns)
        asked = VmBackup(uuid=uuid, name="web1", disks=disks)
        session = self.vault.session()
        try:
            done = self.executor.back_up(asked, session, VmControl(lambda: False))
        finally:
            session.close()
        return done.recovery_point_id

    def restore_session(self) -> DirectSession:
        files = self.vault.files
        grant = files.vault.begin_session(
            "restore", CONTAINER, MACHINE, files.job_id(), pins=[self.point]
        )
        return DirectSession(files.vault, grant, files.clock)

    @property
    def home(self) -> Path:
        found: Path = self.place.folder / f"{TWIN}.instant"
        return found

    @property
    def twin(self) -> Twin:
        return Twin(self.home)


@pytest.fixture
def bench(place: Any, tmp_path: Path) -> Iterator[Bench]:
    place.guest.shell("sync")
    place.guest.control("stop")
    made = Bench(place, tmp_path)
    try:
        yield made
    finally:
        for pid in place.folder.rglob("qemu.pid"):
            kill(pid)


def path_of(text: str) -> Path:
    return Path(decode_path(text).decode())


def test_a_machine_runs_from_the_vault_is_backed_up_and_moved(bench: Bench) -> None:
    task = Task(bench, InstantMachine(name=TWIN))
    task.runs()
    twin = bench.twin
    assert twin.patterns_hold("/mnt/b/base")
    assert twin.boots == 2
    state = Path(f"/proc/{(bench.home / 'qemu.pid').read_text().strip()}/status").read_text()
    assert "Seccomp:\t2" in state, "system calls it does not need are refused to it"
    twin.write_pattern("/mnt/b/fresh", count=64)
    seen = {one.name: one for one in bench.executor.inventory()}
    assert seen[TWIN].power_state == "running"
    assert seen[TWIN].tags["holdfast:instantPoint"] == bench.point
    assert seen[TWIN].uuid != bench.place.guest.uuid
    moved = Task(bench, MoveDisks(name=TWIN, folder=str(bench.place.folder)))
    result = moved.ended()
    assert moved.error is None, moved.error
    assert task.ended().ready_seconds > 0
    images = {disk.lun: path_of(disk.path) for disk in result.disks}
    assert {path.parent for path in images.values()} == {bench.place.folder / TWIN}
    assert twin.patterns_hold("/mnt/b/base")
    assert twin.patterns_hold("/mnt/b/fresh")
    assert twin.status == "running"
    twin.write_pattern("/mnt/b/later", count=8)
    twin.control("quit")
    assert not list(bench.home.glob("*.qcow2"))
    again = GuestMachine(bench.place.folder / TWIN, [GuestDisk(images[lun]) for lun in (-1, 0)])
    try:
        again.boot(bench.place.files)
        for name in ("base", "fresh", "later"):
            assert again.patterns_hold(f"/mnt/b/{name}")
    finally:
        again.kill()


def test_the_agent_stops_and_goes_on_while_the_guest_waits(bench: Bench) -> None:
    task = Task(bench, InstantMachine(name=TWIN))
    task.runs()
    twin = bench.twin
    twin.write_pattern("/mnt/b/fresh", count=16)
    move = Task(bench, MoveDisks(name=TWIN, folder=str(bench.place.folder)))
    eventually(lambda: move.control.progress.done_bytes > 0 or move.result, "it is moving")
    for one in (task, move):
        one.stop.set()
    task.ended()
    if move.ended() is None:  # it may have been through already
        bench.executor = bench.started()
        assert TWIN in {one.name for one in bench.executor.inventory()}
        task = Task(bench, InstantMachine(name=TWIN))
        move = Task(bench, MoveDisks(name=TWIN, folder=str(bench.place.folder)))
        assert move.ended(), move.error
        task.ended()
        assert task.error is None
    assert twin.status == "running"
    assert twin.patterns_hold("/mnt/b/base")
    assert twin.patterns_hold("/mnt/b/fresh")
    assert {path.name for path in (bench.place.folder / TWIN).glob("*.qcow2")} == {
        "disk-os.qcow2",
        "disk-0.qcow2",
    }


def test_a_machine_that_died_goes_on_with_what_it_wrote(bench: Bench) -> None:
    task = Task(bench, InstantMachine(name=TWIN))
    task.runs()
    again = Task(bench, InstantMachine(name=TWIN))
    again.fails("InstantRestoreUnderWay")
    bench.twin.write_pattern("/mnt/b/fresh", count=16)
    kill(bench.home / "qemu.pid")
    task.fails("InstantMachineEnded")
    task = Task(bench, InstantMachine(name=TWIN))
    task.runs()
    twin = bench.twin
    assert twin.boots == 3
    assert twin.patterns_hold("/mnt/b/base")
    assert twin.patterns_hold("/mnt/b/fresh")
    seen = {one.name: one.uuid for one in bench.executor.inventory()}
    twin.shell("sync")
    twin.control("stop")
    bench.point = bench.back_up(seen[TWIN])
    for lun in bench.place.luns:
        restored = bytes(bench.vault.restore(lun)[0].content)
        assert restored != bench.truth[lun]
    twin.control("cont")
    task.undo.set()
    task.fails("OperationCancelled")
    assert not bench.home.exists()
    assert {one.name for one in bench.executor.inventory()} == {"web1"}
    second = Task(bench, InstantMachine(name=TWIN))
    second.runs()
    assert bench.twin.patterns_hold("/mnt/b/fresh")
    second.undo.set()
    second.ended()


def test_moves_that_cannot_be_done_leave_it_running(bench: Bench) -> None:
    nobody = Task(bench, MoveDisks(name=TWIN, folder=str(bench.place.folder)))
    nobody.fails("InstantMachineNotServed")
    task = Task(bench, InstantMachine(name=TWIN))
    task.runs()
    Task(bench, MoveDisks(name=TWIN, folder="/nowhere")).fails("TargetUnavailable")
    if can_mount():
        with small_disk(bench.place.folder / "little", "2m") as little:
            Task(bench, MoveDisks(name=TWIN, folder=str(little.folder))).fails("TargetFull")
            assert not list(little.folder.iterdir())
    twin = bench.twin
    assert twin.status == "running"
    assert twin.patterns_hold("/mnt/b/base")
    bench.place.folder.chmod(0o700)
    (bench.place.folder / "other.instant").mkdir()
    Task(bench, InstantMachine(name="other")).fails("TargetExists")
    task.undo.set()
    task.ended()
    assert not bench.home.exists()


def test_a_machine_that_is_given_up_while_it_starts_is_gone(bench: Bench) -> None:
    task = Task(bench, InstantMachine(name=TWIN))
    pid_file = bench.home / "qemu.pid"
    eventually(lambda: pid_file.exists() and pid_file.read_text().strip(), "it starts", every=0.02)
    pid = int(pid_file.read_text())
    task.undo.set()
    task.fails("OperationCancelled")
    assert not bench.home.exists()
    assert not Path(f"/proc/{pid}/exe").exists()
    assert {one.name for one in bench.executor.inventory()} == {"web1"}


def test_a_point_that_is_tested(bench: Bench) -> None:
    test = Task(bench, RestoreTest(script="sha256sum -c /mnt/b/base.sum && ls /sys/class/net"))
    found = test.ended()
    assert (found.passed, found.exit_code) == (True, 0), found
    assert "/mnt/b/base: OK" in found.output
    assert "eth" not in found.output
    assert base64.b64decode(found.screenshot).startswith(b"\x89PNG")
    assert 0 < found.ready_seconds < 90
    wrong = Task(bench, RestoreTest(script="echo no; exit 7")).ended()
    assert (wrong.passed, wrong.exit_code, wrong.output) == (False, 7, "no\n")
    endless = Task(bench, RestoreTest(script="sleep 600"))
    eventually(lambda: endless.control.progress.detail == SCRIPT_RUNS, "it runs", seconds=90)
    endless.stop.set()
    endless.fails("OperationCancelled")
    slow = Task(bench, RestoreTest(seconds=1)).ended()
    assert not slow.passed
    assert "did not answer" in slow.reason
    assert not list(bench.place.folder.glob(".restore-test*"))
    assert {one.name for one in bench.executor.inventory()} == {"web1"}


def test_a_test_whose_agent_was_killed_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "CALL_SECONDS", 2.0)
    monkeypatch.setattr(running, "END_SECONDS", 1.0)
    with monkeypatch.context() as killed:
        killed.setattr(running.QemuRunning, "end", lambda self: self.close())
        killed.setattr(Trial, "_clear", lambda *_: None)
        task = Task(bench, RestoreTest())
        homes = bench.place.folder.glob
        eventually(lambda: list(homes(".restore-test*/control.sock")), "its machine starts")
        (pid,) = (int(path.read_text()) for path in homes(".restore-test*/qemu.pid"))
        task.stop.set()
        task.ended()
    assert Path(f"/proc/{pid}/exe").exists()
    bench.started().start()
    eventually(lambda: not list(homes(".restore-test*")), "its folder is gone")
    assert not Path(f"/proc/{pid}/exe").exists()
    eventually(lambda: not list(bench.place.folder.rglob("trials/*.json")), "it is forgotten")
