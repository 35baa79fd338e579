"""Disks restored to files: what QEMU reads in them is the disk, and a failure leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.adapters.disk_format import SystemDiskFiles
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


@pytest.mark.parametrize("kind", [DiskFormat.RAW, pytest.param(DiskFormat.VHDX, marks=needs_qemu)])
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


@pytest.mark.parametrize("kind", [DiskFormat.RAW, pytest.param(DiskFormat.QCOW2, marks=needs_qemu)])
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


@pytest.mark.parametrize("kind", [DiskFormat.RAW, pytest.param(DiskFormat.QCOW2, marks=needs_qemu)])
def test_a_restore_is_cancelled(kind: DiskFormat, disk: MemoryDisk, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        FILES.write(disk, tmp_path / "disk", kind, cancelled=lambda: disk.reads > 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not can_mount(), reason="needs root: a small file system is mounted")
@pytest.mark.parametrize("kind", [DiskFormat.RAW, pytest.param(DiskFormat.QCOW2, marks=needs_qemu)])
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
        FILES.write(disk, tmp_path / "disk", DiskFormat.QCOW2)
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
        for child in listed.read_text().split():
            with contextlib.suppress(OSError):  # another one of this process may just have ended
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
        FILES.write(disk, tmp_path / "disk", DiskFormat.QCOW2)
    assert list(tmp_path.iterdir()) == []


# Stands for qemu-img on a file system that fails at the end: what QEMU's own fault injection fails
# is the second time tables are written, which is when the file is closed.
FAILING = """#!{python} -I
import os, sys
program, words = {program!r}, sys.argv[1:]
if words[0] == "convert":
    source, path = words[-2:]
    os.spawnl(os.P_WAIT, program, program, "create", "-q", "-f", "qcow2", path, "{size}")
    layers = "driver=qcow2,file.driver=blkdebug,file.config={faults},file.image.driver=file,"
    words = ["convert", "-n", "-W", "-f", "raw", "--target-image-opts", source]
    words.append(layers + "file.image.filename=" + path)
    if {silent}:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
os.execv(program, [program, *words])
"""
FAULTS = """
[set-state]
state = "1"
event = "l2_update"
new_state = "2"

[inject-error]
event = "l2_update"
state = "2"
errno = "5"
once = "off"
"""


@needs_qemu
@pytest.mark.parametrize(
    ("silent", "code", "why"),
    [
        (False, "TargetUnavailable", "Failed to flush the L2 table cache: Input/output error"),
        (True, "DiskNotHeld", "what the disk has at byte 1,048,576 is not in it"),
    ],
)
def test_a_file_whose_last_tables_were_not_written_is_no_restored_disk(
    silent: bool, code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qemu-img ends with 0 then, and the disk would read as zeros."""
    disk = MemoryDisk(SIZE)
    disk.write(MIB, memoryview(SeededRandom(7).token(MIB)))
    tools, faults = tmp_path / "tools", tmp_path / "faults"
    tools.mkdir()
    faults.write_text(FAULTS)
    given = {"python": sys.executable, "program": shutil.which("qemu-img"), "size": SIZE}
    (tools / "qemu-img").write_text(FAILING.format(**given, faults=faults, silent=silent))
    (tools / "qemu-img").chmod(0o700)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    with pytest.raises(TargetError) as caught:
        FILES.write(disk, tmp_path / "disk", DiskFormat.QCOW2)
    assert caught.value.code == code
    assert why in caught.value.message
    assert sorted(tmp_path.iterdir()) == [faults, tools]


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
