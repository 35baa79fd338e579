"""The note of a window stays until its guest surely goes on."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu import guard, rescue
from holdfast.adapters.hypervisor.qemu.guard import finish_interrupted
from holdfast.adapters.hypervisor.qemu.quiesce import Quiesce
from holdfast.errors import SourceError
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import Wish
from holdfast.testing.wait import eventually

Answer = Callable[[dict[str, Any]], Any]


class Peers:
    """A paused machine: its monitor, and an agent in it that answers by a function."""

    def __init__(self, folder: Path) -> None:
        self.qmp, self.agent, self.note = (folder / name for name in ("qmp", "agent", "note"))
        self.status = "paused"
        self.heard: list[str] = []
        self.answer: Answer = self.well
        self._sockets = [self._listen(self.qmp, self._monitor), self._listen(self.agent, self._ga)]
        given = {"qmp": str(self.qmp), "agent": str(self.agent), "note": str(self.note)}
        self.note.write_text(json.dumps(given))

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    @staticmethod
    def well(message: dict[str, Any]) -> Any:
        return 0

    def _listen(self, path: Path, talk: Callable[[socket.socket], None]) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):  # closed
                while True:
                    with listening.accept()[0] as channel, suppress(OSError):
                        talk(channel)

        threading.Thread(target=serve, daemon=True).start()
        return listening

    def _monitor(self, channel: socket.socket) -> None:
        channel.sendall(b'{"QMP": {}}\n')
        for line in channel.makefile("rb"):
            asked = json.loads(line)["execute"]
            self.status = "running" if asked == "cont" else self.status
            answer = {"status": self.status} if asked == "query-status" else {}
            channel.sendall(json.dumps({"return": answer}).encode() + b"\n")

    def _ga(self, channel: socket.socket) -> None:
        for line in channel.makefile("rb"):
            message = json.loads(line.lstrip(b"\xff"))
            self.heard.append(message["execute"])
            if message["execute"] == "guest-sync-delimited":
                found = b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode()
            else:
                found = json.dumps({"return": self.answer(message)}).encode()
            channel.sendall(found + b"\n")


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    monkeypatch.setattr(guard, "RESCUE_SECONDS", 0.5)
    monkeypatch.setattr(rescue, "STEP_SECONDS", 0.5)
    found = Peers(tmp_path)
    yield found
    found.close()


def test_the_note_goes_once_the_guest_goes_on(peers: Peers) -> None:
    finish_interrupted(peers.note)
    assert peers.status == "running"
    assert peers.heard[-1] == "guest-fsfreeze-thaw"
    assert not peers.note.exists()


def test_a_guest_that_does_not_thaw_is_tried_again_later(peers: Peers) -> None:
    peers.answer = lambda message: None
    with pytest.raises(SourceError) as frozen:
        finish_interrupted(peers.note)
    assert frozen.value.code == "GuestNotResumed"
    assert frozen.value.retry == "later"
    assert peers.status == "running", "the processors do not wait for the file systems"
    assert peers.note.exists()
    peers.answer = peers.well
    finish_interrupted(peers.note)
    assert not peers.note.exists()


def test_a_pause_after_the_guest_went_on_is_left_alone(peers: Peers) -> None:
    """Only its thaw is owed still; by now the machine is paused by somebody else."""
    peers.answer = lambda message: None
    with pytest.raises(SourceError):
        finish_interrupted(peers.note)
    peers.status = "paused"
    with pytest.raises(SourceError) as frozen:
        finish_interrupted(peers.note)
    assert str(peers.agent) in frozen.value.message
    peers.answer = peers.well
    finish_interrupted(peers.note)
    assert peers.status == "paused"
    assert not peers.note.exists()


def test_a_guard_asks_for_no_more_than_is_owed_either(peers: Peers) -> None:
    peers.answer = lambda message: None
    words = [sys.executable, "-I", str(rescue.__file__)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        running.stdin.write(peers.note.read_text() + "\n")
        running.stdin.close()
        eventually(lambda: not json.loads(peers.note.read_text())["qmp"], "the note is less")
        assert peers.status == "running"
        peers.status = "paused"
        peers.answer = peers.well
    assert peers.status == "paused"
    assert not peers.note.exists()


def test_a_monitor_that_is_taken_is_tried_again_later(peers: Peers) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(peers.qmp))
        other.recv(10)
        with pytest.raises(SourceError):
            finish_interrupted(peers.note)
        assert peers.status == "paused"
        assert peers.note.exists()
    finish_interrupted(peers.note)
    assert peers.status == "running"


def test_a_guard_whose_window_was_dealt_with_leaves_the_guest_alone(peers: Peers) -> None:
    """A pause from then on is somebody else's, perhaps the next backup's."""
    assert not rescue.rescue(str(peers.qmp), str(peers.agent), owed=lambda: False)
    assert peers.status == "paused"
    assert not peers.heard


def test_a_machine_that_ended_needs_nothing(peers: Peers) -> None:
    peers.qmp.unlink()
    peers.agent.unlink()
    finish_interrupted(peers.note)
    assert not peers.note.exists()


class AnyMonitor:
    """One that knows no channels."""

    def execute(self, command: str) -> Any:
        return []


def quiesce_of(peers: Peers, answers: dict[str, Any]) -> Quiesce:
    peers.answer = lambda message: answers.get(message["execute"], {})
    entry = MachineEntry(name="web1", uuid="", qmp=str(peers.qmp), agent=str(peers.agent), disk=[])
    found = Quiesce(entry, Wish())
    found.prepare(AnyMonitor())  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("odd", [None, "many", [1], float("inf")])
def test_an_odd_answer_to_a_freeze_is_thawed_all_the_same(peers: Peers, odd: object) -> None:
    answers = {"guest-fsfreeze-status": "thawed", "guest-fsfreeze-freeze": odd}
    quiesce = quiesce_of(peers, answers)
    assert quiesce.ready
    quiesce.freeze()
    assert quiesce.owed
    assert quiesce.record.code == "GuestAgentSilent"
    quiesce.thaw()
    assert not quiesce.owed
    eventually(lambda: peers.heard[-1] == "guest-fsfreeze-thaw", "the guest hears of the thaw")


def test_odd_answers_before_a_freeze_leave_it_out(peers: Peers) -> None:
    quiesce = quiesce_of(peers, {"guest-fsfreeze-status": "thawed", "guest-get-osinfo": [1]})
    assert not quiesce.ready
    assert quiesce.record.code == "GuestAgentSilent"
