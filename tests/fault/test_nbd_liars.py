"""An NBD server that lies: an error in time, no byte outside the buffer, no memory for the lie."""

from __future__ import annotations

import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from holdfast.nbd import wire
from holdfast.nbd.address import UnixSocket
from holdfast.nbd.client import NbdClient, connect
from holdfast.nbd.exports import ExportTable
from holdfast.nbd.failures import NbdLostError, NbdProtocolError, NbdRequestError
from holdfast.nbd.greeting import greet
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import ChunkType, Option, OptionReply, Request
from holdfast.testing.block_devices import MemoryDisk, short_folder

SIZE = 1024 * 1024
LENGTH = 4096
GUARD = b"\xee" * 512
Lie = Callable[[Request], bytes]
Talk = Callable[[Stream], None]


@contextmanager
def listening(talk: Talk) -> Iterator[UnixSocket]:
    """A server that talks so to its first client; it ends with the client."""
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        address = UnixSocket(folder / "liar")
        listener.bind(str(address))
        listener.listen(1)

        def serve() -> None:
            accepted, _ = listener.accept()
            stream = Stream(accepted, 30.0)
            with suppress(OSError):
                talk(stream)
            stream.close()

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield address
        finally:
            server.join(30)
            assert not server.is_alive()


def honest_greeting(stream: Stream) -> None:
    exports = ExportTable()
    exports.add("disk", MemoryDisk(SIZE), "")
    assert greet(stream, exports, listed=True) is not None


@contextmanager
def liar(lie: Lie, seconds: float = 20.0) -> Iterator[NbdClient]:
    """A client of a server that shakes hands honestly and answers each request with ``lie``."""

    def talk(stream: Stream) -> None:
        honest_greeting(stream)
        while True:
            asked = wire.parse_request(stream.receive(wire.REQUEST.size))
            if asked.command == wire.Command.WRITE:
                stream.receive(asked.length)
            stream.send(lie(asked))

    with (
        listening(talk) as address,
        connect(address, "disk", ["base:allocation"], seconds=seconds) as client,
    ):
        yield client


def chunk(
    asked: Request, kind: int, payload: bytes, *, done: bool = True, lie: int | None = None
) -> bytes:
    length = len(payload) if lie is None else lie
    return wire.CHUNK.pack(wire.CHUNK_MAGIC, done, kind, asked.cookie, length) + payload


def data(asked: Request, offset: int, length: int, *, done: bool = True) -> bytes:
    payload = wire.U64.pack(asked.offset + offset) + b"\xaa" * length
    return chunk(asked, ChunkType.DATA, payload, done=done)


def hole(asked: Request, offset: int, length: int) -> bytes:
    return chunk(asked, ChunkType.HOLE, wire.HOLE.pack(asked.offset + offset, length))


def runs(asked: Request, *found: tuple[int, int], context: int = 1) -> bytes:
    return chunk(asked, ChunkType.BLOCK_STATUS, wire.pack_runs(context, found))


