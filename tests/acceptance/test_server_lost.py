"""The server's folder is deleted; a new server imports the vault, and an agent restores from it.
Or nobody needs a server: a copy of the vault's bucket is a folder that can be restored from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from obstore.store import S3Store

from holdfast.testing.grounds import S3_URL, ground
from holdfast.testing.program_kills import make_tree, restored_like
from holdfast.testing.servers import S3Service
from holdfast.testing.wait import eventually
from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World
from holdfast.workloads.files.compare import compare_inventories, take_inventory

KEY_FILE = "vault.key"
DECODER = Path(__file__).parents[2] / "tools" / "vault_decoder.py"


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


def fetch_bucket(service: S3Service, bucket: str, prefix: str, folder: Path) -> None:
    """What programs for S3 make of a bucket: a file for each object, named by its key."""
    given = service.credentials
    client = S3Store(
        bucket,
        prefix=prefix,
        endpoint=service.endpoint,
        access_key_id=given["access_key_id"],
        secret_access_key=given["secret_access_key"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    for page in client.list():
        for found in page:
            path = folder / found["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(client.get(found["path"]).bytes())


def test_from_a_copy_of_a_bucket(tmp_path: Path, s3_service: S3Service) -> None:
    """By the program and by the decoder, with nothing of the server left and no way to the
    bucket."""
    with ground("sqlite-s3", tmp_path, {}, s3=s3_service) as yard:
        world = yard.world
        points = two_points(world)
        world.stop_agent()
        world.kill_server()
        shutil.rmtree(world.server_data)
        bucket = S3_URL.removeprefix("s3://")
        fetch_bucket(s3_service, bucket, world.folder.name, tmp_path / "copy")
        vault = next((tmp_path / "copy").glob("*/descriptor")).parent
        for place in (tmp_path / "copy", vault):
            where = ("--path", place, "--key", world.folder / KEY_FILE)
            listed = world.ask("store", "list", *where)
            assert [row["recoveryPoint"] for row in listed] == points
        which = ("--item", ITEM, "--recovery-point", "latest")
        world.ok("store", "restore", *where, *which, "--to", tmp_path / "out")
        decoder = [sys.executable, str(DECODER), "restore", *map(str, where)]
        subprocess.run(
            [*decoder, "--to", str(tmp_path / "decoded")],
            env=world.environment,
            check=True,
            timeout=120,
        )
        for made in ("out", "decoded"):
            found = restored_like(tmp_path / "src", tmp_path / made, owners=os.geteuid() == 0)
            assert found.lines == []
            assert found.compared > 60
