"""Disks restored to files: what QEMU reads in them is the disk, and a failure leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.disk_format.qcow2 import Qcow2File
from holdfast.adapters.disk_format.raw import RawFile
from holdfast.errors import CancelledError, ConflictError, SourceError, TargetError
from holdfast.ports.block_device import BlockTarget, Extent
from holdfast.ports.disk_format import DiskFiles, DiskFormat
from holdfast.testing.block_devices import MemoryDisk, missing_packages, run
from holdfast.testing.ports import SeededRandom
from holdfast.testing.small_disk import can_mount, small_disk

MIB = 1024 * 1024
SIZE = 64 * MIB
FILES: DiskFiles = SystemDiskFiles()
NAMES = {DiskFormat.VHD: "vpc"}
OURS = (DiskFormat.RAW, DiskFormat.QCOW2)
needs_qemu = pytest.mark.skipif(
    bool(missing_packages("qemu-img")), reason=f"needs the packages {missing_packages('qemu-img')}"
)


@pytest.fixture
def disk() -> MemoryDisk:
    """Some data in two places, zeros, and nothing."""
    made, rng = MemoryDisk(SIZE), SeededRandom(7)
    made.write(MIB, memoryview(rng.token(5 * MIB + 8192)))
    made.write_zeroes(8 * MIB, MIB)
    made.write(SIZE - 65536, memoryview(rng.token(65536)))
    return made


@needs_qemu
@pytest.mark.parametrize("kind", DiskFormat)
def test_qemu_reads_the_disk_in_every_format(
    kind: DiskFormat, disk: MemoryDisk, tmp_path: Path
) -> None:
    target, image = tmp_path / "a: disk,x.img", tmp_path / "image"
    image.write_bytes(disk.content)
    told: list[tuple[int, int]] = []
    FILES.write(disk, target, kind, progress=lambda done, total: told.append((done, total)))
    name = NAMES.get(kind, kind.value)
    assert (
        json.loads(run("qemu-img", "info", "--output=json", "-f", name, target))["virtual-size"]
        == SIZE
    )
    run("qemu-img", "compare", "-f", "raw", "-F", name, image, target)
    assert target.stat().st_blocks * 512 < 24 * MIB  # the holes took no room
    assert told == sorted(told)
    assert told[-1] == (SIZE, SIZE)
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == sorted([target, image])


@pytest.mark.parametrize("kind", [*OURS, pytest.param(DiskFormat.VHDX, marks=needs_qemu)])
def test_nothing_is_overwritten(kind: DiskFormat, disk: MemoryDisk, tmp_path: Path) -> None:
    target = tmp_path / "disk"
    target.symlink_to("nowhere")
    with pytest.raises(ConflictError, match="exists already"):
        FILES.write(disk, target, kind)
    target.unlink()

    def appears(done: int, total: int) -> None:
        if done == total:
            target.write_text("somebody's")

    with pytest.raises(ConflictError, match="exists already"):
        FILES.write(disk, target, kind, progress=appears)
    assert target.read_text() == "somebody's"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("kind", [*OURS, pytest.param(DiskFormat.VHDX, marks=needs_qemu)])
def test_a_source_that_fails_is_named(kind: DiskFormat, disk: MemoryDisk, tmp_path: Path) -> None:
    class Damaged(MemoryDisk):
        def extents(self, offset: int, length: int) -> Iterator[Extent]:
            return disk.extents(offset, length)

        def read_into(self, offset: int, view: memoryview) -> None:
            if offset > 3 * MIB:
                raise SourceError("chunk 12ab of the recovery point is damaged")

    with pytest.raises(SourceError, match="chunk 12ab"):
        FILES.write(Damaged(SIZE), tmp_path / "disk", kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [*OURS, pytest.param(DiskFormat.VHDX, marks=needs_qemu)])
def test_a_restore_is_cancelled(kind: DiskFormat, disk: MemoryDisk, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        FILES.write(disk, tmp_path / "disk", kind, cancelled=lambda: disk.reads > 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not can_mount(), reason="needs root: a small file system is mounted")
@pytest.mark.parametrize("kind", [*OURS, pytest.param(DiskFormat.VHDX, marks=needs_qemu)])
def test_a_full_disk_is_told(kind: DiskFormat, disk: MemoryDisk, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "3m") as small:
        with pytest.raises(TargetError, match=r"no room is left for .*/small/disk") as caught:
            FILES.write(disk, small.folder / "disk", kind)
        assert caught.value.code == "TargetFull"
        assert list(small.folder.iterdir()) == []


def test_what_cannot_be_is_told(
    disk: MemoryDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TargetError, match=r"gone/disk cannot be written: No such file"):
        FILES.write(disk, tmp_path / "gone" / "disk", DiskFormat.RAW)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="written by qemu-img, which is not here"):
        FILES.write(disk, tmp_path / "disk", DiskFormat.VHDX)
    assert list(tmp_path.iterdir()) == []


@needs_qemu
def test_disks_a_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    class Huge(MemoryDisk):
        @property
        def size(self) -> int:
            return 3 * 1024**4

    with pytest.raises(TargetError, match=r"is more than the .* of the format vhd"):
        FILES.write(Huge(0), tmp_path / "disk", DiskFormat.VHD)
    with pytest.raises(TargetError, match="does not fit the format vhdx"):
        FILES.write(MemoryDisk(MIB + 512), tmp_path / "disk", DiskFormat.VHDX)
    assert list(tmp_path.iterdir()) == []


def kill_converter() -> None:
    """The qemu-img this process started."""
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread, or another child, may just have ended
            for child in listed.read_text().split():
                if Path(f"/proc/{child}/comm").read_text() == "qemu-img\n":
                    os.kill(int(child), signal.SIGKILL)


@needs_qemu
def test_a_converter_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    class Deadly(MemoryDisk):
        def read_into(self, offset: int, view: memoryview) -> None:
            kill_converter()

    disk = Deadly(SIZE)
    disk.write(0, memoryview(bytes(MIB)))
    with pytest.raises(TargetError, match=r"qemu-img could not write .*/disk: it ended with -9"):
        FILES.write(disk, tmp_path / "disk", DiskFormat.VHDX)
    assert list(tmp_path.iterdir()) == []


# Stands for qemu-img where its last tables, written as the file is closed, are lost: it says so and
# ends with 0, or says nothing.
FAILING = """#!{python} -I
import os, sys
program, words = {program!r}, sys.argv[1:]
if words[0] == "convert":
    os.spawnl(os.P_WAIT, program, program, *words)
    os.spawnl(os.P_WAIT, program, program, "create", "-q", "-f", "vhdx", words[-1], "{size}")
    if not {silent}:
        print("qemu-img: Failed to flush the table cache: Input/output error", file=sys.stderr)
    sys.exit(0)
