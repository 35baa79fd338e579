"""Machines of libvirt: what every provider must do, and what only libvirt can get wrong."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.libvirt import LibvirtHypervisor
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.domain.guest_pace import took
from holdfast.errors import ConflictError, NotFoundError, SourceError
from holdfast.machine_settings import LibvirtEntry
from holdfast.ports.hypervisor import (
    AgentState,
    Consistency,
    Generations,
    Parent,
    PowerState,
    Snapshot,
    Wish,
)
from holdfast.testing.guest import (
    GuestDisk,
    GuestFiles,
    flatten,
    guest_folder,
    install_scripts,
    make_disk,
    pull,
)
from holdfast.testing.guest.under_libvirt import LibvirtGuest, embedded, missing_for_libvirt

MIB = 1024 * 1024
WRITE = "dd if=/dev/urandom of=/mnt/b/{} bs=64k count={} seek={} conv=notrunc,fsync 2>/dev/null"


class Place:
    """A guest, the provider, and copies of the disks as a backup's."""

    def __init__(self, folder: Path, host: Connection, files: GuestFiles, words: str = "") -> None:
        self.folder, self.host = folder, host
        self.luns = (-1, 0)
        self.images = [make_disk(folder / f"{name}.qcow2") for name in ("a", "b")]
        disks = [GuestDisk(path) for path in self.images]
        self.guest = LibvirtGuest(folder, disks, words=words, libvirt=host, name=folder.name)
        self.guest.boot(files)
        self.parents: dict[int, Parent] = {}
        self.committed: str | None = None
        self._count = 0
        self.use()

    def use(self, **settings: Any) -> None:
        """A provider of its own, as of an agent that was started again."""
        entry = LibvirtEntry(uri=self.host.uri, freeze_seconds=20, **settings)
        self.hypervisor = LibvirtHypervisor(entry, self.folder / "agent")

    def begin(self, wish: Wish | None = None, luns: Sequence[int] | None = None) -> Snapshot:
        """Settle, then the next point in time."""
        self._count += 1
        self.hypervisor.settle(self.guest.uuid, self.committed)
        wanted = Generations(f"p{self._count}", self.parents)
        return self.hypervisor.begin(self.guest.uuid, luns or self.luns, wish or Wish(), wanted)

    def finish(self, snapshot: Snapshot) -> list[int]:
        """Read all disks and commit; the bytes read of each."""
        read = [pull(export, self.copy(export.disk.lun)) for export in snapshot.exports]
        self.parents |= {
            one.disk.lun: Parent(snapshot.token, one.disk.identity) for one in snapshot.exports
        }
        self.committed = snapshot.token
        snapshot.commit()
        return read

    def back_up_stopped(self) -> tuple[Snapshot, list[int]]:
        """Of a guest that stands still; the copies must be its disks."""
        self.guest.shell("sync")
        self.guest.control("stop")
        snapshot = self.begin()
        read = self.finish(snapshot)
        self.is_right()
        self.guest.control("cont")
        return snapshot, read

    def is_right(self) -> None:
        for lun, image in zip(self.luns, self.images, strict=True):
            truth = flatten(image, self.folder / "truth", in_use=True).read_bytes()
            assert self.copy(lun).read_bytes() == truth, f"LUN {lun}"

    def copy(self, lun: int) -> Path:
        return self.folder / f"copy{lun}"

    def checkpoints(self) -> set[str]:
        """Tokens libvirt knows."""
        names = [one.getName() for one in self.guest.domain.listAllCheckpoints()]
        return {name.removeprefix("holdfast-") for name in names}

    def bitmaps(self) -> set[str]:
        """Tokens of the records in the running QEMU."""
        nodes = self.guest.control("query-named-block-nodes", flat=True)
        shown = [one["name"] for node in nodes for one in node.get("dirty-bitmaps", ()) if one]
        return {name.removeprefix("holdfast-") for name in shown}

    def nothing_left(self) -> bool:
        left = [path.name for path in self.folder.iterdir() if path.name.startswith(".holdfast")]
        with suppress(self.host.error):
            self.guest.domain.backupGetXMLDesc(0)
            return False
        return not left and not self.guest.control("query-block-exports")


