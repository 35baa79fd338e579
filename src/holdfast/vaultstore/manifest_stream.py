"""The manifest of a byte stream: one extent page, or stream pages over several.

    stream page   'S' · u8 version · u8 level · u32 children · per child: id (32 B), u64 offset of
                  its first byte

Small streams are what this version writes: the description of a machine beside its disks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from holdfast.errors import IntegrityError, InternalError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import decode_extent_page, encode_extent_page
from holdfast.vaultstore.root import Stream

VERSION = 1
PIECE_BYTES = 1 << 20
MAX_LEVEL = 12
MAX_PIECES = 8192  # extents of one page
_HEAD = struct.Struct("<cBBI")
_CHILD = struct.Struct("<32sQ")

Put = Callable[[bytes], bytes]
FetchAll = Callable[[list[bytes]], list[Buffer]]


class StreamChild(NamedTuple):
    """A page below, and the offset in the stream where it begins."""

    id: bytes
    offset: int


def encode_stream_page(level: int, children: list[StreamChild]) -> bytes:
    """``level``: 1 for a page over extent pages."""
    rows = b"".join(_CHILD.pack(*child) for child in children)
    return _HEAD.pack(b"S", VERSION, level, len(children)) + rows


def stream_children(page: Buffer, level: int | None = None) -> list[StreamChild]:
    """The children of a stream page; ``level``: what it must be. IntegrityError
    (ManifestDamaged)."""
    data = bytes(page)
    if len(data) < _HEAD.size:
        raise _damaged()
    magic, version, own, count = _HEAD.unpack_from(data)
    fits = magic == b"S" and version == VERSION and 1 <= own <= MAX_LEVEL
    fits = fits and level in (None, own)
    if not fits or not count or len(data) != _HEAD.size + _CHILD.size * count:
        raise _damaged()
    return [StreamChild(*row) for row in _CHILD.iter_unpack(data[_HEAD.size :])]


def write_stream(name: str, data: bytes, put_chunk: Put, put_page: Put, media_type: str) -> Stream:
    """Store a small byte stream; what the root says of it. InternalError beyond 8 GiB."""
    view = memoryview(data)
    pieces = [view[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]
    if len(pieces) > MAX_PIECES:
        raise InternalError(f"stream {name} is too long for one page")
    extents = [
        (put_chunk(bytes(piece)), 0, PIECE_BYTES * number, len(piece))
        for number, piece in enumerate(pieces)
    ]
    return Stream(
        name=name,
        kind="byte-stream",
        page_root=put_page(encode_extent_page(extents)),
        logical_bytes=len(data),
        parameters={"media_type": media_type},
    )


def read_stream(stream: Stream, fetch: FetchAll, most: int) -> bytes:
    """All bytes of a stream of up to ``most``. ``fetch``: plain bytes of chunks by their ids, in
    the order asked. IntegrityError (ManifestDamaged)."""
    if stream.kind != "byte-stream" or not 0 <= stream.logical_bytes <= most:
        raise IntegrityError(
            f"stream {stream.name} is no byte stream of up to {most} bytes", code="ManifestDamaged"
        )
    whole = bytearray()
    for chunk_id, offset, at, length in _extents(stream.page_root, fetch, None, 0):
        if at != len(whole) or len(whole) + length > stream.logical_bytes:
            raise _damaged()
        data = memoryview(fetch([chunk_id])[0])[offset : offset + length]
        if len(data) != length:
            raise _damaged()
        whole += data
    if len(whole) != stream.logical_bytes:
        raise _damaged()
    return bytes(whole)


def _extents(
    page_id: bytes, fetch: FetchAll, level: int | None, offset: int
) -> Iterator[tuple[bytes, int, int, int]]:
    page = fetch([page_id])[0]
    if bytes(page[:1]) != b"S":
        if level:
            raise _damaged()
        yield from decode_extent_page(page)
        return
    if level == 0:
        raise _damaged()
    below = bytes(page)[2] - 1
    for child in stream_children(page, level):
        if child.offset < offset:
            raise _damaged()
        yield from _extents(child.id, fetch, below, child.offset)


def _damaged() -> IntegrityError:
    return IntegrityError("a page of a byte stream is damaged", code="ManifestDamaged")
