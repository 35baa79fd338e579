"""A writer process that outlives its killed agent changes nothing of the restore that goes on."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from holdfast.errors import TargetError
from holdfast.testing.files_vault import FilesVault
from holdfast.workloads.files import journal as journals
from holdfast.workloads.files import restore_pieces, writer_helper, writer_process
from holdfast.workloads.files.child import Child
from holdfast.workloads.files.compare import compare_inventories, take_inventory
from holdfast.workloads.files.journal import RestoreJournal
from holdfast.workloads.files.restore import FilesRestore, RestorePlan
from holdfast.workloads.files.restore_fetch import ChunkFetcher

FILES = 300
KILLED = """
import os, signal, sys, threading
from pathlib import Path
from holdfast.testing.files_vault import FilesVault
from holdfast.workloads.files import restore_pieces, writer_helper
from holdfast.workloads.files.restore import RestorePlan
from holdfast.workloads.files.writer_process import WriterProcess

writer_helper.MANY_FILES, restore_pieces.WORTH_FILES = 8, 2
give, once = WriterProcess.order, threading.Lock()
def order(process, given):
    once.acquire()
    os.kill(process._child.pid, signal.SIGSTOP)
    give(process, given)
    print(process._child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
WriterProcess.order = order
folder = Path(sys.argv[1])
plan = RestorePlan(target=folder / "target")
FilesVault(folder / "vault").restore(plan, journal=folder / "journal")
"""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A restore whose agent was killed; its writer process ``writer`` is halted with an order."""

    folder: Path
    source: Path
    vault: FilesVault
    writer: int

    def inventory(self) -> object:
        return take_inventory([self.folder / "target"]).entries

    def go_on(self, on_ask: Callable[[], None] = lambda: None) -> None:
        """The restore started again; ``on_ask`` is called often."""

        def ask() -> bool:
            on_ask()
            return False

        plan, source = RestorePlan(target=self.folder / "target"), self.vault.restore_session()
        run = FilesRestore(plan, ChunkFetcher(source), self.folder / "journal", cancelled=ask)
        run.run()
        assert run.findings.all() == ()

    def differences(self) -> list[str]:
        target = self.folder / "target"
        found = compare_inventories(
            take_inventory([self.source]),
            take_inventory([target / str(self.source).lstrip("/")]),
            strip_right=str(target),
            owners=os.geteuid() == 0,
        )
        assert found.compared > FILES
        return found.lines


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[Interrupted]:
    source, noise = tmp_path / "src", random.Random(8)
    for number in range(FILES):
        place = source / f"d{number % 9}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{number}").write_bytes(noise.randbytes(noise.randrange(1, 9_000)))
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    with (tmp_path / "log").open("wb") as log:  # no pipe: the writer holds it open
        words = [sys.executable, "-c", KILLED, str(tmp_path)]
        ended = subprocess.run(words, stdout=subprocess.PIPE, stderr=log, check=False)
    assert ended.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    writer = int(ended.stdout)
    try:
        yield Interrupted(tmp_path, source, vault, writer)
    finally:
        with suppress(ProcessLookupError):
            os.kill(writer, signal.SIGKILL)


def test_the_next_run_waits_for_it_and_ends_as_if_nothing_happened(
    interrupted: Interrupted,
) -> None:
    found: list[object] = []

    def look() -> None:
        if len(found) < 4:
            found.append(interrupted.inventory())
        if len(found) == 4:
            os.kill(interrupted.writer, signal.SIGCONT)
            found.append("awake")

    before = interrupted.inventory()
    interrupted.go_on(look)
    assert found == [before] * 4 + ["awake"], "nothing was written while it lived"
    assert interrupted.differences() == []


def test_it_leaves_the_orders_of_a_dead_agent_undone(interrupted: Interrupted) -> None:
    before = interrupted.inventory()
    os.kill(interrupted.writer, signal.SIGCONT)
    with (interrupted.folder / "journal").open("rb") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)  # until it has ended
    assert interrupted.inventory() == before
    interrupted.go_on()
    assert interrupted.differences() == []


def test_a_writer_that_does_not_end_is_told(
    interrupted: Interrupted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "WAIT_SECONDS", 0.2)
    before = interrupted.inventory()
    with pytest.raises(TargetError) as caught:
        interrupted.go_on()
    assert (caught.value.code, caught.value.retry) == ("TargetBusy", "later")
    assert "start the restore again" in caught.value.hint
    assert interrupted.inventory() == before
    os.kill(interrupted.writer, signal.SIGKILL)
    monkeypatch.undo()
    interrupted.go_on()
    assert interrupted.differences() == []


def test_a_journal_that_was_waited_for_and_is_gone_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = RestoreJournal(path, "request")
    first.finish_windows([1])

    def ends() -> bool:
        first.close(delete=True)
        return False

    second = RestoreJournal(path, "request", ends)
    assert not second.resumed
    second.finish_windows([2])
    second.close(delete=False)
    third = RestoreJournal(path, "request")
    assert third.done == {2}
    third.close(delete=True)
    assert not path.exists()


def test_a_writer_that_is_given_up_is_ended_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers something else; what it still had to do is done by another hand."""
    made: list[Child] = []

    class Confused(Child):
        def __init__(self, module: str, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
            super().__init__(module, *arguments, pass_fds=pass_fds)
            made.append(self)

        def receive(self) -> bytes:
            found = super().receive()
            answer = writer_process.msgspec.msgpack.decode(found, type=writer_process.Answer)
            answer.slot += 1
            return writer_process.msgspec.msgpack.encode(answer)

    given_up: list[int | None] = []
    lost = writer_helper.WriterHelper.lost

    def watch(helper: writer_helper.WriterHelper, why: object) -> None:
        lost(helper, why)
        given_up.append(made[0]._process.returncode)

    monkeypatch.setattr(writer_process, "Child", Confused)
    monkeypatch.setattr(writer_helper.WriterHelper, "lost", watch)
    monkeypatch.setattr(writer_helper, "MANY_FILES", 8)
    monkeypatch.setattr(restore_pieces, "WORTH_FILES", 2)
    source = tmp_path / "src"
    source.mkdir()
    for number in range(60):
        (source / f"file-{number}").write_bytes(b"%d" % number * 50)
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    vault.restore(RestorePlan(target=tmp_path / "target"))
    assert given_up and set(given_up) == {-signal.SIGKILL}
    place = tmp_path / "target" / str(source).lstrip("/")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
