"""Small parts of a restore: selection, names of copies, waiting folders, links, owners, limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import TargetError
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.vaultstore.manifest_files import tree_key
from holdfast.workloads.files import restore_folders
from holdfast.workloads.files.metadata import link_group, read_link, read_xattrs
from holdfast.workloads.files.paths import BlockedError, TargetTree, folders_at_once
from holdfast.workloads.files.restore_folders import WaitingFolders
from holdfast.workloads.files.restore_links import LinkTable
from holdfast.workloads.files.restore_names import copy_name
from holdfast.workloads.files.restore_plan import RestorePlan, Selection, _outermost
from holdfast.workloads.files.restore_writer import Owners, fail
from holdfast.workloads.files.selection import folders_above

NAMES = st.sampled_from([b"a", b"b", b"a-", b"ab", b"\x01", b"z"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)


@given(st.sets(PATHS, max_size=12))
def test_outermost_paths_cover_all_and_none_covers_another(paths: set[bytes]) -> None:
    kept = _outermost(paths)
    for path in paths:
        assert any(path == one or path.startswith(one + b"/") for one in kept)
    for one in kept:
        assert not any(one.startswith(other + b"/") for other in kept)
    assert kept == sorted(kept, key=lambda one: one.replace(b"/", b"\0"))


class Recorder:
    """Stands for the target and the writer of waiting folders."""

    def __init__(self) -> None:
        self.finished_in_order: list[bytes] = []

    def directory(self, path: bytes, *, create: bool) -> object:
        return type("Folder", (), {"fd": 0})

    def finish_directory(self, fd: int, entry: Entry, path: bytes) -> None:
        self.finished_in_order.append(path)

    def finished(self, path: bytes) -> None: ...

    def release_old(self) -> None: ...


@given(st.sets(PATHS, max_size=20), st.integers(1, 4))
def test_folders_get_attributes_after_everything_below_them(chosen: set[bytes], every: int) -> None:
    """Walk a tree of folders in tree order; leave now and then; no folder is finished before a
    later run below it, and each exactly once."""
    folders = {b"/".join(path.split(b"/")[:n]) for path in chosen for n in range(1, 5)}
    runs = sorted({b"", *folders}, key=lambda path: tree_key(path, b""))
    recorder = Recorder()
    waiting = WaitingFolders(recorder, recorder)  # type: ignore[arg-type]
    for number, run in enumerate(runs):
        for path in folders:
            if path.rpartition(b"/")[0] == run:
                name = path.rpartition(b"/")[2]
                entry = Entry(name, EntryType.DIRECTORY, 0o755, 0, 0, 0)
                waiting.add(path, entry)
        ended = set(recorder.finished_in_order)
        assert not any(run == path or run.startswith(path + b"/") for path in ended)
        if number % every == 0:
            waiting.leave(run)
    waiting.leave(None)
    assert sorted(recorder.finished_in_order) == sorted(folders)
    assert restore_folders.RELEASE_EVERY > 0


@given(st.binary(min_size=1, max_size=255), st.integers(1, 12))
def test_copies_have_names_that_fit(name: bytes, number: int) -> None:
    found = copy_name(name, b".restored-179549", number)
    assert len(found) <= 255
    assert found != name
    assert b".restored-179549" in found


@given(st.text(min_size=1, max_size=200).filter(lambda text: len(text.encode()) <= 255))
def test_copies_are_never_cut_within_a_character(text: str) -> None:
    copy_name(text.encode(), b".restored").decode()


def test_links_are_remembered_for_any_64_bit_group() -> None:
    table = LinkTable()
    groups = [1, 2**63 - 1, 2**63, 2**64 - 1]
    for group in groups:
        assert table.first(group) is None
        table.remember(group, b"path %d" % group)
    assert [table.first(group) for group in groups] == [b"path %d" % group for group in groups]
    table.forget(1)
    assert table.first(1) is None
    table.close()


def test_link_groups_of_one_device_never_collide(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    (tmp_path / "again").hardlink_to(first)
    groups = [
        link_group(info.st_dev, info.st_ino)
        for info in (path.stat() for path in (first, second, tmp_path / "again"))
    ]
    assert groups[0] == groups[2]
    assert groups[0] != groups[1]


def test_owners_without_a_name_here_keep_their_number() -> None:
    owners = Owners({7: 1007}, {})
    entry = Entry(b"x", EntryType.FILE, 0o644, 7, 7, 0)
    assert owners.of(entry) == (1007, 7)


def test_a_request_is_identified_by_all_that_changes_its_result() -> None:
    plans = [
        RestorePlan(target=None),
        RestorePlan(target=Path("/x")),
        RestorePlan(target=None, paths=["/a"]),
        RestorePlan(target=None, conflict="skip"),
        RestorePlan(target=None, numeric=True),
    ]
    found = {plan.identity(b"r" * 32) for plan in plans} | {plans[0].identity(b"s" * 32)}
    assert len(found) == 6
    assert plans[0].identity(b"r" * 32) == RestorePlan(target=None).identity(b"r" * 32)


def test_everything_is_selected_by_no_path_or_the_top() -> None:
    tree = None
    assert Selection(tree, []).is_everything  # type: ignore[arg-type]
    assert Selection(tree, ["/"]).is_everything  # type: ignore[arg-type]
    assert Selection(tree, ["/", "/usr"]).is_everything  # type: ignore[arg-type]
    assert not Selection(tree, ["/usr"]).is_everything  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [28, 122, 30, 5])
def test_errors_of_the_whole_target_are_told_from_those_of_one_file(number: int) -> None:
    with pytest.raises(TargetError):
        fail(OSError(number, os.strerror(number)), b"a")
    with pytest.raises(OSError, match="Permission"):
        fail(PermissionError(13, "Permission denied"), b"a")


def test_folders_are_closed_when_nobody_uses_them(tmp_path: Path) -> None:
    tree = TargetTree(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    used = tree.directory(b"used")
    used.users = 1
    for number in range(600):
        tree.directory(b"d%d" % number)
        tree.release_old()
    assert len(os.listdir("/proc/self/fd")) - before <= 260
    os.stat(used.fd)
    with pytest.raises(BlockedError):
        tree.directory(b"/absolute")
    tree.close()
    assert 16 <= folders_at_once() <= 500


def test_links_and_attributes_beyond_path_max(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    path = os.fsencode(tmp_path)
    for _ in range(30):
        name = b"n" * 200
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, path = inner, path + b"/" + name
    os.symlink("there", "link", dir_fd=fd)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.setxattr(f"/proc/self/fd/{fd}/file", "user.a", b"b")
    os.close(fd)
    assert read_link(path + b"/link") == b"there"
    assert read_xattrs(path + b"/file") == {b"user.a": b"b"}
    assert read_xattrs(path + b"/link") == {}


@pytest.mark.parametrize(
    ("includes", "above"),
    [
        ([b"/home/ann/docs"], {b"home", b"home/ann"}),
        ([b"/home/ann", b"/home/ann/docs/old", b"/srv"], {b"home"}),
        ([b"/a/b/c", b"/a/b"], {b"a"}),
        ([b"/"], set()),
        ([b"/", b"/a/b"], set()),
    ],
)
def test_folders_that_only_lead_to_includes(includes: list[bytes], above: set[bytes]) -> None:
    assert folders_above(includes) == above