READ_LIES: dict[str, Lie] = {
    "other data before": lambda asked: data(asked, -8, 8),
    "other data behind": lambda asked: data(asked, LENGTH - 4, 8),
    "far too much": lambda asked: chunk(asked, ChunkType.DATA, bytes(8), lie=2**32 - 1),
    "a little too much": lambda asked: data(asked, 0, LENGTH + 1),
    "too little": lambda asked: data(asked, 0, LENGTH - 1),
    "nothing": lambda asked: chunk(asked, ChunkType.NONE, b""),
    "nothing, long": lambda asked: chunk(asked, ChunkType.NONE, b"", lie=2**31),
    "an empty piece": lambda asked: data(asked, 0, 0),
    "no offset": lambda asked: chunk(asked, ChunkType.DATA, b"", lie=4),
    "twice": lambda asked: data(asked, 0, LENGTH, done=False) + data(asked, 100, 8),
    "a hole outside": lambda asked: hole(asked, LENGTH, 8),
    "a huge hole": lambda asked: hole(asked, 0, 2**32 - 1),
    "an empty hole": lambda asked: hole(asked, 0, 0),
    "runs": lambda asked: runs(asked, (LENGTH, 0)),
    "a simple reply": lambda asked: wire.SIMPLE_REPLY.pack(0x67446698, 0, asked.cookie),
    "another request's": lambda asked: data(asked._replace(cookie=77), 0, LENGTH),
    "no magic": lambda asked: bytes(64),
    "an unknown piece": lambda asked: chunk(asked, 99, b"", lie=8),
    "a long error": lambda asked: chunk(asked, ChunkType.ERROR, b"", lie=2**31),
    "a short error": lambda asked: chunk(asked, ChunkType.ERROR, b"xx"),
    "error zero": lambda asked: chunk(asked, ChunkType.ERROR, bytes(6)),
    "an error's text is cut": lambda asked: chunk(asked, 0x8001, struct.pack(">IH", 5, 9) + b"x"),
    "single bytes": lambda asked: b"".join(data(asked, at, 1, done=False) for at in range(99)),
}


@pytest.mark.parametrize("name", READ_LIES)
def test_a_read_is_filled_with_nothing_else(name: str) -> None:
    held = bytearray(GUARD + bytes(LENGTH) + GUARD)
    view = memoryview(held)[len(GUARD) : -len(GUARD)]
    with liar(READ_LIES[name]) as client:
        with pytest.raises(NbdProtocolError, match=r"liar \(disk\) breaks the NBD protocol"):
            client.read_into(8192, view)
        with pytest.raises(NbdProtocolError):
            client.read_into(0, view)  # it is over with this server
    assert held.startswith(GUARD)
    assert held.endswith(GUARD)


STATUS_LIES: dict[str, Lie] = {
    "an empty run": lambda asked: runs(asked, (0, 0)),
    "no runs": runs,
    "more than was asked": lambda asked: runs(asked, (2**32 - 1, 0), (1, 0)),
    "another context": lambda asked: runs(asked, (512, 0), context=9),
    "half a run": lambda asked: chunk(asked, ChunkType.BLOCK_STATUS, bytes(15)),
    "endless runs": lambda asked: chunk(asked, ChunkType.BLOCK_STATUS, b"", lie=2**32 - 4),
    "no status": lambda asked: chunk(asked, ChunkType.NONE, b""),
    "data": lambda asked: data(asked, 0, 8),
    "a simple reply": lambda asked: wire.SIMPLE_REPLY.pack(0x67446698, 0, asked.cookie),
    "one byte at a time": lambda asked: runs(asked, (1, asked.offset % 2)),
}


@pytest.mark.parametrize("name", STATUS_LIES)
def test_a_map_ends(name: str) -> None:
    with liar(STATUS_LIES[name]) as client, pytest.raises(NbdProtocolError):
        for _ in client.extents("base:allocation", 0, SIZE):
            pass


def test_the_last_run_may_end_behind_the_range() -> None:
    with liar(lambda asked: runs(asked, (512, 0), (2**32 - 1, 3))) as client:
        found = list(client.extents("base:allocation", 0, 4096))
    assert found == [(0, 512, 0), (512, 3584, 3)]


def test_an_error_is_told_in_the_servers_words() -> None:
    said = b"no\x1b[2J\nroom"
    error = struct.pack(">IH", 28, len(said)) + said
    with liar(lambda asked: chunk(asked, ChunkType.ERROR, error)) as client:
        for _ in range(2):  # the connection goes on
            with pytest.raises(NbdRequestError, match=r"to flush \(ENOSPC: no\?\[2J\?room\)"):
                client.flush()


