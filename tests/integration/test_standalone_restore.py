"""A vault's folder and its key alone: list and restore, without a server or a catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.adapters.object_store.local import LocalStore
from holdfast.errors import AccessError, NotFoundError, UsageError
from holdfast.testing.files_vault import PASSPHRASE, FilesVault
from holdfast.testing.nasty_tree import build_nasty_tree, remove_tree
from holdfast.vaultstore.reader import VaultReader
from holdfast.workloads.files import restore_plan, standalone
from holdfast.workloads.files.compare import compare_inventories, take_inventory


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """source, vault and key of one backup."""
    folder = tmp_path_factory.mktemp("standalone")
    build_nasty_tree(folder / "source")
    vault = FilesVault(folder / "vault")
    vault.back_up(folder / "source")
    (folder / "key").write_bytes(vault.vault.export_key(PASSPHRASE))
    yield folder
    remove_tree(folder)


def opened(place: Path) -> VaultReader:
    return standalone.read_vault(LocalStore(place / "vault" / "store"), place / "key", PASSPHRASE)


def test_points_are_listed(place: Path) -> None:
    (row,) = standalone.point_rows(opened(place))
    assert (row["item"], row["container"]) == ("docs", "host1")
    assert row["logicalBytes"] > 0


def test_a_point_is_restored_as_it_was(place: Path, tmp_path: Path) -> None:
    done, findings = standalone.restore_point(opened(place), "docs", "", "latest", tmp_path / "to")
    assert findings == ()
    found = compare_inventories(
        take_inventory([place / "source"]),
        take_inventory([tmp_path / "to" / str(place / "source").lstrip("/")]),
        strip_right=str(tmp_path / "to"),
    )
    assert found.lines == []
    assert done.files > 600
    top = str(place).split("/")[1]
    assert os.listdir(tmp_path / "to") == [top], "the journal is gone"
    remove_tree(tmp_path / "to")


def test_an_interrupted_restore_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_plan, "WINDOW_ENTRIES", 40)
    reader, reads = opened(place), [0]
    fetch = reader.fetch

    def fails(rp_id: str, ids: list[bytes]) -> object:
        reads[0] += 1
        if reads[0] == 7:
            raise KeyboardInterrupt
        return fetch(rp_id, ids)

    monkeypatch.setattr(reader, "fetch", fails)
    with pytest.raises(KeyboardInterrupt):
        standalone.restore_point(reader, "docs", "host1", "latest", tmp_path / "to")
    assert [name for name in os.listdir(tmp_path / "to") if name.startswith(".holdfast-restore-")]
    _, findings = standalone.restore_point(reader, "docs", "host1", "latest", tmp_path / "to")
    assert findings == ()
    found = compare_inventories(
        take_inventory([place / "source"]),
        take_inventory([tmp_path / "to" / str(place / "source").lstrip("/")]),
        strip_right=str(tmp_path / "to"),
    )
    assert found.lines == []
    remove_tree(tmp_path / "to")


def test_selected_paths(place: Path, tmp_path: Path) -> None:
    chosen = place / "source" / "contents" / "text-4096"
    done, _ = standalone.restore_point(
        opened(place), "docs", "", "latest", tmp_path / "to", [str(chosen)]
    )
    assert done.files == 1
    assert (tmp_path / "to" / str(chosen).lstrip("/")).read_bytes() == chosen.read_bytes()


def test_wrong_names_and_keys_are_said(place: Path, tmp_path: Path) -> None:
    reader = opened(place)
    cases = [("nothing", "latest", "ItemNotFound"), ("docs", "12345", "RecoveryPointNotFound")]
    for item, point, code in cases:
        with pytest.raises(NotFoundError) as missing:
            standalone.restore_point(reader, item, "", point, tmp_path / "to")
        assert missing.value.code == code
    assert not (tmp_path / "to").exists()
    store = LocalStore(place / "vault" / "store")
    with pytest.raises(AccessError):
        standalone.read_vault(store, place / "key", "another passphrase")
    with pytest.raises(UsageError):
        standalone.read_vault(store, place / "no key", PASSPHRASE)
