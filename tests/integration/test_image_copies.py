"""Copies of images that share blocks, on real btrfs and XFS volumes: they hold what the image held,
whatever was done to it meanwhile, and are believed only while nobody touched them."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.adapters.image_copy import ReflinkCopies
from holdfast.ports.hypervisor import Disk
from holdfast.ports.image_copy import ImageCopy, Mark, NotCopiedError
from holdfast.testing.loop_volume import volume, volume_missing

MIB = 1024 * 1024
COPIES = ReflinkCopies()


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def room(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    if why := volume_missing(request.param):
        pytest.skip(why)
    with volume(tmp_path_factory.mktemp(request.param), request.param) as made:
        yield made


@pytest.fixture
def image(room: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = room / f"{abs(hash(request.node.name))}.img"
    path.write_bytes(os.urandom(4 * MIB) + bytes(4 * MIB) + os.urandom(MIB))
    yield path
    path.unlink()


def disk_of(path: Path, form: str = "raw", size: int = 0) -> Disk:
    return Disk(0, "data", str(path), form, size or path.stat().st_size, "mark")


def write(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as out:
        os.pwrite(out.fileno(), data, at)


def punch(path: Path, at: int, length: int) -> None:
    """What a guest's discard does to its image."""
    words = ("fallocate", "--punch-hole", "-o", str(at), "-l", str(length), str(path))
    subprocess.run(words, check=True)


def finish(copy: ImageCopy) -> Mark:
    mark = copy.finish()
    copy.close()
    return mark


def test_a_copy_follows_an_image_that_changes_and_keeps_its_moment(image: Path) -> None:
    place, copy = COPIES.begin(disk_of(image), "t1-0.raw")
    copy.follow()
    copy.ready()
    write(image, 12345, b"changed while it was copied")  # not synced: still in memory
    write(image, 5 * MIB, os.urandom(70_000))  # where there was a hole
    punch(image, MIB, MIB)
    write(image, 9 * MIB, os.urandom(5000))  # grown, and not by whole blocks
    copy.follow()
    moment = image.read_bytes()
    write(image, 0, os.urandom(2 * MIB))
    punch(image, 3 * MIB, MIB)
    mark = finish(copy)
    assert place.read_bytes() == moment
    assert COPIES.is_whole(place, mark)
    assert place.stat().st_mode & 0o777 == 0o400
    assert place.parent.stat().st_mode & 0o777 == 0o700
    COPIES.remove(place)
    COPIES.remove(place)
    assert not place.parent.exists()


def test_blocks_are_shared_and_a_second_look_shares_only_what_differs(image: Path) -> None:
    place, copy = COPIES.begin(disk_of(image), "t2-0.raw")
    copy.follow()
    write(image, 2 * MIB, os.urandom(4096))
    copy.follow()
    finish(copy)
    assert place.read_bytes() == image.read_bytes()
    assert own_bytes(place) == 0
    write(image, 2 * MIB, os.urandom(4096))
    os.sync()
    assert 0 < own_bytes(place) <= MIB
    COPIES.remove(place)


def own_bytes(path: Path) -> int:
    """Of a file, in blocks that no other file has."""
    shown = subprocess.run(
        ("filefrag", "-v", "-b1", str(path)), check=True, capture_output=True, text=True
    )
    rows = [line.replace(":", " ").split() for line in shown.stdout.splitlines()[3:]]
    return sum(int(row[5]) for row in rows if row[0].isdigit() and "shared" not in row[-1])


def test_a_copy_that_was_touched_is_not_believed(image: Path) -> None:
    place, copy = COPIES.begin(disk_of(image), "t3-0.raw")
    copy.follow()
    mark = finish(copy)
    target = image.with_name("restored.img")
    COPIES.clone(place, mark, target)
    assert target.read_bytes() == image.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600
    target.unlink()
    write(place, 0, b"x")
    os.utime(place, ns=(mark.modified_ns, mark.modified_ns))
    assert not COPIES.is_whole(place, mark)
    with pytest.raises(NotCopiedError):
        COPIES.clone(place, mark, target)
    assert not target.exists()
    COPIES.remove(place)


def test_a_folder_somebody_else_made_is_not_entered(image: Path) -> None:
    folder = image.parent / ".holdfast-copies"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        with pytest.raises(NotCopiedError):
            COPIES.begin(disk_of(image), "t4-0.raw")
    finally:
        folder.rmdir()


def test_an_image_written_in_place_has_a_copy_written_in_place(room: Path) -> None:
    """btrfs refuses to share between files of the two kinds; XFS does not know the mark."""
    image = room / "in-place.img"
    fd = os.open(image, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.ioctl(fd, 0x40086602, struct.pack("@l", 0x00800000))
        except OSError:
            pytest.skip("this file system has no such mark")
        os.write(fd, os.urandom(MIB))
    finally:
        os.close(fd)
    place, copy = COPIES.begin(disk_of(image), "t5-0.raw")
    copy.follow()
    moment = image.read_bytes()
    write(image, 0, os.urandom(MIB))
    finish(copy)
    assert place.read_bytes() == moment
    COPIES.remove(place)
    image.unlink()


def test_where_blocks_cannot_be_shared_the_reason_is_told(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(MIB))
    _, copy = COPIES.begin(disk_of(image), "t6-0.raw")
    with pytest.raises(NotCopiedError, match="cannot share blocks"):
        copy.follow()
    copy.drop()
    assert list(tmp_path.iterdir()) == [image]


def test_images_that_are_not_all_of_the_disk_are_refused(room: Path) -> None:
    base, image = room / "base.qcow2", room / "top.qcow2"
    make = ("qemu-img", "create", "-q", "-f", "qcow2")
    subprocess.run((*make, str(base), "8M"), check=True)
    subprocess.run((*make, "-b", str(base), "-F", "qcow2", str(image)), check=True)
    with pytest.raises(NotCopiedError, match="backing file"):
        COPIES.begin(disk_of(image, "qcow2", 8 * MIB), "t7-0.qcow2")
    with pytest.raises(NotCopiedError, match="bytes of"):
        COPIES.begin(disk_of(base, "qcow2", 9 * MIB), "t7-0.qcow2")
    with pytest.raises(NotCopiedError, match="no qcow2"):
        raw = room / "raw.img"
        raw.write_bytes(bytes(MIB))
        COPIES.begin(disk_of(raw, "qcow2"), "t7-0.qcow2")
    assert not list(room.glob(".holdfast-copies/*"))
