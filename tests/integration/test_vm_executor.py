"""The agent's executor with machines that are off: real images, a real storage daemon, a vault in
this process. Booted guests are in tests/vm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.adapters.clock import SystemRandom
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.qemu import storage_daemon
from holdfast.adapters.hypervisor.qemu.qmp import NobodyListensError, QmpConnection
from holdfast.agent.vm import backup, replace
from holdfast.agent.vm.executor import VmExecutor
from holdfast.agent.vm.recovery import NoHypervisor
from holdfast.agent.vm_work import VmControl
from holdfast.errors import CancelledError, ConflictError, HoldfastError
from holdfast.ports.vm_tasks import (
    DiskFiles,
    NewMachine,
    ReplaceDisks,
)
from holdfast.testing.guest import guest_folder
from holdfast.testing.off_host import MIB, NEEDED, Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    with guest_folder() as folder:
        yield Host(folder, tmp_path)


def test_what_is_told_of_a_machine(host: Host) -> None:
    (seen,) = host.executor.inventory()
    assert (seen.name, seen.power_state, seen.agent_state) == ("web1", "stopped", "unknown")
    assert [(disk.lun, disk.size_bytes, disk.format) for disk in seen.disks] == [
        (-1, 32 * MIB, "qcow2"),
        (0, 32 * MIB, "raw"),
    ]


def test_looking_at_a_machine_never_keeps_it_from_starting(host: Host) -> None:
    """An image is opened to write, as by a machine that starts, while its host is looked at."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            host.executor.inventory()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for at in range(40):
            host.write("qcow2", at, 4 * MIB)
            host.write("raw", at, 4 * MIB)
    finally:
        over.set()
        looking.join()


