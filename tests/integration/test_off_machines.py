"""Machines that are off: their images through a real qemu-storage-daemon, incremental and safe."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from holdfast.adapters.hypervisor.qemu import QemuHypervisor
from holdfast.errors import ConflictError, NotFoundError, SourceError
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.ports.hypervisor import (
    Consistency,
    DiskExport,
    Generations,
    Parent,
    PowerState,
    Snapshot,
    Wish,
)
from holdfast.testing.guest import dirty, flatten, guest_folder, pull
from holdfast.testing.wait import eventually

MIB = 1024 * 1024
NEEDED = ("qemu-img", "qemu-io", "qemu-storage-daemon")
WISH = Wish()


def _qemu(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def write(path: Path, fill: int, offset: int, length: int, image: str = "qcow2") -> None:
    """What another QEMU does to an image of a machine that is off."""
    _qemu("qemu-io", "-f", image, "-c", f"write -P {fill} {offset} {length}", str(path))


class Host:
    """A host with one machine of two disks, and copies of them as a backup would have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = [folder / "root.qcow2", folder / "data.qcow2"]
        for at, path in enumerate(self.images):
            _qemu("qemu-img", "create", "-q", "-f", "qcow2", str(path), str(32 * MIB))
            write(path, 7 + at, 0, MIB)
        disks = [MachineDisk(path=str(path)) for path in self.images]
        self.entry = MachineEntry(
            name="web1", uuid=str(uuid4()), qmp=str(folder / "qmp.sock"), disk=disks
        )
        self.hypervisor = QemuHypervisor([self.entry], folder / "agent")
        self.parents: dict[int, Parent] = {}
        self.committed: str | None = None

    def begin(self, token: str) -> Snapshot:
        self.hypervisor.settle(self.entry.id, self.committed)
        found = Generations(token, self.parents)
        return self.hypervisor.begin(self.entry.id, [-1, 0], WISH, found)

    def copy(self, lun: int) -> Path:
        return self.folder / f"copy{lun}"

    def backup(self, token: str) -> list[int]:
        """A whole backup; returns the bytes read of each disk."""
        snapshot = self.begin(token)
        read = [pull(export, self.copy(export.disk.lun)) for export in snapshot.exports]
        self.parents = {one.disk.lun: Parent(token, one.disk.identity) for one in snapshot.exports}
        self.committed = token
        snapshot.commit()
        return read

    def copies_are_right(self) -> bool:
        truth = self.folder / "truth"
        return all(
            flatten(path, truth).read_bytes() == self.copy(lun).read_bytes()
            for lun, path in zip((-1, 0), self.images, strict=True)
        )


@pytest.fixture
def host() -> Iterator[Host]:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)} (qemu-utils, qemu-system-common)")
    with guest_folder() as folder:
        yield Host(folder)


def test_full_then_increments_are_what_the_disks_are(host: Host) -> None:
    assert host.backup("p1") == [32 * MIB, 32 * MIB]
    assert host.copies_are_right()
    write(host.images[1], 9, 5 * MIB, 192 * 1024)
    assert host.backup("p2") == [0, 192 * 1024]
    assert host.copies_are_right()
    assert host.backup("p3") == [0, 0]


def test_a_failed_backup_is_made_good_by_the_next(host: Host) -> None:
    host.backup("p1")
    write(host.images[0], 3, 2 * MIB, 65536)
    failed = host.begin("p2")
    assert dirty(failed.exports[0]) == [(2 * MIB, 65536)]
    failed.rollback()
    failed.rollback()
    write(host.images[0], 4, 4 * MIB, 65536)
    assert host.backup("p3") == [131072, 0]
    assert host.copies_are_right()


def test_the_machine_cannot_start_meanwhile_and_can_afterwards(host: Host) -> None:
    snapshot = host.begin("p1")
    with pytest.raises(subprocess.CalledProcessError):
        write(host.images[0], 1, 0, 512)
    assert host.hypervisor.machines()[0].power is PowerState.OFF
    with pytest.raises(ConflictError):
        host.hypervisor.settle(host.entry.id, None)
    with pytest.raises(ConflictError):
        host.hypervisor.begin(host.entry.id, [0], WISH, Generations("p2", {}))
    snapshot.rollback()
    write(host.images[0], 1, 0, 512)


def test_another_image_in_its_place_is_read_in_full(host: Host) -> None:
    host.backup("p1")
    shutil.copy(host.images[1], host.folder / "older.qcow2")
    host.backup("p2")
    (host.folder / "older.qcow2").replace(host.images[1])
    write(host.images[1], 5, MIB, 65536)
    assert host.backup("p3") == [0, 32 * MIB]
    assert host.copies_are_right()


