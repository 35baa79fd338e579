"""A monitor that answers too late while the guest stands still: the guest goes on all the same."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.adapters.hypervisor.qemu.guest_agent import GuestAgent
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import Generations, Wish
from holdfast.testing.wait import eventually


@contextmanager
def relay(path: Path, qemu: Path, late: str) -> Iterator[None]:
    """QEMU's monitor, one client at a time; from the first command ``late`` on, which is passed on,
    the client that sent it hears nothing more."""
    sent = threading.Event()

    def serve() -> None:
        while True:
            with suppress(OSError), server.accept()[0] as client, monitor(qemu) as upstream:
                deaf = threading.Event()
                words = (upstream, client, deaf)
                answers = threading.Thread(target=_answer, args=words, daemon=True)
                answers.start()
                while data := client.recv(65536):
                    if f'"{late}"'.encode() in data and not sent.is_set():
                        deaf.set()
                        sent.set()
                    upstream.sendall(data)
                upstream.shutdown(socket.SHUT_RDWR)
                answers.join()
            if server.fileno() < 0:
                return

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(8)
        threading.Thread(target=serve, daemon=True).start()
        yield
        assert sent.is_set()
        server.shutdown(socket.SHUT_RDWR)


def monitor(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.connect(str(path))
    return found


def _answer(upstream: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
    with suppress(OSError):
        while data := upstream.recv(65536):
            if not deaf.is_set():
                client.sendall(data)


@pytest.mark.parametrize("late", ["stop", "transaction", "cont"])
def test_the_guest_goes_on_after_a_late_answer(
    place: Any, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    place.finish(place.begin())
    place.hypervisor.settle(place.entry.id, place.committed)
    call = QmpConnection.call

    def impatient(self: QmpConnection, command: str, arguments: Any, *, timeout: float) -> Any:
        return call(self, command, arguments, timeout=0.5 if command == late else timeout)

    monkeypatch.setattr(QmpConnection, "call", impatient)
    direct = place.entry
    path = place.folder / "late.sock"
    with relay(path, place.guest.qmp, late):
        place.use(msgspec.structs.replace(direct, qmp=str(path)))
        wanted = Generations("late", place.parents)
        with pytest.raises(SourceError) as lost:
            place.hypervisor.begin(place.entry.id, place.luns, Wish(), wanted)
        assert lost.value.code == "MachineLost"

        def goes_on() -> bool:
            with GuestAgent(place.guest.agent, timeout=20) as agent:
                thawed = agent.call("guest-fsfreeze-status") == "thawed"
            return thawed and place.guest.status == "running" and not _notes(place)

        eventually(goes_on, "the guard lets the guest go on")
    monkeypatch.undo()
    place.use(direct)
    place.guest.shell("echo alive > /mnt/b/alive; sync")
    snapshot = place.begin()
    place.finish(snapshot)
    assert place.guest.patterns_hold("/mnt/b/base")


def _notes(place: Any) -> list[Path]:
    return list((place.folder / "agent").rglob("*.window"))
