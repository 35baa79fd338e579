"""A disk in memory, and QEMU's programs that serve image files over NBD."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.nbd.address import UnixSocket
from holdfast.ports.block_device import Extent, ExtentKind
from holdfast.testing.wait import eventually

PACKAGES = {
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "nbdcopy": "libnbd-bin",
    "nbdinfo": "libnbd-bin",
}
BLOCK = 4096


def missing_packages(*programs: str) -> list[str]:
    """The Debian packages to install for those that are not there."""
    return sorted({PACKAGES[one] for one in programs if shutil.which(one) is None})


def run(*words: str | Path) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run([str(one) for one in words], capture_output=True, check=False, text=True)
    if done.returncode:
        raise AssertionError(f"{words[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


@contextmanager
def short_folder() -> Iterator[Path]:
    """A private folder whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix="hf-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class MemoryDisk:
    """A block source and target; blocks of 4 KiB never written are unallocated, zeroed ones zero.
    ``failing``: offsets whose reads fail. ``reads`` counts the calls of ``read_into``."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.failing: set[int] = set()
        self.reads = 0
        self._lock = threading.Lock()
        self._kinds = [ExtentKind.UNALLOCATED] * -(-size // BLOCK)

    @property
    def size(self) -> int:
        return len(self.content)

    def write(self, offset: int, view: memoryview) -> None:
        self.content[offset : offset + len(view)] = view
        self._mark(offset, len(view), ExtentKind.DATA)

    def write_zeroes(self, offset: int, length: int) -> None:
        self.content[offset : offset + length] = bytes(length)
        inner = offset + -offset % BLOCK
        self._mark(inner, offset + length - inner - (offset + length) % BLOCK, ExtentKind.ZERO)

    def flush(self) -> None:
        """Memory is as durable as it gets."""

    def _mark(self, offset: int, length: int, kind: ExtentKind) -> None:
        if length > 0:
            for number in range(offset // BLOCK, (offset + length - 1) // BLOCK + 1):
                self._kinds[number] = kind

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            kind = self._kinds[offset // BLOCK]
            stop = offset - offset % BLOCK + BLOCK
            while stop < end and self._kinds[stop // BLOCK] is kind:
                stop += BLOCK
            yield Extent(offset, min(stop, end) - offset, kind)
            offset = min(stop, end)

    def dirty(self, offset: int, length: int) -> Iterator[Extent] | None:
        return None

    def read_into(self, offset: int, view: memoryview) -> None:
        with self._lock:
            self.reads += 1
        if any(offset <= one < offset + len(view) for one in self.failing):
            raise OSError("a bad sector")
        view[:] = self.content[offset : offset + len(view)]


@contextmanager
def serving(command: Sequence[str | Path], path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on the socket file ``path``; killed at the end."""
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        eventually(
            lambda: _listens(path) or process.poll() is not None, f"{path} is there", every=0.01
        )
        if process.poll() is not None:
            raise AssertionError(f"{command[0]} did not start: {log.read_text()}")
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    try:
        UnixSocket(path).open(10.0).close()
    except OSError:
        return False
    return True


@contextmanager
def qemu_nbd(folder: Path, *options: str | Path, export: str = "disk") -> Iterator[UnixSocket]:
    """qemu-nbd with ``options`` (the image and how to open it)."""
    path = folder / "qemu-nbd"
    command = ["qemu-nbd", "-t", "-e", "8", "-x", export, "-k", path, *options]
    with serving(command, path):
        yield UnixSocket(path)


@contextmanager
def storage_daemon(
    folder: Path, image: Path, *, bitmaps: Sequence[str] = (), writable: bool = False
) -> Iterator[UnixSocket]:
    """qemu-storage-daemon serving the qcow2 ``image`` as ``disk``, with its dirty bitmaps."""
    path = folder / "daemon"
    mode = "on" if writable else "off"
    named = "".join(f",bitmaps.{number}={name}" for number, name in enumerate(bitmaps))
    node = f"driver=qcow2,node-name=disk,read-only={'off' if writable else 'on'}"
    command = [
        "qemu-storage-daemon",
        "--blockdev",
        f"driver=file,node-name=file,filename={image}",
        "--blockdev",
        f"{node},file=file",
        "--nbd-server",
        f"addr.type=unix,addr.path={path}",
        "--export",
        f"type=nbd,id=disk,node-name=disk,name=disk,writable={mode}{named}",
    ]
    with serving(command, path):
        yield UnixSocket(path)
