"""Entries of a file tree and the segments they are encoded in.

A segment holds a run of one directory's entries, sorted by name, and all they refer to; its bytes
depend on nothing else, so an agent may reuse those of an unchanged directory. Little-endian:

    u8 version (1) · u32 path length · path · u32 entries · u32 chunks · u32 pages · u64 logical ·
    chunk ids (32 B each) · ids of extent pages (32 B each) · entries

Entry: u8 type · u8 presence bits · u16 name length · u16 mode · u32 uid · u32 gid · i64 mtime [ns]
· u64 size · name · then, as the bits say, in this order: digest (32 B) · one extent (u32 chunk,
u32 offset) covering the whole file · extent list (u32 count, then u32 chunk, u32 offset in chunk,
u64 file offset, u32 length each) · extent pages (u32 first, u32 count) · link target (u16 length) ·
link group (u64) · xattrs (u16 count; u16, name, u32, value) · TLVs (u32 length; u16 type, u32
length, value). A file's bytes outside its extents are holes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

from holdfast.errors import IntegrityError, UsageError
from holdfast.ports.object_store import Buffer

VERSION = 1
MAX_NAME_BYTES = 1024
MAX_INLINE_EXTENTS = 2048
EXTENT_PAGE_EXTENTS = 8192
TLV_RDEV = 1


class EntryType(IntEnum):
    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    CHARACTER_DEVICE = 5
    BLOCK_DEVICE = 6


ExtentTuple = tuple[bytes, int, int, int]


class Entry(msgspec.Struct, gc=False):
    """One name in a directory. ``extents``: sorted by file offset, not overlapping: (chunk id,
    offset in chunk, offset in file, length). ``digest``: of the extents' bytes in this order, as
    ``ids.content_hasher`` gives it. ``link_group``: non-zero and equal for hard links of one
    file; each carries the content. ``rdev``: a device's number in Linux' encoding (dev_t).
    ``tlvs``: (type, value) pairs this version does not know, kept when written again."""

    name: bytes
    type: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    digest: bytes = b""
    extents: Sequence[ExtentTuple] = ()
    link_target: bytes = b""
    link_group: int = 0
    xattrs: dict[bytes, bytes] = {}
    rdev: int = 0
    tlvs: tuple[tuple[int, bytes], ...] = ()


_HEAD = struct.Struct("<BI")
_COUNTS = struct.Struct("<IIIQ")
_FIXED = struct.Struct("<BBHHIIqQ")
_ONE = struct.Struct("<II")
_EXTENT = struct.Struct("<IIQI")
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_TLV = struct.Struct("<HI")
_DIGEST, _SINGLE, _LIST, _PAGED, _TARGET, _GROUP, _XATTRS, _TLVS = (1 << bit for bit in range(8))

_FILE = int(EntryType.FILE)
_NO_NAMES = frozenset((b"", b".", b".."))

PutPage = Callable[[bytes], bytes]
FetchPage = Callable[[bytes], Buffer]


def is_name(name: bytes) -> bool:
    """Whether ``name`` can stand in a directory: not empty, ``.`` or ``..``, no slash, no NUL."""
    return (
        name not in _NO_NAMES
        and b"/" not in name
        and b"\0" not in name
        and len(name) <= MAX_NAME_BYTES
    )


class SegmentEncoder:
    """Encodes the entries of one directory run. ``put_page`` stores an extent page (only files of
    thousands of extents need one) and returns its 32-byte id."""

    def __init__(self, path: bytes, put_page: PutPage) -> None:
        self._path = path
        self._put_page = put_page
        self._chunks: dict[bytes, int] = {}
        self._pages: list[bytes] = []
        self._parts: list[bytes] = []
        self._count = 0
        self._logical = 0

    def add(self, entry: Entry) -> None:
        """Append an entry; the caller adds them sorted by name. UsageError for a name that is none
        or that is longer than the format holds."""
        name, kind, size = entry.name, entry.type, entry.size
        if name in _NO_NAMES or b"/" in name or b"\0" in name or len(name) > MAX_NAME_BYTES:
            raise UsageError(f"{name!r} is no name of a file", code="NameInvalid")
        bits, tail = 0, b""
        if entry.digest:
            bits, tail = _DIGEST, entry.digest
        if entry.extents:
            form, data = self._encode_extents(entry)
            bits |= form
            tail += data
        if entry.link_target or entry.link_group or entry.xattrs or entry.rdev or entry.tlvs:
            more, data = _encode_rest(entry)
            bits |= more
            tail += data
        self._parts.append(
            _FIXED.pack(
                kind, bits, len(name), entry.mode, entry.uid, entry.gid, entry.mtime_ns, size
            )
            + name
            + tail
        )
        self._count += 1
        if kind == _FILE:
            self._logical += size

    def _chunk(self, chunk_id: bytes) -> int:
        return self._chunks.setdefault(chunk_id, len(self._chunks))

    def _encode_extents(self, entry: Entry) -> tuple[int, bytes]:
        extents = entry.extents
        if len(extents) == 1:
            chunk_id, offset, at, length = extents[0]
            if at == 0 and length == entry.size:
                return _SINGLE, _ONE.pack(self._chunk(chunk_id), offset)
        if len(extents) <= MAX_INLINE_EXTENTS:
            rows = [_EXTENT.pack(self._chunk(row[0]), *row[1:]) for row in extents]
            return _LIST, _U32.pack(len(rows)) + b"".join(rows)
        first = len(self._pages)
        for start in range(0, len(extents), EXTENT_PAGE_EXTENTS):
            page = encode_extent_page(extents[start : start + EXTENT_PAGE_EXTENTS])
            self._pages.append(self._put_page(page))
        return _PAGED, _ONE.pack(first, len(self._pages) - first)

    def finish(self) -> bytes:
        return b"".join(
            (
                _HEAD.pack(VERSION, len(self._path)),
                self._path,
                _COUNTS.pack(self._count, len(self._chunks), len(self._pages), self._logical),
                *self._chunks,
                *self._pages,
                *self._parts,
            )
        )


def _encode_rest(entry: Entry) -> tuple[int, bytes]:
    """What few entries have: presence bits and bytes, in the order of the bits."""
    bits, tail = 0, []
    if entry.link_target:
        bits |= _TARGET
        tail.append(_U16.pack(len(entry.link_target)) + entry.link_target)
    if entry.link_group:
        bits |= _GROUP
        tail.append(_U64.pack(entry.link_group))
    if entry.xattrs:
        bits |= _XATTRS
        tail.append(_encode_xattrs(entry.xattrs))
    if entry.rdev or entry.tlvs:
        bits |= _TLVS
        tail.append(_encode_tlvs(entry))
    return bits, b"".join(tail)


def encode_extent_page(extents: Sequence[ExtentTuple]) -> bytes:
    """'X' · u32 chunks · u32 extents · chunk ids · extents (u32 chunk, u32 offset in chunk, u64
    file offset, u32 length)."""
    chunks: dict[bytes, int] = {}
    rows = [_EXTENT.pack(chunks.setdefault(row[0], len(chunks)), *row[1:]) for row in extents]
    return b"X" + _ONE.pack(len(chunks), len(rows)) + b"".join(chunks) + b"".join(rows)


def decode_extent_page(data: Buffer) -> list[ExtentTuple]:
    """Inverse of ``encode_extent_page``. IntegrityError (ManifestDamaged)."""
    data, chunks = bytes(data), extent_page_chunks(data)
    try:
        ids = [data[9 + 32 * n : 41 + 32 * n] for n in range(chunks)]
        rows = _EXTENT.iter_unpack(data[9 + 32 * chunks :])
        found = [(ids[chunk], offset, at, length) for chunk, offset, at, length in rows]
    except (IndexError, struct.error) as error:
        raise IntegrityError("an extent page is damaged", code="ManifestDamaged") from error
    return found


def extent_page_chunks(data: Buffer) -> int:
    """Number of chunk ids in an extent page, which begin at its byte 9; its length is checked.
    IntegrityError (ManifestDamaged)."""
    if len(data) >= 9 and data[0] == ord("X"):
        chunks, count = _ONE.unpack_from(data, 1)
        if len(data) == 9 + 32 * chunks + _EXTENT.size * count:
            return int(chunks)
    raise IntegrityError("an extent page is damaged", code="ManifestDamaged")


def _encode_xattrs(xattrs: dict[bytes, bytes]) -> bytes:
    rows = [_U16.pack(len(xattrs))]
    for name, value in sorted(xattrs.items()):
        rows.append(_U16.pack(len(name)) + name + _U32.pack(len(value)) + value)
    return b"".join(rows)


def _encode_tlvs(entry: Entry) -> bytes:
    rows = list(entry.tlvs)
    if entry.rdev:
        rows.insert(0, (TLV_RDEV, _U64.pack(entry.rdev)))
    data = b"".join(_TLV.pack(kind, len(value)) + value for kind, value in rows)
    return _U32.pack(len(data)) + data


class SegmentHead(NamedTuple):
    """What a segment says before its entries. Offsets are into the segment's bytes."""

    path: bytes
    entries: int
    chunks: int
    pages: int
    logical_bytes: int
    chunks_at: int

    @property
    def pages_at(self) -> int:
        return self.chunks_at + 32 * self.chunks

    @property
    def entries_at(self) -> int:
        return self.pages_at + 32 * self.pages


