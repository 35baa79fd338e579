"""Copies kept beside a machine's disks: restores come from them while they are whole, they outlive
a transfer that fails, and go when their time is over; the point in the vault is as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.agent.vm_work import VmControl
from holdfast.errors import CancelledError, SourceError, StoreUnavailableError
from holdfast.ports.vm_tasks import (
    DiskFiles,
    KeptSeen,
    NewMachine,
    ReplaceDisks,
    VmRestore,
    VmRestored,
)
from holdfast.testing.guest import guest_folder
from holdfast.testing.loop_volume import volume, volume_missing
from holdfast.testing.off_host import MIB, NEEDED, Host


@pytest.fixture(scope="module")
def room() -> Iterator[Path]:
    why = volume_missing("xfs")
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        why = f"needs {', '.join(missing)}"
    if why:
        pytest.skip(why)
    with guest_folder() as folder, volume(folder, "xfs") as made:
        yield made


@pytest.fixture
def host(room: Path, tmp_path: Path) -> Iterator[Host]:
    folder = room / "vm"
    folder.mkdir()
    yield Host(folder, tmp_path, days=2)
    shutil.rmtree(folder)


def told(host: Host) -> list[KeptSeen]:
    (seen,) = host.executor.inventory()
    return list(seen.kept)


def folder_in(room: Path, name: str) -> DiskFiles:
    (room / name).mkdir()
    return DiskFiles(folder=str(room / name), format="qcow2")


def local(done: VmRestored) -> list[bool]:
    return [disk.local_copy for disk in done.disks]


class Broken:
    """A session whose vault takes no commit."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        if name == "commit":
            raise StoreUnavailableError("the vault is away")
        return getattr(self._session, name)


def test_a_point_is_restored_from_its_copy_and_says_so(host: Host) -> None:
    done = host.back_up()
    assert done.instant is not None
    assert (done.instant.kept, done.instant.reason) == (True, "")
    (seen,) = told(host)
    assert (seen.point, seen.luns) == (done.recovery_point_id, (-1, 0))
    before = {image: path.read_bytes() for image, path in host.images.items()}
    host.write("qcow2", 9, 2 * MIB)
    host.write("raw", 9, 2 * MIB)
    made = host.restore(NewMachine(name="web2"))
    assert local(made) == [True, True]
    for path, image in zip((disk.path for disk in made.disks), ("qcow2", "raw"), strict=True):
        saved = host.folder / f"before.{image}"
        saved.write_bytes(before[image])
        host.qemu("qemu-img", "compare", "-f", image, "-F", image, path, str(saved))
        assert Path(path).stat().st_mode & 0o777 == 0o600
    assert "bitmaps" not in host.qemu("qemu-img", "info", "--output=json", made.disks[0].path)


def test_the_copy_and_the_vault_hold_the_same(host: Host) -> None:
    host.back_up()
    host.write("qcow2", 3, 5 * MIB)
    host.back_up()
    quick = host.restore(folder_in(host.folder, "quick"))
    host.write("qcow2", 4, 7 * MIB)
    for copy in host.folder.glob(".holdfast-copies/*"):
        os.utime(copy)
    slow = host.restore(folder_in(host.folder, "slow"))
    assert (local(quick), local(slow)) == ([True, True], [False, False])
    for one, other in zip(quick.disks, slow.disks, strict=True):
        host.qemu("qemu-img", "compare", one.path, other.path)
    assert told(host) == []  # somebody touched them


def test_a_machines_own_disks_come_back_in_a_moment(host: Host) -> None:
    host.back_up()
    before = {image: path.read_bytes() for image, path in host.images.items()}
    host.write("qcow2", 9, 0)
    host.write("raw", 9, 0)
    done = host.restore(ReplaceDisks())
    assert local(done) == [True, True]
    assert host.images["raw"].read_bytes() == before["raw"]
    again = host.back_up()
    assert [disk.transferred_bytes for disk in again.disks] == [0, 0]


def test_copies_go_when_their_time_is_over_and_the_point_stays(host: Host) -> None:
    first = host.back_up().recovery_point_id
    host.clock.ahead = timedelta(days=1)
    host.write("raw", 2, 0)
    second = host.back_up().recovery_point_id
    assert [seen.point for seen in told(host)] == [first, second]
    host.clock.ahead = timedelta(days=2, minutes=1)
    assert [seen.point for seen in told(host)] == [second]
    assert len(list(host.folder.glob(".holdfast-copies/*"))) == 2
    done = host.restore(folder_in(host.folder, "old"), point=first)
    assert local(done) == [False, False]
    host.clock.ahead = timedelta(days=3, minutes=1)
    assert told(host) == []
    assert not (host.folder / ".holdfast-copies").exists()


