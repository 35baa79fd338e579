"""The main job and the worst tree on every ground: SQLite and PostgreSQL, local disk and S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.grounds import GROUNDS, Ground, ground
from holdfast.testing.nasty_tree import build_nasty_tree, remove_tree
from holdfast.workloads.files.compare import Inventory, compare_inventories, take_inventory


@pytest.fixture(params=GROUNDS)
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    name = str(request.param)
    postgres = request.getfixturevalue("postgres_server") if "postgresql" in name else None
    s3 = request.getfixturevalue("s3_service") if "s3" in name else None
    with ground(name, tmp_path, {}, postgres=postgres, s3=s3) as made:
        yield made
    for tree in ("nasty", "first", "second"):
        remove_tree(tmp_path / tree)


def assert_restored(before: Inventory, source: Path, out: Path) -> None:
    after = take_inventory([out / str(source).lstrip("/")])
    found = compare_inventories(before, after, strip_right=str(out), owners=os.geteuid() == 0)
    assert found.lines == []
    assert found.compared > 600


def test_the_worst_tree_comes_back_from_both_its_points(yard: Ground) -> None:
    world = yard.world
    source = world.folder / "nasty"
    build_nasty_tree(source)
    world.protect(source)
    world.back_up()
    first = take_inventory([source])
    (source / "names" / "added\nlater").write_bytes(b"added")
    (source / "contents" / "random-9000000").rename(source / "contents" / "renamed")
    (source / "contents" / "text-1").unlink()
    with (source / "contents" / "random-1500000").open("r+b") as edited:
        edited.seek(700_000)
        edited.write(b"edited")
    second = take_inventory([source])
    world.back_up()
    newer, older = world.points()
    sent = [point["properties"]["holdfast"]["transferredBytes"] for point in (newer, older)]
    assert sent[0] < sent[1] / 5, "the incremental backup sends what is new"
    world.restore(world.folder / "second")
    assert_restored(second, source, world.folder / "second")
    world.restore(world.folder / "first", point=str(older["name"]))
    assert_restored(first, source, world.folder / "first")