os.execv(program, [program, *words])
"""


@needs_qemu
@pytest.mark.parametrize(
    ("silent", "code", "why"),
    [
        (False, "TargetUnavailable", "Failed to flush the table cache: Input/output error"),
        (True, "DiskNotHeld", "what the disk has at byte 1,048,576 is not in it"),
    ],
)
def test_a_file_whose_last_tables_were_not_written_is_no_restored_disk(
    silent: bool, code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qemu-img ends with 0 then, and the disk would read as zeros."""
    disk = MemoryDisk(SIZE)
    disk.write(MIB, memoryview(SeededRandom(7).token(MIB)))
    tools = tmp_path / "tools"
    tools.mkdir()
    given = {"python": sys.executable, "program": shutil.which("qemu-img"), "size": SIZE}
    (tools / "qemu-img").write_text(FAILING.format(**given, silent=silent))
    (tools / "qemu-img").chmod(0o700)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    with pytest.raises(TargetError) as caught:
        FILES.write(disk, tmp_path / "disk", DiskFormat.VHDX)
    assert caught.value.code == code
    assert why in caught.value.message
    assert sorted(tmp_path.iterdir()) == [tools]


def test_a_raw_file_is_a_target(tmp_path: Path) -> None:
    expected, rng = bytearray(8 * MIB), SeededRandom(4)
    with (tmp_path / "disk").open("w+b") as opened:
        target = RawFile(opened.fileno(), 8 * MIB, tmp_path / "disk")
        port: BlockTarget = target
        data = rng.token(3 * MIB)
        with ThreadPoolExecutor(4) as pool:
            for at in range(0, 3 * MIB, 65536):
                pool.submit(port.write, MIB + at, memoryview(data)[at : at + 65536])
        expected[MIB : 4 * MIB] = data
        port.write_zeroes(2 * MIB - 100, MIB + 300)
        expected[2 * MIB - 100 : 3 * MIB + 200] = bytes(MIB + 300)
        port.write_zeroes(6 * MIB, 2 * MIB)
        port.flush()
        assert (tmp_path / "disk").read_bytes() == expected
        assert os.fstat(opened.fileno()).st_blocks * 512 <= 2 * MIB + 65536


