"""Things that go wrong with a real machine: the guest is unharmed, the next backup is right."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.adapters.clock import SystemClock, SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.qemu import scratch
from holdfast.agent.vm.executor import VmExecutor
from holdfast.errors import ConflictError, SourceError
from holdfast.machine_settings import MachineDisk
from holdfast.ports.hypervisor import Generations, PowerState, Wish
from holdfast.testing.guest import PullFailedError, pull
from holdfast.testing.wait import eventually

OVERWRITE = (
    "dd if=/dev/urandom of=/mnt/b/base bs=64k count={} seek=20 conv=notrunc,fsync 2>/dev/null"
    "; sha256sum /mnt/b/base > /mnt/b/base.sum; sync"
)
AGENT = """
import sys, msgspec
from pathlib import Path
from holdfast.adapters.hypervisor.qemu import QemuHypervisor, taking
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import Generations, Parent, Wish
entry, parents, where = msgspec.json.decode(
    sys.argv[1], type=tuple[MachineEntry, dict[int, Parent], str]
)
def hang(*given):
    print("here", flush=True)
    sys.stdin.read()
if where:
    setattr(taking, where, hang)
host = QemuHypervisor([entry], Path(sys.argv[2]))
snapshot = host.begin(entry.id, [-1, 0], Wish(), Generations("killed", parents))
hang()
"""


@contextmanager
def agent_process(place: Any, where: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that hangs in its next backup: at a step of taking it, or while it is held."""
    place.hypervisor.settle(place.entry.id, place.committed)
    given = msgspec.json.encode((place.entry, place.parents, where)).decode()
    words = [sys.executable, "-c", AGENT, given, str(place.folder / "agent")]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _right_again(place: Any) -> None:
    """The next backup is an increment, nothing is left, and the copies are the disks."""
    place.guest.control("stop")
    snapshot = place.begin()
    assert [export.why_full for export in snapshot.exports] == ["", ""]
    place.finish(snapshot)
    assert place.copies() == {lun: place.truth(lun) for lun in place.luns}
    place.guest.control("cont")
    assert place.nothing_left()
    assert place.bitmaps() == {place.committed}
    assert place.guest.patterns_hold("/mnt/b/base")


def test_a_full_scratch_area_breaks_the_backup_only(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.finish(place.begin())
    place.guest.shell(OVERWRITE.format(120))
    monkeypatch.setattr(scratch, "LEAST", scratch.FLOOR)
    place.use(msgspec.structs.replace(place.entry, scratch_percent=1))
    snapshot = place.begin()
    assert snapshot.scratch().budget == 2 * scratch.FLOOR
    snapshot.check()
    place.guest.shell(OVERWRITE.format(120))
    use = snapshot.scratch()
    assert use.warning
    assert use.broken
    with pytest.raises(PullFailedError):
        pull(snapshot.exports[1], place.copy(0))
    with pytest.raises(SourceError) as full:
        snapshot.check()
    assert full.value.code == "ScratchFull"
    assert place.guest.status == "running"
    snapshot.rollback()
    monkeypatch.undo()
    _right_again(place)


def test_a_machine_that_dies_during_a_backup(place: Any) -> None:
    place.finish(place.begin())
    snapshot = place.begin()
    place.guest.kill()
    with pytest.raises(PullFailedError):
        pull(snapshot.exports[1], place.folder / "nothing")
    with pytest.raises(SourceError) as lost:
        snapshot.check()
    assert lost.value.code == "MachineLost"
    with pytest.raises(SourceError):
        snapshot.commit()
    snapshot.rollback()
    place.guest.boot()
    snapshot = place.begin()
    assert all(export.why_full for export in snapshot.exports)
    place.finish(snapshot)
    _right_again(place)


def test_an_agent_killed_while_it_reads(place: Any) -> None:
    place.finish(place.begin())
    place.guest.shell(OVERWRITE.format(10))
    with agent_process(place, "") as agent:
        agent.kill()
        agent.wait()
        place.guest.shell(OVERWRITE.format(20))
    _right_again(place)


def test_an_agent_that_starts_frees_the_guest_of_what_a_killed_one_left(place: Any) -> None:
    """Before any backup: until then the guest's writes are done twice."""
    place.finish(place.begin())
    with agent_process(place, "") as agent:
        agent.kill()
        agent.wait()
    assert not place.nothing_left()
    started = VmExecutor(
        place.hypervisor, SystemDiskFiles(), SystemClock(), SystemRandom(), "host1"
    )
    started.start()
    eventually(place.nothing_left, "the guest is free")
    place.guest.shell(OVERWRITE.format(20))
    _right_again(place)


@pytest.mark.parametrize("still", ["listed", "attached"])
def test_what_a_killed_backup_left_goes_though_its_disk_left_the_settings(
    place: Any, still: str
) -> None:
    """``listed``: the settings name another disk in its place, which the machine does not have."""
    place.finish(place.begin())
    with agent_process(place, "") as agent:
        agent.kill()
        agent.wait()
    disks = place.entry.disk[:1]
    if still == "listed":
        disks = [*disks, MachineDisk(path=str(place.folder / "other.qcow2"))]
    place.use(msgspec.structs.replace(place.entry, disk=disks))
    place.luns = (-1,)
    if still == "listed":
        with pytest.raises(SourceError) as missing:
            place.begin()
        assert missing.value.code == "DiskNotAttached"
    else:
        place.finish(place.begin())
        assert place.bitmaps() == {place.committed}, "none on the disk that is not backed up"
    assert place.guest.control("query-block-exports") == []
    nodes = place.guest.control("query-named-block-nodes", flat=True)
    assert [one["node-name"] for one in nodes if one["node-name"].startswith("hf-")] == []
    place.guest.shell(OVERWRITE.format(20))
    assert place.guest.patterns_hold("/mnt/b/base")


@pytest.mark.parametrize("where", ["_stopped", "_one_moment", "_start_server", "_export"])
def test_an_agent_killed_while_the_guest_stands_still(place: Any, where: str) -> None:
    """Frozen (before the stop) and stopped (in the moment): the guard lets it go on."""
    place.finish(place.begin())
    with agent_process(place, where) as agent:
        if where == "_one_moment":
            assert place.guest.status == "paused"
        agent.kill()
        agent.wait()

        def goes_on() -> bool:
            return place.guest.status == "running" and not _frozen(place)

        eventually(goes_on, "the guard lets the guest go on")
    place.guest.shell(OVERWRITE.format(20))
    _right_again(place)


def _frozen(place: Any) -> bool:
    from holdfast.adapters.hypervisor.qemu.guest_agent import GuestAgent

    with GuestAgent(place.guest.agent, timeout=20) as agent:
        return bool(agent.call("guest-fsfreeze-status") != "thawed")


def test_agent_and_guard_killed_together(place: Any) -> None:
    """Nobody is left to let the guest go on, until the agent starts again and settles."""
    place.finish(place.begin())
    with agent_process(place, "_one_moment") as agent:
        for guard in _children(agent.pid):
            os.kill(guard, signal.SIGKILL)
        agent.kill()
        agent.wait()
    assert place.guest.status == "paused"
    place.hypervisor.settle(place.entry.id, place.committed)
    assert place.guest.status == "running"
    assert not _frozen(place)
    place.guest.shell(OVERWRITE.format(20))
    _right_again(place)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in listed for word in path.read_text().split()]


