"""A booted guest backed up and restored by the real programs: server, agent and command line."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.adapters.hypervisor.qemu import QemuHypervisor
from holdfast.machine_settings import MachineEntry, problems
from holdfast.testing.guest import GuestDisk, GuestMachine, flatten, install_scripts
from holdfast.testing.vm_site import Site
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, VAULT, World

MIB = 1024 * 1024


@pytest.fixture
def site(make: Callable[..., Any], tmp_path: Path) -> Iterator[Site]:
    world = World(tmp_path)
    place = make()
    place.guest.write_pattern("/mnt/b/base", count=160)
    try:
        yield Site(world, place)
    finally:
        world.close()


def test_full_then_increment_then_the_disks_as_files(site: Site) -> None:
    assert (site.seen("osType"), site.seen("agentState")) == ("Linux", "ready")
    first = site.back_up()
    assert first["consistency"] == "FileSystemConsistent"
    assert first["stopMs"] > 0
    assert first["freezeMs"] > 0
    assert [one["full"] for one in first["disks"]] == ["first backup of this disk"] * 2
    site.guest.write_pattern("/mnt/b/more", count=16)
    second = site.back_up_stopped()
    assert [one["full"] for one in second["disks"]] == ["", ""]
    assert MIB <= second["disks"][1]["transferredBytes"] < 4 * MIB
    assert sum(one["readBytes"] for one in second["disks"]) < 24 * MIB
    truth = site.truth()
    site.guest.control("cont")
    files = site.restored()
    assert {lun: file.read_bytes() for lun, file in files.items()} == truth
    files = site.restored("qcow2")
    flat = {lun: flatten(file, site.folder / "flat").read_bytes() for lun, file in files.items()}
    assert flat == truth
    assert site.place.nothing_left()
    assert site.guest.patterns_hold("/mnt/b/base")
    without_the_server(site, truth)


def without_the_server(site: Site, truth: dict[int, bytes]) -> None:
    """The same disks from the vault's folder and its key alone."""
    world, key, back = site.world, site.folder / "vault.key", site.folder / "alone"
    world.ok("vault", "export-key", VAULT, "-g", GROUP, "-o", key)
    world.kill_server()
    item = f"VM;iaasvmcontainerv2;{GROUP};web1"
    words = ["store", "restore", "--path", world.vault_folder(), "--key", key, "--item", item]
    world.ok(*words, "--recovery-point", "latest", "--to", back)
    files = {-1: "disk-os.raw", 0: "disk-0.raw"}
    assert {lun: (back / name).read_bytes() for lun, name in files.items()} == truth


def test_single_files(site: Site, tmp_path: Path) -> None:
    site.guest.shell("mkdir -p /mnt/b/etc; echo 127.0.0.1 localhost > /mnt/b/etc/hosts; sync")
    site.back_up()
    at = ("--recovery-point", "latest")
    volumes = site.world.ask("vm", "browse", "web1", *at)
    assert [(row["name"], row["volume"]["fileSystem"]) for row in volumes] == [
        ("osdisk", "ext4"),
        ("disk0", "ext4"),
    ]
    (row,) = site.world.ask("vm", "browse", "web1", "/disk0/etc", *at)
    assert (row["path"], row["size"]) == ("/disk0/etc/hosts", 20)
    words = ["vm", "restore-files", "web1", *at, "--to", tmp_path / "out", "--wait", "-o", "json"]
    ended = site.world.cli(*words, "--path", "/disk0/etc", "--path", "/disk0/none")
    assert ended.code == 3, ended.err
    job = json.loads(ended.out)["properties"]
    assert job["status"] == "CompletedWithWarnings"
    assert job["holdfast"]["result"]["filesRestored"] == 1
    assert (tmp_path / "out/disk0/etc/hosts").read_text() == "127.0.0.1 localhost\n"
    assert "PathNotFound" in site.world.cli("vm", "browse", "web1", "/disk9", *at).err


def test_cancelled_while_the_snapshot_is_taken(site: Site) -> None:
    site.back_up()
    held = site.place.bitmaps()
    install_scripts(site.guest, "echo pre-script > /dev/console; sleep 2", timeoutInSeconds=30)
    job = site.start_backup()
    eventually(site.script_ran, "the guest's script runs", every=0.05)
    site.world.ok("job", "cancel", job)
    assert site.ended(job)["status"] == "Cancelled"
    assert site.guest.status == "running"
    assert site.place.nothing_left()
    assert site.place.bitmaps() == held
    install_scripts(site.guest, "true")
    site.is_right()


