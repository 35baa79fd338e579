"""A name that another process or thread made is told only once it lasts, whatever became of that
process: looked at with the power cut right after the look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from holdfast.adapters.object_store import local, local_names
from holdfast.adapters.object_store.local import LocalStore
from holdfast.errors import ObjectExistsError, StoreUnavailableError
from holdfast.testing.power_cut import WatchedDisk


def taken(store: LocalStore, key: str) -> bool:
    with pytest.raises(ObjectExistsError):
        store.create(key, b"mine")
    return True


LOOKS: dict[str, Callable[[LocalStore, str], object]] = {
    "read": lambda store, key: store.read(key),
    "range": lambda store, key: store.read_range(key, 0, 1),
    "size": lambda store, key: store.size(key),
    "create": taken,
}


class KilledError(BaseException):
    """The process that writes is gone."""


@contextmanager
def killed_before_the_folder_is_synced() -> Iterator[None]:
    def die(_folder: Path) -> None:
        raise KilledError

    with patch.object(local, "sync_folder", die), pytest.raises(KilledError):
        yield


@pytest.mark.parametrize("look", LOOKS)
def test_a_name_of_a_process_that_was_killed_lasts_once_it_was_seen(
    tmp_path: Path, look: str
) -> None:
    root = tmp_path / "store"
    writer, other = LocalStore(root), LocalStore(root)
    writer.create("v/log/1", b"one")
    other.read("v/log/1")  # it has synced this folder before
    disk = WatchedDisk(root)
    with disk.watching():
        with killed_before_the_folder_is_synced():
            writer.create("v/log/2", b"two")
        unseen = disk.survivors(tmp_path / "unseen")
        assert LOOKS[look](other, "v/log/2")
    assert LocalStore(unseen).size("v/log/2") is None, "nothing had synced it"
    assert LocalStore(disk.survivors(tmp_path / "after")).read("v/log/2") == b"two"


def test_a_folder_at_rest_is_synced_once(tmp_path: Path) -> None:
    writer = LocalStore(tmp_path)
    for number in range(5):
        writer.create(f"v/packs/{number}", b"data")
    synced: list[Path] = []
    with (
        patch.object(local_names, "CALM_NS", -1),
        patch.object(local, "sync_folder", synced.append),
    ):
        other = LocalStore(tmp_path)
        for number in (0, 1, 2, 0):
            other.read(f"v/packs/{number}")
        assert synced == [tmp_path / "v/packs"]
        assert writer.read("v/packs/0") == b"data"
        assert len(synced) == 1, "who made a name need not ask"


def test_a_name_is_not_told_while_its_folder_cannot_be_synced(tmp_path: Path) -> None:
    writer, other = LocalStore(tmp_path), LocalStore(tmp_path)
    with killed_before_the_folder_is_synced():
        writer.create("v", b"data")

    def fail(_folder: Path) -> None:
        raise OSError(5, "the disk does not answer")

    with patch.object(local, "sync_folder", fail), pytest.raises(StoreUnavailableError):
        other.read("v")
    assert other.read("v") == b"data"
