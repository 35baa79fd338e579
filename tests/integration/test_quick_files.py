"""Files of plain ext file systems without a machine: what comes back is what was there, and what
is not certain is left to the appliance."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.appliance.quick import QuickLooker
from holdfast.errors import HoldfastError, SourceError
from holdfast.ports.point_files import PointFiles
from holdfast.testing.disk_images import SIZES, missing_image_tools, partitioned, put_files
from holdfast.testing.point_place import Point, states, unix_tree

pytest.importorskip("pytsk3")
MIB = 1 << 20


class LeftToIt(Exception):
    """The appliance would be started."""


class NoAppliance:
    @contextmanager
    def open(self, _disks: Any, _stopped: Any = None) -> Iterator[PointFiles]:
        raise LeftToIt
        yield


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    if missing := missing_image_tools():
        pytest.skip(f"needs {', '.join(missing)}: disks are made")


def quick_point(folder: Path, *images: Path) -> Point:
    named = dict(zip((-1, *range(64)), images, strict=False))
    return Point(folder, QuickLooker(NoAppliance()), named)


def hard_tree(folder: Path, many_files: int = 60) -> None:
    """What is stored in odd ways."""
    unix_tree(folder)
    docs = folder / "docs"
    with (docs / "reserved").open("wb") as file:  # blocks that hold what was there before
        os.posix_fallocate(file.fileno(), 0, 900_000)
        file.write(b"begin")
    with (docs / "pieces").open("wb") as file:
        for number in range(400):
            file.seek(number * 12_288)
            file.write(b"%d" % number * 700)
    (docs / "far").symlink_to("x" * 200)
    os.link(docs / "hello.txt", docs / "again")
    (docs / "gone").write_bytes(b"deleted")
    (docs / "gone").unlink()
    many = docs / "many"
    many.mkdir()
    for number in range(many_files):
        (many / f"{number:04}").write_bytes(b"%d" % number)
    os.utime(docs / "again", ns=(1, -1_500_000_000))


@pytest.mark.parametrize("label", ["gpt", ""])
def test_what_was_there_comes_back(label: str, tmp_path: Path) -> None:
    image, truth = tmp_path / "disk", {}
    if label:
        partitioned(image, label, [4, 64])
    else:
        image.write_bytes(bytes(8 * MIB))
    with image.open("r+b") as raw:  # what lies in free blocks is nobody's content
        raw.seek(8 * MIB)
        raw.write(b"\xa5 left over." * (5 * MIB))

    def fill(folder: Path) -> None:
        hard_tree(folder)
        truth.update(states(folder / "docs"))

    put_files(image, 2 if label else None, "ext4", fill, "-L", "roots", "-E", "nodiscard")
    made = quick_point(tmp_path, image)
    name = "osdisk-p2" if label else "osdisk"
    volumes = made.rows("/")
    assert (volumes[name].file_system, volumes[name].label) == ("ext4", "roots")
    if label:
        assert "nothing known" in volumes["osdisk-p1"].problem
    made.restore(tmp_path / "out", f"/{name}/docs")
    restored = states(tmp_path / "out" / name / "docs")
    assert truth.pop("device")
    assert restored == truth
    assert made.findings[f"{name}/docs/device".encode()] == "SpecialFile"
    holes = (tmp_path / "out" / name / "docs" / "holes").stat()
    assert holes.st_blocks * 512 < MIB


def test_browsing(tmp_path: Path) -> None:
    image = partitioned(tmp_path / "disk", "dos", [SIZES["ext4"], SIZES["vfat"]])
    put_files(image, 1, "ext4", lambda folder: hard_tree(folder, 1500))
    put_files(image, 2, "vfat", lambda folder: (folder / "a").touch())
    made = quick_point(tmp_path, image)
    assert {row.file_system for row in made.rows("/").values()} == {"ext4", "vfat"}
    docs = made.rows("/osdisk-p1/docs/")
    assert (docs["hello.txt"].mode, docs["hello.txt"].size) == (0o640, 6)
    assert docs["link"].link_target == "sub/random.bin"
    assert "gone" not in docs
    first = made.list("/osdisk-p1/docs/many", top=1000)
    rest = made.list("/osdisk-p1/docs/many", after=first.entries[-1].name)
    names = [row.name for row in first.entries + rest.entries]
    assert (first.more, names) == (True, [f"{number:04}" for number in range(1500)])
    assert list(made.rows("/osdisk-p1/way/."))[-1] == "random.bin", "through a link"
    assert list(made.rows("/osdisk-p1/way")) == ["way"]
    for path in ("/osdisk-p1/nothing", "/osdisk-p1/docs/hello.txt/x", "/osdisk-p1/../../etc/x"):
        assert refused(made.list, path) == "PathNotFound", path
    with pytest.raises(LeftToIt):
        made.list("/osdisk-p2")
    done = made.restore(tmp_path / "out", "/osdisk-p1/nothing", "/osdisk-p1/docs/hello.txt")
    assert done.files_restored == 1
    assert made.findings == {b"osdisk-p1/nothing": "PathNotFound"}


def refused(what: Callable[..., object], *given: Any) -> str:
    with pytest.raises(HoldfastError) as failed:
        what(*given)
    return failed.value.code


def test_a_journal_is_replayed_by_the_appliance(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as raw:
        raw.truncate(SIZES["ext4"] * MIB)
    put_files(image, None, "ext4", unix_tree)
    with image.open("r+b") as raw:
        raw.seek(1024 + 96)
        (found,) = struct.unpack("<I", raw.read(4))
        raw.seek(1024 + 96)
        raw.write(struct.pack("<I", found | 0x4))
    made = quick_point(tmp_path, image)
    assert made.rows("/")["osdisk"].file_system == "ext4"
    with pytest.raises(LeftToIt):
        made.list("/osdisk/docs")
    with pytest.raises(LeftToIt):
        made.restore(tmp_path / "out", "/osdisk/docs")
    assert not list(tmp_path.glob("out/*/*"))


def test_a_process_that_dies_is_replaced_by_the_appliance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "disk"
    with image.open("wb") as raw:
        raw.truncate(SIZES["ext4"] * MIB)
    put_files(image, None, "ext4", unix_tree)
    made = quick_point(tmp_path, image)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remembered(*words: Any, **more: Any) -> Any:
        started.append(popen(*words, **more))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remembered)
    assert "hello.txt" in made.rows("/osdisk/docs")
    with pytest.raises(LeftToIt), made.looked() as files:
        started[-1].send_signal(signal.SIGKILL)
        started[-1].wait()
        files.list(b"osdisk/docs", b"", 10)
    with pytest.raises(SourceError), made.looked() as files:
        for _ in files.read([b"osdisk/docs"]):
            started[-1].send_signal(signal.SIGKILL)
    with pytest.raises(LeftToIt):
        made.list("/osdisk/docs")  # it is not trusted again


SHUT = """
import os, socket, sys
from holdfast.adapters.appliance.quick.sandbox import shut_in
held = os.open("/dev/null", os.O_WRONLY)
shut_in()
tried = {
    "open": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "connect": lambda: socket.socket(),
    "fork": os.fork,
    "run": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "unlink": lambda: os.unlink(sys.argv[1]),
    "rights": lambda: os.setuid(0),
    "memory": lambda: bytearray(4 << 30),
}
passed = []
for name, act in tried.items():
    try:
        act()
        passed.append(name)
    except (OSError, MemoryError):
        pass
os.write(held, b"what is open stays so")
os.write(1, (",".join(passed) or "nothing").encode())
"""


def test_it_is_shut_in(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.touch()
    done = subprocess.run(
        [sys.executable, "-c", SHUT, str(mine)], capture_output=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == (b"nothing", 0), done.stderr
    assert mine.exists()
