"""Restore and compare: what comes back is what was there, every byte and attribute."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import NotFoundError
from holdfast.testing.acls import set_acl
from holdfast.testing.files_vault import FilesVault
from holdfast.testing.nasty_tree import build_nasty_tree, remove_tree
from holdfast.workloads.files import restore_plan, restore_writer
from holdfast.workloads.files.compare import compare_inventories, take_inventory
from holdfast.workloads.files.restore import RestorePlan

ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Removed at the end even when paths in it are beyond PATH_MAX."""
    yield tmp_path
    remove_tree(tmp_path)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_plan, "WINDOW_ENTRIES", 40)
    monkeypatch.setattr(restore_plan, "WINDOW_BYTES", 2_000_000)


def below(target: Path, source: Path) -> Path:
    return target / str(source).lstrip("/")


def differences(source: Path, target: Path) -> list[str]:
    found = compare_inventories(
        take_inventory([source]), take_inventory([below(target, source)]), strip_right=str(target)
    )
    assert found.compared > 0
    return found.lines


def test_everything_nasty_comes_back_as_it_was(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    before = take_inventory([source])
    assert before.unreadable == {}
    vault.back_up(source)
    result, run = vault.restore(RestorePlan(target=target), journal=folder / "journal")
    assert run.findings.all() == ()
    assert differences(source, target) == []
    above = len(source.parts) - 2  # the folders that lead to the source are in the point too
    assert result.files + result.directories == len(before.entries) + above
    assert not (folder / "journal").exists()


def test_where_every_file_has_a_name_from_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems without O_TMPFILE, which refuse it so."""
    monkeypatch.setattr(restore_writer, "_NAMELESS", os.O_RDWR)
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    for _ in range(2):  # to nothing, and over what is there
        _, run = vault.restore(RestorePlan(target=target, conflict="overwrite"))
        assert run.findings.all() == ()
        assert differences(source, target) == []


def test_windows_do_not_show(folder: Path, small_windows: None) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source, seed=2)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    _, run = vault.restore(RestorePlan(target=target))
    assert run.findings.all() == ()
    assert differences(source, target) == []


def test_restoring_over_a_restored_tree_gives_the_same(folder: Path, small_windows: None) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    vault.restore(RestorePlan(target=target))
    spoiled = below(target, source)
    (spoiled / "contents" / "random-4096").write_bytes(b"spoiled")
    os.setxattr(spoiled / "xattrs" / "dir", "user.later", b"not in the backup")
    (spoiled / "rights" / "dir-755").mkdir()
    (spoiled / "rights" / "dir-755").rmdir()
    result, run = vault.restore(RestorePlan(target=target))
    assert run.findings.all() == ()
    assert result.replaced > 0
    assert differences(source, target) == []


def test_one_member_of_a_hard_link_is_whole(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    chosen = source / "links" / "b" / "large"
    result, _ = vault.restore(RestorePlan(target=target, paths=[str(chosen)]))
    restored = below(target, chosen)
    assert restored.read_bytes() == chosen.read_bytes()
    assert restored.stat().st_nlink == 1
    assert result.files == 1


def test_hard_links_across_windows_stay_one_file(folder: Path, small_windows: None) -> None:
    source, target = folder / "source", folder / "target"
    for number in range(6):
        (source / f"d{number}").mkdir(parents=True)
        for other in range(30):
            (source / f"d{number}" / f"own-{other}").write_bytes(b"%d" % other)
    (source / "d0" / "first").write_bytes(b"shared" * 1000)
    for number in range(1, 6):
        (source / f"d{number}" / "name").hardlink_to(source / "d0" / "first")
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    vault.restore(RestorePlan(target=target))
    assert below(target, source / "d0" / "first").stat().st_nlink == 6
    assert differences(source, target) == []


def test_selected_paths_bring_only_themselves_and_the_way_to_them(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    build_nasty_tree(source)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    wanted = [source / "links", source / "links" / "b", source / "contents" / "text-4096"]
    result, run = vault.restore(RestorePlan(target=target, paths=[f"{one}/" for one in wanted]))
    assert run.findings.all() == ()
    assert sorted(os.listdir(below(target, source))) == ["contents", "links"]
    assert os.listdir(below(target, source / "contents")) == ["text-4096"]
    found = compare_inventories(
        take_inventory([source / "links"]),
        take_inventory([below(target, source / "links")]),
        strip_right=str(target),
    )
    assert found.lines == []
    assert result.files == 13, "a path selected twice is restored once"
    led = below(target, source / "contents").stat()
    assert led.st_mtime_ns == (source / "contents").stat().st_mtime_ns
    assert led.st_mode == (source / "contents").stat().st_mode


def test_a_path_that_is_not_there_is_refused_before_anything_is_written(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    source.mkdir()
    (source / "there").write_bytes(b"t")
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    plan = RestorePlan(target=target, paths=[str(source / "there"), str(source / "gone")])
    with pytest.raises(NotFoundError) as caught:
        vault.restore(plan)
    assert caught.value.code == "PathNotInRecoveryPoint"
    assert not target.exists()


@pytest.fixture
def three_files(folder: Path) -> tuple[Path, FilesVault]:
    """Backed up: a, b, sub/c. Then a is changed, b deleted, and sub/new added."""
    source = folder / "source"
    (source / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (source / name).write_bytes(f"content of {name}".encode())
        os.utime(source / name, ns=(10**18, 10**18))
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    (source / "a").write_bytes(b"changed later")
    (source / "b").unlink()
    (source / "sub" / "new").write_bytes(b"new")
    return source, vault


def test_overwrite_brings_back_and_leaves_the_rest(three_files: tuple[Path, FilesVault]) -> None:
    source, vault = three_files
    result, _ = vault.restore(RestorePlan(target=None, paths=[str(source)]))
    assert (source / "a").read_bytes() == b"content of a"
    assert (source / "b").read_bytes() == b"content of b"
    assert (source / "sub" / "new").read_bytes() == b"new"
    assert (result.files, result.replaced, result.skipped) == (3, 2, 0)


def test_skip_leaves_what_is_there(three_files: tuple[Path, FilesVault]) -> None:
    source, vault = three_files
    before = source.stat()
    result, _ = vault.restore(RestorePlan(target=None, paths=[str(source)], conflict="skip"))
    assert (source / "a").read_bytes() == b"changed later"
    assert (source / "b").read_bytes() == b"content of b"
    assert (result.files, result.replaced, result.skipped) == (1, 0, 2)
    assert source.stat().st_mode == before.st_mode


def test_keep_both_puts_a_copy_beside(three_files: tuple[Path, FilesVault]) -> None:
    source, vault = three_files
    plan = RestorePlan(target=None, paths=[str(source)], conflict="keep-both", suffix=".restored-7")
    result, _ = vault.restore(plan)
    assert (source / "a").read_bytes() == b"changed later"
    assert (source / "a.restored-7").read_bytes() == b"content of a"
    assert (source / "b").read_bytes() == b"content of b"
    assert (result.files, result.beside) == (3, 2)
    (source / "a.restored-7").write_bytes(b"edited by the user")
    vault.restore(plan)
    assert (source / "a.restored-7").read_bytes() == b"edited by the user"
    assert (source / "a.restored-7-2").read_bytes() == b"content of a"
    assert not (source / "sub" / "c.restored-7-2").exists(), "an identical copy is enough"


def test_keep_both_with_long_names(folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    names = ["é" * 127, "é" * 126 + "xx"]
    for name in names:
        (source / name).write_bytes(name.encode())
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    for name in names:
        (source / name).write_bytes(b"changed")
    plan = RestorePlan(target=None, paths=[str(source)], conflict="keep-both", suffix=".restored")
    result, _ = vault.restore(plan)
    assert result.beside == 2
    copies = {path.read_bytes() for path in source.iterdir() if ".restored" in path.name}
    assert copies == {name.encode() for name in names}
    for path in source.iterdir():
        path.name.encode()  # no name was cut within a character


def test_skip_never_links_to_a_file_that_was_left_alone(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    source.mkdir()
    (source / "a").write_bytes(b"shared")
    (source / "b").hardlink_to(source / "a")
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    below(target, source).mkdir(parents=True)
    below(target, source / "a").write_bytes(b"somebody else's")
    vault.restore(RestorePlan(target=target, conflict="skip"))
    assert below(target, source / "a").read_bytes() == b"somebody else's"
    assert below(target, source / "b").read_bytes() == b"shared"


def test_a_file_gives_way_to_a_folder_and_an_empty_folder_to_a_file(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    (source / "dir").mkdir(parents=True)
    (source / "dir" / "inside").write_bytes(b"i")
    (source / "file").write_bytes(b"f")
    (source / "full").write_bytes(b"f")
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    there = below(target, source)
    there.mkdir(parents=True)
    (there / "dir").write_bytes(b"a file")
    (there / "file").mkdir()
    (there / "full").mkdir()
    (there / "full" / "kept").write_bytes(b"kept")
    _, run = vault.restore(RestorePlan(target=target))
    assert (there / "dir" / "inside").read_bytes() == b"i"
    assert (there / "file").read_bytes() == b"f"
    assert (there / "full" / "kept").read_bytes() == b"kept"
    assert [one.code for one in run.findings.all()] == ["NotRestored"]
    assert not [name for name in os.listdir(there) if name.startswith(".holdfast")]


def test_a_dry_run_says_what_the_restore_then_does(three_files: tuple[Path, FilesVault]) -> None:
    source, vault = three_files
    for conflict in ("skip", "keep-both", "overwrite"):
        plan = RestorePlan(target=None, paths=[str(source)], conflict=conflict, dry_run=True)
        before = take_inventory([source])
        told, _ = vault.restore(plan)
        assert take_inventory([source]).entries == before.entries, "a dry run writes nothing"
        assert told.dry_run
        shown = {path.rpartition(b"/")[2]: word for word, path in told.preview}
        assert shown[b"a"] == conflict
        assert shown[b"b"] == "write"
        if conflict == "skip":
            done, _ = vault.restore(RestorePlan(target=None, paths=[str(source)], conflict="skip"))
            assert (done.files, done.skipped) == (told.files, told.skipped)
            (source / "b").unlink()


def test_a_dry_run_into_an_absent_target_makes_nothing(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    source.mkdir()
    (source / "a").write_bytes(b"12345")
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    told, _ = vault.restore(RestorePlan(target=target, dry_run=True))
    assert (told.files, told.logical_bytes) == (1, 5)
    assert not target.exists()


@pytest.mark.skipif(not ROOT, reason="owners are set by root only")
def test_owners_are_mapped_by_name_unless_numeric(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder / "source"
    source.mkdir()
    (source / "file").write_bytes(b"f")
    os.chown(source / "file", 1, 1)  # daemon on every Linux
    vault = FilesVault(folder / "vault")
    vault.back_up(source)

    class Elsewhere:
        pw_uid = 4242

    real = __import__("pwd").getpwnam
    monkeypatch.setattr("pwd.getpwnam", lambda n: Elsewhere if n == "daemon" else real(n))
    vault.restore(RestorePlan(target=folder / "named"))
    vault.restore(RestorePlan(target=folder / "numbered", numeric=True))
    assert below(folder / "named", source / "file").stat().st_uid == 4242
    assert below(folder / "numbered", source / "file").stat().st_uid == 1


def test_a_target_below_a_default_acl_gets_no_acl_from_it(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    (source / "dir").mkdir(parents=True)
    (source / "dir" / "file").write_bytes(b"f")
    (source / "link").symlink_to("dir")
    target.mkdir()
    set_acl(target, {1234: 7}, {7: 7}, default=True)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    vault.restore(RestorePlan(target=target))
    assert differences(source, target) == []


def test_setgid_folders_of_the_target_do_not_show(folder: Path) -> None:
    source, target = folder / "source", folder / "target"
    (source / "dir").mkdir(parents=True)
    (source / "dir" / "file").write_bytes(b"f")
    target.mkdir()
    if ROOT:
        os.chown(target, 0, 777)
    target.chmod(0o2755)
    vault = FilesVault(folder / "vault")
    vault.back_up(source)
    vault.restore(RestorePlan(target=target))
    assert differences(source, target) == []
    assert not stat.S_IMODE(below(target, source / "dir").stat().st_mode) & stat.S_ISGID