def test_a_copy_outlives_a_transfer_that_fails(host: Host) -> None:
    first = host.back_up().recovery_point_id
    host.write("raw", 5, MIB)
    moment = host.images["raw"].read_bytes()
    control = VmControl(lambda: False)
    with pytest.raises(StoreUnavailableError):
        host.back_up(control, through=Broken)
    host.write("raw", 6, MIB)
    _, left = told(host)
    assert (left.point, left.consistency) == ("", "CrashConsistent")
    (told_of,) = [one for one in control.findings.all() if one.code == "SnapshotStands"]
    assert left.token in told_of.message
    (copy,) = host.folder.glob(f".holdfast-copies/{left.token}-0.raw")
    assert copy.read_bytes() == moment
    asked = VmRestore(
        recovery_point_id=left.token,
        uuid=host.entry.id,
        name="web1",
        target=folder_in(host.folder, "alone"),
        local_token=left.token,
    )
    alone = host.executor.restore_local(asked, VmControl(lambda: False))
    saved = host.folder / "moment.raw"
    saved.write_bytes(moment)
    host.qemu("qemu-img", "compare", "-F", "raw", alone.disks[1].path, str(saved))
    assert local(alone) == [True, True]
    third = host.back_up().recovery_point_id
    assert [seen.point for seen in told(host)] == [first, "", third]
    done = host.restore(NewMachine(name="web3"))
    host.check_same(done.disks[1].path, "raw")
    host.clock.ahead = timedelta(days=2, minutes=1)
    assert told(host) == []
    with pytest.raises(SourceError, match="not there any more"):
        host.executor.restore_local(asked, VmControl(lambda: False))


def test_a_point_that_stays_here_sends_nothing_and_the_next_one_what_changed_since(
    host: Host,
) -> None:
    first = host.back_up().recovery_point_id
    host.write("qcow2", 5, MIB)
    here = host.back_up(local_only=True)
    assert (here.recovery_point_id, here.disks) == ("", ())
    assert here.instant is not None
    assert here.instant.kept
    assert [seen.point for seen in told(host)] == [first, ""]
    host.write("qcow2", 6, 9 * MIB)
    second = host.back_up()
    system = second.disks[0]
    assert (system.full, system.transferred_bytes) == ("", 2 * MIB)
    assert [seen.point for seen in told(host)] == [first, "", second.recovery_point_id]
    for copy in host.folder.glob(".holdfast-copies/*"):
        os.utime(copy)  # so that the vault has to do
    done = host.restore(NewMachine(name="web5"))
    assert local(done) == [False, False]
    host.check_same(done.disks[0].path, "qcow2")


def test_where_no_copy_can_be_made_the_vault_has_the_point(host: Host) -> None:
    host.days = 0
    done = host.back_up(local_only=True)
    assert (done.recovery_point_id, done.instant) != ("", None)
    assert done.disks[0].transferred_bytes


def test_a_cancelled_backup_leaves_none(host: Host) -> None:
    control = VmControl(lambda: control.progress.phase == "Transfer data to vault")
    with pytest.raises(CancelledError):
        host.back_up(control)
    assert told(host) == []
    assert not (host.folder / ".holdfast-copies").exists()


def test_what_a_killed_agent_left_is_removed_or_kept(host: Host) -> None:
    """Copies that were not whole go; one whose point was committed is told as that point's."""
    done = host.back_up()
    (record,) = (host.folder / "agent" / "machines" / "kept").iterdir()
    half = record.with_name("half.json")
    text = record.read_text().replace(record.stem, "half")
    half.write_text(text.replace('"mark":[', '"other":['))
    orphan = host.folder / ".holdfast-copies" / "half-0.raw"
    orphan.write_bytes(b"half")
    record.write_text(record.read_text().replace(done.recovery_point_id, ""))
    assert [seen.point for seen in told(host)] == [""]
    assert not orphan.exists()
    assert not half.exists()
    assert local(host.restore(NewMachine(name="web4"))) == [True, True]
    second = host.back_up().recovery_point_id
    assert [seen.point for seen in told(host)] == [done.recovery_point_id, second]


def test_a_file_system_without_shared_blocks_is_told_and_nothing_else(tmp_path: Path) -> None:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    with guest_folder() as folder:
        host = Host(folder, tmp_path, days=2)
        done = host.back_up()
        assert done.instant is not None
        assert not done.instant.kept
        assert done.instant.reason
        assert not (folder / ".holdfast-copies").exists()
        assert told(host) == []
        made = host.restore(NewMachine(name="web2"))
        assert local(made) == [False, False]
        host.check_same(made.disks[1].path, "raw")
