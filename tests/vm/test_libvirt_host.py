"""A libvirt host with its daemon: the real programs find, protect and restore its machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.hypervisor.qemu.guest_agent import AgentSilentError
from holdfast.testing.guest import GuestDisk, GuestFiles, flatten, guest_folder, make_disk
from holdfast.testing.guest.under_libvirt import LibvirtGuest, daemon, missing_for_libvirt
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, VAULT, World

KILLED_WHILE_FROZEN = """
import os, sys
from pathlib import Path
from holdfast.adapters.hypervisor.libvirt import LibvirtHypervisor, taking
from holdfast.machine_settings import LibvirtEntry
from holdfast.ports.hypervisor import Generations, Wish
taking._Begun.begin = lambda self: os.kill(os.getpid(), 9)
uri, machine, state = sys.argv[1:]
hypervisor = LibvirtHypervisor(LibvirtEntry(uri=uri), Path(state))
hypervisor.begin(machine, [-1, 0], Wish(), Generations("p", {}))
"""


class LibvirtSite:
    """A vault, and a host whose agent is told nothing but where libvirt listens."""

    def __init__(self, folder: Path, world: World, guest: LibvirtGuest) -> None:
        self.folder, self.world, self.guest = folder, world, guest
        world.start_server()
        world.login()
        world.ok("vault", "create", VAULT, "-g", GROUP)
        assert world.enroll().code == 0
        assert guest.libvirt is not None
        uri = json.dumps(guest.libvirt.uri)
        (world.agent_data() / "holdfast.toml").write_text(f"libvirt = {uri}\n")
        self.start_agent()
        eventually(lambda: world.ask("vm", "list"), "the machine is seen", seconds=60)

    def start_agent(self, crash: str = "") -> None:
        self.world.test_mode = True  # of the agent: it may be told where to die
        self.world.start_agent(environment={"HOLDFAST_TEST_CRASH": crash})

    def back_up(self) -> dict[str, Any]:
        job = self.world.ask("vm", "backup", "web1", "--wait")["properties"]
        assert job["status"] == "Completed", job
        found: dict[str, Any] = job["holdfast"]["result"]
        return found

    def is_right(self) -> None:
        """The disks of a point of the guest, which stands still, are the guest's."""
        self.guest.shell("sync")
        self.guest.control("stop")
        told = self.back_up()
        assert [one["full"] for one in told["disks"]] == ["", ""]
        truth = [
            flatten(disk.path, self.folder / "truth", in_use=True).read_bytes()
            for disk in self.guest.disks
        ]
        self.guest.control("cont")
        words = ["vm", "restore", "web1", "--recovery-point", "latest", "--disks-to", "restored"]
        job = self.world.ask(*words, "--format", "raw", "--wait")["properties"]
        disks = job["holdfast"]["result"]["disks"]
        found = {one["lun"]: Path(one["path"]).read_bytes() for one in disks}
        assert [found[-1], found[0]] == truth

    def checkpoints(self) -> int:
        return len(self.guest.domain.listAllCheckpoints())


@pytest.fixture
def site(files: GuestFiles, tmp_path: Path) -> Iterator[LibvirtSite]:
    if lacking := missing_for_libvirt():
        pytest.skip(f"needs {', '.join(lacking)}")
    with guest_folder() as folder, daemon(folder) as host:
        disks = [GuestDisk(make_disk(folder / f"{name}.qcow2")) for name in ("a", "b")]
        guest = LibvirtGuest(folder, disks, libvirt=host, name="web1", copies_kernel=True)
        world = World(tmp_path)
        try:
            guest.boot(files)
            guest.write_pattern("/mnt/b/base", count=160)
            yield LibvirtSite(folder, world, guest)
        finally:
            world.close()
            guest.undefine()


def test_found_protected_killed_and_restored(site: LibvirtSite, tmp_path: Path) -> None:
    world, guest = site.world, site.guest
    (seen,) = world.ask("vm", "list")
    assert seen["properties"]["holdfast"]["agentState"] == "ready"
    world.ok("vm", "protect", "web1", "--policy", "EnhancedPolicy")
    target = tmp_path / "restored"
    target.mkdir()
    words = ["storage-account", "create", "restored", "--container", HOST, "--path", target]
    world.ok(*words)
    first = site.back_up()
    assert first["consistency"] == "FileSystemConsistent"
    assert first["freezeMs"] > 0
    owners = {disk.path.stat().st_uid for disk in guest.disks}
    assert 0 not in owners, "QEMU runs as another user than the agent"
    for crash in ("agent.vm.taken", "agent.vm.committed"):
        world.stop_agent()
        site.start_agent(f"{crash}@1")
        guest.write_pattern("/mnt/b/more", count=16)
        job = str(world.ask("vm", "backup", "web1")["name"])
        assert world.agents[HOST].wait(90) == -9, crash
        assert guest.status == "running"
        guest.write_pattern("/mnt/b/base", count=16, skip=8)
        site.start_agent()
        world.cli("job", "wait", job)
        assert world.ask("job", "show", job)["properties"]["status"] == "Completed", crash
    site.is_right()
    assert site.checkpoints() == 1
    assert guest.patterns_hold("/mnt/b/base")
    thawed_after_a_kill(site)


def thawed_after_a_kill(site: LibvirtSite) -> None:
    """The hook in the guest would thaw it too, but its agent would go on saying that it is frozen:
    so a thaw was sent."""
    guest, state = site.guest, site.folder / "agent"
    assert guest.libvirt is not None
    words = [sys.executable, "-c", KILLED_WHILE_FROZEN, guest.libvirt.uri, guest.uuid, str(state)]
    assert subprocess.run(words, check=False).returncode == -9

    def thawed() -> bool:
        with suppress(AgentSilentError):
            return bool(guest.channel().call("guest-fsfreeze-status") == "thawed")
        return False

    eventually(thawed, "the guard thaws the guest", seconds=60)
    eventually(lambda: not list(state.rglob("*.frozen")), "its note is gone")
    guest.write_pattern("/mnt/b/more", count=1)
