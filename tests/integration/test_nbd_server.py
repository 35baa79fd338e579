"""Our NBD server: QEMU's and libnbd's programs read from it what is there, and no client harms
another."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.errors import ConflictError, NotFoundError, SourceError, UsageError
from holdfast.nbd import wire
from holdfast.nbd.address import UnixSocket
from holdfast.nbd.client import NbdClient, connect
from holdfast.nbd.device import NbdSource
from holdfast.nbd.failures import NbdError, NbdLostError, NbdRefusedError, NbdRequestError
from holdfast.nbd.server import Limits, NbdServer
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import Command, CommandFlag, Option, Request
from holdfast.ports.block_device import Extent, ExtentKind
from holdfast.testing.block_devices import MemoryDisk, missing_packages, run, short_folder
from holdfast.testing.ports import SeededRandom
from holdfast.testing.wait import eventually

MIB = 1024 * 1024
SIZE = 16 * MIB + 512
PROGRAMS = ("qemu-img", "qemu-io", "nbdcopy", "nbdinfo")
needs_programs = pytest.mark.skipif(
    bool(missing_packages(*PROGRAMS)), reason=f"needs the packages {missing_packages(*PROGRAMS)}"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture
def disk() -> MemoryDisk:
    """Data at 1 MiB (3 MiB and a bit), zeros behind it, data at the end; nothing elsewhere."""
    made, rng = MemoryDisk(SIZE), SeededRandom(11)
    made.write(MIB, memoryview(rng.token(3 * MIB + 8192)))
    made.write_zeroes(4 * MIB + 8192, MIB)
    made.write(SIZE - 100_000, memoryview(rng.token(100_000)))
    return made


@pytest.fixture
def server(disk: MemoryDisk) -> Iterator[NbdServer]:
    with NbdServer(Limits(clients=6)) as made:
        made.add("disk", disk, "a disk of the test")
        yield made


@pytest.fixture
def address(server: NbdServer, folder: Path) -> UnixSocket:
    return server.listen_unix(folder / "socket")


def whole(client: NbdClient) -> bytes:
    view = memoryview(bytearray(client.size))
    client.read_into(0, view)
    return bytes(view)


@needs_programs
def test_programs_of_others_read_the_disk(
    server: NbdServer, address: UnixSocket, disk: MemoryDisk, folder: Path
) -> None:
    image, copy, converted = (folder / name for name in ("image", "copy", "converted"))
    image.write_bytes(disk.content)
    for uri in (address.uri("disk"), server.listen_loopback().uri("disk")):
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, uri)
        run("nbdcopy", uri, copy)
        assert copy.read_bytes() == disk.content
        run("qemu-img", "convert", "-W", "-m", "8", "-f", "raw", "-O", "qcow2", uri, converted)
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, converted)
    allocated = json.loads(run("qemu-img", "map", "--output=json", converted))
    assert sum(one["length"] for one in allocated if one["data"]) < 4 * MIB


@needs_programs
def test_the_map_and_the_names_are_told(server: NbdServer, address: UnixSocket) -> None:
    server.add("other disk", MemoryDisk(4096))
    found = json.loads(run("nbdinfo", "--list", "--json", address.uri("")))
    assert {one["export-name"] for one in found["exports"]} == {"disk", "other disk"}
    mapped = json.loads(run("nbdinfo", "--map", "--json", address.uri("disk")))
    assert [(one["offset"], one["length"], one["type"]) for one in mapped] == [
        (0, MIB, 3),
        (MIB, 3 * MIB + 8192, 0),
        (4 * MIB + 8192, MIB, 2),
        (5 * MIB + 8192, SIZE - 102_912 - 5 * MIB - 8192, 3),
        (SIZE - 102_912, 102_912, 0),
    ]
    about = json.loads(run("nbdinfo", "--json", address.uri("disk")))["exports"][0]
    assert about["is_read_only"]
    assert about["description"] == "a disk of the test"
    assert run("nbdinfo", "--size", address.uri("other disk")) == "4096\n"


@needs_programs
def test_a_port_does_not_tell_names(server: NbdServer, disk: MemoryDisk) -> None:
    port = server.listen_loopback()
    listed = subprocess.run(
        ["nbdinfo", "--list", port.uri("")], capture_output=True, text=True, check=False
    )
    assert listed.returncode != 0
    assert "disk" not in listed.stdout
    assert "export-size" in run("nbdinfo", "--list", server.listen_loopback(listed=True).uri(""))
    with connect(port, "disk") as client:
        assert whole(client) == disk.content


@needs_programs
def test_nothing_can_be_written(address: UnixSocket, disk: MemoryDisk) -> None:
    before = bytes(disk.content)
    done = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 4k", address.uri("disk")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Permission denied" in done.stderr
    stream = raw_client(address)
    for command in (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES):
        stream.send(Request(0, command, 7, 0, 4096).pack())
        if command == Command.WRITE:
            stream.send(b"x" * 4096)
        assert wire.SIMPLE_REPLY.unpack(stream.receive(16)) == (0x67446698, 1, 7)
    stream.close()
    assert disk.content == before


@needs_programs
def test_a_guests_overlay_stands_on_it(address: UnixSocket, disk: MemoryDisk, folder: Path) -> None:
    """As instant restore uses it: writes stay in the overlay, the rest comes from here."""
    overlay, copy = folder / "overlay.qcow2", folder / "copy"
    uri = address.uri("disk")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, overlay)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0x77 2M 70000", overlay)
    run("qemu-img", "convert", "-O", "raw", overlay, copy)
    expected = bytearray(disk.content)
    expected[2 * MIB : 2 * MIB + 70_000] = b"\x77" * 70_000
    assert copy.read_bytes() == expected


def raw_client(address: UnixSocket, export: str = "disk") -> Stream:
    """A client of the old kind: no options but the name, simple replies."""
    stream = Stream(address.open(10.0), 10.0)
    stream.receive(wire.GREETING.size)
    stream.send(wire.CLIENT_FLAGS.pack(1), wire.pack_option(Option.EXPORT_NAME, export.encode()))
    size, flags = wire.EXPORT_SIZE.unpack(stream.receive(wire.EXPORT_SIZE.size))
    assert size == SIZE
    assert flags & wire.ExportFlag.READ_ONLY
    assert stream.receive(124) == bytes(124)
    return stream


def test_old_clients_are_served(address: UnixSocket, disk: MemoryDisk) -> None:
    stream = raw_client(address)
    stream.send(Request(0, Command.READ, 1, MIB - 9, 2 * MIB).pack())
    assert wire.SIMPLE_REPLY.unpack(stream.receive(16)) == (0x67446698, 0, 1)
    assert stream.receive(2 * MIB) == disk.content[MIB - 9 : 3 * MIB - 9]
    disk.failing = {MIB}
    stream.send(Request(0, Command.READ, 2, MIB, 512).pack())
    assert wire.SIMPLE_REPLY.unpack(stream.receive(16)) == (0x67446698, 5, 2)
    for bad in ((Command.READ, SIZE, 1), (Command.READ, 0, 2**32 - 1), (Command.CACHE, 0, 1)):
        stream.send(Request(0, bad[0], 3, bad[1], bad[2]).pack())
        assert wire.SIMPLE_REPLY.unpack(stream.receive(16)) == (0x67446698, 22, 3)
    stream.send(Request(0, Command.READ, 4, 0, 512).pack())
    assert stream.receive(16 + 512)[16:] == bytes(512)
    stream.close()


def test_our_client_reads_from_many_threads(address: UnixSocket, disk: MemoryDisk) -> None:
    rng = SeededRandom(2)
    starts = [int.from_bytes(rng.token(4), "big") % (SIZE - 900_000) for _ in range(60)]

    def read(start: int) -> bool:
        view = memoryview(bytearray(start % 900_000))
        client.read_into(start, view)
        return bool(view == disk.content[start : start + len(view)])

    with connect(address, "disk", ["base:allocation"]) as client, ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, starts))
        assert list(NbdSource(client).extents(0, SIZE)) == joined(disk.extents(0, SIZE))


def joined(runs: Iterator[Extent]) -> list[Extent]:
    found: list[Extent] = []
    for extent in runs:
        if found and found[-1].kind is extent.kind:
            found[-1] = found[-1]._replace(length=found[-1].length + extent.length)
        else:
            found.append(extent)
    return found


def test_a_disk_that_fails_fails_the_request(
    address: UnixSocket, disk: MemoryDisk, server: NbdServer
) -> None:
    disk.failing = {2 * MIB}
    with connect(address, "disk") as client:
        with pytest.raises(NbdRequestError, match=r"2,097,152 \(EIO: the disk cannot be read\)"):
            whole(client)
        disk.failing = set()
        assert whole(client) == disk.content

    class Broken(MemoryDisk):
        def extents(self, offset: int, length: int) -> Iterator[Extent]:
            yield Extent(offset, length + 1, ExtentKind.DATA)

        def read_into(self, offset: int, view: memoryview) -> None:
            raise SourceError("chunk 12ab of the recovery point is damaged")

    server.add("broken", Broken(4096))
    with connect(address, "broken", ["base:allocation"]) as client:
        with pytest.raises(NbdError, match="chunk 12ab of the recovery point is damaged"):
            client.read_into(0, memoryview(bytearray(512)))
        with pytest.raises(NbdError, match="tells its extents out of order"):
            list(client.extents("base:allocation", 0, 4096))


def test_zeros_are_not_sent(address: UnixSocket) -> None:
    stream = Stream(address.open(10.0), 10.0)
    stream.receive(wire.GREETING.size)
    stream.send(wire.CLIENT_FLAGS.pack(3), wire.pack_option(Option.STRUCTURED_REPLY))
    stream.receive(wire.OPTION_REPLY.size)
    stream.send(wire.pack_option(Option.EXPORT_NAME, b"disk"))
    stream.receive(wire.EXPORT_SIZE.size)
    stream.send(Request(0, Command.READ, 1, 0, MIB).pack())
    head = wire.CHUNK.unpack(stream.receive(wire.CHUNK.size))
    assert head[1:] == (wire.CHUNK_DONE, wire.ChunkType.HOLE, 1, 12)
    assert wire.HOLE.unpack(stream.receive(12)) == (0, MIB)
    stream.send(Request(CommandFlag.DF, Command.READ, 2, 0, MIB).pack())
    head = wire.CHUNK.unpack(stream.receive(wire.CHUNK.size))
    assert head[2] == wire.ChunkType.ERROR
    assert stream.receive(head[4]).startswith(b"\0\0\0\x4b")
    stream.send(Request(CommandFlag.DF, Command.READ, 3, 0, 4096).pack())
    head = wire.CHUNK.unpack(stream.receive(wire.CHUNK.size))
    assert head[2:] == (wire.ChunkType.DATA, 3, 8 + 4096)
    stream.close()


JUNK = {
    "noise": b"\xff" * 200,
    "unknown flags": wire.CLIENT_FLAGS.pack(0xFF),
    "old style": wire.CLIENT_FLAGS.pack(0),
    "a long option": wire.CLIENT_FLAGS.pack(3) + wire.OPTION.pack(wire.OPTION_MAGIC, 7, 2**32 - 1),
    "endless options": wire.CLIENT_FLAGS.pack(3) + wire.pack_option(Option.LIST) * 999,
    "an unknown name": wire.CLIENT_FLAGS.pack(3) + wire.pack_option(Option.EXPORT_NAME, b"what"),
    "no text": wire.CLIENT_FLAGS.pack(3) + wire.pack_option(Option.EXPORT_NAME, b"\xff\xff"),
    "no request": wire.CLIENT_FLAGS.pack(3)
    + wire.pack_option(Option.EXPORT_NAME, b"disk")
    + b"x" * 28,
    "a huge write": wire.CLIENT_FLAGS.pack(3)
    + wire.pack_option(Option.EXPORT_NAME, b"disk")
    + Request(0, Command.WRITE, 1, 0, 2**32 - 1).pack(),
}


@pytest.mark.parametrize("name", JUNK)
def test_a_client_that_talks_junk_is_cut_off(
    name: str, address: UnixSocket, server: NbdServer, disk: MemoryDisk
) -> None:
    with connect(address, "disk") as good, address.open(10.0) as sock:
        try:
            sock.sendall(JUNK[name])
            while sock.recv(65536):
                pass
        except ConnectionError:
            pass
        eventually(lambda: server.client_count == 1, "the junk is gone", every=0.01)
        assert whole(good) == disk.content


def test_a_client_that_says_nothing_is_cut_off(folder: Path) -> None:
    with NbdServer(Limits(greeting_seconds=0.2)) as server:
        address = server.listen_unix(folder / "socket")
        with address.open(10.0) as sock:
            assert len(sock.recv(100)) == wire.GREETING.size
            assert sock.recv(100) == b""
        eventually(lambda: server.client_count == 0, "it is forgotten", every=0.01)


def test_options_that_make_no_sense_are_refused(address: UnixSocket) -> None:
    invalid, unsupported, unknown = 0x80000003, 0x80000001, 0x80000006
    cases = [
        (wire.pack_option(Option.GO, b"\0"), invalid),
        (wire.pack_option(Option.GO, wire.pack_go(b"other", [])), unknown),
        (wire.pack_option(Option.LIST, b"x"), invalid),
        (wire.pack_option(Option.STARTTLS), unsupported),
        (wire.pack_option(77, b"data"), unsupported),
        (wire.pack_option(Option.SET_META_CONTEXT, wire.pack_meta_query(b"disk", [])), invalid),
        (wire.pack_option(Option.ABORT), 1),
    ]
    stream = Stream(address.open(10.0), 10.0)
    stream.receive(wire.GREETING.size)
    stream.send(wire.CLIENT_FLAGS.pack(3))
    for sent, awaited in cases:
        stream.send(sent)
        _, _, kind, length = wire.OPTION_REPLY.unpack(stream.receive(wire.OPTION_REPLY.size))
        stream.receive(length)
        assert kind == awaited
    with pytest.raises(ConnectionError):
        stream.receive(1)
    stream.close()


def test_a_client_that_takes_nothing_holds_up_only_itself(
    address: UnixSocket, disk: MemoryDisk, server: NbdServer
) -> None:
    greedy = raw_client(address)
    for number in range(500):
        greedy.send(Request(0, Command.READ, number, 0, 16 * MIB).pack())
    with connect(address, "disk") as client:
        assert whole(client) == disk.content
    reads = disk.reads
    assert reads < 600  # of the 32,000 pieces it asked for
    server.close(grace=0.2)
    greedy.close()
    assert server.client_count == 0


def test_too_many_clients_are_turned_away(address: UnixSocket, disk: MemoryDisk) -> None:
    held = [connect(address, "disk") for _ in range(6)]
    with pytest.raises(NbdLostError, match="broke off the handshake"):
        connect(address, "disk")
    held.pop().close()
    clients = []
    eventually(lambda: clients.append(reconnected(address)) or clients[-1], "there is room again")
    for client in [*held, clients[-1]]:
        assert client is not None
        assert whole(client) == disk.content
        client.close()


def reconnected(address: UnixSocket) -> NbdClient | None:
    try:
        return connect(address, "disk")
    except NbdLostError:
        return None


def test_closing_lets_answers_finish_and_frees_everything(folder: Path, disk: MemoryDisk) -> None:
    before = threading.active_count()
    asked, go_on = threading.Event(), threading.Event()

    class Slow(MemoryDisk):
        def read_into(self, offset: int, view: memoryview) -> None:
            asked.set()
            assert go_on.wait(10)
            view[:] = b"s" * len(view)

    server = NbdServer()
    server.add("slow", Slow(4096))
    address = server.listen_unix(folder / "socket")
    client = connect(address, "slow")
    with ThreadPoolExecutor(2) as pool:
        view = memoryview(bytearray(4096))
        reading = pool.submit(client.read_into, 0, view)
        assert asked.wait(10)
        closing = pool.submit(server.close)
        eventually(lambda: not address.path.exists(), "the socket is gone", every=0.01)
        go_on.set()
        reading.result(10)
        closing.result(10)
    assert view == b"s" * 4096
    with pytest.raises(NbdLostError):
        client.read_into(0, view)
    client.close()
    server.close()
    eventually(lambda: threading.active_count() == before, "its threads ended", every=0.01)


def test_a_disk_that_is_removed_is_gone(
    server: NbdServer, address: UnixSocket, disk: MemoryDisk
) -> None:
    server.add("kept", disk)
    with connect(address, "kept") as kept, connect(address, "disk") as client:
        client.read_into(0, memoryview(bytearray(512)))
        server.remove("disk")
        with pytest.raises(NbdLostError):
            client.read_into(0, memoryview(bytearray(512)))
        with pytest.raises(NbdRefusedError, match="serves no disk named 'disk'"):
            connect(address, "disk")
        assert whole(kept) == disk.content
    with pytest.raises(NotFoundError):
        server.remove("disk")
    with pytest.raises(ConflictError):
        server.add("kept", disk)
    with pytest.raises(UsageError):
        server.add("new\nline", disk)


def test_the_socket_is_its_owners_alone(server: NbdServer, folder: Path) -> None:
    path = folder / "private" / "socket"
    server.listen_unix(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    with pytest.raises(UsageError, match="open to others"):
        server.listen_unix(shared / "socket")
    with pytest.raises(ConflictError, match="Address already in use"):
        server.listen_unix(path)
    (folder / "file").write_text("kept")
    with pytest.raises(ConflictError):
        server.listen_unix(folder / "file")
    assert (folder / "file").read_text() == "kept"


def test_a_socket_left_behind_is_replaced(server: NbdServer, folder: Path) -> None:
    path = folder / "left"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server.listen_unix(path)
    with connect(UnixSocket(path), "disk") as client:
        assert client.size == SIZE
    assert os.stat(path).st_mode & 0o777 == 0o600
