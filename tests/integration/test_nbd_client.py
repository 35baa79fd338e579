"""The NBD client against QEMU's servers: what they hold is read, mapped and written; what goes
wrong is told in time."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.errors import SourceError, TargetError, UsageError
from holdfast.nbd.address import LoopbackPort, UnixSocket
from holdfast.nbd.client import connect
from holdfast.nbd.device import NbdSource, NbdTarget
from holdfast.nbd.failures import (
    NbdLostError,
    NbdProtocolError,
    NbdRefusedError,
    NbdRequestError,
    NbdUnreachableError,
)
from holdfast.ports.block_device import BlockSource, BlockTarget, Extent, ExtentKind
from holdfast.testing.block_devices import (
    missing_packages,
    qemu_nbd,
    run,
    serving,
    short_folder,
    storage_daemon,
)
from holdfast.testing.ports import SeededRandom

MIB = 1024 * 1024
SIZE = 24 * MIB
QEMU = ("qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon")
needs_qemu = pytest.mark.skipif(
    bool(missing_packages(*QEMU)), reason=f"needs the packages {missing_packages(*QEMU)}"
)
pytestmark = needs_qemu


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def image(folder: Path) -> Path:
    """A sparse raw image: data at 1 MiB (3 MiB and a bit), and its last 100 KiB."""
    path, rng = folder / "disk.img", SeededRandom(3)
    with path.open("wb") as out:
        out.truncate(SIZE)
        out.seek(MIB)
        out.write(rng.token(3 * MIB + 8192))
        out.seek(SIZE - 100 * 1024)
        out.write(rng.token(100 * 1024))
    return path


def test_a_disk_is_read_as_it_is(folder: Path, image: Path) -> None:
    content = image.read_bytes()
    found = memoryview(bytearray(SIZE))
    with qemu_nbd(folder, "-r", "-f", "raw", image) as address:
        source: BlockSource = NbdSource.open(address, "disk")
        assert source.size == SIZE
        source.read_into(0, found)
        assert found == content
        runs = list(source.extents(0, SIZE))
        assert source.dirty(0, SIZE) is None
    data = [run for run in runs if run.kind is ExtentKind.DATA]
    assert [(run.offset, run.length) for run in data] == [
        (MIB, 3 * MIB + 8192),
        (SIZE - 100 * 1024, 100 * 1024),
    ]
    assert sum(run.length for run in runs) == SIZE
    assert {run.kind for run in runs} == {ExtentKind.DATA, ExtentKind.UNALLOCATED}


def test_parts_of_a_map_are_cut_to_what_was_asked(folder: Path, image: Path) -> None:
    with qemu_nbd(folder, "-r", "-f", "raw", image) as address:
        source = NbdSource.open(address, "disk")
        runs = list(source.extents(MIB - 1000, 5000))
        assert list(source.extents(5000, 0)) == []
        source.close()
    assert runs == [
        Extent(MIB - 1000, 1000, ExtentKind.UNALLOCATED),
        Extent(MIB, 4000, ExtentKind.DATA),
    ]


def test_threads_share_a_connection(folder: Path, image: Path) -> None:
    content = image.read_bytes()
    rng = SeededRandom(5)
    starts = [int.from_bytes(rng.token(4), "big") % (SIZE - 700_000) for _ in range(60)]

    def read(start: int) -> bool:
        view = memoryview(bytearray(start % 700_000))
        client.read_into(start, view)
        return bool(view == content[start : start + len(view)])

    with (
        qemu_nbd(folder, "-r", "-f", "raw", image) as address,
        connect(address, "disk") as client,
        ThreadPoolExecutor(8) as pool,
    ):
        assert all(pool.map(read, starts))


def test_what_is_written_is_there(folder: Path, image: Path) -> None:
    expected = bytearray(image.read_bytes())
    new = SeededRandom(9).token(2 * MIB + 123)
    with qemu_nbd(folder, "-f", "raw", image) as address:
        target = NbdTarget.open(address, "disk")
        port: BlockTarget = target
        port.write(777, memoryview(new))
        port.write_zeroes(3 * MIB + 1, MIB)
        port.flush()
        target.close()
    expected[777 : 777 + len(new)] = new
    expected[3 * MIB + 1 : 4 * MIB + 1] = bytes(MIB)
    assert image.read_bytes() == expected


def test_a_bitmap_tells_what_changed(folder: Path) -> None:
    image = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
    run("qemu-img", "bitmap", "--add", "-g", "65536", image, "daily")
    run("qemu-io", "-f", "qcow2", "-c", "write 1M 100k", "-c", "write -z 10M 64k", image)
    with storage_daemon(folder, image, bitmaps=["daily"]) as address:
        source = NbdSource.open(address, "disk", bitmap="daily")
        runs = source.dirty(0, source.size)
        assert runs is not None
        assert list(runs) == [
            Extent(MIB, 131072, ExtentKind.DATA),
            Extent(10 * MIB, 65536, ExtentKind.DATA),
        ]
        kinds = {run.kind for run in source.extents(10 * MIB, 65536)}
        assert ExtentKind.DATA not in kinds
        source.close()


def test_a_bitmap_that_is_not_there_is_not_known(folder: Path) -> None:
    image = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "8M")
    with storage_daemon(folder, image) as address:
        source = NbdSource.open(address, "disk", bitmap="lost")
        assert not source.knows_changes
        assert source.dirty(0, source.size) is None
        with pytest.raises(NbdRefusedError, match="qemu:dirty-bitmap:lost"):
            list(connect(address, "disk").extents("qemu:dirty-bitmap:lost", 0, 512))


def blocks_of(size: int, image: Path, *faults: str) -> list[str | Path]:
    """Options for qemu-nbd: a disk of blocks of ``size`` bytes, with faults."""
    options = f"driver=blkdebug,align={size},image.driver=file,image.filename={image}"
    return ["--image-opts", ",".join([options, *faults])]


def test_disks_of_large_blocks_are_read_at_any_place(folder: Path, image: Path) -> None:
    content = image.read_bytes()
    contexts = ["base:allocation"]
    with (
        qemu_nbd(folder, *blocks_of(4096, image)) as address,
        connect(address, "disk", contexts) as client,
    ):
        assert client.min_block == 4096
        for start, length in [(MIB - 5, 11), (MIB + 1, 4094), (MIB + 100, 2 * MIB), (SIZE - 3, 3)]:
            view = memoryview(bytearray(length))
            client.read_into(start, view)
            assert view == content[start : start + length]
        assert list(client.extents("base:allocation", MIB + 5, 100)) == [(MIB + 5, 100, 0)]
        with pytest.raises(UsageError, match="no whole blocks"):
            client.write(5, memoryview(b"x"))
        client.write(4096, memoryview(bytes(4096)))


def test_a_bad_sector_fails_its_request_alone(folder: Path, image: Path) -> None:
    fault = ("inject-error.0.event=none", "inject-error.0.iotype=read")
    where = f"inject-error.0.sector={2 * MIB // 512}"
    address_of = qemu_nbd(folder, "-r", *blocks_of(512, image, *fault, where))
    content = image.read_bytes()
    with address_of as address, connect(address, "disk") as client:
        view = memoryview(bytearray(4 * MIB))
        what = r"failed to read 262,144 bytes at 2,097,152 \(EIO"
        with pytest.raises(NbdRequestError, match=what):
            client.read_into(0, view)
        client.read_into(3 * MIB, view[:MIB])
        assert view[:MIB] == content[3 * MIB : 4 * MIB]


def test_what_cannot_be_had_is_named(folder: Path, image: Path) -> None:
    with pytest.raises(NbdUnreachableError, match=r"no NBD server answers at .*/gone: No such"):
        connect(UnixSocket(folder / "gone"), "disk")
    with qemu_nbd(folder, "-r", "-f", "raw", image) as address:
        with pytest.raises(SourceError, match="serves no disk named 'other'") as caught:
            NbdSource.open(address, "other")
        assert caught.value.code == "NbdExportMissing"
        with connect(address, "disk") as client:
            with pytest.raises(NbdRefusedError, match="is read-only"):
                client.write(0, memoryview(b"x"))
            with pytest.raises(UsageError, match="not within"):
                client.read_into(SIZE - 1, memoryview(bytearray(2)))
        with pytest.raises(NbdLostError, match="closed on this side"):
            client.flush()
    with pytest.raises(UsageError, match="longer than the 107 bytes"):
        UnixSocket(Path("/" + "x" * 200))


def test_a_server_that_wants_tls_is_told_apart(folder: Path, image: Path) -> None:
    secret = ("--object", "tls-creds-anon,id=tls,endpoint=server", "--tls-creds", "tls")
    with (
        qemu_nbd(folder, "-r", "-f", "raw", *secret, image) as address,
        pytest.raises(NbdRefusedError, match="wants TLS"),
    ):
        connect(address, "disk")


def test_a_server_that_dies_ends_the_read(folder: Path, image: Path) -> None:
    path = folder / "socket"
    command = ["qemu-nbd", "-t", "-r", "-f", "raw", "-x", "disk", "-k", path, image]
    with serving(command, path) as process:
        source = NbdSource.open(UnixSocket(path), "disk")
        stopped = threading.Timer(0.2, process.kill)
        stopped.start()
        view = memoryview(bytearray(SIZE))
        with pytest.raises(SourceError, match=r"the connection to .* \(disk\) was lost") as caught:
            while True:
                source.read_into(0, view)
        assert (caught.value.code, caught.value.retry) == ("NbdConnectionLost", "later")
        stopped.join()


def test_a_server_that_hangs_is_given_up(folder: Path, image: Path) -> None:
    path = folder / "socket"
    command = ["qemu-nbd", "-t", "-f", "raw", "-x", "disk", "-k", path, image]
    with serving(command, path) as process:
        target = NbdTarget.open(UnixSocket(path), "disk", seconds=0.5)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(TargetError, match=r"fell silent: no answer within 0.5 s") as caught:
            target.write(0, memoryview(bytes(1000)))
        assert caught.value.code == "NbdTimeout"
        with pytest.raises(TargetError, match="fell silent"):
            target.flush()
        with pytest.raises(NbdLostError, match="broke off the handshake"):
            connect(UnixSocket(path), "disk", seconds=0.5)


def test_a_server_that_takes_nothing_is_given_up(folder: Path, image: Path) -> None:
    path = folder / "socket"
    command = ["qemu-nbd", "-t", "-f", "raw", "-x", "disk", "-k", path, image]
    with serving(command, path) as process:
        client = connect(UnixSocket(path), "disk", seconds=0.5)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(
            NbdLostError, match=r"fell silent: the other side (does not take|takes)"
        ):
            client.write(0, memoryview(bytes(SIZE)), depth=SIZE)


def test_what_is_no_nbd_server_is_told(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        other = threading.Thread(target=greet)
        other.start()
        with pytest.raises(NbdProtocolError, match="does not speak NBD"):
            connect(LoopbackPort(listener.getsockname()[1]), "disk")
        other.join()


def test_closing_ends_the_calls_of_other_threads(folder: Path, image: Path) -> None:
    path = folder / "socket"
    command = ["qemu-nbd", "-t", "-f", "raw", "-x", "disk", "-k", path, image]
    with serving(command, path) as process, ThreadPoolExecutor(1) as pool:
        client = connect(UnixSocket(path), "disk")
        os.kill(process.pid, signal.SIGSTOP)
        waiting = pool.submit(client.read_into, 0, memoryview(bytearray(MIB)))
        while not waiting.running():
            pass
        client.close()
        with pytest.raises(NbdLostError, match="closed on this side"):
            waiting.result(10)


def test_nothing_is_left_running(folder: Path, image: Path) -> None:
    before = threading.active_count()
    with qemu_nbd(folder, "-r", "-f", "raw", image) as address:
        for _ in range(3):
            with connect(address, "disk", ["base:allocation"]) as client:
                client.read_into(0, memoryview(bytearray(MIB)))
            client.close()
        with pytest.raises(NbdRefusedError):
            connect(address, "other")
        assert threading.active_count() == before
