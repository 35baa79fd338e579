"""The numbers of the NBD protocol, and its messages as values. No I/O.

Whatever the other side may get wrong raises ``WireError``; nothing here allocates more than the
bytes it is given. All integers are big endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

GREETING_MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF

GREETING = struct.Struct(">QQH")  # magic, option magic, handshake flags
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">QII")  # magic, option, length
OPTION_REPLY = struct.Struct(">QIII")  # magic, option, type, length
REQUEST = struct.Struct(">IHHQQI")  # magic, flags, command, cookie, offset, length
SIMPLE_REPLY = struct.Struct(">IIQ")  # magic, errno, cookie
CHUNK_LEAD = struct.Struct(">IHHQ")  # magic, flags, type, cookie; as long as a simple reply
CHUNK = struct.Struct(">IHHQI")  # ... and length
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
HOLE = struct.Struct(">QI")  # offset, length
RUN = struct.Struct(">II")  # length, flags
ERROR_LEAD = struct.Struct(">IH")  # errno, length of the text
EXPORT_SIZE = struct.Struct(">QH")  # size, transmission flags
INFO_EXPORT = struct.Struct(">HQH")
INFO_BLOCK_SIZE = struct.Struct(">HIII")  # type, minimum, preferred, maximum

MAX_NAME = 4096  # [bytes] of export names, context names and error texts ("Values")
MAX_OPTION = 64 * 1024  # [bytes] of an option's data or reply we read
MAX_REQUEST = 32 * 1024 * 1024  # [bytes] of a request's data where no block size is agreed
MAX_SIZE = 2**63 - 1  # [bytes] of an export
MAX_RUNS = 128 * 1024  # runs in one block status chunk: what QEMU sends at most
ALLOCATION = "base:allocation"
DIRTY_BITMAP = "qemu:dirty-bitmap:"


class WireError(ValueError):
    """A message is not one of the protocol, or has no business where it stands."""


class HandshakeFlag(IntFlag):
    FIXED_NEWSTYLE = 1
    NO_ZEROES = 2


class Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 0x80000001
    ERR_POLICY = 0x80000002
    ERR_INVALID = 0x80000003
    ERR_TLS_REQD = 0x80000005
    ERR_UNKNOWN = 0x80000006
    ERR_SHUTDOWN = 0x80000007
    ERR_BLOCK_SIZE_REQD = 0x80000008
    ERR_TOO_BIG = 0x80000009


ERROR_BIT = 0x80000000


class Info(IntEnum):
    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    HAS_FLAGS = 1
    READ_ONLY = 2
    SEND_FLUSH = 4
    SEND_FUA = 8
    SEND_TRIM = 32
    SEND_WRITE_ZEROES = 64
    SEND_DF = 128
    CAN_MULTI_CONN = 256


class Command(IntEnum):
    READ = 0
    WRITE = 1
    DISC = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    NONE = 0
    FUA = 1
    NO_HOLE = 2
    DF = 4
    REQ_ONE = 8


class ChunkType(IntEnum):
    NONE = 0
    DATA = 1
    HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 0x8001
    ERROR_OFFSET = 0x8002


CHUNK_DONE = 1
CHUNK_ERROR_BIT = 0x8000

# Flags of a run in base:allocation and in qemu:dirty-bitmap
STATE_HOLE = 1
STATE_ZERO = 2
STATE_DIRTY = 1


class Request(NamedTuple):
    """A command of a client. ``cookie`` comes back in the reply."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int

    def pack(self) -> bytes:
        return REQUEST.pack(REQUEST_MAGIC, *self)


class BlockSizes(NamedTuple):
    """What requests must be multiples of, should be, and may at most be, in bytes."""

    minimum: int = 1
    preferred: int = 4096
    maximum: int = MAX_REQUEST


def parse_greeting(data: bytes) -> int:
    """The server's handshake flags."""
    magic, option_magic, flags = GREETING.unpack(data)
    if magic != GREETING_MAGIC:
        raise WireError("it does not speak NBD")
    if option_magic != OPTION_MAGIC or not flags & HandshakeFlag.FIXED_NEWSTYLE:
        raise WireError("it speaks an NBD older than fixed newstyle")
    return int(flags)


def pack_option(option: int, data: bytes = b"") -> bytes:
    return OPTION.pack(OPTION_MAGIC, option, len(data)) + data


def parse_option(data: bytes) -> tuple[int, int]:
    """(option, length of its data) of a client."""
    magic, option, length = OPTION.unpack(data)
    if magic != OPTION_MAGIC:
        raise WireError("an option does not begin with its magic number")
    return int(option), int(length)


