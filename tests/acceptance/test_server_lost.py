"""The server's folder is deleted; a new server imports the vault, and an agent restores from it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from holdfast.testing.grounds import S3_URL, ground
from holdfast.testing.program_kills import make_tree
from holdfast.testing.servers import S3Service
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World
from holdfast.workloads.files.compare import compare_inventories, take_inventory

KEY_FILE = "vault.key"


def two_points(world: World) -> list[str]:
    """Their ids, newest first; the key is exported."""
    tree = make_tree(world, "src", 3)
    world.protect(tree)
    world.back_up()
    (tree / "dir-1" / "added").write_bytes(os.urandom(50_000))
    world.back_up()
    world.ok("vault", "export-key", VAULT, "-g", GROUP, "-o", world.folder / KEY_FILE)
    return [str(point["name"]) for point in world.points()]


def lose_server(world: World) -> None:
    """Server, agent and all that the server kept are gone; a new server takes its address."""
    world.stop_agent()
    world.kill_server()
    shutil.rmtree(world.server_data)
    shutil.rmtree(world.agent_data())
    assert not world.server_data.exists()
    world.start_server()
    world.login()
    assert world.ask("vault", "list") == []


def import_killed(world: World, *where: str | Path) -> None:
    """Import; the server is killed when all is rebuilt and before the job says so."""
    world.stop_server()
    world.start_server({"HOLDFAST_TEST_CRASH": "job.import.rebuild.after@1"})
    key = world.folder / KEY_FILE
    words = [str(world.program), "vault", "import", *map(str, where), "--key", str(key)]
    asking = subprocess.Popen([*words, "-g", GROUP], env=world.environment)
    server = world.server
    assert server is not None
    eventually(lambda: server.poll() is not None, "the kill")
    world.start_server()
    assert asking.wait(timeout=120) == 0, "the job goes on, and the command with it"


def restores(world: World, points: list[str]) -> None:
    """The new server knows the points, and what they hold comes back."""
    source = world.folder / "src"
    before = take_inventory([source])
    assert [point["name"] for point in world.points()] == points
    enrolled = world.enroll(HOST, "--replace")
    assert enrolled.code == 0, enrolled
    world.start_agent()
    shutil.rmtree(source)
    world.restore(world.folder / "out")
    after = take_inventory([world.folder / "out" / str(source).lstrip("/")])
    out, owners = str(world.folder / "out"), os.geteuid() == 0
    found = compare_inventories(before, after, strip_right=out, owners=owners)
    assert found.lines == []
    assert found.compared > 60
    make_tree(world, "src", 3)
    world.ok("item", "update", ITEM, "--container", HOST, "--policy", "DefaultPolicy")
    world.back_up()
    newest = world.points()[0]["properties"]["holdfast"]
    assert newest["transferredBytes"] < newest["logicalBytes"] / 10, "the old points are used"
    assert world.cli("vault", "verify", VAULT, "-g", GROUP).code == 0


def test_from_a_bucket(tmp_path: Path, s3_service: S3Service) -> None:
    with ground("sqlite-s3", tmp_path, {}, s3=s3_service) as yard:
        world = yard.world
        points = two_points(world)
        lose_server(world)
        store = ("--store", f"{S3_URL}/{world.folder.name}")
        secret = ("--credentials", world.folder / "s3-credentials.json")
        world.ok("region", "create", "cloud", *store, *secret)
        import_killed(world, *store)
        restores(world, points)


def test_from_a_disk_of_its_own(tmp_path: Path) -> None:
    """The vault lies in a region outside the server's folder, which is all that was lost."""
    world = World(tmp_path)
    try:
        world.start_server()
        world.login()
        world.ok("region", "create", "nas", "--store", (tmp_path / "nas").as_uri())
        world.ok("vault", "create", VAULT, "-g", GROUP, "-l", "nas")
        assert world.enroll().code == 0
        world.start_agent()
        points = two_points(world)
        lose_server(world)
        found = next((tmp_path / "nas").glob("*/descriptor")).parent
        key = ("--key", world.folder / KEY_FILE)
        world.ok("vault", "import", "--path", found, *key, "-g", GROUP)
        restores(world, points)
    finally:
        world.close()
