"""Only a monitor that nobody listens on means a machine that is off."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from holdfast.adapters.hypervisor.qemu.describe import describe
from holdfast.adapters.hypervisor.qemu.opening import connect, open_machine
from holdfast.errors import SourceError
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import PowerState


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachineEntry:
    """A machine without disks; its monitor is named as seen from a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return MachineEntry(
        name="web1", uuid="7d3f1c52-92a4-4a5c-8f0e-0d5f3a1b2c4d", qmp="qmp", disk=[]
    )


@pytest.fixture
def full(entry: MachineEntry) -> Iterator[socket.socket]:
    """A monitor of a process that lives and takes no client now: its backlog is full."""
    with socket.socket(socket.AF_UNIX) as server, ExitStack() as clients:
        server.bind(entry.qmp)
        server.listen(0)
        waiting = clients.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(entry.qmp)
        yield server


def test_no_socket_and_a_dead_socket_are_a_machine_that_is_off(entry: MachineEntry) -> None:
    assert connect(entry) is None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(entry.qmp)
    assert connect(entry) is None


def test_a_busy_monitor_is_not_a_machine_that_is_off(
    entry: MachineEntry, full: socket.socket, tmp_path: Path
) -> None:
    with pytest.raises(SourceError) as busy, ExitStack() as ending:
        open_machine(entry, tmp_path, ending)
    assert busy.value.code == "MonitorBusy"
    assert busy.value.retry == "later"
    assert describe(entry).power is PowerState.UNREACHABLE


def test_a_monitor_that_is_no_place_to_connect_to(entry: MachineEntry, tmp_path: Path) -> None:
    """Here a path through a file; a socket without permission fails in the same way."""
    Path("file").touch()
    entry = msgspec.structs.replace(entry, qmp="file/qmp")
    with pytest.raises(SourceError) as barred, ExitStack() as ending:
        open_machine(entry, tmp_path, ending)
    assert barred.value.code == "MonitorUnreachable"
    assert barred.value.retry == "later"
    assert describe(entry).power is PowerState.UNREACHABLE
