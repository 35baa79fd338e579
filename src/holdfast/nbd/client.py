"""A client of one export: sizes, extents, reads and writes with many requests in flight."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

from holdfast.errors import UsageError
from holdfast.nbd.address import Address
from holdfast.nbd.failures import (
    NbdError,
    NbdLostError,
    NbdProtocolError,
    NbdRefusedError,
    NbdRequestError,
    NbdUnreachableError,
    request_error,
)
from holdfast.nbd.flight import Connection
from holdfast.nbd.handshake import Terms, shake_hands
from holdfast.nbd.replies import ZEROES, Pending, ReplyReader
from holdfast.nbd.stream import Stream
from holdfast.nbd.wire import Command, CommandFlag, ExportFlag

REQUEST_BYTES = 256 * 1024  # with 16 in flight as fast as larger ones, and a quarter of the memory
DEPTH = 16  # requests of one call in flight; QEMU serves as many of a client at a time
STATUS_BYTES = 2**32 - 2**16  # asked about at once: 32 bits, and a multiple of any block size
ZERO_BYTES = 128 * 1024 * 1024  # zeroed at once: an answer within the time limit on a slow disk
SECONDS = 60.0
LEAST_RUN = 512  # [bytes] runs are longer on average, or the server is leading us on
NAMES = {
    Command.READ: "read",
    Command.WRITE: "write",
    Command.FLUSH: "flush",
    Command.TRIM: "trim",
    Command.WRITE_ZEROES: "zero",
    Command.BLOCK_STATUS: "map",
}


class Run(NamedTuple):
    """``length`` bytes from ``offset`` with the same ``flags`` in one context."""

    offset: int
    length: int
    flags: int


def connect(
    address: Address, export: str, contexts: Sequence[str] = (), *, seconds: float = SECONDS
) -> NbdClient:
    """Connect within ``seconds``, which later limits each answer. Contexts the server does not
    have are missing in ``NbdClient.contexts``. NbdUnreachableError, NbdRefusedError,
    NbdProtocolError, NbdLostError."""
    where = f"{address} ({export})" if export else str(address)
    try:
        sock = address.open(seconds)
    except OSError as error:
        raise NbdUnreachableError(
            f"no NBD server answers at {address}: {error.strerror or error}",
            code="NbdUnreachable",
            hint="start the program that serves the disk, or check the address",
        ) from error
    stream = Stream(sock, seconds)
    try:
        terms = shake_hands(stream, str(address), export, contexts)
        stream.made(seconds)
    except BaseException as error:
        stream.close()
        if isinstance(error, OSError):
            raise _ended(str(address), error) from error
        raise
    return NbdClient(stream, terms, where, seconds)


class NbdClient:
    """Made by ``connect``. Any number of threads may call; ``close`` from any thread ends their
    calls with NbdLostError. Every call may raise NbdError; after one that is no NbdRequestError
    the connection is over."""

    def __init__(self, stream: Stream, terms: Terms, where: str, seconds: float) -> None:
        self._terms = terms
        self._where = where
        replies = ReplyReader(stream, structured=terms.structured, contexts=terms.contexts)
        self._connection = Connection(stream, replies, where, seconds)
        self._contexts = {name: number for number, name in terms.contexts.items()}
        small, _, large = terms.sizes
        self._request_bytes = max(small, min(REQUEST_BYTES, large))
        # QEMU ends the connection when a read fails that it may answer in several pieces
        whole = terms.structured and terms.flags & ExportFlag.SEND_DF
        self._read_flags = CommandFlag.DF if whole else CommandFlag.NONE

    @property
    def size(self) -> int:
        """Bytes of the export."""
        return self._terms.size

    @property
    def min_block(self) -> int:
        """Offsets and lengths of writes are multiples of it [bytes]."""
        return self._terms.sizes.minimum

    @property
    def preferred_block(self) -> int:
        return self._terms.sizes.preferred

    @property
    def max_block(self) -> int:
        """The largest request the server takes [bytes]; calls may be larger, they are split."""
        return self._terms.sizes.maximum

    @property
    def read_only(self) -> bool:
        return self._terms.read_only

    @property
    def contexts(self) -> tuple[str, ...]:
        """The contexts ``extents`` may be asked for."""
        return tuple(self._contexts)

    def read_into(self, offset: int, view: memoryview, *, depth: int = DEPTH) -> None:
        """Fill ``view`` from ``offset``, straight from the socket, several requests at a time."""
        target = view.cast("B")
        if target.readonly:
            raise UsageError("a read needs a buffer that can be written", code="InvalidRange")
        self._check_range(offset, len(target))
        start, end = self._aligned(offset, len(target))
        if (start, end) == (offset, offset + len(target)):
            self._read(offset, target, depth)
        else:
            self._read_around(start, end, offset, target, depth)

    def _read_around(
        self, start: int, end: int, offset: int, target: memoryview, depth: int
    ) -> None:
        """Read whole blocks where ``target`` is none: the borders by way of a buffer."""
        block = self.min_block
        inner, outer = start, end
        for border in dict.fromkeys((start, end - block)):
            if border >= offset and border + block <= offset + len(target):
                continue
            whole = memoryview(bytearray(min(block, self.size - border)))
            self._read(border, whole, 1)
            low, high = max(border, offset), min(border + block, offset + len(target))
            target[low - offset : high - offset] = whole[low - border : high - border]
            inner, outer = (border + block, outer) if border == start else (inner, border)
        if inner < outer:
            self._read(inner, target[inner - offset : outer - offset], depth)

    def _read(self, offset: int, target: memoryview, depth: int) -> None:
        """Whole blocks."""
        flags = self._read_flags
        try:
            self._run(self._pieces(Command.READ, offset, target, flags), depth)
        except NbdRequestError as error:
            if not flags or error.number != errno.EOVERFLOW:
                raise
            self._read_flags = CommandFlag.NONE  # too much in one piece for this server
            self._run(self._pieces(Command.READ, offset, target), depth)

    def _aligned(self, offset: int, length: int) -> tuple[int, int]:
        """The range of whole blocks around a range."""
        block = self.min_block
        return offset - offset % block, offset + length + -(offset + length) % block

    def extents(self, context: str, offset: int, length: int) -> Iterator[Run]:
        """The runs of a granted context in a range; neighbours of the same flags are joined."""
        number = self._contexts.get(context)
        if number is None:
            raise NbdRefusedError(
                f"{self._where} does not tell {context}",
                code="NbdContextMissing",
                hint="ask for it when connecting, and check that the server has it",
            )
        self._check_range(offset, length)
        return self._joined(self._runs(number, offset, length))

    def _runs(self, number: int, offset: int, length: int) -> Iterator[Run]:
        at, end = self._aligned(offset, length)
        end, first = min(end, self.size), offset
        left = 1024 + length // LEAST_RUN
        while at < end:
            asked = Pending(Command.BLOCK_STATUS, at, min(end - at, STATUS_BYTES))
            self._run([asked], 1)
            runs = asked.runs.get(number, [])
            left -= len(runs)
            if not runs or left < 0:
                raise self._broken("it answers a block status in far too many or no runs")
            for size, flags in runs:
                low, high = max(at, first), min(at + size, offset + length)
                if low < high:
                    yield Run(low, high - low, flags)
                at += size

    @staticmethod
    def _joined(runs: Iterator[Run]) -> Iterator[Run]:
        held: Run | None = None
        for run in runs:
            if held is not None and held.flags == run.flags:
                held = Run(held.offset, held.length + run.length, held.flags)
            else:
                if held is not None:
                    yield held
                held = run
        if held is not None:
            yield held

    def write(self, offset: int, view: memoryview, *, depth: int = DEPTH) -> None:
        """Write ``view`` at ``offset``; durable after ``flush``."""
        source = view.cast("B")
        self._check_write(offset, len(source))
        self._run(self._pieces(Command.WRITE, offset, source), depth)

    def write_zeroes(self, offset: int, length: int, *, keep_room: bool = False) -> None:
        """Make a range read as zeros. The server may give its room back, but for ``keep_room``."""
        self._check_write(offset, length)
        if self._terms.flags & ExportFlag.SEND_WRITE_ZEROES:
            flags = CommandFlag.NO_HOLE if keep_room else CommandFlag.NONE
            self._run(self._ranges(Command.WRITE_ZEROES, offset, length, flags), 2)
            return
        pieces = range(offset, offset + length, self._request_bytes)
        sizes = ((at, min(self._request_bytes, offset + length - at)) for at in pieces)
        self._run((Pending(Command.WRITE, at, size, ZEROES[:size]) for at, size in sizes), DEPTH)

    def trim(self, offset: int, length: int) -> None:
        """Give the room of a range back; what it reads as afterwards is undefined. Without effect
        on a server that cannot."""
        self._check_write(offset, length)
        if self._terms.flags & ExportFlag.SEND_TRIM:
            self._run(self._ranges(Command.TRIM, offset, length, CommandFlag.NONE), 2)

    def flush(self) -> None:
        """Make everything written before durable."""
        if not self._terms.flags & ExportFlag.SEND_FLUSH:
            raise NbdRefusedError(
                f"{self._where} cannot make writes durable",
                code="NbdCannotFlush",
                hint="serve the disk by a program that has the flush command",
            )
        self._run([Pending(Command.FLUSH, 0, 0)], 1)

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._connection.close()

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, requests: Iterator[Pending] | list[Pending], depth: int) -> None:
        failed = self._connection.run(requests, max(depth, 1))
        if failed is not None and failed.failure is not None:
            name = NAMES[Command(failed.command)]
            raise request_error(self._where, name, failed.offset, failed.length, *failed.failure)

    def _pieces(
        self, command: Command, offset: int, view: memoryview, flags: int = 0
    ) -> Iterator[Pending]:
        for at in range(0, len(view), self._request_bytes):
            piece = view[at : at + self._request_bytes]
            yield Pending(command, offset + at, len(piece), piece, flags)

    def _ranges(
        self, command: Command, offset: int, length: int, flags: CommandFlag
    ) -> Iterator[Pending]:
        for at in range(offset, offset + length, ZERO_BYTES):
            yield Pending(command, at, min(ZERO_BYTES, offset + length - at), flags=flags)

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise UsageError(
                f"{length:,} bytes at {offset:,} are not within the {self.size:,} of {self._where}",
                code="InvalidRange",
                hint="stay within the size of the disk",
            )

    def _check_write(self, offset: int, length: int) -> None:
        self._check_range(offset, length)
        if self.read_only:
            raise NbdRefusedError(
                f"{self._where} is read-only",
                code="NbdReadOnly",
                hint="serve the disk writable",
            )
        if offset % self.min_block or (length % self.min_block and offset + length != self.size):
            raise UsageError(
                f"{length:,} bytes at {offset:,} are no whole blocks of {self.min_block:,}",
                code="InvalidRange",
                hint="write whole blocks",
            )

    def _broken(self, what: str) -> NbdError:
        return NbdProtocolError(
            f"{self._where} breaks the NBD protocol: {what}",
            code="NbdProtocolBroken",
            hint="check which program listens there",
        )


def _ended(where: str, error: OSError) -> NbdLostError:
    return NbdLostError(
        f"{where} broke off the handshake: {error}",
        code="NbdHandshakeLost",
        hint="check that it is an NBD server that takes more clients; try again",
    )
