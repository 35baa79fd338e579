"""The manifest of a file tree: pages of segments, and inner pages over them.

Key order: (directory path with "/" as NUL, name), so all children of a directory are contiguous and
directories come depth first, parents before children. Page borders are content-defined, pages are
chunks of kind FILE_PAGE: what did not change keeps its id and is shared between recovery points.

    leaf   'L' · u8 version · u32 segments · u32 length of each · segments
    inner  'I' · u8 version · u8 level · u32 children · per child: u32 key length, key, id (32 B),
           u64 entries below, u64 logical bytes below
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import (
    Entry,
    EntryType,
    PutPage,
    decode_segment,
    segment_head,
)

VERSION = 1
PAGE_MIN, PAGE_EXPECTED, PAGE_MAX = 32 * 1024, 32 * 1024, 256 * 1024
FANOUT_MIN, FANOUT_EXPECTED, FANOUT_MAX = 32, 96, 512
_LEAF = struct.Struct("<cBI")
_INNER = struct.Struct("<cBBI")
_CHILD_TAIL = struct.Struct("<32sQQ")
_U32 = struct.Struct("<I")

Fetch = Callable[[bytes], Buffer]
Ids = npt.NDArray[np.uint8]


def tree_key(path: bytes, name: bytes) -> bytes:
    """The sort key of ``name`` in directory ``path`` (no leading slash; empty for the top)."""
    return path.replace(b"/", b"\0") + b"\0\0" + name


class Child(NamedTuple):
    """A page as its parent sees it: first key, id, and what is below it."""

    key: bytes
    id: bytes
    entries: int
    logical_bytes: int


class ManifestBuilder:
    """Takes segments in tree order and stores pages with ``put_page`` (bytes -> 32-byte id).
    Memory: one open page per level."""

    def __init__(self, put_page: PutPage) -> None:
        self._put_page = put_page
        self._segments: list[bytes] = []
        self._bytes = 0
        self._key = b""
        self._entries = 0
        self._logical = 0
        self._levels: list[list[Child]] = []

    def add_segment(self, segment: bytes, first_name: bytes) -> None:
        """Append an encoded segment, whose first entry is ``first_name``."""
        head = segment_head(segment)
        key = tree_key(head.path, first_name)
        if self._segments and self._bytes + len(segment) > PAGE_MAX:
            self._close_leaf()
        if not self._segments:
            self._key = key
        self._segments.append(segment)
        self._bytes += len(segment)
        self._entries += head.entries
        self._logical += head.logical_bytes
        if self._bytes >= PAGE_MIN and zlib.crc32(key) % PAGE_EXPECTED < len(segment):
            self._close_leaf()

    def _close_leaf(self) -> None:
        page = b"".join(
            (
                _LEAF.pack(b"L", VERSION, len(self._segments)),
                *(_U32.pack(len(segment)) for segment in self._segments),
                *self._segments,
            )
        )
        child = Child(self._key, self._put_page(page), self._entries, self._logical)
        self._segments, self._bytes, self._entries, self._logical = [], 0, 0, 0
        self._add_child(0, child)

    def _add_child(self, level: int, child: Child) -> None:
        if level == len(self._levels):
            self._levels.append([])
        children = self._levels[level]
        children.append(child)
        cut = zlib.crc32(child.key) % FANOUT_EXPECTED == 0
        if len(children) >= FANOUT_MAX or (len(children) >= FANOUT_MIN and cut):
            self._close_inner(level)

    def _close_inner(self, level: int) -> None:
        children = self._levels[level]
        rows = [_INNER.pack(b"I", VERSION, level + 1, len(children))]
        for child in children:
            rows.append(_U32.pack(len(child.key)) + child.key)
            rows.append(_CHILD_TAIL.pack(child.id, child.entries, child.logical_bytes))
        page_id = self._put_page(b"".join(rows))
        entries = sum(child.entries for child in children)
        logical = sum(child.logical_bytes for child in children)
        first = children[0].key
        self._levels[level] = []
        self._add_child(level + 1, Child(first, page_id, entries, logical))

    def finish(self) -> Child:
        """Close all pages; the root page. An empty tree has one empty leaf."""
        if self._segments or not self._levels:
            self._close_leaf()
        level = 0
        while level < len(self._levels):
            children = self._levels[level]
            if len(children) == 1 and level == len(self._levels) - 1:
                return children[0]
            if children:
                self._close_inner(level)
            level += 1
        raise AssertionError("the last level always has a child")


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


def children_of(page: Buffer) -> list[Child] | None:
    """The children of an inner page, or None for a leaf. IntegrityError (ManifestDamaged)."""
    data = bytes(page)
    if data[:1] == b"L":
        return None
    try:
        magic, version, _, count = _INNER.unpack_from(data)
        if magic != b"I" or version != VERSION:
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
    return found


def _damaged() -> IntegrityError:
    return IntegrityError("a manifest page is damaged", code="ManifestDamaged")


class PageReferences(NamedTuple):
    """What a page refers to: ids of pages (list of 32 B), ids of data chunks (n x 32 array)."""

    pages: list[bytes]
    chunks: Ids
    entries: int
    logical_bytes: int


def page_references(page: Buffer) -> PageReferences:
    """All ids a page refers to, its entries unread. IntegrityError (ManifestDamaged)."""
    if bytes(page[:1]) == b"X":
        count = int.from_bytes(page[1:5], "little")
        return PageReferences([], _ids(page, 9, count), 0, 0)
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


class FileTree:
    """Reads a manifest. ``fetch`` returns the plain bytes of a page by its 32-byte id (verified by
    who provides it); a small cache in front of it is the caller's affair."""

    def __init__(self, fetch: Fetch, root_page: bytes) -> None:
        self._fetch = fetch
        self._root = root_page

    def list_directory(
        self, path: bytes, after: bytes = b"", limit: int | None = None
    ) -> list[Entry]:
        """Entries of directory ``path`` with names above ``after``, sorted, at most ``limit``."""
        found: list[Entry] = []
        start = tree_key(path, after)
        for segment_path, entries in self._segments(start):
            if segment_path != path:
                if tree_key(segment_path, b"") > start:
                    break
                continue
            for entry in entries:
                if entry.name > after:
                    found.append(entry)
                    if limit is not None and len(found) >= limit:
                        return found
        return found

    def lookup(self, path: bytes) -> Entry | None:
        """The entry of ``path``, or None."""
        folder, _, name = path.rpartition(b"/")
        for segment_path, entries in self._segments(tree_key(folder, name)):
            if tree_key(segment_path, b"") > tree_key(folder, name):
                return None
            if segment_path == folder:
                for entry in entries:
                    if entry.name == name:
                        return entry
                    if entry.name > name:
                        return None
        return None

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, list[Entry]]]:
        """(directory path, run of its entries) of ``path`` and everything below, in tree order."""
        below = path + b"/" if path else b""
        for segment_path, entries in self._segments(tree_key(path, b"")):
            if segment_path == path or segment_path.startswith(below):
                yield segment_path, list(entries)
            elif tree_key(segment_path, b"") > tree_key(path, b"") and path:
                return

    def _segments(self, start: bytes) -> Iterator[tuple[bytes, Iterator[Entry]]]:
        """Segments from the one that may hold ``start`` on."""
        for page in self._leaves(self._root, start):
            for segment in split_leaf(page):
                yield segment_head(segment).path, decode_segment(segment, self._fetch)

    def _leaves(self, page_id: bytes, start: bytes) -> Iterator[Buffer]:
        page = self._fetch(page_id)
        children = children_of(page)
        if children is None:
            yield page
            return
        for number, child in enumerate(children):
            following = children[number + 1].key if number + 1 < len(children) else None
            if following is None or following > start:
                yield from self._leaves(child.id, start)


def is_directory(entry: Entry) -> bool:
    return entry.type == EntryType.DIRECTORY