@pytest.fixture(scope="session")
def host() -> Connection:
    """One for all tests of the process: embedded libvirt takes no second folder."""
    if lacking := missing_for_libvirt():
        pytest.skip(f"needs {', '.join(lacking)}")
    root = Path(tempfile.mkdtemp(prefix="hf-lv-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return embedded(root)


@pytest.fixture
def make(host: Connection, files: GuestFiles) -> Iterator[Any]:
    with guest_folder() as folder:
        made: list[Place] = []

        def boot(words: str = "") -> Place:
            made.append(Place(folder, host, files, words))
            return made[-1]

        try:
            yield boot
        finally:
            for place in made:
                place.guest.undefine()


@pytest.fixture
def place(make: Any) -> Place:
    found: Place = make()
    found.guest.write_pattern("/mnt/b/base", count=160)
    return found


def whys(snapshot: Snapshot) -> list[str]:
    return [export.why_full for export in snapshot.exports]


def test_found_by_itself_full_then_increments(place: Place) -> None:
    (machine,) = [one for one in place.hypervisor.machines() if one.id == place.guest.uuid]
    assert (machine.power, machine.agent) == (PowerState.RUNNING, AgentState.READY)
    assert (machine.system, machine.firmware, machine.cpus) == ("linux", "bios", 1)
    assert machine.memory == 128 * MIB
    assert [(disk.lun, disk.path, disk.size) for disk in machine.disks] == [
        (lun, str(path), 64 * MIB) for lun, path in zip(place.luns, place.images, strict=True)
    ]
    snapshot, _ = place.back_up_stopped()
    assert whys(snapshot) == ["first backup of this disk"] * 2
    assert snapshot.outcome.reason == "the machine was paused"
    for number in range(2):
        place.guest.shell(WRITE.format("base", 20, number * 30))
        snapshot, read = place.back_up_stopped()
        assert whys(snapshot) == ["", ""]
        assert MIB <= sum(read) < 8 * MIB
        assert place.nothing_left()
        assert place.bitmaps() == place.checkpoints() == {snapshot.token}
    assert place.guest.patterns_hold("/mnt/b/base") is False  # it was overwritten by the test
    assert place.guest.status == "running"


def test_the_guest_writes_while_a_frozen_moment_is_read(place: Place) -> None:
    snapshot = place.begin()
    outcome = snapshot.outcome
    assert outcome.level is Consistency.FILE_SYSTEM
    assert (outcome.frozen, outcome.thawed) == (2, 2)
    assert 0 < outcome.freeze_ms < 20_000
    writer = threading.Thread(target=place.guest.shell, args=(WRITE.format("base", 100, 0),))
    writer.start()
    writer.join()
    assert snapshot.scratch().used > 0
    first = [pull(export, place.copy(export.disk.lun)) for export in snapshot.exports]
    was = {lun: place.copy(lun).read_bytes() for lun in place.luns}
    again = [pull(export, place.copy(export.disk.lun)) for export in snapshot.exports]
    assert first == again
    assert {lun: place.copy(lun).read_bytes() for lun in place.luns} == was
    snapshot.check()
    snapshot.rollback()
    assert place.nothing_left()
    assert place.bitmaps() == place.checkpoints() == set()


def test_a_failed_backup_loses_nothing(place: Place) -> None:
    place.back_up_stopped()
    place.guest.shell(WRITE.format("base", 10, 70))
    failed = place.begin()
    place.guest.shell(WRITE.format("base", 10, 90))
    failed.rollback()
    assert place.checkpoints() == {place.committed}
    place.guest.shell(WRITE.format("base", 10, 110))
    snapshot, read = place.back_up_stopped()
    assert whys(snapshot) == ["", ""]
    assert 0 < sum(read) < 10 * MIB


def test_what_a_killed_agent_left_is_settled(place: Place) -> None:
    place.back_up_stopped()
    place.begin()
    with pytest.raises(ConflictError) as busy:
        place.hypervisor.begin(place.guest.uuid, [-1], Wish(), Generations("other", {}))
    assert busy.value.code == "SnapshotInProgress"
    place.use()
    with pytest.raises(ConflictError) as left:
        place.hypervisor.begin(place.guest.uuid, [-1], Wish(), Generations("other", {}))
    assert left.value.code == "SnapshotInProgress"
    place.guest.shell(WRITE.format("base", 10, 0))
    place.hypervisor.settle(place.guest.uuid, place.committed)
    assert place.nothing_left()
    assert place.bitmaps() == place.checkpoints() == {place.committed}
    snapshot, _ = place.back_up_stopped()
    assert whys(snapshot) == ["", ""]


def test_checkpoints_libvirt_forgot_come_back_from_the_catalog(place: Place) -> None:
    place.back_up_stopped()
    forget = place.host.libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY
    for one in place.guest.domain.listAllCheckpoints():
        one.delete(forget)
    assert place.checkpoints() == set()
    place.guest.shell(WRITE.format("base", 10, 0))
    snapshot, read = place.back_up_stopped()
    assert whys(snapshot) == ["", ""]
    assert sum(read) < 8 * MIB


def test_an_orderly_end_keeps_the_record_and_a_power_cut_does_not(place: Place) -> None:
    place.back_up_stopped()
    place.guest.shell(WRITE.format("base", 10, 0))
    place.guest.quit()
    place.guest.boot()
    snapshot, read = place.back_up_stopped()
    assert whys(snapshot) == ["", ""]
    assert sum(read) < 8 * MIB
    place.guest.kill()
    place.guest.boot()
    snapshot, _ = place.back_up_stopped()
    assert all("record of changes" in why for why in whys(snapshot))
    place.guest.shell(WRITE.format("base", 10, 0))
    snapshot, _ = place.back_up_stopped()
    assert whys(snapshot) == ["", ""], "and then it goes on"


def test_a_machine_that_is_off(place: Place) -> None:
    place.back_up_stopped()
    place.guest.quit()
    (machine,) = [one for one in place.hypervisor.machines() if one.id == place.guest.uuid]
    assert (machine.power, machine.agent) == (PowerState.OFF, AgentState.UNKNOWN)
    snapshot = place.begin()
    assert snapshot.outcome.reason == "the machine was off"
    assert all("off" in why for why in whys(snapshot))
    place.finish(snapshot)
    place.is_right()
    place.guest.boot()
    place.back_up_stopped()


def test_selected_disks_and_one_that_is_added(place: Place) -> None:
    snapshot = place.begin(luns=[-1])
    assert [export.disk.lun for export in snapshot.exports] == [-1]
    place.finish(snapshot)
    snapshot = place.begin()
    assert whys(snapshot) == ["", "first backup of this disk"]
    place.finish(snapshot)
    assert place.checkpoints() == {snapshot.token}
    with pytest.raises(NotFoundError):
        place.begin(luns=[7])
    with pytest.raises(NotFoundError):
        place.hypervisor.settle("0d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10", None)


def test_a_full_scratch_area_is_seen_before_it_stops_the_guest(place: Place) -> None:
    place.use(scratch_percent=1)
    snapshot = place.begin()
    held = snapshot._held.areas  # type: ignore[attr-defined]
    small = [type(area)(area.path, 4 * MIB) for area in held]
    held[:] = small
    place.guest.shell(WRITE.format("base", 160, 0))
    assert snapshot.scratch().broken
    with pytest.raises(SourceError) as full:
        snapshot.check()
    assert full.value.code == "ScratchFull"
    snapshot.rollback()
    assert place.guest.status == "running"
    assert place.nothing_left()


def test_scripts_decide_the_level(place: Place) -> None:
    install_scripts(place.guest, "true")
    snapshot = place.begin()
    snapshot.rollback()
    assert snapshot.outcome.level is Consistency.APPLICATION
    install_scripts(place.guest, "exit 1", continueBackupOnFailure=False)
    with pytest.raises(SourceError) as failed:
        place.begin()
    assert failed.value.code == "Pre-ScriptExecutionFailed"
    assert place.nothing_left()
    assert place.checkpoints() == set()
    assert place.guest.channel().call("guest-fsfreeze-status") == "thawed"


def test_without_an_agent(make: Any) -> None:
    place = make("agent=no")
    snapshot = place.begin()
    assert snapshot.outcome.level is Consistency.CRASH
    assert snapshot.outcome.code == "GuestAgentMissing"
    snapshot.rollback()
    with pytest.raises(SourceError) as refused:
        place.begin(Wish(at_least=Consistency.FILE_SYSTEM))
    assert refused.value.code == "ConsistencyNotReached"
    assert place.nothing_left()
    assert place.checkpoints() == set()


def test_what_the_guest_writes_is_counted_while_it_is_backed_up(place: Place) -> None:
    (machine,) = place.hypervisor.machines()
    assert set(machine.writes) == {"vda", "vdb"}
    snapshot = place.begin()
    try:
        before = snapshot.guest_writes()
        place.guest.shell(WRITE.format("counted", 4, 0))
        after = took(before, snapshot.guest_writes())
        assert after["vdb"] > 0
    finally:
        snapshot.rollback()
    assert snapshot.guest_writes() == {}