def segment_head(data: Buffer) -> SegmentHead:
    """IntegrityError (ManifestDamaged) when the segment is cut off or of another version."""
    try:
        version, length = _HEAD.unpack_from(data)
        path = bytes(memoryview(data)[_HEAD.size : _HEAD.size + length])
        entries, chunks, pages, logical = _COUNTS.unpack_from(data, _HEAD.size + length)
    except struct.error as error:
        raise IntegrityError("a segment is cut off", code="ManifestDamaged") from error
    chunks_at = _HEAD.size + length + _COUNTS.size
    head = SegmentHead(path, entries, chunks, pages, logical, chunks_at)
    if version != VERSION or head.entries_at > len(data):
        raise IntegrityError("a segment is damaged", code="ManifestDamaged")
    return head


def decode_segment(data: Buffer, fetch_page: FetchPage | None = None) -> Iterator[Entry]:
    """The entries of a segment in order. ``fetch_page`` reads extent pages; without it a file that
    needs one raises IntegrityError."""
    data = bytes(data)
    head = segment_head(data)
    try:
        yield from _Decoder(data, head, fetch_page).entries()
    except (struct.error, IndexError) as error:
        raise IntegrityError("a segment's entries are damaged", code="ManifestDamaged") from error


class _Decoder:
    def __init__(self, data: bytes, head: SegmentHead, fetch_page: FetchPage | None) -> None:
        self._data = data
        self._head = head
        self._fetch_page = fetch_page
        self._at = head.entries_at
        self._chunks = [data[at : at + 32] for at in range(head.chunks_at, head.pages_at, 32)]

    def entries(self) -> Iterator[Entry]:
        data, end = self._data, len(self._data)
        for _ in range(self._head.entries):
            kind, bits, length, mode, uid, gid, mtime, size = _FIXED.unpack_from(data, self._at)
            start = self._at + _FIXED.size
            self._at = start + length
            name = data[start : self._at]
            entry = Entry(name, kind, mode, uid, gid, mtime, size)
            if bits:
                self._optional(entry, bits)
            if self._at > end or not is_name(name):
                raise IndexError
            yield entry
        if self._at != end:
            raise IndexError

    def _take(self, length: int) -> bytes:
        start, self._at = self._at, self._at + length
        return self._data[start : self._at]

    def _optional(self, entry: Entry, bits: int) -> None:
        if bits & _DIGEST:
            entry.digest = self._take(32)
        if bits & _SINGLE:
            chunk, offset = _ONE.unpack_from(self._data, self._at)
            self._at += _ONE.size
            entry.extents = ((self._chunks[chunk], offset, 0, entry.size),)
        if bits & _LIST:
            (count,) = _U32.unpack(self._take(4))
            rows = _EXTENT.iter_unpack(self._take(count * _EXTENT.size))
            entry.extents = [(self._chunks[row[0]], *row[1:]) for row in rows]
        if bits & _PAGED:
            entry.extents = self._paged(*_ONE.unpack(self._take(_ONE.size)))
        if bits & _TARGET:
            entry.link_target = self._take(*_U16.unpack(self._take(2)))
        if bits & _GROUP:
            (entry.link_group,) = _U64.unpack(self._take(8))
        if bits & _XATTRS:
            (count,) = _U16.unpack(self._take(2))
            for _ in range(count):
                name = self._take(*_U16.unpack(self._take(2)))
                entry.xattrs[name] = self._take(*_U32.unpack(self._take(4)))
        if bits & _TLVS:
            self._tlvs(entry, self._take(*_U32.unpack(self._take(4))))

    def _paged(self, first: int, count: int) -> list[ExtentTuple]:
        if self._fetch_page is None:
            raise IntegrityError("an extent page cannot be read here", code="ManifestDamaged")
        if first + count > self._head.pages:
            raise IndexError
        found: list[ExtentTuple] = []
        for number in range(first, first + count):
            at = self._head.pages_at + 32 * number
            found += decode_extent_page(self._fetch_page(self._data[at : at + 32]))
        return found

    @staticmethod
    def _tlvs(entry: Entry, data: bytes) -> None:
        unknown, at = [], 0
        while at < len(data):
            kind, length = _TLV.unpack_from(data, at)
            value = data[at + _TLV.size : at + _TLV.size + length]
            at += _TLV.size + length
            if at > len(data):
                raise IndexError
            if kind == TLV_RDEV:
                (entry.rdev,) = _U64.unpack(value)
            else:
                unknown.append((kind, value))
        entry.tlvs = tuple(unknown)


SEGMENT_MIN, SEGMENT_MAX = 64, 1024


def splits_before(name: bytes, count: int) -> bool:
    """Whether a new segment begins at ``name`` after ``count`` entries: by name alone, so that a
    large directory's segments survive changes elsewhere in it. About 300 entries on average."""
    return count >= SEGMENT_MAX or (count >= SEGMENT_MIN and zlib.crc32(name) % 256 == 0)


def first_name(data: Buffer) -> bytes:
    """The name of a segment's first entry. IntegrityError (ManifestDamaged) for an empty one."""
    at = segment_head(data).entries_at
    try:
        length = _FIXED.unpack_from(data, at)[2]
    except struct.error as error:
        raise IntegrityError("a segment is empty", code="ManifestDamaged") from error
    return bytes(memoryview(data)[at + _FIXED.size : at + _FIXED.size + length])