def test_what_others_do_with_the_machine_is_respected(place: Any) -> None:
    place.finish(place.begin())
    address = {"type": "unix", "data": {"path": str(place.folder / "other.sock")}}
    place.guest.control("nbd-server-start", addr=address)
    with pytest.raises(ConflictError) as busy:
        place.begin()
    assert busy.value.code == "NbdServerBusy"
    assert (place.folder / "other.sock").is_socket(), "their server still runs"
    place.guest.control("nbd-server-stop")
    place.guest.control("block-dirty-bitmap-add", node="disk1", name="theirs")
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(place.guest.qmp))
        other.recv(10)
        with pytest.raises(SourceError) as taken:
            place.begin()
        assert taken.value.code == "MonitorBusy"
        assert place.hypervisor.machines()[0].power is PowerState.UNREACHABLE
    snapshot = place.begin()
    place.finish(snapshot)
    assert "theirs" in place.bitmaps()
    assert place.guest.patterns_hold("/mnt/b/base")


def test_settings_that_do_not_fit_the_machine(place: Any) -> None:
    right = place.entry
    place.use(msgspec.structs.replace(right, uuid="00000000-0000-4000-8000-000000000001"))
    with pytest.raises(SourceError) as other:
        place.begin()
    assert other.value.code == "MachineMismatch"
    place.use(msgspec.structs.replace(right, qmp=str(place.folder / "none.sock")))
    with pytest.raises(SourceError) as unreachable:
        place.begin()
    assert unreachable.value.code == "MachineUnreachable"
    (machine,) = place.hypervisor.machines()
    assert machine.power is PowerState.UNREACHABLE
    assert "in use" in machine.problem
    place.use(right)
    overlay = str(place.folder / "overlay.qcow2")
    place.guest.control(
        "blockdev-snapshot-sync",
        node_name="disk1",
        snapshot_node_name="top",
        snapshot_file=overlay,
        format="qcow2",
    )
    with pytest.raises(SourceError) as moved:
        place.begin()
    assert moved.value.code == "DiskNotAttached"
    assert str(place.images[1]) in moved.value.message
    assert place.guest.status == "running"
    assert place.guest.patterns_hold("/mnt/b/base")


def test_a_snapshot_in_a_machine_two_agents_claim(place: Any) -> None:
    """The second agent does not touch what the first one holds."""
    snapshot = place.begin()
    first, place.hypervisor = place.hypervisor, None
    place.use(place.entry)
    wanted = Generations("other", {})
    with pytest.raises(SourceError) as busy:
        place.hypervisor.begin(place.entry.id, [0], Wish(), wanted)
    assert busy.value.code == "MonitorBusy"
    place.hypervisor = first
    place.finish(snapshot)
