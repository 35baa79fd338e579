"""Machines that run from the vault, by the real programs: server, agent and command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.guest.twin import Twin, kill
from holdfast.testing.vm_site import Site
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, World

NOW = "web1-now"


@pytest.fixture
def site(make: Callable[..., Any], tmp_path: Path) -> Iterator[Site]:
    world = World(tmp_path)
    place = make()
    place.guest.write_pattern("/mnt/b/base", count=160)
    try:
        yield Site(world, place)
    finally:
        world.close()
        for pid in place.folder.rglob("qemu.pid"):
            kill(pid)


def row(site: Site, name: str) -> Any:
    """A machine as the vault has it."""
    found = [one for one in site.world.ask("vm", "list") if one["name"] == name]
    return found[0]["properties"]["holdfast"] if found else None


def on_its_own(machine: dict[str, Any]) -> bool:
    """Reported since its disks changed over: while they do, it has none that can be told."""
    return machine["runsFromVault"] is None and bool(machine["disks"])


def test_from_the_vault_to_local_disks_over_a_killed_agent(site: Site) -> None:
    world = site.world
    site.back_up()
    words = ["vm", "instant", "web1", "--recovery-point", "latest", "--name", NOW]
    job = world.ask(*words, "--wait")
    ready = job["properties"]["holdfast"]["progress"]["guestReadySeconds"]
    assert 0 < ready < 90
    twin = Twin(site.place.folder / f"{NOW}.instant")
    assert twin.patterns_hold("/mnt/b/base")
    twin.write_pattern("/mnt/b/fresh", count=32)
    eventually(lambda: row(site, NOW), "the host reports it", seconds=30)
    assert row(site, NOW)["runsFromVault"]["jobId"] == job["name"]
    assert "UserErrorTargetVmExists" in world.cli(*words[:-1], "web1").err
    assert "InstantRestoreUnderWay" in world.cli(*words).err
    assert "InstantMachineNotServed" in world.cli("vm", "migrate", "web1", "--to", "restored").err
    # the agent is killed while disks are copied; the guest waits for it
    world.stop_agent()
    site.start_agent("agent.vm.move.begun@1")
    moving = str(world.ask("vm", "migrate", NOW, "--to", "restored")["name"])
    assert world.agents[HOST].wait(60) == -9
    assert twin.status == "running"
    site.start_agent("agent.vm.move.noted@1")
    assert world.agents[HOST].wait(60) == -9
    site.start_agent()
    assert site.ended(moving)["status"] == "Completed"
    assert site.ended(str(job["name"]))["status"] == "Completed"
    assert twin.status == "running"
    assert twin.patterns_hold("/mnt/b/base")
    assert twin.patterns_hold("/mnt/b/fresh")
    assert {path.name for path in (site.folder / NOW).iterdir()} == {
        *("disk-os.qcow2", "disk-0.qcow2", "machine.json", "machine.toml")
    }
    eventually(lambda: on_its_own(row(site, NOW)), "it is on its own", seconds=30)
    # it is a machine as others are: it is protected again
    world.ok("vm", "protect", NOW, "--policy", "EnhancedPolicy")
    world.ok("vm", "backup", NOW, "--wait")
    assert site.guest.patterns_hold("/mnt/b/base")


def test_a_point_is_tested_and_its_report_kept(site: Site, tmp_path: Path) -> None:
    world = site.world
    site.back_up()
    script, screen = tmp_path / "probe.sh", tmp_path / "screen.png"
    words = ["vm", "test", "web1", "--recovery-point", "latest"]
    assert "RestoreTestNotFound" in world.cli(*words, "--show").err
    script.write_text("sha256sum -c /mnt/b/base.sum\n")
    world.ok(*words, "--script", script, "--screenshot", screen, "--wait")
    assert screen.read_bytes().startswith(b"\x89PNG")
    report = world.ask(*words, "--show")["properties"]
    assert (report["passed"], report["exitCode"]) == (True, 0)
    assert report["readySeconds"] > 0
    script.write_text("echo the shop is closed; exit 3\n")
    failed = world.cli(*words, "--script", script, "--wait")
    assert failed.code == 1
    assert "RestoreTestFailed" in failed.err
    names = "iaasvmcontainerv2;rg1;web1"
    item = ["--item", f"VM;{names}", "--container", f"IaasVMContainer;{names}"]
    point = world.ask("recovery-point", "show", "--recovery-point", "latest", *item)["properties"][
        "holdfast"
    ]
    assert point["restoreTest"]["passed"] is False
    assert point["restoreTest"]["output"] == "the shop is closed\n"
    assert "screenshot" not in point["restoreTest"]
    assert site.guest.patterns_hold("/mnt/b/base")
