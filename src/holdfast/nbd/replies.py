"""What a server answers to requests in flight, checked against what was asked.

Data goes straight into the caller's buffer, and only where the request asked for it, once. Every
length is compared with the request's before anything is received or allocated for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from holdfast.nbd import wire
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import ChunkType, Command, WireError

MAX_ERROR = wire.ERROR_LEAD.size + wire.MAX_NAME + wire.U64.size
MAX_STATUS = wire.U32.size + wire.RUN.size * wire.MAX_RUNS
ZEROES = memoryview(bytes(256 * 1024))


class Coverage:
    """Which parts of ``length`` bytes arrived: disjoint spans, neighbours joined."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """WireError when the span is empty, outside, or arrived before."""
        if not 0 <= start < end <= self._length:
            raise WireError("data outside of what was asked for")
        at = bisect_right(self._starts, start)
        if (at and self._ends[at - 1] > start) or (
            at < len(self._starts) and self._starts[at] < end
        ):
            raise WireError("the same data twice")
        if at and self._ends[at - 1] == start:
            self._ends[at - 1] = end
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)
            at += 1
        if at < len(self._starts) and self._starts[at] == self._ends[at - 1]:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]

    @property
    def complete(self) -> bool:
        return self._starts == [0] and self._ends == [self._length]


class Pending:
    """A request in flight and what arrived for it. ``view``: where a read's data goes, or a
    write's comes from. ``failure``: (errno, text) of the server."""

    __slots__ = (
        "chunks",
        "command",
        "coverage",
        "failure",
        "flags",
        "length",
        "offset",
        "runs",
        "view",
    )

    def __init__(
        self,
        command: int,
        offset: int,
        length: int,
        view: memoryview | None = None,
        flags: int = 0,
    ) -> None:
        self.command = command
        self.offset = offset
        self.length = length
        self.view = view
        self.flags = flags
        self.chunks = 0
        self.coverage = Coverage(length) if command == Command.READ else None
        self.runs: dict[int, list[tuple[int, int]]] = {}
        self.failure: tuple[int, bytes] | None = None

    def place(self, offset: int, length: int) -> memoryview:
        """Where ``length`` bytes at ``offset`` of the disk belong; each place is given once."""
        if self.coverage is None or self.view is None:
            raise WireError("data for a request that asked for none")
        start = offset - self.offset
        self.coverage.add(start, start + length)
        return self.view[start : start + length]

    def count_chunk(self) -> None:
        self.chunks += 1
        if self.chunks > 16 + self.length // 512:
            raise WireError("one reply in far too many pieces")


class ReplyReader:
    """Reads replies one after another. One thread."""

    def __init__(self, stream: Stream, *, structured: bool, contexts: Mapping[int, str]) -> None:
        self._stream = stream
        self._structured = structured
        self._contexts = contexts
        self._head = bytearray(wire.CHUNK.size)
        self._view = memoryview(self._head)

    def next(self, flying: Mapping[int, Pending]) -> int | None:
        """Receive one message; the cookie of the request it completes, if any. WireError,
        OSError."""
        self._stream.receive_into(self._view[: wire.SIMPLE_REPLY.size])
        magic, middle, cookie = wire.SIMPLE_REPLY.unpack_from(self._head)
        asked = flying.get(cookie)
        if magic not in (wire.SIMPLE_REPLY_MAGIC, wire.CHUNK_MAGIC):
            raise WireError("a reply does not begin with a magic number")
        if asked is None:
            raise WireError("a reply to something nobody asked")
        if magic == wire.SIMPLE_REPLY_MAGIC:
            self._simple(asked, middle)
            return int(cookie)
        if not self._structured:
            raise WireError("a structured reply, which was not agreed on")
        self._stream.receive_into(self._view[wire.SIMPLE_REPLY.size :])
        _, flags, kind, _, length = wire.CHUNK.unpack_from(self._head)
        asked.count_chunk()
        self._chunk(asked, kind, length)
        if not flags & wire.CHUNK_DONE:
            return None
        _check_whole(asked)
        return int(cookie)

    def _simple(self, asked: Pending, number: int) -> None:
        if asked.chunks:
            raise WireError("a simple reply after pieces of a structured one")
        if number:
            asked.failure = number, b""
        elif asked.command == Command.BLOCK_STATUS:
            raise WireError("a block status without content")
        elif asked.command == Command.READ:
            if self._structured:
                raise WireError("a simple reply to a read, against what was agreed on")
            self._stream.receive_into(asked.place(asked.offset, asked.length))

    def _chunk(self, asked: Pending, kind: int, length: int) -> None:
        if kind == ChunkType.DATA:
            self._data(asked, length)
        elif kind == ChunkType.HOLE:
            offset, size = wire.HOLE.unpack(self._bounded(length, wire.HOLE.size, wire.HOLE.size))
            _zero(asked.place(offset, size))
        elif kind == ChunkType.BLOCK_STATUS:
            self._status(asked, length)
        elif kind & wire.CHUNK_ERROR_BIT:
            failure = wire.parse_error(self._bounded(length, wire.ERROR_LEAD.size, MAX_ERROR))
            asked.failure = asked.failure or failure
        elif kind == ChunkType.NONE:
            self._bounded(length, 0, 0)
        else:
            raise WireError(f"a piece of the unknown type {kind}")

    def _data(self, asked: Pending, length: int) -> None:
        if not wire.U64.size < length <= wire.U64.size + asked.length:
            raise WireError(f"a piece of {length:,} bytes where {asked.length:,} were asked for")
        self._stream.receive_into(self._view[: wire.U64.size])
        (offset,) = wire.U64.unpack_from(self._head)
        self._stream.receive_into(asked.place(offset, length - wire.U64.size))

    def _status(self, asked: Pending, length: int) -> None:
        if asked.command != Command.BLOCK_STATUS:
            raise WireError("a block status nobody asked for")
        data = self._bounded(length, wire.U32.size + wire.RUN.size, MAX_STATUS)
        context, runs = wire.parse_runs(data, asked.length)
        if context not in self._contexts or context in asked.runs:
            raise WireError("a block status of a context not agreed on, or twice")
        asked.runs[context] = runs

    def _bounded(self, length: int, low: int, high: int) -> bytes:
        if not low <= length <= high:
            raise WireError(f"a piece of {length:,} bytes where {low:,} to {high:,} may be")
        return self._stream.receive(length)


def _check_whole(asked: Pending) -> None:
    if asked.failure is not None:
        return
    if asked.coverage is not None and not asked.coverage.complete:
        raise WireError("a read answered in part")
    if asked.command == Command.BLOCK_STATUS and not asked.runs:
        raise WireError("a block status without content")


def _zero(view: memoryview) -> None:
    for at in range(0, len(view), len(ZEROES)):
        piece = view[at : at + len(ZEROES)]
        piece[:] = ZEROES[: len(piece)]
