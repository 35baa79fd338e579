"""Disks that fill up under the vault, the agent and a restore: told, survived, and made good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.testing.program_kills import job_of, make_tree, restored_like, status
from holdfast.testing.small_disk import SmallDisk, can_mount, small_disk
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, VAULT, World

pytestmark = pytest.mark.skipif(not can_mount(), reason="mounting a small file system needs root")
NOW = ("backup", "now", "--container", HOST, "--item")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "64m") as found:
        yield found


def details(world: World, job: str) -> dict[str, Any]:
    found: dict[str, Any] = world.ask("job", "show", job)["properties"]
    return found


def check_told(world: World, job: str, code: str, word: str) -> None:
    """A job that cannot go on says why and what to do, at the command line and over REST."""
    told: dict[str, Any] = {}

    def failing() -> bool:
        told.update(details(world, job))
        return "errorDetails" in told

    eventually(failing, f"{code} is told")
    (error,) = told["errorDetails"]
    assert (told["status"], error["errorCode"]) == ("InProgress", code)
    assert word in error["errorString"] + error["recommendations"][0]
    shown = world.ok("job", "show", job)
    assert f"code: {code}" in shown.err
    assert f"what to do: {error['recommendations'][0]}" in shown.err


def check_restored(world: World, tree: str, item: str = "") -> None:
    out = world.folder / f"restored-{tree}"
    world.restore(out, item=item or tree)
    assert restored_like(world.folder / tree, out, owners=True).lines == []


def test_a_full_vault_keeps_its_points_and_goes_on_when_there_is_room(
    bare: World, disk: SmallDisk
) -> None:
    bare.environment["HOLDFAST_PACK_TARGET_BYTES"] = "262144"
    bare.start_server()
    bare.login()
    bare.ok("region", "create", "small", "--store", f"file://{disk.folder}")
    bare.ok("vault", "create", VAULT, "-g", GROUP, "-l", "small")
    assert bare.enroll().code == 0
    bare.start_agent()
    first = make_tree(bare, "first", 1)
    bare.protect(first, item="first")
    bare.back_up(item="first")
    second = make_tree(bare, "second", 2)
    (second / "huge").write_bytes(os.urandom(80_000_000))
    bare.protect(second, item="second")
    bare.ok(*NOW, "second")
    job = job_of(bare, "second")
    check_told(bare, job, "StoreFull", "space")
    assert bare.points("second") == []
    assert bare.cli("vault", "verify", VAULT, "-g", GROUP).code == 0
    check_restored(bare, "first")
    disk.resize("300m")
    eventually(lambda: status(bare, job) == "Completed", "it goes on by itself", seconds=120)
    assert len(bare.points("second")) == 1
    check_restored(bare, "second")
    bare.ok("vault", "verify", VAULT, "-g", GROUP)


def test_a_full_disk_of_the_agent_is_told_and_costs_no_point(bare: World, disk: SmallDisk) -> None:
    tree = make_tree(bare, "tree", 3)
    data = bare.agent_data()
    data.symlink_to(disk.folder)
    bare.set_up(tree)
    bare.back_up()
    (tree / "dir-1" / "added").write_bytes(os.urandom(300_000))
    for number in range(3_000):
        (tree / f"small-{number}").write_bytes(b"%d" % number)
    ballast = disk.fill(leave=4096)
    bare.ok(*NOW, "docs")
    job = job_of(bare, "docs")
    check_told(bare, job, "SpoolFull", "data folder")
    assert len(bare.points()) == 1
    ballast.unlink()
    eventually(lambda: status(bare, job) == "Completed", "it goes on by itself", seconds=120)
    assert len(bare.points()) == 2
    check_restored(bare, "tree", item="docs")


def test_a_full_disk_of_the_server_stops_no_answer_and_loses_nothing(
    bare: World, disk: SmallDisk
) -> None:
    """The default: catalog, keys and vaults on one disk."""
    bare.environment["HOLDFAST_PACK_TARGET_BYTES"] = "262144"  # small, as the disk is
    bare.server_data.symlink_to(disk.folder)
    tree = make_tree(bare, "tree", 4)
    bare.set_up(tree)
    bare.back_up()
    (tree / "added").write_bytes(os.urandom(1_000_000))
    ballast = disk.fill(leave=0)
    answers = [bare.cli("vault", "show", VAULT), bare.cli(*NOW, "docs")]
    for answer in answers:
        assert "Traceback" not in answer.err
        assert answer.code == 0 or "what to do: " in answer.err, answer
    assert len(bare.points()) == 1
    assert bare.server is not None
    assert bare.server.poll() is None
    assert bare.agents[HOST].poll() is None
    ballast.unlink()
    bare.stop_agent()
    bare.stop_server()
    bare.start_server()
    bare.start_agent()
    jobs = [row["name"] for row in bare.jobs() if row["properties"]["status"] == "InProgress"]
    for job in jobs:
        bare.ok("job", "wait", job)
    bare.back_up()
    check_restored(bare, "tree", item="docs")
    bare.ok("vault", "verify", VAULT, "-g", GROUP)


def test_a_restore_to_a_full_disk_says_so_and_goes_on_after_room_was_made(
    bare: World, tmp_path: Path
) -> None:
    tree = make_tree(bare, "tree", 5)
    bare.set_up(tree)
    bare.back_up()
    words = ("restore", "--item", "docs", "--container", HOST, "--recovery-point", "latest")
    with small_disk(tmp_path / "target", "2m") as target:
        answer = bare.cli(*words, "--to", target.folder, "--wait")
        assert answer.code == 1
        assert "code: TargetFull" in answer.err
        assert "what to do: " in answer.err
        target.resize("64m")
        bare.ok(*words, "--to", target.folder, "--wait")
        assert restored_like(tree, target.folder, owners=True).lines == []
