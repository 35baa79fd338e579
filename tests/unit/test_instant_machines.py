"""What is started of what a recovery point describes, and what a host keeps of such machines."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu import booting, running
from holdfast.adapters.hypervisor.qemu.kernels import check_kernels
from holdfast.adapters.hypervisor.qemu.running import QemuRunning
from holdfast.agent.vm.instant.records import KeptDisk, Record, Records, to_text
from holdfast.agent.vm.instant.startable import check_startable
from holdfast.errors import CancelledError, SourceError, TargetError, UsageError
from holdfast.ports.hypervisor import AgentState, Disk, Machine, PowerState, Startup


def described(**startup: str) -> dict[str, Any]:
    return {"processors": 2, "memoryBytes": 256 << 20, "startup": startup}


def record(home: Path, **startup: str) -> Record:
    disks = [KeptDisk(lun=lun, path="", size=1 << 20) for lun in (-1, 0)]
    made = Record(
        name="web-now",
        uuid="11111111-0000-4000-8000-000000000001",
        of_name="web",
        of_uuid="11111111-0000-4000-8000-000000000002",
        point="p1",
        job="j1",
        home=to_text(home),
        disks=disks,
        described=described(**startup),
    )
    for disk in disks:
        disk.path = made.overlay(disk.lun)
    return made


def kernel(folder: Path) -> Path:
    path = folder / "vmlinuz"
    path.write_bytes(bytes(0x202) + b"HdrS" + bytes(100))
    return path


def test_machines_that_start_from_their_disks_or_a_kernel_of_this_host(tmp_path: Path) -> None:
    check_startable({})
    check_startable(described(model="pc-q35-7.2"))
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"\x1f\x8b" + bytes(50))
    check_startable(described(kernel=str(kernel(tmp_path)), initrd=str(initrd)))


def test_what_a_description_may_not_name(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:secret")
    good = str(kernel(tmp_path))
    for wrong in (
        {"kernel": str(secret)},
        {"kernel": "/nowhere/vmlinuz"},
        {"kernel": "vmlinuz"},
        {"kernel": good, "initrd": str(secret)},
        {"model": "pc,kernel=/etc/shadow"},
    ):
        with pytest.raises(SourceError) as refused:
            check_startable(described(**wrong))
        assert refused.value.code == "KernelNotHere"
    with pytest.raises(SourceError) as refused:
        check_startable({"firmware": "uefi"})
    assert refused.value.code == "FirmwareNotServed"


def test_the_command_has_no_network_and_reads_the_vault(tmp_path: Path) -> None:
    made = record(tmp_path / "web-now.instant", kernel="/boot/k", words="quiet")
    words = booting.command(made.plan())
    assert words[words.index("-nic") + 1] == "none"
    assert words[words.index("-smp") + 1] == "2"
    assert words[words.index("-m") + 1] == "256M"
    assert words[words.index("-append") + 1] == "quiet"
    text = " ".join(words)
    assert str(made.socket) in text
    assert text.count('"read-only": true') == 2
    made.disks[0].backed = False
    assert " ".join(booting.command(made.plan())).count('"read-only": true') == 1


def test_a_machine_that_does_not_start_says_why(tmp_path: Path) -> None:
    if shutil.which(booting.PROGRAM) is None:
        pytest.skip("needs qemu-system-x86")
    plan = replace(record(tmp_path, model="no-board").plan(), disks=[])
    with pytest.raises(SourceError) as refused:
        booting.start(plan)
    assert refused.value.code == "MachineNotStarted"
    assert "machine" in refused.value.message.partition(": ")[2]


def test_records_stay_when_their_file_system_is_not_mounted(tmp_path: Path) -> None:
    home, records = tmp_path / "web-now.instant", Records(tmp_path / "kept")
    made = record(home)
    home.mkdir()
    records.save(made)
    found = Records(tmp_path / "kept").find("web-now")
    assert found == made
    assert found.missing() == [home / "disk-os.qcow2", home / "disk-0.qcow2"]
    assert records.tags()[made.uuid]["holdfast:instantPoint"] == "p1"
    for image in made.missing():
        image.touch()
    assert not made.missing()
    made.moved = True
    records.save(made)
    assert records.tags()[made.uuid] == {}


def test_a_name_is_free_again_when_a_moved_machine_was_removed(tmp_path: Path) -> None:
    records = Records(tmp_path / "kept")
    moved, later = record(tmp_path / "a"), record(tmp_path / "b")
    moved.moved = True
    later.uuid = "22222222-0000-4000-8000-000000000001"
    records.save(moved)
    assert moved.is_gone
    records.save(later)
    found = records.find("web-now")
    assert found is not None
    assert found.uuid == later.uuid


def test_an_unreadable_record_hides_no_other(tmp_path: Path) -> None:
    home, records = tmp_path / "web-now.instant", Records(tmp_path / "kept")
    home.mkdir()
    (home / "disk-0.qcow2").touch()
    records.save(record(home))
    (tmp_path / "kept" / "a.json").write_text("{")
    assert [one.name for one in records.all()] == ["web-now"]


def test_a_place_too_deep_for_sockets_is_told_before_anything_is_made(tmp_path: Path) -> None:
    socket = tmp_path / ("d" * 100) / "vault" / "nbd.sock"
    with pytest.raises(UsageError) as refused:
        booting.make_image(tmp_path / "disk.qcow2", 1 << 20, (socket, "disk-os"))
    assert refused.value.code == "SocketPathTooLong"
    assert list(tmp_path.iterdir()) == []


def test_images_that_cannot_be_made_say_why(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as refused:
        booting.make_image(tmp_path / "nowhere" / "disk.qcow2", 1 << 20, None)
    assert refused.value.code in ("TargetUnavailable", "TargetFull")
    assert "disk.qcow2" in refused.value.message


class EndlessGuest:
    """A guest's agent whose scripts do not end."""

    def __init__(self, _path: Path) -> None: ...

    def __enter__(self) -> EndlessGuest:
        return self

    def __exit__(self, *_: object) -> None: ...

    def call(self, command: str, **_: object) -> dict[str, Any]:
        return {"pid": 1} if command == "guest-exec" else {"exited": False}