def image_of(path: Path, size: int) -> bytes:
    """What QEMU reads in a qcow2 it finds no fault with."""
    run("qemu-img", "check", "-q", "-f", "qcow2", path)
    raw = path.with_suffix(".raw")
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    content = raw.read_bytes()
    raw.unlink()
    assert len(content) == size
    return content


@needs_qemu
@pytest.mark.parametrize("seed", range(6))
def test_a_qcow2_holds_whatever_is_written_in_any_order(seed: int, tmp_path: Path) -> None:
    """Also with a sector more than clusters, and when writing goes on after a flush."""
    rng, size = random.Random(seed), 8 * MIB + 512 * (seed % 3)
    expected, path = bytearray(size), tmp_path / "disk"
    with path.open("w+b") as opened:
        target = Qcow2File(opened.fileno(), size, path)
        for turn in range(3):
            for _ in range(12):
                at = rng.randrange(size)
                length = 1 + rng.randrange(min(size - at, 300_000))
                if rng.randrange(4):
                    data = rng.randbytes(length)
                    target.write(at, memoryview(data))
                    expected[at : at + length] = data
                else:
                    target.write_zeroes(at, length)
                    expected[at : at + length] = bytes(length)
            if turn != 1:
                target.flush()
                assert image_of(path, size) == expected
        assert image_of(path, size) == expected


@needs_qemu
def test_a_huge_qcow2_keeps_few_tables_and_takes_the_room_of_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.adapters.disk_format.qcow2.TABLES_KEPT", 2)
    size, step, path = 8 * 1024**4, 1024**4 + 65536, tmp_path / "disk"
    rng = SeededRandom(3)
    written: dict[int, bytes] = {}
    with path.open("w+b") as opened:
        target = Qcow2File(opened.fileno(), size, path)
        for at in (*range(0, size, step), *range(65536, size, step), size - 512):
            written[at] = rng.token(512)
            target.write(at, memoryview(written[at]))
        target.write_zeroes(0, 100)
        target.write_zeroes(step + 1000, size - step - 1000)
        target.flush()
    run("qemu-img", "check", "-q", "-f", "qcow2", path)
    assert path.stat().st_blocks * 512 < 8 * MIB
    for at, data in written.items():
        said = run("qemu-io", "-r", "-f", "qcow2", "-c", f"read -v {at} 16", path)
        kept = {0: bytes(100) + data[100:], step: data}.get(at, bytes(512) if at > step else data)
        assert kept[:16].hex(" ") in said


def test_a_qcow2_is_written_by_several_threads(tmp_path: Path) -> None:
    data, path = SeededRandom(4).token(6 * MIB), tmp_path / "disk"
    with path.open("w+b") as opened:
        target = Qcow2File(opened.fileno(), 8 * MIB, path)
        with ThreadPoolExecutor(4) as pool:
            for at in range(0, 6 * MIB, 50_000):
                part = memoryview(data)[at : at + 50_000]
                pool.submit(target.write, MIB + at, part)
        target.flush()
    if not missing_packages("qemu-img"):
        assert image_of(path, 8 * MIB) == bytes(MIB) + data + bytes(MIB)
