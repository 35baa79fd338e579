"""A real agent on a btrfs volume: while a backup runs files change, and what it took is the state
at its snapshot."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.adapters.volume_snapshot.btrfs import MARK
from holdfast.testing.loop_volume import btrfs_missing, btrfs_volume, run
from holdfast.testing.program_kills import RUNNING, job_of, status
from holdfast.testing.wait import eventually
from holdfast.testing.world import HOST, ITEM, World
from holdfast.workloads.files.compare import compare_inventories, take_inventory

FILES, FILE_BYTES = 200, 20_000


@pytest.fixture
def docs(tmp_path: Path) -> Iterator[Path]:
    """A subvolume with files of one state."""
    if why := btrfs_missing():
        pytest.skip(why)
    with btrfs_volume(tmp_path) as volume:
        subvolume = volume / "data"
        assert run("btrfs", "subvolume", "create", str(subvolume))
        write_all(subvolume / "docs", seed=1)
        yield subvolume / "docs"


def write_all(folder: Path, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    noise = random.Random(seed)
    for number in range(FILES):
        (folder / f"file-{number}").write_bytes(noise.randbytes(FILE_BYTES))


def snapshots(docs: Path) -> list[str]:
    return [one.name for one in docs.parent.iterdir() if one.name.startswith(MARK)]


def test_what_changes_during_the_backup_is_not_in_it(docs: Path, tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        world.set_up(docs)
        before = take_inventory([docs])
        world.ok("item", "update", ITEM, "--container", HOST, "--throttle", "1MB")
        world.ok("backup", "now", "--item", ITEM, "--container", HOST)
        job = job_of(world, ITEM)
        eventually(lambda: snapshots(docs), "the snapshot", every=0.01)
        write_all(docs, seed=2)
        (docs / "file-0").unlink()
        (docs / "new").write_text("not yet there at the snapshot")
        assert status(world, job) in RUNNING, "the files changed while the backup ran"
        eventually(lambda: status(world, job) not in RUNNING, "the backup")
        assert status(world, job) == "Completed", "no file changed while it was read"
        point = world.points()[0]["properties"]
        assert "read from a read-only btrfs snapshot" in str(point)
        assert point["holdfast"]["findingsCount"] == 0
        world.restore(tmp_path / "out")
        out = tmp_path / "out"
        after = take_inventory([out / str(docs).lstrip("/")])
        found = compare_inventories(before, after, strip_right=str(out), owners=True)
        assert found.lines == []
        assert found.compared > FILES
        assert snapshots(docs) == [], "the snapshot is gone"
    finally:
        world.close()