def test_a_trickle_is_no_answer() -> None:
    """Each byte comes in time, and the answer does not."""

    def talk(stream: Stream) -> None:
        honest_greeting(stream)
        asked = wire.parse_request(stream.receive(wire.REQUEST.size))
        waiting = threading.Event()
        for byte in data(asked, 0, LENGTH):
            waiting.wait(0.1)
            stream.send(bytes([byte]))

    with (
        listening(talk) as address,
        connect(address, "disk", seconds=0.4) as client,
        pytest.raises(NbdLostError, match=r"fell silent: no answer within 0.4 s"),
    ):
        client.read_into(0, memoryview(bytearray(LENGTH)))


GREETING = wire.GREETING.pack(wire.GREETING_MAGIC, wire.OPTION_MAGIC, 3)
TO_STRUCTURED = wire.pack_option_reply(Option.STRUCTURED_REPLY, OptionReply.ACK)
TO_GO = wire.pack_option_reply(Option.GO, OptionReply.ACK)


def info(payload: bytes) -> bytes:
    return TO_STRUCTURED + wire.pack_option_reply(Option.GO, OptionReply.INFO, payload) + TO_GO


GREETING_LIES = {
    "not NBD": bytes(18),
    "old style": wire.GREETING.pack(wire.GREETING_MAGIC, 0x420281861253, 3),
    "a long reply": GREETING + wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, 8, 1, 2**32 - 1),
    "another option": GREETING + wire.pack_option_reply(Option.LIST, OptionReply.ACK),
    "no size": GREETING + TO_STRUCTURED + TO_GO,
    "no magic": GREETING + bytes(20),
    "a size beyond all": GREETING + info(wire.INFO_EXPORT.pack(0, 2**63, 3)),
    "half a size": GREETING + info(bytes(5)),
    "blocks of three": GREETING + info(wire.INFO_BLOCK_SIZE.pack(3, 3, 4096, 4096)),
    "blocks of nothing": GREETING + info(wire.INFO_BLOCK_SIZE.pack(3, 0, 0, 0)),
    "no largest block": GREETING + info(wire.INFO_BLOCK_SIZE.pack(3, 512, 4096, 512)),
    "endless replies": GREETING
    + TO_STRUCTURED
    + wire.pack_option_reply(Option.GO, OptionReply.INFO, b"\0\x09") * 500,
}


@pytest.mark.parametrize("name", GREETING_LIES)
def test_a_false_handshake_is_told(name: str) -> None:
    def talk(stream: Stream) -> None:
        stream.send(GREETING_LIES[name])
        with suppress(OSError):
            stream.receive(10_000)

    with (
        listening(talk) as address,
        pytest.raises(NbdProtocolError, match="answers the handshake wrongly"),
    ):
        connect(address, "disk", seconds=20.0)


def test_a_context_nobody_asked_for_is_refused() -> None:
    def talk(stream: Stream) -> None:
        granted = wire.U32.pack(5) + b"qemu:dirty-bitmap:other"
        option = Option.SET_META_CONTEXT
        stream.send(GREETING, TO_STRUCTURED)
        stream.send(wire.pack_option_reply(option, OptionReply.META_CONTEXT, granted))
        with suppress(OSError):
            stream.receive(10_000)

    with listening(talk) as address, pytest.raises(NbdProtocolError, match="nobody asked for"):
        connect(address, "disk", ["base:allocation"])


def test_a_handshake_that_never_ends_is_given_up() -> None:
    def talk(stream: Stream) -> None:
        stream.send(GREETING)
        stream.receive(10_000)

    with (
        listening(talk) as address,
        pytest.raises(NbdLostError, match=r"not made in time|timed out"),
    ):
        connect(address, "disk", seconds=0.3)


def test_lies_about_lengths_cost_no_memory() -> None:
    tracemalloc.start()
    try:
        for lie in (READ_LIES["far too much"], READ_LIES["a long error"], READ_LIES["a huge hole"]):
            with liar(lie) as client, pytest.raises(NbdProtocolError):
                client.read_into(0, memoryview(bytearray(LENGTH)))
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()
