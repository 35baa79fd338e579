"""What happens to files while they are read, and where a backup stops: each is told, none fails the
run, and the next backup makes it good."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.testing.files_vault import FilesVault, LaterClock
from holdfast.testing.small_disk import can_mount, small_disk
from holdfast.workloads.files.compare import compare_inventories, take_inventory
from holdfast.workloads.files.listing import ROW, Listing
from holdfast.workloads.files.restore import RestorePlan
from holdfast.workloads.files.scan_process import Scanner

ROOT = os.geteuid() == 0
NOBODY = 65534
FAST = 1_000_000_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    return folder


@pytest.fixture
def vault(tmp_path: Path) -> FilesVault:
    made = FilesVault(tmp_path / "vault", pack_target_bytes=1 << 18)
    made.clock = LaterClock()
    return made


def found(vault: FilesVault) -> set[tuple[str, str]]:
    return {(one.code, os.fsdecode(one.path).rpartition("/")[2]) for one in vault.findings}


def restored(vault: FilesVault, source: Path, out: Path) -> Path:
    vault.restore(RestorePlan(target=out))
    return out / str(source).lstrip("/")


def differences(vault: FilesVault, source: Path, out: Path) -> list[str]:
    place = restored(vault, source, out)
    compared = compare_inventories(
        take_inventory([source]), take_inventory([place]), strip_right=str(out), owners=ROOT
    )
    assert compared.compared > 0
    return compared.lines


def test_a_file_that_changes_while_it_is_read(
    source: Path, vault: FilesVault, tmp_path: Path
) -> None:
    """It is found, kept as read, and read again next time although nothing of it changed since."""
    noisy = source / "noisy"
    noisy.write_bytes(os.urandom(48_000_000))
    (source / "quiet").write_bytes(b"quiet")
    changed: list[os.stat_result] = []

    def change(_seconds: float) -> None:
        """Called while the first pack is sent: the end of the file is not read yet."""
        if not changed:
            with noisy.open("r+b") as out:
                out.seek(-1_000_000, os.SEEK_END)
                out.write(b"changed" * 1000)
            changed.append(noisy.stat())

    vault.back_up(source, wait=change, throttle_bytes_per_second=FAST)
    assert found(vault) == {("FileChanged", "noisy")}
    kept = restored(vault, source, tmp_path / "first")
    assert (kept / "quiet").read_bytes() == b"quiet"
    assert (kept / "noisy").stat().st_size == 48_000_000
    assert noisy.stat().st_mtime_ns == changed[0].st_mtime_ns

    vault.back_up(source)
    assert found(vault) == set()
    assert differences(vault, source, tmp_path / "second") == []


def meanwhile(monkeypatch: pytest.MonkeyPatch, folder: Path, act: Callable[[], object]) -> None:
    """Do ``act`` when ``folder`` was listed and nothing of it was read."""
    real, done = Scanner.__iter__, []

    def scan(self: Scanner) -> Iterator[Listing]:
        for listing in real(self):
            if listing.path == os.fsencode(folder).lstrip(b"/") and not done:
                done.append(act())
            yield listing

    monkeypatch.setattr(Scanner, "__iter__", scan)


def test_files_that_vanish_before_they_are_read(
    source: Path, vault: FilesVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "gone", "z"):
        (source / name).write_text(name)
    (source / "gone-link").symlink_to("a")
    (source / "gone-large").write_bytes(os.urandom(300_000))
    (source / "gone-folder").mkdir()
    (source / "gone-folder" / "inside").write_text("inside")

    def remove() -> None:
        for name in ("gone", "gone-link", "gone-large"):
            (source / name).unlink()
        shutil.rmtree(source / "gone-folder")

    meanwhile(monkeypatch, source, remove)
    vault.back_up(source)
    names = {"gone", "gone-link", "gone-large", "gone-folder"}
    assert found(vault) == {("FileVanished", name) for name in names}
    kept = restored(vault, source, tmp_path / "out")
    assert {path.name for path in kept.iterdir()} - {"gone-folder"} == {"a", "z"}
    assert (kept / "z").read_text() == "z"


def test_a_file_that_becomes_a_link_is_not_followed(
    source: Path, vault: FilesVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not protected")
    (source / "plain").write_text("plain text")

    def swap() -> None:
        (source / "plain").unlink()
        (source / "plain").symlink_to(secret)

    meanwhile(monkeypatch, source, swap)
    vault.back_up(source)
    assert [name for _, name in found(vault)] == ["plain"]
    assert not (restored(vault, source, tmp_path / "out") / "plain").exists()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@contextmanager
def without_root() -> Iterator[None]:
    """As a user whom permissions stop."""
    if not ROOT:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_what_may_not_be_read_is_found_every_time_until_it_may(open_folder: Path) -> None:
    with without_root():
        source = open_folder / "src"
        (source / "closed").mkdir(parents=True)
        (source / "closed" / "inside").write_text("inside")
        (source / "open").write_text("open")
        (source / "secret").write_text("secret")
        (source / "large").write_bytes(os.urandom(300_000))
        unreadable = [source / "closed", source / "secret", source / "large"]
        for path in unreadable:
            path.chmod(0)
        vault = FilesVault(open_folder / "vault")
        vault.clock = LaterClock()
        for _ in range(2):
            vault.back_up(source)
            assert found(vault) == {("Unreadable", path.name) for path in unreadable}
        kept = restored(vault, source, open_folder / "first")
        assert {path.name for path in kept.iterdir()} == {"open", "closed"}
        for path in unreadable:
            path.chmod(0o700)
        vault.back_up(source)
        assert found(vault) == set()
        assert differences(vault, source, open_folder / "second") == []


def test_a_socket_is_told_in_every_backup(source: Path, vault: FilesVault) -> None:
    (source / "a").write_text("a")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fsencode(source / "door"))
        for _ in range(3):
            vault.back_up(source)
            assert found(vault) == {("SocketSkipped", "door")}


def coarse(listing: Listing) -> Listing:
    """As of a file system whose clock hardly moves."""
    rows = ROW.iter_unpack(listing.rows)
    listing.rows = b"".join(ROW.pack(*row[:4], 0, *row[5:]) for row in rows)
    return listing


def test_a_change_that_no_time_shows_is_not_missed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same size, time put back, and the file system's clock too coarse to tell: a file changed less
    than two seconds before the scan is read again in the next backup."""
    real = Scanner.__iter__
    monkeypatch.setattr(Scanner, "__iter__", lambda self: map(coarse, real(self)))
    vault = FilesVault(tmp_path / "vault")
    path = source / "racy"
    path.write_bytes(b"before")
    before = path.stat()
    vault.back_up(source)
    with path.open("r+b") as out:
        out.write(b"after!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    vault.back_up(source)
    kept = restored(vault, source, tmp_path / "out") / "racy"
    assert kept.read_bytes() == b"after!"
    assert kept.stat().st_mtime_ns == before.st_mtime_ns


def test_a_time_put_back_hides_nothing(source: Path, vault: FilesVault, tmp_path: Path) -> None:
    path = source / "sly"
    path.write_bytes(b"before")
    before = path.stat()
    vault.back_up(source)
    assert vault.back_up(source).transferred_bytes < 5_000
    path.write_bytes(b"after!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    vault.back_up(source)
    assert (restored(vault, source, tmp_path / "out") / "sly").read_bytes() == b"after!"


def test_attributes_of_folders_alone_make_a_change(
    source: Path, vault: FilesVault, tmp_path: Path
) -> None:
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "file").write_text("file")
    vault.back_up(source)
    (source / "a" / "b").chmod(0o711)
    os.utime(source / "a" / "b", ns=(1_111_111_111_222_333_444,) * 2)
    os.utime(source, ns=(1_222_222_222_333_444_555,) * 2)
    vault.back_up(source)
    assert differences(vault, source, tmp_path / "out") == []
    kept = tmp_path / "out" / str(source).lstrip("/")
    assert kept.stat().st_mtime_ns == 1_222_222_222_333_444_555
    assert (kept / "a" / "b").stat().st_mtime_ns == 1_111_111_111_222_333_444


@pytest.mark.skipif(not can_mount(), reason="mounting a small file system needs root")
def test_other_file_systems_are_entered_only_when_named(
    source: Path, vault: FilesVault, tmp_path: Path
) -> None:
    (source / "a").write_text("a")
    with small_disk(source / "mounted", "1m") as disk:
        (disk.folder / "inside").write_text("inside")
        vault.back_up(source)
        assert found(vault) == set()
        kept = restored(vault, source, tmp_path / "without")
        assert (kept / "a").read_text() == "a"
        assert list((kept / "mounted").iterdir()) == []
        vault.back_up(source, disk.folder)
        kept = restored(vault, source, tmp_path / "with")
        assert (kept / "mounted" / "inside").read_text() == "inside"


def test_a_link_of_what_could_not_be_read_comes_back_by_itself(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read under its own name, and both are one file again in the next backup."""
    with without_root():
        source = open_folder / "src"
        (source / "a").mkdir(parents=True)
        (source / "b").mkdir()
        (source / "a" / "first").write_text("one file")
        (source / "b" / "second").hardlink_to(source / "a" / "first")
        vault = FilesVault(open_folder / "vault")
        vault.clock = LaterClock()
        with monkeypatch.context() as patch:
            meanwhile(patch, source / "a", lambda: (source / "a").chmod(0))
            vault.back_up(source)
        assert ("Unreadable", "first") in found(vault)
        assert ("Unreadable", "second") not in found(vault)
        kept = restored(vault, source, open_folder / "first-out")
        assert (kept / "b" / "second").read_text() == "one file"
        (source / "a").chmod(0o755)
        vault.back_up(source)
        assert found(vault) == set()
        assert differences(vault, source, open_folder / "out") == []


def test_small_files_that_grow_or_change_after_they_were_listed(
    source: Path, vault: FilesVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("changed", "grown", "same"):
        (source / name).write_text(name)

    def change() -> None:
        (source / "changed").write_text("changed, and longer")
        (source / "grown").write_bytes(os.urandom(1_000_000))

    with monkeypatch.context() as patch:
        meanwhile(patch, source, change)
        vault.back_up(source)
    assert found(vault) == set()
    kept = restored(vault, source, tmp_path / "first")
    assert (kept / "grown").read_bytes() == (source / "grown").read_bytes()
    assert (kept / "changed").read_text() == "changed, and longer"
    assert (kept / "same").read_text() == "same"
    vault.back_up(source)
    assert found(vault) == set()
    assert differences(vault, source, tmp_path / "second") == []


def test_a_folder_that_was_away_for_a_moment_is_not_lost(
    source: Path, vault: FilesVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved away and back: nothing inside shows that it was never read."""
    folder, away = source / "folder", source / "away"
    folder.mkdir()
    (folder / "file").write_text("file")
    (folder / "link").symlink_to("file")
    with monkeypatch.context() as patch:
        meanwhile(patch, folder, lambda: folder.rename(away))
        vault.back_up(source)
    assert found(vault) == {("FileVanished", "file"), ("FileVanished", "link")}
    away.rename(folder)
    vault.back_up(source)
    assert found(vault) == set()
    assert differences(vault, source, tmp_path / "out") == []


@pytest.mark.parametrize("size", [131_072, 131_073, 5_000_000])
def test_a_file_that_outgrows_small_ones_is_read_whole(
    source: Path, vault: FilesVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (source / "grows").write_bytes(b"small")
    (source / "stays").write_bytes(b"stays")
    content = os.urandom(size)

    def grow() -> None:
        (source / "grows").write_bytes(content)

    meanwhile(monkeypatch, source, grow)
    vault.back_up(source)
    assert (restored(vault, source, tmp_path / "out") / "grows").read_bytes() == content
    vault.back_up(source)
    assert differences(vault, source, tmp_path / "again") == []


def test_a_link_outlives_the_name_that_was_to_be_read(
    source: Path, vault: FilesVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").write_bytes(b"one file")
    os.link(source / "a", source / "b")
    meanwhile(monkeypatch, source, (source / "a").unlink)
    vault.back_up(source)
    assert found(vault) == {("FileVanished", "a")}
    kept = restored(vault, source, tmp_path / "out")
    assert [(path.name, path.read_bytes()) for path in kept.iterdir()] == [("b", b"one file")]


def test_a_link_listed_empty_gives_nothing_to_one_listed_full(
    source: Path, vault: FilesVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "a").mkdir()
    (source / "b").mkdir()
    (source / "a" / "name").touch()
    os.link(source / "a" / "name", source / "b" / "name")

    def fill() -> None:
        (source / "b" / "name").write_text("x")

    meanwhile(monkeypatch, source / "a", fill)
    vault.back_up(source)
    kept = restored(vault, source, tmp_path / "out")
    assert (kept / "b" / "name").read_text() == "x"


def test_a_time_beyond_the_format_is_told_and_stops_nothing(
    source: Path, vault: FilesVault, tmp_path: Path
) -> None:
    (source / "far").write_text("far")
    (source / "near").write_text("near")
    os.utime(source / "far", (0, 10_400_000_000))  # 2299
    if (source / "far").stat().st_mtime_ns <= (1 << 63) - 1:
        (source / "far").unlink()  # this file system cannot hold such a time
    vault.back_up(source)
    told = {("TimeOutOfRange", "far")} if (source / "far").exists() else set()
    assert found(vault) == told
    kept = restored(vault, source, tmp_path / "out")
    assert {path.name for path in kept.iterdir()} == {path.name for path in source.iterdir()}


@pytest.mark.skipif(not can_mount(), reason="mounting a small file system needs root")
def test_an_include_inside_what_is_passed_over_is_reached(
    source: Path, vault: FilesVault, tmp_path: Path
) -> None:
    (source / "skipped" / "kept").mkdir(parents=True)
    (source / "skipped" / "beside").write_text("beside")
    (source / "skipped" / "kept" / "inside").write_text("inside")
    with small_disk(source / "mounted", "1m") as disk:
        (disk.folder / "sub").mkdir()
        (disk.folder / "sub" / "deep").write_text("deep")
        (disk.folder / "other").write_text("other")
        includes = (source, source / "skipped" / "kept", disk.folder / "sub")
        vault.back_up(*includes, exclude_globs=[str(source / "skipped")])
        kept = restored(vault, source, tmp_path / "out")
        files = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
        assert files == {"skipped/kept/inside", "mounted/sub/deep"}