def test_images_that_changed_places_are_read_in_full(host: Host) -> None:
    host.backup("p1")
    root, data = host.images
    root.rename(host.folder / "aside")
    data.rename(root)
    (host.folder / "aside").rename(data)
    assert host.backup("p2") == [32 * MIB, 32 * MIB]
    assert host.copies_are_right()


def test_a_disk_that_grew_stays_incremental(host: Host) -> None:
    host.backup("p1")
    _qemu("qemu-img", "resize", "-q", str(host.images[1]), str(40 * MIB))
    write(host.images[1], 5, 36 * MIB, 65536)
    snapshot = host.begin("p2")
    assert snapshot.exports[1].disk.size == 40 * MIB
    assert (36 * MIB, 65536) in dirty(snapshot.exports[1])
    snapshot.rollback()
    assert host.backup("p3") == [0, 65536]
    assert host.copies_are_right()


def test_raw_disks_are_read_in_full(host: Host) -> None:
    raw = host.folder / "data.img"
    raw.write_bytes(bytes(MIB) + b"x" * MIB)
    disk = MachineDisk(path=str(raw), format="raw")
    entry = MachineEntry(name="raw", uuid=str(uuid4()), qmp=str(host.folder / "no"), disk=[disk])
    hypervisor = QemuHypervisor([entry], host.folder / "agent")
    for token, parents in (("p1", {}), ("p2", {-1: Parent("p1", "")})):
        hypervisor.settle(entry.id, None)
        snapshot = hypervisor.begin(entry.id, [-1], WISH, Generations(token, parents))
        pull(snapshot.exports[0], host.copy(9))
        assert "has no record" in snapshot.exports[0].why_full
        snapshot.commit()
        assert host.copy(9).read_bytes() == raw.read_bytes()


AGENT = """
import sys, msgspec
from pathlib import Path
from holdfast.adapters.hypervisor.qemu import QemuHypervisor
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import Generations, Parent, Wish
entry, parents = msgspec.json.decode(sys.argv[1], type=tuple[MachineEntry, dict[int, Parent]])
host = QemuHypervisor([entry], Path(sys.argv[2]))
snapshot = host.begin(entry.id, [-1, 0], Wish(), Generations("p2", parents))
print(msgspec.json.encode(snapshot.exports).decode(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("committed", "read"), [("p1", 131072), ("p2", 65536)])
def test_an_agent_that_is_killed_leaves_the_images_free(
    host: Host, committed: str, read: int
) -> None:
    """kill -9 before or after the catalog knew of the point: no storage daemon stays, and the next
    increment has exactly what is missing."""
    host.backup("p1")
    write(host.images[0], 3, 2 * MIB, 65536)
    given = msgspec.json.encode((host.entry, host.parents)).decode()
    words = [sys.executable, "-c", AGENT, given, str(host.folder / "agent")]
    agent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    exports = msgspec.json.decode(agent.stdout.readline(), type=list[DiskExport])
    if committed == "p2":
        for export in exports:
            pull(export, host.copy(export.disk.lun))
        host.parents = {one.disk.lun: Parent("p2", one.disk.identity) for one in exports}
        host.committed = "p2"
    agent.send_signal(signal.SIGKILL)
    agent.communicate()

    def free() -> bool:
        return host.hypervisor.machines()[0].power is PowerState.OFF

    eventually(free, "the storage daemon ends")
    write(host.images[0], 4, 4 * MIB, 65536)
    assert host.backup("p3") == [read, 0]
    assert host.copies_are_right()
    left = Path("/run").glob(f"holdfast-vm-{host.entry.id[:8]}-*")
    assert os.geteuid() != 0 or list(left) == []


def test_what_cannot_be_backed_up_is_explained(host: Host) -> None:
    with pytest.raises(NotFoundError) as unknown:
        host.hypervisor.begin(str(uuid4()), [0], WISH, Generations("p1", {}))
    assert unknown.value.code == "MachineNotFound"
    with pytest.raises(NotFoundError) as no_disk:
        host.hypervisor.begin(host.entry.id, [0, 5], WISH, Generations("p1", {}))
    assert no_disk.value.code == "DiskNotFound"
    with pytest.raises(SourceError) as level:
        wish = Wish(at_least=Consistency.FILE_SYSTEM)
        host.hypervisor.begin(host.entry.id, [0], wish, Generations("p1", {}))
    assert level.value.code == "ConsistencyNotReached"
    assert host.backup("p1") == [32 * MIB, 32 * MIB], "nothing was left behind"
    host.images[1].write_bytes(b"no image")
    with pytest.raises(SourceError) as damaged:
        host.begin("p2")
    assert damaged.value.code == "DiskUnreadable"
    assert host.hypervisor.machines()[0].problem
    host.images[1].unlink()
    with pytest.raises(SourceError) as gone:
        host.begin("p2")
    assert gone.value.code == "DiskUnreadable"
    assert str(host.images[1]) in gone.value.message
