"""Single files out of disks: every file system and partition table, hostile names, and disks that
are damaged, encrypted or lie. The appliance is a real one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.appliance import ApplianceLooker, build_image
from holdfast.domain.path_text import encode_path
from holdfast.errors import CancelledError, HoldfastError
from holdfast.ports.point_files import PointFiles
from holdfast.testing.disk_images import (
    SIZES,
    make_logical_volume,
    missing_image_tools,
    partition,
    partitioned,
    put_files,
    run,
)
from holdfast.testing.guest import cache_folder
from holdfast.testing.point_place import ODD, Point, states, tree, unix_tree
from holdfast.workloads.vm.disks.raw_file import RawFileSource


@pytest.fixture(scope="session")
def cache() -> Path:
    if missing := missing_image_tools():
        pytest.skip(f"needs {', '.join(missing)}: disks are made")
    folder = cache_folder().with_name("appliance")
    build_image(folder)
    return folder


class Kept:
    """An appliance that stays up, for tests that only look."""

    def __init__(self, files: PointFiles) -> None:
        self.files = files

    @contextmanager
    def open(self, _disks: Any, _stopped: Any = None) -> Iterator[PointFiles]:
        yield self.files


@pytest.fixture
def point(tmp_path: Path, cache: Path) -> Callable[..., Point]:
    return lambda *images, **named: Point(
        tmp_path, ApplianceLooker(cache), dict(zip((-1, *range(64)), images, strict=False)) | named
    )


def failing(what: Callable[..., object], *given: Any) -> HoldfastError:
    with pytest.raises(HoldfastError) as failed:
        what(*given)
    return failed.value


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_unix_file_systems(label: str, tmp_path: Path, point: Callable[..., Point]) -> None:
    kinds = ("ext4", "xfs", "btrfs")
    image = partitioned(tmp_path / "disk", label, [SIZES[kind] for kind in kinds])
    truth = {}

    def fill(kind: str) -> Callable[[Path], None]:
        def filled(folder: Path) -> None:
            unix_tree(folder)
            truth[kind] = states(folder / "docs")

        return filled

    for number, kind in enumerate(kinds, 1):
        put_files(image, number, kind, fill(kind))
    made = point(image)
    volumes = made.rows("/")
    assert {name: row.file_system for name, row in volumes.items()} == {
        f"osdisk-p{number}": kind for number, kind in enumerate(kinds, 1)
    }
    assert not any(row.problem for row in volumes.values())
    done = made.restore(tmp_path / "out", *(f"/osdisk-p{number}/docs" for number in (1, 2, 3)))
    for number, kind in enumerate(kinds, 1):
        want = truth[kind]
        left_out = f"osdisk-p{number}/docs/device".encode()
        assert made.findings[left_out] == "SpecialFile"
        assert made.findings[f"osdisk-p{number}/docs/suid".encode()] == "ModeNotRestored"
        del want["device"]
        assert states(tmp_path / "out" / f"osdisk-p{number}" / "docs") == want, kind
        holes = (tmp_path / "out" / f"osdisk-p{number}" / "docs" / "holes").stat()
        assert holes.st_blocks * 512 < 1_000_000, kind
    assert (done.files_restored, done.directories_restored, done.files_skipped) == (24, 6, 3)


@pytest.mark.parametrize("kind", ["ntfs", "vfat"])
def test_file_systems_of_windows(kind: str, tmp_path: Path, point: Callable[..., Point]) -> None:
    image = partitioned(tmp_path / "disk", "dos", [SIZES[kind]])
    truth = {}

    def fill(folder: Path) -> None:
        tree(folder)
        (folder / "docs" / "Grüße.txt").write_bytes(b"umlauts")
        files = [path for path in folder.rglob("*") if path.is_file()]
        truth.update({str(path.relative_to(folder)): path.read_bytes() for path in files})

    put_files(image, 1, kind, fill)
    made = point(image)
    assert made.rows("/")["osdisk-p1"].file_system == kind
    made.restore(tmp_path / "out", "/osdisk-p1/docs")
    out = tmp_path / "out" / "osdisk-p1"
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {str(path.relative_to(out)): path.read_bytes() for path in files} == truth


def test_logical_volumes_over_two_disks(tmp_path: Path, point: Callable[..., Point]) -> None:
    def fill(folder: Path) -> None:
        tree(folder)
        (folder / "big").write_bytes(bytes(range(256)) * 4096 * 25)  # lies on both disks

    made = point(*make_logical_volume(tmp_path, "ext4", fill))
    (row,) = made.list("/").entries
    assert (row.name, row.file_system) == ("lvm-vg0-root", "ext4")
    made.restore(tmp_path / "out", "/lvm-vg0-root/docs/hello.txt", "/lvm-vg0-root/big")
    out = tmp_path / "out" / "lvm-vg0-root"
    assert (out / "docs/hello.txt").read_bytes() == b"hello\n"
    assert (out / "big").read_bytes() == bytes(range(256)) * 4096 * 25


def test_a_btrfs_over_two_disks(tmp_path: Path, point: Callable[..., Point]) -> None:
    images = [tmp_path / "a", tmp_path / "b"]
    for path in images:
        with path.open("wb") as raw:
            raw.truncate(140 << 20)
    with partition(images[1], None) as second:
        put_files(images[0], None, "btrfs", tree, "-d", "raid0", "-m", "raid1", second)
    made = point(*images)
    made.restore(tmp_path / "out", "/osdisk/docs")
    assert (tmp_path / "out/osdisk/docs/hello.txt").read_bytes() == b"hello\n"
    assert (tmp_path / "out/osdisk/docs/sub/random.bin").stat().st_size == 700_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Point]:
    """Two disks without partitions: files on the first, LUKS on the second."""
    folder = tmp_path_factory.mktemp("whole")
    first, second = folder / "first", folder / "second"
    for path in (first, second):
        with path.open("wb") as image:
            image.truncate(32 << 20)

    def fill(inner: Path) -> None:
        unix_tree(inner)
        many = inner / "many"
        many.mkdir()
        for number in range(1100):
            (many / f"{number:04}").touch()

    put_files(first, None, "ext4", fill, "-L", "data")
    second.write_bytes(b"LUKS\xba\xbe\x00\x02" + bytes((1 << 20) - 8))
    made = Point(folder, ApplianceLooker(cache), {-1: first, 0: second})
    disks = {"osdisk": RawFileSource(first), "disk0": RawFileSource(second)}
    with made.looker.open(disks) as files:
        made.looker = Kept(files)
        yield made


def test_browsing(whole: Point) -> None:
    rows = whole.rows("/")
    assert (rows["osdisk"].label, rows["osdisk"].size) == ("data", 32 << 20)
    assert "encrypted with LUKS" in rows["disk0"].problem
    docs = whole.rows("/osdisk/docs/")
    assert docs["hello.txt"].mode == 0o640 and docs["hello.txt"].size == 6
    assert docs["link"].link_target == "sub/random.bin"
    assert docs[encode_path(ODD)].path == "/osdisk/docs/" + encode_path(ODD)
    (single,) = whole.list("/osdisk/docs/hello.txt").entries
    assert single.path == "/osdisk/docs/hello.txt"
    through = whole.rows("/osdisk/way")
    assert list(through) == ["way"] and list(whole.rows("/osdisk/way/."))[-1] == "random.bin"


def test_pages_of_a_long_list(whole: Point) -> None:
    first = whole.list("/osdisk/many", top=1000)
    assert first.more and len(first.entries) == 1000
    rest = whole.list("/osdisk/many", after=first.entries[-1].name)
    assert [row.name for row in first.entries + rest.entries] == [f"{n:04}" for n in range(1100)]
    assert not rest.more


def test_what_is_not_there(whole: Point, tmp_path: Path) -> None:
    for path in ("/osdisk/nothing", "/osdisk/docs/hello.txt/x", "/disk7/x", "/../etc/shadow"):
        assert failing(whole.list, path).code == "PathNotFound", path
        assert failing(whole.restore, tmp_path, path).code == "PathNotFound", path
    assert failing(whole.list, "/disk0/x").code == "VolumeEncrypted"
    assert failing(whole.restore, tmp_path, "/disk0").code == "VolumeEncrypted"
    done = whole.restore(tmp_path / "out", "/osdisk/nothing", "/osdisk/docs/hello.txt")
    assert done.files_restored == 1 and whole.findings == {b"osdisk/nothing": "PathNotFound"}


def test_what_is_in_the_way(whole: Point, tmp_path: Path) -> None:
    there = tmp_path / "osdisk" / "docs"
    outside = tmp_path / "outside"
    there.mkdir(parents=True)
    outside.mkdir()
    (there / "sub").symlink_to(outside)
    (there / "hello.txt").write_bytes(b"mine")
    whole.restore(tmp_path, "/osdisk/docs", conflict="skip")
    assert (there / "hello.txt").read_bytes() == b"mine"
    assert list(outside.iterdir()) == []
    assert whole.findings[b"osdisk/docs/sub"] == "TargetBlocked"
    whole.restore(tmp_path, "/osdisk/docs/hello.txt", conflict="keep-both")
    assert (there / "hello.txt").read_bytes() == b"mine"
    assert (there / "hello.txt.restored-rp1").read_bytes() == b"hello\n"
    whole.restore(tmp_path, "/osdisk/docs/hello.txt")
    assert (there / "hello.txt").read_bytes() == b"hello\n"
    assert list(tmp_path.rglob(".holdfast-partial*")) == []


def test_a_cancelled_restore_leaves_nothing_half(
    whole: Point, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "looker", ApplianceLooker(cache))
    with pytest.raises(CancelledError):
        whole.restore(tmp_path, "/osdisk", cancelled=lambda: True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_journal_that_was_never_written_back(tmp_path: Path, point: Callable[..., Point]) -> None:
    """What a crash-consistent point holds: the appliance replays the journal."""
    image, copy = tmp_path / "disk", tmp_path / "copy"
    with image.open("wb") as raw:
        raw.truncate(32 << 20)

    def fill(folder: Path) -> None:
        (folder / "late").write_bytes(b"in the journal only")
        fd = os.open(folder / "late", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        copy.write_bytes(image.read_bytes())

    put_files(image, None, "ext4", fill)
    point(copy).restore(tmp_path / "out", "/osdisk/late")
    assert (tmp_path / "out/osdisk/late").read_bytes() == b"in the journal only"


def test_a_damaged_file_system(tmp_path: Path, point: Callable[..., Point]) -> None:
    images = []
    for name in ("torn", "nothing"):
        path = tmp_path / name
        with path.open("wb") as raw:
            raw.truncate(300 << 20)
        images.append(path)
    with partition(images[0], None) as device:
        run("mkfs.xfs", "-q", "-f", device)
    with images[0].open("r+b") as raw:
        raw.seek(512)
        raw.write(os.urandom(128 << 10))
    made = point(*images)
    assert failing(made.list, "/osdisk/x").code == "FileSystemUnreadable"
    assert failing(made.list, "/disk0/x").code == "FileSystemUnknown"


def test_an_appliance_that_hangs_or_dies(whole: Point, cache: Path, tmp_path: Path) -> None:
    def meddling(number: int) -> Callable[[], object]:
        def ask() -> object:
            looker = ApplianceLooker(cache, silence_seconds=40)
            with looker.open({}) as files:
                files._channel._silence = 1.0
                os.kill(files.machine.pid, number)
                return files.volumes()

        return ask

    assert failing(meddling(signal.SIGSTOP)).code == "ApplianceSilent"
    assert failing(meddling(signal.SIGKILL)).code == "ApplianceLost"


def test_it_is_shut_in(whole: Point, cache: Path) -> None:
    with ApplianceLooker(cache).open({}) as files:
        status = Path(f"/proc/{files.machine.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["65534"] * 4
        assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
        assert int(fields["CapEff"], 16) == 0 == int(fields["CapBnd"], 16)
    assert not Path(f"/proc/{files.machine.pid}").exists()
