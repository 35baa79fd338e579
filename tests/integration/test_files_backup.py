"""Backups of real trees through a real vault: what is read, what is kept, what is said."""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from holdfast.adapters.clock import SystemClock
from holdfast.errors import SourceError, UsageError
from holdfast.testing.files_vault import FilesVault
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.workloads.files.compare import compare_inventories, take_inventory
from holdfast.workloads.files.restore import RestorePlan
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.files.small_files import BundleReader


class AnHourLater(SystemClock):
    """A clock by which all files are old, so that none counts as just changed."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)


def restored_as(vault: FilesVault, source: Path, target: Path) -> list[str]:
    """Restore the latest point; what differs from ``source``."""
    vault.restore(RestorePlan(target=target))
    difference = compare_inventories(
        take_inventory([source]),
        take_inventory([target / str(source).lstrip("/")]),
        strip_right=str(target),
        owners=os.geteuid() == 0,
    )
    assert difference.compared > 1
    return difference.lines


def test_small_files_beside_large_ones_keep_their_content(tmp_path: Path) -> None:
    """The folder must wait for its small files even when its large file is done."""
    source = tmp_path / "src"
    source.mkdir()
    noise = random.Random(5)
    for number in range(40):
        (source / f"a-{number}").write_bytes(noise.randbytes(noise.randrange(1, 3000)))
        (source / f"b-{number}").write_bytes(noise.randbytes(200_000))
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    assert restored_as(vault, source, tmp_path / "out") == []


def test_an_unchanged_tree_sends_nothing_and_a_changed_file_little(tmp_path: Path) -> None:
    source = tmp_path / "src"
    noise = random.Random(6)
    for number in range(300):
        path = source / f"dir-{number % 10}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(9000))
    vault = FilesVault(tmp_path / "vault")
    vault.clock = AnHourLater()
    first = vault.back_up(source)
    assert first.transferred_bytes > 2_500_000
    assert vault.back_up(source).transferred_bytes < 20_000
    (source / "dir-3" / "file-3").write_bytes(b"changed")
    changed = vault.back_up(source)
    assert 0 < changed.transferred_bytes < 100_000
    assert restored_as(vault, source, tmp_path / "out") == []


def test_a_damaged_cache_costs_time_and_no_data(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for number in range(50):
        (source / f"file-{number}").write_text(f"content {number}\n" * 300)
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    cache = vault.folder / "cache"
    data = bytearray(cache.read_bytes())
    for at in range(20, len(data), 97):
        data[at] ^= 0x55
    cache.write_bytes(data)
    vault.back_up(source)
    assert restored_as(vault, source, tmp_path / "out") == []


@pytest.mark.parametrize(("refused", "kept"), [("ab", ["c"]), ("a", ["b", "c"])])
def test_a_hard_link_of_an_unreadable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str, kept: list[str]
) -> None:
    """It is read under its own name; only where that fails too is it left out, with a finding."""
    source = tmp_path / "src"
    source.mkdir()
    (source / "a").write_bytes(b"secret" * 1000)
    os.link(source / "a", source / "b")
    (source / "c").write_text("readable")
    opened = BundleReader._open

    def refuse(self: BundleReader, path: bytes, mine: bool) -> int:
        if path.rpartition(b"/")[2].decode() in refused:
            raise PermissionError(13, "Permission denied")
        return opened(self, path, mine)

    monkeypatch.setattr(BundleReader, "_open", refuse)
    vault = FilesVault(tmp_path / "vault")
    assert vault.back_up(source).findings_count == len(refused)
    vault.restore(RestorePlan(target=tmp_path / "out"))
    place = tmp_path / "out" / str(source).lstrip("/")
    assert sorted(path.name for path in place.iterdir()) == kept
    for name in kept:
        assert (place / name).read_bytes() == (source / name).read_bytes()


def test_excludes_missing_includes_and_senseless_ones(tmp_path: Path) -> None:
    source = tmp_path / "src"
    (source / "cache").mkdir(parents=True)
    (source / "cache" / "x").write_text("x")
    (source / "keep.txt").write_text("keep")
    (source / "drop.tmp").write_text("drop")
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source, exclude_globs=["*.tmp", "/**/cache"])
    vault.restore(RestorePlan(target=tmp_path / "out"))
    kept = tmp_path / "out" / str(source).lstrip("/")
    assert sorted(path.name for path in kept.iterdir()) == ["keep.txt"]
    with pytest.raises(SourceError) as missing:
        vault.back_up(tmp_path / "nowhere")
    assert missing.value.code == "SourcePathMissing"
    with pytest.raises(UsageError):
        vault.back_up()


def test_a_bundle_that_equals_a_manifest_page_restores_beside_it(tmp_path: Path) -> None:
    """Small files that together are, byte for byte, the page that names another tree's files."""
    source, forged = tmp_path / "src", tmp_path / "forged"
    source.mkdir()
    forged.mkdir()
    for number in range(60):
        (source / f"file-{number}").write_bytes(b"%d" % number * 50)
    vault = FilesVault(tmp_path / "vault")
    vault.back_up(source)
    tree = vault.vault.root(vault.latest()).file_tree
    assert tree is not None
    reading = vault.restore_session()
    page = bytes(ChunkFetcher(reading).page(tree.page_root))
    keys = reading.grant.id_keys
    reading.close()
    step = len(page) // 4 + 1
    assert step > 500
    for number, start in enumerate(range(0, len(page), step)):
        (forged / f"part-{number}").write_bytes(page[start : start + step])

    first = vault.latest()
    vault.back_up(forged)
    bundle = chunk_name(keys, ChunkKind.BUNDLE, page)[:32]
    assert bundle != tree.page_root == chunk_name(keys, ChunkKind.FILE_PAGE, page)[:32]
    reading = vault.restore_session()
    assert len(reading.locate(bundle)) == 1, "the small files are one bundle, equal to the page"
    reading.close()
    for one, point in ((source, first), (forged, vault.latest())):
        vault.restore(RestorePlan(target=tmp_path / "out"), rp_id=point)
        found = compare_inventories(
            take_inventory([one]),
            take_inventory([tmp_path / "out" / str(one).lstrip("/")]),
            strip_right=str(tmp_path / "out"),
            owners=os.geteuid() == 0,
        )
        assert found.lines == []
        assert found.compared > 4