def pack_option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return OPTION_REPLY.pack(OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def parse_option_reply(data: bytes, option: int) -> tuple[int, int]:
    """(type, length of its data) of the reply to ``option``."""
    magic, answered, kind, length = OPTION_REPLY.unpack(data)
    if magic != OPTION_REPLY_MAGIC:
        raise WireError("an option's reply does not begin with its magic number")
    if answered != option:
        raise WireError(f"it answered option {answered}, not {option}")
    if length > MAX_OPTION:
        raise WireError(f"an option's reply of {length:,} bytes")
    return int(kind), int(length)


def pack_name(name: bytes) -> bytes:
    return U32.pack(len(name)) + name


def pack_go(name: bytes, infos: Sequence[int]) -> bytes:
    return pack_name(name) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def parse_go(data: bytes) -> tuple[str, list[int]]:
    """(export name, informations asked for) of the options INFO and GO."""
    name, rest = _take_name(data)
    if len(rest) < 2:
        raise WireError("the option ends early")
    (count,) = struct.unpack_from(">H", rest)
    if len(rest) != 2 + 2 * count:
        raise WireError("the option's length does not fit its content")
    return name, list(struct.unpack_from(f">{count}H", rest, 2))


def pack_meta_query(name: bytes, queries: Iterable[bytes]) -> bytes:
    packed = [pack_name(query) for query in queries]
    return pack_name(name) + U32.pack(len(packed)) + b"".join(packed)


def parse_meta_query(data: bytes) -> tuple[str, list[str]]:
    """(export name, contexts asked for) of the options LIST_ and SET_META_CONTEXT."""
    name, rest = _take_name(data)
    if len(rest) < U32.size:
        raise WireError("the option ends early")
    (count,), rest = U32.unpack_from(rest), rest[U32.size :]
    queries = []
    while rest:
        query, rest = _take_name(rest)
        queries.append(query)
    if len(queries) != count:
        raise WireError("the option's length does not fit its content")
    return name, queries


def _take_name(data: bytes) -> tuple[str, bytes]:
    """(the text a message begins with, the rest)."""
    if len(data) < U32.size:
        raise WireError("a name ends early")
    (length,) = U32.unpack_from(data)
    if length > min(MAX_NAME, len(data) - U32.size):
        raise WireError(f"a name of {length:,} bytes")
    try:
        name = data[U32.size : U32.size + length].decode()
    except UnicodeDecodeError as error:
        raise WireError("a name is not UTF-8") from error
    return name, data[U32.size + length :]


def parse_meta_context(data: bytes) -> tuple[int, str]:
    """(context id, name) the server grants."""
    if not U32.size < len(data) <= U32.size + MAX_NAME:
        raise WireError("a metadata context without a name")
    try:
        return int(U32.unpack_from(data)[0]), data[U32.size :].decode()
    except UnicodeDecodeError as error:
        raise WireError("a metadata context is not UTF-8") from error


def parse_info(data: bytes) -> tuple[int, int] | BlockSizes | None:
    """(size, flags) of an export, or its block sizes; None for what is of no interest here."""
    if len(data) < 2:
        raise WireError("an information ends early")
    kind = int.from_bytes(data[:2], "big")
    if kind == Info.EXPORT:
        if len(data) != INFO_EXPORT.size:
            raise WireError("the export's size is not told in 12 bytes")
        _, size, flags = INFO_EXPORT.unpack(data)
        if size > MAX_SIZE:
            raise WireError(f"an export of {size:,} bytes")
        return size, flags
    if kind == Info.BLOCK_SIZE:
        if len(data) != INFO_BLOCK_SIZE.size:
            raise WireError("block sizes are not told in 14 bytes")
        return _checked_sizes(BlockSizes(*INFO_BLOCK_SIZE.unpack(data)[1:]))
    return None


def _checked_sizes(sizes: BlockSizes) -> BlockSizes:
    """As "Block size constraints" has them; the largest request is cut to what we would send."""
    small, good, large = sizes
    powers = _is_power(small) and _is_power(good)
    if not (powers and small <= 65536 and small <= good <= large and good <= MAX_REQUEST):
        raise WireError(f"impossible block sizes {small:,}, {good:,}, {large:,}")
    largest = min(large, MAX_REQUEST)
    return BlockSizes(small, good, largest - largest % small)


def _is_power(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def parse_request(data: bytes) -> Request:
    magic, *fields = REQUEST.unpack(data)
    if magic != REQUEST_MAGIC:
        raise WireError("a request does not begin with its magic number")
    return Request(*fields)


def pack_chunk(kind: int, cookie: int, payload: bytes, *, done: bool, data: int = 0) -> bytes:
    """A chunk's head with ``payload``; ``data`` bytes of it are sent after it."""
    flags = CHUNK_DONE if done else 0
    return CHUNK.pack(CHUNK_MAGIC, flags, kind, cookie, len(payload) + data) + payload


def pack_error(number: int, text: str, offset: int | None = None) -> tuple[int, bytes]:
    """(type, payload) of an error chunk."""
    said = text.encode()[:MAX_NAME].decode(errors="ignore").encode()
    lead = ERROR_LEAD.pack(number, len(said)) + said
    if offset is None:
        return ChunkType.ERROR, lead
    return ChunkType.ERROR_OFFSET, lead + U64.pack(offset)


def parse_error(data: bytes) -> tuple[int, bytes]:
    """(errno, text) of an error chunk of any type."""
    if len(data) < ERROR_LEAD.size:
        raise WireError("an error ends early")
    number, length = ERROR_LEAD.unpack_from(data)
    text = data[ERROR_LEAD.size : ERROR_LEAD.size + length]
    if number == 0 or len(text) != length:
        raise WireError("an error without number, or with half a text")
    return int(number), bytes(text)


def pack_runs(context: int, runs: Iterable[tuple[int, int]]) -> bytes:
    """The payload of a block status chunk: runs of (length, flags)."""
    return U32.pack(context) + b"".join(RUN.pack(*run) for run in runs)


def parse_runs(data: bytes, length: int) -> tuple[int, list[tuple[int, int]]]:
    """(context id, runs of (length, flags)) answering for ``length`` bytes. Only the last run may
    end behind them; it is cut."""
    count, rest = divmod(len(data) - U32.size, RUN.size)
    if count < 1 or rest:
        raise WireError("a block status without runs")
    runs, left = [], length
    for size, flags in RUN.iter_unpack(memoryview(data)[U32.size :]):
        if size == 0 or left <= 0:
            raise WireError("a block status with an empty run, or for more than was asked")
        runs.append((min(size, left), flags))
        left -= size
    return int(U32.unpack_from(data)[0]), runs
