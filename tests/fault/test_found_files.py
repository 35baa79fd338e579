"""Files told of by an appliance that a hostile file system has taken over: nothing is written
outside of what was asked for, and nothing half."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import SourceError, TargetError
from holdfast.ports.point_files import FileKind, Finish, FoundFile, Hole, Piece, Problem
from holdfast.workloads.files.bulk_write import BulkWriter
from holdfast.workloads.files.paths import MAX_OPEN
from holdfast.workloads.vm.found_files import FoundFilesWriter, Written

DONE = Finish.FILE
MIB = 1 << 20


def file(path: bytes, size: int = 3, kind: FileKind = FileKind.FILE, **more: Any) -> FoundFile:
    given = {"mode": 0o644, "uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 0} | more
    return FoundFile(path, kind, size=size, **given)


class Target:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "inside"
        self.findings: dict[bytes, str] = {}

    def write(self, *pieces: Piece, moved: Callable[[], object] = lambda: None) -> Written:
        def report(code: str, path: bytes, _message: str) -> None:
            self.findings[path] = code

        return FoundFilesWriter(self.folder, [b"osdisk"], report).take(pieces, moved)

    def names(self) -> Sequence[str]:
        found = [path for path in self.folder.parent.rglob("*") if not path.is_dir()]
        return sorted(str(path.relative_to(self.folder.parent)) for path in found)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"etc/passwd",
        b"osdisk/../../out",
        b"osdisk/./a",
        b"osdisk//a",
        b"/osdisk/a",
        b"osdisk/a\0b",
        b"..",
        b"osdisk2/a",
    ],
)
def test_names_that_lead_elsewhere(target: Target, path: bytes) -> None:
    with pytest.raises(SourceError) as failed:
        target.write(file(path), b"abc", DONE)
    assert failed.value.code == "ApplianceConfused"
    assert target.names() == []


def test_a_link_of_its_own_is_not_followed(target: Target, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = file(b"osdisk/way", 0, FileKind.LINK, link_target=os.fsencode(outside))
    target.write(link, file(b"osdisk/way/hit"), b"abc", DONE, file(b"osdisk/ok"), b"abc", DONE)
    assert list(outside.iterdir()) == []
    assert target.findings == {b"osdisk/way/hit": "TargetBlocked"}
    assert (target.folder / "osdisk/ok").read_bytes() == b"abc"


@pytest.mark.parametrize(
    "content", [[b"abcd"], [Hole(4)], [b"ab", DONE], [b"ab", Hole(1 << 62)], [b"abc", b"d"]]
)
def test_content_that_is_not_what_was_announced(target: Target, content: list[Piece]) -> None:
    with pytest.raises(SourceError):
        target.write(file(b"osdisk/a"), *content)
    assert target.names() == []


def test_content_that_does_not_come_whole(target: Target) -> None:
    target.write(file(b"osdisk/a"), b"ab", file(b"osdisk/b"), b"abc", DONE, file(b"osdisk/c"))
    assert target.names() == ["inside/osdisk/b"]
    assert target.findings == {b"osdisk/a": "FileUnreadable", b"osdisk/c": "FileUnreadable"}


def test_content_without_a_file(target: Target) -> None:
    for pieces in ([b"abc"], [Hole(3)], [file(b"osdisk/d", 0, FileKind.FOLDER), b"abc"]):
        with pytest.raises(SourceError):
            target.write(*pieces)


def test_privileges_do_not_come_along(target: Target) -> None:
    device = file(b"osdisk/null", 0, FileKind.DEVICE)
    target.write(file(b"osdisk/su", mode=0o6755), b"abc", DONE, device)
    assert (target.folder / "osdisk/su").stat().st_mode & 0o7777 == 0o755
    assert target.findings == {b"osdisk/su": "ModeNotRestored", b"osdisk/null": "SpecialFile"}
    assert target.names() == ["inside/osdisk/su"]


def test_a_folder_that_is_told_again_and_again(target: Target) -> None:
    folder = file(b"osdisk/a", 0, FileKind.FOLDER)
    done = target.write(*[folder] * 100, file(b"osdisk/a/b"), b"abc", DONE, folder)
    assert (done.folders, done.files) == (1, 1)
    assert target.findings == {}


def test_links_in_ever_new_folders_keep_few_of_them_open(target: Target) -> None:
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))

    look()
    before = most
    names = [b"osdisk/%d/link" % number for number in range(2 * MAX_OPEN)]
    links = [file(name, 0, FileKind.LINK, link_target=b"x") for name in names]
    done = target.write(*links, moved=look)
    assert done.files == len(names)
    assert most < before + MAX_OPEN + 10


def test_findings_stay_small(target: Target) -> None:
    """Hundreds of them are sent at once."""
    path = b"osdisk/" + b"\xff" * 4000
    target.write(Problem("FileUnreadable", path, "why"))
    (told,) = target.findings
    assert len(told) < 1500 and path.startswith(told.removesuffix(b"..."))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("content", [[bytes(MIB)] * 4, [Hole(4 * MIB)]])
def test_a_file_larger_than_the_target_takes(target: Target, content: list[Piece]) -> None:
    """Left out, and nothing of it stays."""
    open_before = len(os.listdir("/proc/self/fd"))
    with largest_file(2 * MIB):
        done = target.write(
            file(b"osdisk/a", 4 * MIB), *content, DONE, file(b"osdisk/b"), b"abc", DONE
        )
    assert target.names() == ["inside/osdisk/b"]
    assert target.findings == {b"osdisk/a": "NotRestored"}
    assert (done.files, done.skipped) == (1, 1)
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_target_that_is_full(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(BulkWriter, "write", full)
    with pytest.raises(TargetError) as failed:
        target.write(file(b"osdisk/a"), b"abc", DONE)
    assert failed.value.code == "TargetFull"
    assert target.names() == []