def test_a_disk_keeps_the_size_its_blocks_had(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(backup, "SMALL_GRID_EXPONENT", 18)
        host.back_up()
    host.write("qcow2", 9, 8 * MIB)
    first, _ = host.back_up().disks
    assert (first.full, first.dirty_bytes, first.transferred_bytes) == ("", MIB, MIB)


def test_a_change_of_one_piece_is_read_and_sent_as_one_piece(host: Host) -> None:
    host.back_up()
    host.qemu(
        *("qemu-io", "-f", "qcow2", "-c", f"write -P 9 {8 * MIB} 64k"), str(host.images["qcow2"])
    )
    first, _ = host.back_up().disks
    sent = (first.dirty_bytes, first.read_bytes - first.audited_bytes, first.transferred_bytes)
    assert sent == (64 * 1024, 64 * 1024, 64 * 1024)


def test_an_image_somebody_writes_is_not_off(host: Host) -> None:
    words = ["qemu-io", "-f", "qcow2", str(host.images["qcow2"])]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.read(8) == b"qemu-io>"
        assert [one.power_state for one in host.executor.inventory()] == ["unknown"]
        holder.stdin.close()
    assert [one.power_state for one in host.executor.inventory()] == ["stopped"]


LATE = """#!{python} -I
import os, re, socket, sys, time
path = re.search("path=([^,]+)", " ".join(sys.argv)).group(1)
made = socket.socket(socket.AF_UNIX)
made.bind(path)
while not os.path.exists({refused!r}):
    time.sleep(0.005)
os.unlink(path)
os.execv({program!r}, [{program!r}, *sys.argv[1:]])
"""


def test_a_storage_daemon_that_listens_late_is_waited_for(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is there before it listens: for a moment, and longer on a busy host, a connection
    is refused."""
    refused, late = tmp_path / "refused", tmp_path / "tools" / "qemu-storage-daemon"

    class Noted(QmpConnection):
        def __init__(self, path: Path) -> None:
            try:
                super().__init__(path)
            except NobodyListensError:
                if path.name == "qsd.sock":
                    refused.touch()
                raise

    late.parent.mkdir()
    program = shutil.which(late.name)
    late.write_text(LATE.format(python=sys.executable, refused=str(refused), program=program))
    late.chmod(0o700)
    monkeypatch.setenv("PATH", str(late.parent), prepend=os.pathsep)
    monkeypatch.setattr(storage_daemon, "QmpConnection", Noted)
    assert [disk.transferred_bytes for disk in host.back_up().disks] == [MIB, MIB]
    assert refused.exists()


def test_increments_of_qcow2_and_comparison_of_raw(host: Host, tmp_path: Path) -> None:
    first = host.back_up()
    assert (first.consistency, first.consistency_reason) == (
        "CrashConsistent",
        "the machine was off",
    )
    host.write("qcow2", 9, 8 * MIB)
    host.write("raw", 9, 8 * MIB)
    second = host.back_up()
    assert [bool(disk.full) for disk in second.disks] == [False, True]
    assert [disk.transferred_bytes for disk in second.disks] == [MIB, MIB]
    for form in ("raw", "qcow2", "vhd", "vhdx"):
        done = host.restore(DiskFiles(folder=str(tmp_path), format=form))  # type: ignore[arg-type]
        for disk, image in zip(done.disks, host.images, strict=True):
            assert disk.path.endswith(f".{form}")
            host.check_same(disk.path, image)
    made = [path.name for path in tmp_path.glob("*web1-*")]
    assert len(made) == 4, "a folder for each, none of them hidden"
    assert not [name for name in made if name.startswith(".")]


@pytest.mark.parametrize("mode", ["off", "full"])
def test_a_disk_that_was_cut_and_grew_again_comes_back_as_it_is(
    host: Host, tmp_path: Path, mode: str
) -> None:
    """QEMU's bitmaps do not mark what was cut off: without a look at the end of the disk the next
    point would have it still."""
    host.write("qcow2", 9, 8 * MIB)
    host.back_up()
    image = str(host.images["qcow2"])
    host.qemu("qemu-img", "resize", "-q", "--shrink", image, str(4 * MIB))
    host.qemu("qemu-img", "resize", "-q", f"--preallocation={mode}", image, str(32 * MIB))
    second = host.back_up()
    assert "smaller" in second.disks[0].full
    done = host.restore(DiskFiles(folder=str(tmp_path)))
    host.check_same(done.disks[0].path, "qcow2")


def test_a_host_without_machines_restores_those_of_others(host: Host, tmp_path: Path) -> None:
    host.back_up()
    host.executor = VmExecutor(
        NoHypervisor(), SystemDiskFiles(), host.vault.files.clock, SystemRandom(), "host2"
    )
    assert host.executor.inventory() == []
    folder = str(tmp_path)
    for target in (DiskFiles(folder=folder), NewMachine(name="web2", folder=folder)):
        done = host.restore(target)
        for disk, image in zip(done.disks, ("qcow2", "raw"), strict=True):
            form = "qcow2" if target == DiskFiles(folder=folder) else image
            assert disk.path.endswith(f".{form}")
            host.check_same(disk.path, image)
    for refused in (lambda: host.restore(ReplaceDisks()), host.back_up):
        with pytest.raises(HoldfastError) as unknown:
            refused()
        assert unknown.value.code == "UserErrorVmNotFoundV2"


def test_in_place_and_what_is_refused(host: Host, tmp_path: Path) -> None:
    host.back_up()
    host.write("qcow2", 9, 8 * MIB)
    late = host.images["qcow2"].read_bytes()
    host.images["raw"].unlink()
    done = host.restore(ReplaceDisks())
    assert [Path(path).read_bytes() for path in done.kept] == [late]
    again = host.back_up()
    assert again.disks[0].full == "another image has taken the place of this disk"
    assert again.disks[0].transferred_bytes == 0, "it holds what the point before does"
    host.restore(NewMachine(name="web2", folder=str(tmp_path)))
    with pytest.raises(ConflictError) as refused:
        host.restore(NewMachine(name="web2", folder=str(tmp_path)))
    assert refused.value.code == "TargetExists"
    with pytest.raises(HoldfastError) as missing:
        host.restore(DiskFiles(folder=str(tmp_path / "none")))
    assert missing.value.code == "TargetUnavailable"


def test_in_place_takes_no_place_only_an_old_point_claims(host: Host) -> None:
    """The disk left the settings; what lies where it was by now, or would be put there, may be
    another machine's."""
    host.back_up()
    place, image = host.images["raw"], host.images["qcow2"]
    place.write_bytes(b"of another machine")
    host.know(host.entry.disk[:1])
    before = image.read_bytes()
    for _ in range(2):
        with pytest.raises(ConflictError) as refused:
            host.restore(ReplaceDisks())
        assert refused.value.code == "DiskNotReplaceable"
        place.unlink(missing_ok=True)  # with other disks known, not even a free place
    assert not place.exists()
    assert image.read_bytes() == before


def test_in_place_of_images_that_are_gone_takes_free_places_only(host: Host) -> None:
    """None of the disks is known any more: they come back where the point has them, unless
    something lies there."""
    host.back_up()
    place, image = host.images["raw"], host.images["qcow2"]
    truth = place.read_bytes()
    image.unlink()
    host.know(host.entry.disk)
    for thing in (b"of another machine", None):
        place.unlink()
        if thing is None:
            place.symlink_to(place.with_name("nowhere.img"))
        else:
            place.write_bytes(thing)
        with pytest.raises(ConflictError) as refused:
            host.restore(ReplaceDisks())
        assert refused.value.code == "DiskNotReplaceable"
        assert not image.exists()
        assert thing is None or place.read_bytes() == thing
    assert place.is_symlink()
    place.unlink()
    done = host.restore(ReplaceDisks())
    assert [disk.path for disk in done.disks] == [str(image), str(place)]
    assert (place.read_bytes(), done.kept) == (truth, ())


def test_in_place_of_another_users_images_follows_no_link_of_that_user(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the new images are there, a process of that user exchanges the folder they are in."""
    host.back_up()
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"of root")
    before = treasure.stat()
    if os.geteuid() == 0:
        for path in (host.folder, *host.images.values()):
            os.chown(path, 65534, 65534)
    own_as = replace._own_as

    def exchange(fresh: Path, like: Path) -> None:
        staged = next(host.folder.glob(f".{like.name}-*.partial"))
        if fresh.name == "root.qcow2":
            staged.rename(host.folder / "aside")
            staged.mkdir()
            (staged / fresh.name).symlink_to(treasure)
        own_as(fresh, like)

    monkeypatch.setattr(replace, "_own_as", exchange)
    owner = host.images["raw"].stat()
    host.write("qcow2", 9, 8 * MIB)
    host.restore(ReplaceDisks())
    after = treasure.stat()
    assert treasure.read_bytes() == b"of root"
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    for path in host.images.values():
        found = path.lstat()
        assert (found.st_uid, found.st_mode) == (owner.st_uid, owner.st_mode)


def test_a_cancelled_restore_leaves_nothing(host: Host, tmp_path: Path) -> None:
    host.back_up()
    target = tmp_path / "target"
    target.mkdir()
    before = {path: path.stat().st_ino for path in host.images.values()}
    for kind in (DiskFiles(folder=str(target)), ReplaceDisks()):
        with pytest.raises(CancelledError):
            host.restore(kind, VmControl(lambda: True))
    assert list(target.iterdir()) == []
    assert {path: path.stat().st_ino for path in host.images.values()} == before
    assert not list(host.images["raw"].parent.glob("*.partial"))
