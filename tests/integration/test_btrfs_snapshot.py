"""A btrfs volume on a loop device: the backup reads one moment, and leaves no snapshot behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.adapters.volume_snapshot import snapshot_adapters
from holdfast.adapters.volume_snapshot.btrfs import MARK, BtrfsSnapshots
from holdfast.testing.loop_volume import btrfs_missing, btrfs_volume, run
from holdfast.workloads.files.listing import ROW, SIZE
from holdfast.workloads.files.scan import TreeWalk
from holdfast.workloads.files.selection import compile_excludes


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    if why := btrfs_missing():
        pytest.skip(why)
    with btrfs_volume(tmp_path) as made:
        yield made


def _names(base: bytes, include: Path) -> dict[bytes, int]:
    found = {}
    walk = TreeWalk((os.fsencode(include).lstrip(b"/"),), compile_excludes([]), base)
    for listing in walk:
        for name, row in zip(listing.name_list(), ROW.iter_unpack(listing.rows), strict=True):
            found[listing.path + b"/" + name] = row[SIZE]
    return found


def test_the_snapshot_shows_one_moment_and_goes(volume: Path, tmp_path: Path) -> None:
    subvolume = volume / "data"
    assert run("btrfs", "subvolume", "create", str(subvolume))
    folder = subvolume / "docs"
    folder.mkdir()
    (folder / "a").write_text("before")
    snapshots = BtrfsSnapshots(tmp_path / "state")
    taken = snapshots.take((os.fsencode(folder).lstrip(b"/"),))
    assert taken is not None
    assert taken.base
    (folder / "a").write_text("changed after the snapshot")
    (folder / "b").write_text("new")
    seen = _names(taken.base, folder)
    key = os.fsencode(folder).lstrip(b"/")
    assert seen[key + b"/a"] == len("before")
    assert key + b"/b" not in seen
    snapshots.release(taken)
    assert [path.name for path in subvolume.iterdir() if path.name.startswith(MARK)] == []


def test_what_a_killed_agent_left_is_removed(volume: Path, tmp_path: Path) -> None:
    subvolume = volume / "data"
    assert run("btrfs", "subvolume", "create", str(subvolume))
    (subvolume / "a").write_text("a")
    snapshots = BtrfsSnapshots(tmp_path / "state")
    assert snapshots.take((os.fsencode(subvolume).lstrip(b"/"),)) is not None
    assert BtrfsSnapshots(tmp_path / "state").remove_leftovers() == 1
    assert [path.name for path in subvolume.iterdir()] == ["a"]


def test_other_file_systems_are_read_live_and_say_so(tmp_path: Path) -> None:
    adapters = snapshot_adapters(tmp_path)
    include = (os.fsencode(tmp_path).lstrip(b"/"),)
    assert adapters[0].take(include) is None or os.geteuid() == 0
    live = adapters[-1].take(include)
    assert live is not None
    assert live.base == b""
    assert "without a volume snapshot" in live.reason