def test_a_script_that_does_not_end_is_given_up_when_the_work_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "GuestAgent", EndlessGuest)
    machine = QemuRunning(record(tmp_path).plan(), None)  # type: ignore[arg-type]
    asked = iter((False, True))

    def check() -> None:
        if next(asked):
            raise CancelledError("the task was cancelled")

    with pytest.raises(CancelledError):
        machine.run("sleep 600", 7200, check)


def test_only_kernels_that_this_hosts_machines_use_are_started(tmp_path: Path) -> None:
    """The point may be of a host of somebody else, who would read the initrd in the guest."""
    vm, used = tmp_path / "vm", tmp_path / "kernels" / "vmlinuz"
    disk = Disk(-1, "a", str(vm / "a.qcow2"), "qcow2", 1 << 20, "")
    states = PowerState.RUNNING, AgentState.READY
    seen = [Machine("1", "web", *states, (disk,), startup=Startup(kernel=str(used)))]
    for kernel, initrd in (
        (used, vm / "initrd"),
        (Path("/boot/vmlinuz-6"), Path("/boot/grub/../initrd-6")),
    ):
        check_kernels(Startup(kernel=str(kernel), initrd=str(initrd)), seen)
    vm.mkdir()
    (vm / "link").symlink_to("/srv/backup.tar.gz")
    for wrong in ("/srv/backup.tar.gz", "/boot/../srv/b.gz", str(vm / "link"), f"{used}.gz"):
        with pytest.raises(SourceError) as refused:
            check_kernels(Startup(kernel=str(used), initrd=wrong), seen)
        assert refused.value.code == "MachineNotStarted"
