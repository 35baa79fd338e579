"""The appliance without its machine: what runs in it, over a folder here; and its host's side with
one that lies."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from holdfast.adapters.appliance import channel, image, machine, packages
from holdfast.adapters.appliance.channel import Channel
from holdfast.adapters.appliance.inside import tree, volumes, wire
from holdfast.adapters.appliance.looker import AppliancePoint
from holdfast.errors import CancelledError, HoldfastError, SourceError
from holdfast.ports.point_files import FileKind, Finish, FoundFile, Hole
from holdfast.workloads.vm.found_files import FoundFilesWriter


class Inside:
    """``folder`` as the mounted volume ``osdisk``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, name: str) -> str:
        if name != "osdisk":
            raise volumes.TroubleError(b"PathNotFound", b"there is no volume")
        return str(self.folder)


class Line:
    """The host's end of a line on which the answer lies ready."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.stopped = False
        asked = Channel(self.ours, 0.2, lambda: self.stopped, 0.5)
        self.point = AppliancePoint(None, asked)  # type: ignore[arg-type]

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        self.theirs.sendall(wire.HEAD.pack(kind, len(payload)) + payload)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.ours.close()
    made.theirs.close()


def source(folder: Path) -> Path:
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "hosts").write_bytes(b"localhost\n")
    (folder / "etc" / "link").symlink_to("/etc/hosts")
    (folder / "way").symlink_to("../../etc")
    (folder / "round").symlink_to("round")
    with (folder / "holes").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(3 << 20)
        file.write(b"end")
    return folder


def test_what_it_reads_is_what_is_written(tmp_path: Path, line: Line) -> None:
    inside: Any = Inside(source(tmp_path / "in"))
    tree.read_path(line.send, inside, b"osdisk/etc")
    tree.read_path(line.send, inside, b"osdisk/holes")
    tree.read_path(line.send, inside, b"osdisk/none")
    line.send(wire.END)
    findings = []
    writer = FoundFilesWriter(
        tmp_path / "out", [b"osdisk"], lambda code, path, _: findings.append((code, path))
    )
    done = writer.take(line.point.read([b"asked before"]))
    out = tmp_path / "out" / "osdisk"
    assert (out / "etc/hosts").read_bytes() == b"localhost\n"
    assert (out / "etc/link").readlink() == Path("/etc/hosts")
    assert (out / "holes").read_bytes() == (tmp_path / "in/holes").read_bytes()
    assert findings == [("PathNotFound", b"osdisk/none")]
    assert (done.files, done.folders, done.skipped) == (3, 1, 1)


def test_links_on_the_way_stay_in_the_volume(tmp_path: Path) -> None:
    inside: Any = Inside(source(tmp_path / "in"))
    found = tree.resolve(inside, b"osdisk/way/hosts")[1]
    assert found == b"etc/hosts"
    assert tree.resolve(inside, b"osdisk/way")[1] == b"way"
    assert tree.resolve(inside, b"osdisk/../../etc/./hosts")[1] == b"etc/hosts"
    for path in (b"osdisk/round/x", b"osdisk/none/x", b"disk9/etc"):
        with pytest.raises(volumes.TroubleError) as failed:
            tree.resolve(inside, path)
        assert failed.value.code == b"PathNotFound"


@pytest.mark.parametrize(
    ("at", "magic", "kind"),
    [
        (1080, b"\x53\xef", "ext4"),
        (0, b"XFSB", "xfs"),
        (65600, b"_BHRfS_M", "btrfs"),
        (3, b"NTFS    ", "ntfs"),
        (82, b"FAT32   ", "vfat"),
        (0, b"LUKS\xba\xbe", "luks"),
        (3, b"-FVE-FS-", "bitlocker"),
        (536, b"LVM2 001", "lvm"),
        (0, b"", ""),
    ],
)
def test_what_a_volume_begins_with(at: int, magic: bytes, kind: str) -> None:
    head = bytearray(volumes.HEAD_BYTES)
    head[at : at + len(magic)] = magic
    assert volumes.kind_of(bytes(head)) == kind


def row(name: bytes, kind: bytes = b"f", size: int = 3) -> bytes:
    return wire.ROW.pack(kind, 0o644, os.getuid(), os.getgid(), 0, size) + name + b"\0"


def test_what_comes_over_the_line(line: Line) -> None:
    for kind, payload in (
        (wire.ENTRY, row(b"osdisk/a")),
        (wire.HOLE, wire.SIZE.pack(1)),
        (wire.DATA, b"bc"),
        (wire.FINISH, b""),
        (wire.ENTRY, row(b"osdisk/s", b"s", 0)),
        (wire.END, b""),
    ):
        line.send(kind, payload)
    first, *rest = line.point.read([b"osdisk"])
    assert isinstance(first, FoundFile)
    assert (first.path, first.kind, first.mode) == (b"osdisk/a", FileKind.FILE, 0o644)
    assert rest[:3] == [Hole(1), b"bc", Finish.FILE]
    assert isinstance(rest[3], FoundFile)
    assert rest[3].kind is FileKind.OTHER


def list_it(line: Line) -> object:
    return line.point.list(b"osdisk", b"", 2)


def read_it(line: Line) -> object:
    return list(line.point.read([b"osdisk"]))


def volumes_of(line: Line) -> object:
    return line.point.volumes()


@pytest.mark.parametrize(
    ("ask", "frames"),
    [
        (list_it, [(wire.ENTRY, b"short")]),
        (list_it, [(wire.ENTRY, row(b"a"))] * 3),
        (list_it, [(wire.ENTRY, row(b""))]),
        (read_it, [(wire.ENTRY, row(b"osdisk/" + b"a/" * 2200))]),
        (read_it, [(wire.ENTRY, row(b"osdisk/a", b"l", 0) + b"x" * 4097)]),
        (read_it, [(b"?", b"")]),
        (list_it, [(wire.END, b"Anything\0else")]),
        (read_it, [(wire.HOLE, b"\xff" * 9)]),
        (read_it, [(wire.PROBLEM, b"one")]),
        (read_it, [(wire.ENTRY, row(b"a", size=1 << 63))]),
        (volumes_of, [(wire.VOLUME, b"osdisk")]),
        (volumes_of, [(wire.VOLUME, b"a\0b\0c\0-1\0\0")]),
    ],
)
def test_nonsense(
    line: Line, ask: Callable[[Line], object], frames: list[tuple[bytes, bytes]]
) -> None:
    for kind, payload in frames:
        line.send(kind, payload)
    with pytest.raises(SourceError) as failed:
        ask(line)
    assert failed.value.code == "ApplianceConfused"


def test_a_piece_that_would_fill_the_memory(line: Line) -> None:
    line.theirs.sendall(wire.HEAD.pack(wire.DATA, 1 << 31))
    with pytest.raises(SourceError) as failed:
        read_it(line)
    assert failed.value.code == "ApplianceConfused"


def test_silence_an_end_and_a_stop(line: Line) -> None:
    def code() -> str:
        with pytest.raises(HoldfastError) as failed:
            volumes_of(line)
        return failed.value.code

    assert code() == "ApplianceSilent"
    line.stopped = True
    with pytest.raises(CancelledError):
        volumes_of(line)
    line.stopped = False
    line.theirs.close()
    assert code() == "ApplianceLost"


class Endless:
    """An appliance that says ``frame`` again and again, ``pause`` apart, whatever it is asked."""

    def __init__(self, line: Line, frame: bytes, pause: float = 0.0) -> None:
        self._line, self._frame, self._pause = line, frame, pause
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._say)

    def __enter__(self) -> Endless:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._line.ours.close()
        self._thread.join()

    def _say(self) -> None:
        with suppress(OSError):
            while not self.over.wait(self._pause):
                self._line.theirs.sendall(self._frame)


TROUBLE = wire.HEAD.pack(wire.PROBLEM, 2) + b"\0\0"
NOTHING = wire.HEAD.pack(wire.DATA, 0)


@pytest.mark.parametrize("ask", [list_it, volumes_of])
@pytest.mark.parametrize("frame", [TROUBLE * 1000, NOTHING * 1000])
def test_an_answer_that_does_not_end(
    line: Line,
    ask: Callable[[Line], object],
    frame: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel, "MAX_ANSWER", 500)
    with Endless(line, frame), pytest.raises(SourceError) as failed:
        ask(line)
    assert failed.value.code == "ApplianceConfused"


@pytest.mark.parametrize("ask", [list_it, read_it, volumes_of])
def test_an_answer_byte_by_byte(line: Line, ask: Callable[[Line], object]) -> None:
    """Each byte comes soon enough, and no piece is ever whole."""
    line.send(wire.PROBLEM, b"\0\0")
    line.theirs.sendall(wire.HEAD.pack(wire.PROBLEM, 1 << 17))
    with Endless(line, b"x", 0.01), pytest.raises(SourceError) as failed:
        ask(line)
    assert failed.value.code == "ApplianceSilent"


@pytest.mark.parametrize("ask", [list_it, volumes_of])
def test_an_answer_that_takes_too_long(line: Line, ask: Callable[[Line], object]) -> None:
    with Endless(line, TROUBLE, 0.01), pytest.raises(SourceError) as failed:
        ask(line)
    assert failed.value.code == "ApplianceSilent"


@pytest.mark.parametrize("ask", [list_it, read_it, volumes_of])
def test_an_answer_is_stopped_while_it_comes(line: Line, ask: Callable[[Line], object]) -> None:
    line.stopped = True
    with Endless(line, TROUBLE), pytest.raises(CancelledError):
        ask(line)


def test_more_paths_than_one_question_holds(line: Line) -> None:
    """Each question is answered by a name of its own."""
    paths = [b"osdisk/%03d" % number + b"x" * 20_000 for number in range(100)]
    asked: list[bytes] = []

    def answer() -> None:
        with line.theirs.makefile("rb") as stream:
            while len(asked) < len(paths):
                (length,) = wire.LENGTH.unpack(stream.read(wire.LENGTH.size))
                assert length <= wire.MAX_REQUEST
                asked.extend(stream.read(length).split(b"\0")[1:])
                line.send(wire.PROBLEM, b"PathNotFound\0osdisk\0none")
                line.send(wire.END)

    inside = threading.Thread(target=answer)
    inside.start()
    found = list(line.point.read(paths))
    inside.join()
    assert asked == paths
    assert len(found) == 2


def test_refusals_in_its_words(line: Line) -> None:
    for code in ("PathNotFound", "VolumeEncrypted", "FileSystemUnknown", "FileSystemUnreadable"):
        line.send(wire.END, code.encode() + b"\0why \xff")
        with pytest.raises(HoldfastError) as failed:
            list_it(line)
        assert failed.value.code == code
        assert failed.value.message == "why \\xff"
        assert failed.value.hint


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages are not unpacked, linked or listed."""
    monkeypatch.setattr(packages.Programs, "__init__", lambda *_: None)
    monkeypatch.setattr(packages.Programs, "libraries", lambda *_: [])
    monkeypatch.setattr(packages.Programs, "compile", lambda *_: None)
    monkeypatch.setattr(image, "run", lambda *_: "")


