"""Answers to the requests of one client. Several threads answer at once, each with its buffer.

The disk is read-only. A read that covers zeros says so instead of sending them; a long one goes
out in pieces, so that a buffer of ``PIECE_BYTES`` is enough for any request.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from itertools import islice

from holdfast.errors import HoldfastError
from holdfast.nbd import wire
from holdfast.nbd.exports import runs_of, state_of
from holdfast.nbd.greeting import CONTEXT_ID, Agreement
from holdfast.nbd.stream import Buffer, Stream
from holdfast.nbd.wire import ChunkType, Command, CommandFlag, Request, WireError
from holdfast.ports.block_device import Extent, ExtentKind

log = logging.getLogger("holdfast.nbd")
PIECE_BYTES = 256 * 1024  # read and sent at once
READ_RUNS = 64  # a read over more runs is sent as data throughout
STATUS_RUNS = 4096  # in one answer; the client asks on from where it ends
STATUS_STEPS = 64 * 1024  # runs of the disk looked at for it: many may be alike

Piece = tuple[int, int, bool]  # offset, length, whether it is data


class Answers:
    """``answer`` one request after another; OSError and WireError end the connection."""

    def __init__(self, stream: Stream, agreed: Agreement) -> None:
        self._stream = stream
        self._export = agreed.export
        self._structured = agreed.structured
        self._allocation = agreed.allocation
        self._sending = threading.Lock()

    def answer(self, request: Request, buffer: memoryview) -> None:
        """``buffer`` has ``PIECE_BYTES``; a write's data was taken from the stream before."""
        if request.command == Command.READ:
            self._read(request, buffer)
        elif request.command == Command.BLOCK_STATUS and self._allocation:
            self._status(request)
        elif request.command == Command.FLUSH:
            self._succeed(request)
        elif request.command in (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES):
            self._fail(request, errno.EPERM, "the disk is served read-only")
        else:
            self._fail(request, errno.EINVAL, "no such command was agreed on")

    def _read(self, request: Request, buffer: memoryview) -> None:
        if request.length > wire.MAX_REQUEST or not self._is_inside(request):
            self._fail(request, errno.EINVAL, "the read is too long or ends behind the disk")
        elif request.length == 0:
            self._succeed(request)
        elif not self._structured:
            self._read_simple(request, buffer)
        elif not request.flags & CommandFlag.DF:
            self._read_runs(request, buffer)
        elif request.length <= PIECE_BYTES:
            self._send_pieces(request, [(request.offset, request.length, True)], buffer)
        else:
            self._fail(request, errno.EOVERFLOW, "the read is too long for one piece")

    def _is_inside(self, request: Request) -> bool:
        return request.offset + request.length <= self._export.size

    def _read_runs(self, request: Request, buffer: memoryview) -> None:
        found = self._runs(request, READ_RUNS + 1)
        if isinstance(found, str):
            self._fail(request, errno.EIO, found)
            return
        if len(found) > READ_RUNS:
            found = [Extent(request.offset, request.length, ExtentKind.DATA)]
        self._send_pieces(request, list(_pieces(found)), buffer)

    def _send_pieces(self, request: Request, pieces: list[Piece], buffer: memoryview) -> None:
        for number, (offset, length, is_data) in enumerate(pieces, start=1):
            done = number == len(pieces)
            if not is_data:
                hole = wire.HOLE.pack(offset, length)
                self._send(wire.pack_chunk(ChunkType.HOLE, request.cookie, hole, done=done))
                continue
            data = buffer[:length]
            if (why := self._fetch(offset, data)) is not None:
                self._fail(request, errno.EIO, why, offset)
                return
            lead = wire.U64.pack(offset)
            head = wire.pack_chunk(ChunkType.DATA, request.cookie, lead, done=done, data=length)
            self._send(head, data)

    def _read_simple(self, request: Request, buffer: memoryview) -> None:
        """A simple reply says first that all is well: what fails later ends the connection. Other
        answers wait until it is out."""
        head = wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, request.cookie)
        with self._sending:
            for at in range(0, request.length, PIECE_BYTES):
                data = buffer[: min(PIECE_BYTES, request.length - at)]
                why = self._fetch(request.offset + at, data)
                if why is not None and at:
                    raise WireError(f"a read failed after its first part ({why})")
                if why is not None:
                    self._stream.send(_simple(request, errno.EIO))
                    return
                self._stream.send(head, data) if at == 0 else self._stream.send(data)

    def _status(self, request: Request) -> None:
        if request.length == 0 or not self._is_inside(request):
            self._fail(request, errno.EINVAL, "the range is empty or ends behind the disk")
            return
        one = bool(request.flags & CommandFlag.REQ_ONE)
        found = self._runs(request, STATUS_STEPS)
        if isinstance(found, str):
            self._fail(request, errno.EIO, found)
            return
        runs = _joined(found)
        payload = wire.pack_runs(CONTEXT_ID, runs[: 1 if one else STATUS_RUNS])
        kind = ChunkType.BLOCK_STATUS
        self._send(wire.pack_chunk(kind, request.cookie, payload, done=True))

    def _runs(self, request: Request, most: int) -> list[Extent] | str:
        """The first ``most`` runs of a range, or why the disk cannot tell."""
        try:
            return list(islice(runs_of(self._export, request.offset, request.length), most))
        except Exception as error:  # noqa: BLE001 - told to the client; the connection goes on
            return self._told(error)

    def _fetch(self, offset: int, data: memoryview) -> str | None:
        """Read into ``data``; why it failed, if it did."""
        try:
            self._export.reader.read_into(offset, data)
        except Exception as error:  # noqa: BLE001 - told to the client; the connection goes on
            return self._told(error)
        return None

    def _told(self, error: Exception) -> str:
        if isinstance(error, HoldfastError):
            log.warning("reading '%s' failed: %s", self._export.name, error)
            return error.message
        log.error("reading '%s' failed", self._export.name, exc_info=error)
        return "the disk cannot be read"

    def _succeed(self, request: Request) -> None:
        if self._structured:
            self._send(wire.pack_chunk(ChunkType.NONE, request.cookie, b"", done=True))
        else:
            self._send(_simple(request, 0))

    def _fail(self, request: Request, number: int, why: str, offset: int | None = None) -> None:
        if self._structured:
            kind, payload = wire.pack_error(number, why, offset)
            self._send(wire.pack_chunk(kind, request.cookie, payload, done=True))
        else:
            self._send(_simple(request, number))

    def _send(self, *parts: Buffer) -> None:
        with self._sending:
            self._stream.send(*parts)


def _simple(request: Request, number: int) -> bytes:
    return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, number, request.cookie)


def _pieces(runs: list[Extent]) -> Iterator[Piece]:
    """Runs as what is sent: zeros whole, data in pieces."""
    for run in runs:
        if run.kind is not ExtentKind.DATA:
            yield run.offset, run.length, False
            continue
        for at in range(run.offset, run.end, PIECE_BYTES):
            yield at, min(PIECE_BYTES, run.end - at), True


def _joined(runs: list[Extent]) -> list[tuple[int, int]]:
    """(length, flags) of runs, neighbours of the same flags joined."""
    found: list[tuple[int, int]] = []
    for run in runs:
        state = state_of(run.kind)
        if found and found[-1][1] == state:
            found[-1] = found[-1][0] + run.length, state
        else:
            found.append((run.length, state))
    return found