def test_a_killed_agent_harms_no_guest(site: Site) -> None:
    site.back_up()
    for crash in ("agent.vm.taken", "agent.before.PUT.packs", "agent.vm.committed"):
        site.world.stop_agent()
        site.start_agent(f"{crash}@1")
        site.guest.write_pattern("/mnt/b/more", count=16)
        job = site.start_backup()
        assert site.world.agents[HOST].wait(60) == -9, crash
        assert site.guest.status == "running"
        site.guest.write_pattern("/mnt/b/base", count=16, skip=8)
        site.start_agent()
        assert site.ended(job)["status"] == "Completed", crash
        assert site.guest.status == "running"
        site.is_right()
    killed_in_a_restore(site)


def killed_in_a_restore(site: Site) -> None:
    before = set(site.folder.iterdir())
    site.world.stop_agent()
    site.start_agent("agent.before.GET.packs@2")
    words = ["vm", "restore", "web1", "--recovery-point", "latest", "--disks-to", "restored"]
    job = str(site.world.ask(*words, "--format", "raw")["name"])
    assert site.world.agents[HOST].wait(60) == -9
    site.start_agent()
    result = site.ended(job)["holdfast"]["result"]
    (made,) = set(site.folder.iterdir()) - before
    assert not made.name.startswith(".")
    assert {Path(one["path"]).parent for one in result["disks"]} == {made}
    (earlier,) = [path for path in before if made.name.startswith(path.name)]
    for name in ("disk-os.raw", "disk-0.raw"):
        assert (made / name).read_bytes() == (earlier / name).read_bytes()


def test_as_a_new_machine(site: Site) -> None:
    site.back_up()
    words = ["vm", "restore", "web1", "--recovery-point", "latest", "--new", "web2", "--wait"]
    result = site.world.ask(*words)["properties"]["holdfast"]["result"]
    folder = site.place.folder / "web2"
    assert result["definition"] == str(folder / "machine.json")
    definition = json.loads((folder / "machine.json").read_text())
    assert definition["uuid"] == result["machineUuid"] != site.guest.uuid
    assert (definition["processors"], definition["memoryBytes"]) == (1, 128 * MIB)
    settings = tomllib.loads((folder / "machine.toml").read_text())["machine"]
    (entry,) = msgspec.convert(settings, list[MachineEntry])
    assert problems([entry]) == []
    command = [*definition["qemu"], "-accel", "tcg", "-display", "none", "-S"]
    with started(command) as running:
        hypervisor = QemuHypervisor([entry], folder / "state")
        eventually(lambda: running.poll() is not None or Path(entry.qmp).exists(), "a monitor")
        (machine,) = hypervisor.machines()
        assert machine.problem == ""
        assert [disk.lun for disk in machine.disks] == [-1, 0]
    disks = [GuestDisk(Path(disk.path)) for disk in entry.disk]
    twin = GuestMachine(folder, disks, uuid=entry.id, name="web2")
    try:
        twin.boot(site.place.files)
        assert twin.patterns_hold("/mnt/b/base")
    finally:
        twin.kill()
    again = site.world.cli(*words)
    assert "TargetExists" in again.out + again.err
    assert site.guest.patterns_hold("/mnt/b/base")


def test_in_place_of_the_disks_of_a_machine_that_is_off(site: Site) -> None:
    site.back_up_stopped()
    truth = site.truth()
    site.guest.control("cont")
    site.guest.shell("rm /mnt/b/base; sync")
    words = ["vm", "restore", "web1", "--recovery-point", "latest", "--replace", "--yes"]
    refused = site.world.cli(*words)
    assert "UserErrorVmNotShutDown" in refused.err
    site.guest.quit()
    late = [flatten(image, site.folder / "flat").read_bytes() for image in site.place.images]
    site.world.stop_agent()
    site.start_agent()
    eventually(lambda: site.seen("powerState") == "stopped", "the machine is seen off")
    result = site.world.ask(*words, "--wait")["properties"]["holdfast"]["result"]
    kept = [flatten(Path(path), site.folder / "flat").read_bytes() for path in result["kept"]]
    assert kept == late
    assert result["safetyPointId"], "a point of them was made as well"
    assert [one["path"] for one in result["disks"]] == [str(path) for path in site.place.images]
    flat = [flatten(image, site.folder / "flat").read_bytes() for image in site.place.images]
    assert flat == [truth[lun] for lun in site.place.luns]
    site.guest.boot()
    assert site.guest.patterns_hold("/mnt/b/base")
    site.is_right(increments=False)


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