def fetched(cache: Path) -> Path:
    """What the appliance is made of, as if it had been fetched."""
    tree = cache / "packages" / "tree"
    names = ["boot/vmlinuz-6.1", "usr/bin/python3.11"]
    names += [f"bin/{name}" for name in image.PROGRAMS]
    names += [f"usr/lib/python3.11/{name}" for name in image.PYTHON_NEEDS]
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"of a package")
    (cache / "packages" / "done").touch()
    return tree


@pytest.mark.skipif(shutil.which("cpio") is None, reason="needs cpio: an image is packed")
def test_an_image_that_is_built_by_a_service_can_be_read_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's umask closes what it makes to others; QEMU is nobody."""
    stub(monkeypatch)
    with umask(0o077):
        fetched(tmp_path)
        made = image.build_image(tmp_path)
    assert made.initrd.stat().st_size
    assert [path.stat().st_mode & 0o777 for path in (made.kernel, made.initrd)] == [0o644] * 2


CHATTER = """#!/bin/sh
head -c 3000000 /dev/zero | tr '\\0' x
echo " limit $(ulimit -f)"
for one in /proc/self/fd/*; do readlink "$one"; done
echo the end
"""


def test_what_it_writes_stays_small_and_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A console without end, and layers: not in a folder that may be the memory."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for name, text in ((machine.QEMU, CHATTER), (machine.MAKER, "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "_shut_in", list)
    pairs = [socket.socketpair() for _ in range(4)]
    disks = [
        machine.ServedDisk(f"disk{number}", "", 1 << 20, pair[1])
        for number, pair in enumerate(pairs)
    ]
    tool = tmp_path / machine.QEMU
    running = machine.ApplianceMachine(image.ApplianceImage(tool, tool, cache), disks)
    running._process.wait(60)
    said = running.last_words()
    running.close()
    for pair in pairs:
        pair[0].close()
        pair[1].close()
    assert said.endswith("the end") and len(said) <= machine.LAST_WORDS
    assert f"limit {machine.LAYER_BYTES // 4 // 512}" in said, "each disk has its part"
    assert said.count(f"{cache}/holdfast-layer-") == 4
    assert list(cache.iterdir()) == []


def test_packages_without_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch)
    for lost in ("boot/vmlinuz-6.1", "usr/bin/python3.11", "bin/lvm"):
        (fetched(tmp_path / lost) / lost).unlink()
        with pytest.raises(SourceError) as failed:
            image.build_image(tmp_path / lost)
        assert failed.value.code == "ApplianceUnavailable"


def test_an_image_that_cannot_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch)
    fetched(tmp_path)
    (tmp_path / "cpio").write_text("#!/bin/sh\necho no room >&2\nexit 2\n")
    (tmp_path / "cpio").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(image, "SEARCH", os.environ["PATH"])
    with pytest.raises(SourceError) as failed:
        image.build_image(tmp_path)
    assert failed.value.code == "ApplianceUnavailable" and "no room" in failed.value.message
