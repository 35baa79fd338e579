"""Pages of a file tree's manifest: leaves of segments, and inner pages over them.

Key order: (directory path with "/" as NUL, name), so all children of a directory are contiguous and
directories come depth first, parents before children. Page borders are content-defined, pages are
chunks of kind FILE_PAGE: what did not change keeps its id and is shared between recovery points.

    leaf   'L' · u8 version · u32 segments · u32 length of each · segments
    inner  'I' · u8 version · u8 level · u32 children · per child: u32 key length, key, id (32 B),
           u64 entries below, u64 logical bytes below
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.disk_pages import disk_page_ids
from holdfast.vaultstore.entries import extent_page_chunks, segment_head
from holdfast.vaultstore.manifest_stream import stream_children

VERSION = 1
MAX_LEVELS = 12
_LEAF = struct.Struct("<cBI")
_INNER = struct.Struct("<cBBI")
_CHILD_TAIL = struct.Struct("<32sQQ")
_U32 = struct.Struct("<I")

Ids = npt.NDArray[np.uint8]


def tree_key(path: bytes, name: bytes) -> bytes:
    """The sort key of ``name`` in directory ``path`` (no leading slash; empty for the top)."""
    return path.replace(b"/", b"\0") + b"\0\0" + name


def path_of_key(key: bytes) -> bytes:
    """The path of a tree key; of the top folder an empty one."""
    folder, _, name = key.partition(b"\0\0")
    return b"/".join(part for part in (folder.replace(b"\0", b"/"), name) if part)


class Child(NamedTuple):
    """A page as its parent sees it: first key, id, and what is below it."""

    key: bytes
    id: bytes
    entries: int
    logical_bytes: int


def encode_leaf(segments: Sequence[bytes]) -> bytes:
    lengths = (_U32.pack(len(segment)) for segment in segments)
    return b"".join((_LEAF.pack(b"L", VERSION, len(segments)), *lengths, *segments))


def encode_inner(level: int, children: Sequence[Child]) -> bytes:
    """``level``: 1 for a page over leaves."""
    rows = [_INNER.pack(b"I", VERSION, level, len(children))]
    for child in children:
        rows.append(_U32.pack(len(child.key)) + child.key)
        rows.append(_CHILD_TAIL.pack(child.id, child.entries, child.logical_bytes))
    return b"".join(rows)


def split_leaf(page: Buffer) -> list[memoryview]:
    """The segments of a leaf page. IntegrityError (ManifestDamaged)."""
    view = memoryview(page)
    try:
        magic, version, count = _LEAF.unpack_from(view)
        lengths = struct.unpack_from(f"<{count}I", view, _LEAF.size)
    except struct.error as error:
        raise _damaged() from error
    at = _LEAF.size + 4 * count
    if magic != b"L" or version != VERSION or at + sum(lengths) != len(view):
        raise _damaged()
    segments = []
    for length in lengths:
        segments.append(view[at : at + length])
        at += length
    return segments


def children_of(page: Buffer, level: int | None = None) -> list[Child] | None:
    """The children of an inner page, or None for a leaf. ``level``: what the page must be (0 is a
    leaf), None for any. IntegrityError (ManifestDamaged)."""
    data = bytes(page)
    if data[:1] == b"L" and not level:
        return None
    try:
        magic, version, own, count = _INNER.unpack_from(data)
        if magic != b"I" or version != VERSION or level not in (None, own) or own > MAX_LEVELS:
            raise _damaged()
        at, found = _INNER.size, []
        for _ in range(count):
            (length,) = _U32.unpack_from(data, at)
            key = data[at + 4 : at + 4 + length]
            at += 4 + length
            found.append(Child(key, *_CHILD_TAIL.unpack_from(data, at)))
            at += _CHILD_TAIL.size
    except struct.error as error:
        raise _damaged() from error
    if at != len(data) or not found or own == 0:
        raise _damaged()
    return found


def level_of(page: Buffer) -> int:
    """0 for a leaf, n for an inner page n above the leaves. IntegrityError (ManifestDamaged)."""
    magic = bytes(page[:3])
    if magic[:1] == b"L":
        return 0
    if magic[:1] != b"I" or len(magic) < 3:
        raise _damaged()
    return magic[2]


def _damaged() -> IntegrityError:
    return IntegrityError("a manifest page is damaged", code="ManifestDamaged")


class PageReferences(NamedTuple):
    """What a page refers to: ids of pages (list of 32 B), ids of data chunks (n x 32 array)."""

    pages: list[bytes]
    chunks: Ids
    entries: int
    logical_bytes: int


def page_references(page: Buffer) -> PageReferences:
    """All ids a page refers to, its entries unread: of a file tree, of a disk's map or of a byte
    stream. IntegrityError (ManifestDamaged)."""
    magic = bytes(page[:1])
    if magic == b"X":
        return PageReferences([], _ids(page, 9, extent_page_chunks(page)), 0, 0)
    if magic in (b"D", b"M"):
        return PageReferences(*disk_page_ids(page), 0, 0)
    if magic == b"S":
        children = [child.id for child in stream_children(page)]
        return PageReferences(children, np.empty((0, 32), np.uint8), 0, 0)
    return _tree_references(page)


def _tree_references(page: Buffer) -> PageReferences:
    children = children_of(page)
    if children is not None:
        return PageReferences([child.id for child in children], np.empty((0, 32), np.uint8), 0, 0)
    pages: list[bytes] = []
    tables, entries, logical = [], 0, 0
    for segment in split_leaf(page):
        head = segment_head(segment)
        tables.append(_ids(segment, head.chunks_at, head.chunks))
        if head.pages:
            listed = bytes(segment[head.pages_at : head.entries_at])
            pages += [listed[at : at + 32] for at in range(0, len(listed), 32)]
        entries += head.entries
        logical += head.logical_bytes
    joined = np.concatenate(tables) if tables else np.empty((0, 32), np.uint8)
    return PageReferences(pages, joined, entries, logical)


def _ids(data: Buffer, offset: int, count: int) -> Ids:
    if offset + 32 * count > len(data):
        raise _damaged()
    return np.frombuffer(data, np.uint8, 32 * count, offset).reshape(count, 32)
