"""The main job as a user does it: real server, agent and command line; restore and compare."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.testing.world import GROUP, HOST, ITEM, VAULT, World
from holdfast.workloads.files.compare import compare_inventories, take_inventory


def assert_same(source: Path, restored: Path, *, before: object = None) -> None:
    """Every byte and attribute of ``source`` is at ``restored/<source path>``."""
    inventory = before or take_inventory([source])
    after = take_inventory([restored / str(source).lstrip("/")])
    difference = compare_inventories(
        inventory, after, strip_right=str(restored), owners=os.geteuid() == 0
    )
    assert difference.lines == []
    assert difference.compared > 100


def test_backup_change_incremental_restore(world: World, tmp_path: Path) -> None:
    source = world.folder / "src"
    world.back_up()
    first = world.points()[0]["properties"]["holdfast"]
    inventory_of_first = take_inventory([source])

    (source / "dir-1" / "added.txt").write_text("added\n" * 2000)
    (source / "dir-2" / "sub-0" / "file-9.txt").write_text("edited\n")
    (source / "large-copy.bin").rename(source / "renamed.bin")
    (source / "empty").unlink()
    world.back_up()

    points = world.points()
    assert len(points) == 2
    second = points[0]["properties"]["holdfast"]
    assert second["transferredBytes"] < first["transferredBytes"] / 10
    assert second["logicalBytes"] > 40_000_000

    world.restore(tmp_path / "new")
    assert_same(source, tmp_path / "new")
    world.restore(tmp_path / "old", point=points[1]["name"])
    assert_same(source, tmp_path / "old", before=inventory_of_first)


def test_holes_stay_holes_and_hard_links_stay_linked(world: World, tmp_path: Path) -> None:
    source = world.folder / "src"
    if not world.points():
        world.back_up()
    world.restore(tmp_path / "out")
    restored = tmp_path / "out" / str(source).lstrip("/")
    assert (restored / "sparse.img").stat().st_size == 50_000_000
    assert (restored / "sparse.img").stat().st_blocks * 512 < 1_000_000
    assert (restored / "large.bin").samefile(restored / "hard-link.bin")


def test_selected_paths_only(world: World, tmp_path: Path) -> None:
    source = world.folder / "src"
    if not world.points():
        world.back_up()
    world.restore(tmp_path / "out", "--path", str(source / "dir-3"))
    restored = tmp_path / "out" / str(source).lstrip("/")
    assert sorted(path.name for path in restored.iterdir()) == ["dir-3"]
    compared = compare_inventories(
        take_inventory([source / "dir-3"]),
        take_inventory([restored / "dir-3"]),
        strip_right=str(tmp_path / "out"),
        owners=os.geteuid() == 0,
    )
    assert compared.lines == []


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("overwrite", "from the vault"), ("skip", "local"), ("keep-both", "local")],
)
def test_conflict_modes(world: World, tmp_path: Path, mode: str, expected: str) -> None:
    note = world.folder / "src" / "conflict.txt"
    note.write_text("from the vault")
    world.back_up()
    there = tmp_path / "out" / str(note).lstrip("/")
    there.parent.mkdir(parents=True)
    there.write_text("local")
    world.restore(tmp_path / "out", "--path", str(note), "--conflict", mode)
    assert there.read_text() == expected
    copies = sorted(path.read_text() for path in there.parent.iterdir())
    assert copies == (["from the vault", "local"] if mode == "keep-both" else [expected])


def test_dry_run_writes_nothing(world: World, tmp_path: Path) -> None:
    if not world.points():
        world.back_up()
    world.restore(tmp_path / "out", "--dry-run")
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_browse_lists_a_folder(world: World) -> None:
    if not world.points():
        world.back_up()
    words = ("recovery-point", "browse", "--recovery-point", "latest", str(world.folder / "src"))
    listed = world.ask(*words, "--item", ITEM, "--container", HOST)
    names = {row["properties"]["name"] if "properties" in row else row["name"] for row in listed}
    assert {"dir-1", "large.bin", "sparse.img"} <= names


def test_restore_to_the_original_place(world: World) -> None:
    victim = world.folder / "src" / "dir-4" / "sub-1" / "file-4.txt"
    victim.write_text("good")
    world.back_up()
    victim.unlink()
    words = ["restore", "--item", ITEM, "--container", HOST, "--recovery-point", "latest"]
    world.ok(*words, "--original", "--path", str(victim), "--wait")
    assert victim.read_text() == "good"


def test_restore_on_another_machine(world: World, tmp_path: Path) -> None:
    world.back_up()
    assert world.enroll("host2").code == 0
    world.start_agent("host2")
    words = ["restore", "--item", ITEM, "--container", HOST, "--recovery-point", "latest"]
    world.ok(*words, "--to", str(tmp_path / "out"), "--to-container", "host2", "--wait")
    before = take_inventory([world.folder / "src"])
    assert_same(world.folder / "src", tmp_path / "out", before=before)
    world.stop_agent("host2")


def test_without_a_server_and_on_an_empty_one(world: World, tmp_path: Path) -> None:
    """The exported key and the folder restore alone, and rebuild a lost server."""
    source = world.folder / "src"
    world.back_up()
    key = tmp_path / "vault.key"
    world.ok("vault", "export-key", VAULT, "-g", GROUP, "-o", key)
    vault = world.vault_folder()

    store = ["store", "restore", "--path", str(vault), "--key", str(key)]
    world.ok(*store, "--item", ITEM, "--recovery-point", "latest", "--to", str(tmp_path / "alone"))
    assert_same(source, tmp_path / "alone")

    other = World(tmp_path / "other")
    other.folder.mkdir()
    try:
        other.start_server()
        other.login()
        other.ok("vault", "import", "--path", str(vault), "--key", str(key), "-g", GROUP)
        ours = {point["name"] for point in world.points()}
        assert {point["name"] for point in other.points()} == ours
        assert [item["properties"]["friendlyName"] for item in other.ask("item", "list")] == [ITEM]
        assert other.enroll(HOST, "--replace").code == 0
        other.start_agent()
        other.restore(tmp_path / "imported")
        assert_same(source, tmp_path / "imported")
        item = ("item", "update", ITEM, "--container", HOST)
        other.ok(*item, "--policy", "DefaultPolicy")
        (source / "dir-5" / "after-the-import").write_bytes(os.urandom(30_000))
        other.back_up()
        newest, before = other.points()[:2]
        assert before["name"] in ours
        assert newest["properties"]["holdfast"]["transferredBytes"] < 1_000_000
        other.restore(tmp_path / "gone-on")
        assert_same(source, tmp_path / "gone-on")
    finally:
        other.close()
