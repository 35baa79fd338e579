"""The manifest of a file tree: built from segments in tree order, and read in few page reads.

The agent's builder streams: it holds one open page a level. The reader works over any function
that returns a page by its id (docs/design/vault-format.md has the bytes; ``manifest_pages`` holds
them).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from holdfast.errors import HoldfastError, IntegrityError, InternalError, ObjectMissingError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import (
    Entry,
    EntryType,
    PutPage,
    SegmentHead,
    decode_segment,
    segment_head,
)
from holdfast.vaultstore.manifest_pages import (
    Child,
    PageReferences,
    children_of,
    encode_inner,
    encode_leaf,
    level_of,
    page_references,
    split_leaf,
    tree_key,
)

__all__ = [
    "Child",
    "FileTree",
    "ManifestBuilder",
    "PageReferences",
    "children_of",
    "is_directory",
    "page_references",
    "split_leaf",
    "tree_key",
]

PAGE_MIN, PAGE_EXPECTED, PAGE_MAX = 32 * 1024, 32 * 1024, 256 * 1024
FANOUT_MIN, FANOUT_EXPECTED, FANOUT_MAX = 32, 96, 512
READ_AHEAD_PAGES = 32

Fetch = Callable[[bytes], Buffer]
FetchMany = Callable[[Sequence[bytes]], Sequence[Buffer]]
OnLost = Callable[[bytes, HoldfastError], None]
LOSSES = (IntegrityError, ObjectMissingError)  # what reading a damaged page raises


class ManifestBuilder:
    """Takes segments in tree order and stores pages with ``put_page`` (bytes -> 32-byte id).
    The same segments give the same pages, however they were made. Memory: one open page a level."""

    def __init__(self, put_page: PutPage) -> None:
        self._put_page = put_page
        self._segments: list[bytes] = []
        self._bytes = 0
        self._key = b""
        self._entries = 0
        self._logical = 0
        self._levels: list[list[Child]] = []
        self._last_key = b""

    def add_segment(self, segment: bytes, first_name: bytes) -> None:
        """Append an encoded segment, whose first entry is ``first_name``. InternalError when it
        does not come after the one before."""
        head = segment_head(segment)
        key = tree_key(head.path, first_name)
        if key <= self._last_key:
            raise InternalError(f"segment {key!r} of a manifest came after {self._last_key!r}")
        self._last_key = key
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
        page_id = self._put_page(encode_leaf(self._segments))
        child = Child(self._key, page_id, self._entries, self._logical)
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
        page_id = self._put_page(encode_inner(level + 1, children))
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


class _Span(NamedTuple):
    """What to read: from key ``start``, as long as keys begin with ``prefix``."""

    start: bytes
    prefix: bytes
    read_ahead: bool

    def is_past(self, key: bytes) -> bool:
        return key > self.prefix and not key.startswith(self.prefix)


class FileTree:
    """Reads a manifest. ``fetch`` returns the plain bytes of a page by its 32-byte id, verified by
    who provides it; ``fetch_many`` several at once in the order asked, used to read ahead in a
    walk. A cache in front of them is the caller's affair. ``on_lost`` is told the tree key from
    which on entries are lost with a damaged page, and the walk goes on behind it; without it the
    page's error is raised."""

    def __init__(
        self,
        fetch: Fetch,
        root_page: bytes,
        fetch_many: FetchMany | None = None,
        on_lost: OnLost | None = None,
    ) -> None:
        self._fetch = fetch
        self._fetch_many = fetch_many
        self._root = root_page
        self._on_lost = on_lost

    def statistics(self) -> tuple[int, int]:
        """(entries, logical bytes of all files) of the whole tree, from its root page alone."""
        page = self._fetch(self._root)
        children = children_of(page)
        if children is None:
            found = page_references(page)
            return found.entries, found.logical_bytes
        entries = sum(child.entries for child in children)
        return entries, sum(child.logical_bytes for child in children)

    def list_directory(
        self, path: bytes, after: bytes = b"", limit: int | None = None
    ) -> list[Entry]:
        """Entries of directory ``path`` with names above ``after``, sorted, at most ``limit``.
        Empty for a directory without entries and for one that is not there."""
        found: list[Entry] = []
        span = _Span(tree_key(path, after), tree_key(path, b""), read_ahead=limit is None)
        for head, segment in self._segments(span):
            if head.path != path:
                continue
            for entry in decode_segment(segment, self._fetch):
                if entry.name > after:
                    found.append(entry)
                    if limit is not None and len(found) >= limit:
                        return found
        return found

    def lookup(self, path: bytes) -> Entry | None:
        """The entry of ``path``, or None."""
        folder, _, name = path.rpartition(b"/")
        span = _Span(tree_key(folder, name), tree_key(folder, b""), read_ahead=False)
        for head, segment in self._segments(span):
            if head.path != folder:
                continue
            for entry in decode_segment(segment, self._fetch):
                if entry.name >= name:
                    return entry if entry.name == name else None
        return None

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, list[Entry]]]:
        """(directory path, run of its entries) of ``path`` and everything below, in tree order:
        a directory's own entry comes before what is in it. A large directory comes in several
        runs."""
        below = path + b"/" if path else b""
        prefix = tree_key(path, b"")[:-1] if path else b""
        for head, segment in self._segments(_Span(tree_key(path, b""), prefix, read_ahead=True)):
            if head.path == path or head.path.startswith(below):
                yield head.path, self._entries(head, segment)

    def _entries(self, head: SegmentHead, segment: memoryview) -> list[Entry]:
        """The entries of a segment, as far as the pages it needs can be read."""
        found: list[Entry] = []
        try:
            for entry in decode_segment(segment, self._fetch):
                found.append(entry)
        except LOSSES as error:
            if self._on_lost is None:
                raise
            self._on_lost(tree_key(head.path, found[-1].name if found else b""), error)
        return found

    def _segments(self, span: _Span) -> Iterator[tuple[SegmentHead, memoryview]]:
        """Segments from the one that may hold ``span.start`` to the last under its prefix."""
        for page in self._read_children([Child(b"", self._root, 0, 0)]):
            yield from self._segments_below(page, span)

    def _segments_below(
        self, page: Buffer, span: _Span
    ) -> Iterator[tuple[SegmentHead, memoryview]]:
        for leaf in self._leaves(page, level_of(page), span):
            for segment in split_leaf(leaf):
                head = segment_head(segment)
                if span.is_past(tree_key(head.path, b"")):
                    return
                yield head, segment

    def _leaves(self, page: Buffer, level: int, span: _Span) -> Iterator[Buffer]:
        children = children_of(page, level)
        if children is None:
            yield page
            return
        first, last = 0, len(children)
        while first + 1 < last and children[first + 1].key <= span.start:
            first += 1
        while last > first + 1 and span.is_past(children[last - 1].key):
            last -= 1
        for below in self._children(children[first:last], span.read_ahead and level == 1):
            yield from self._leaves(below, level - 1, span)

    def _children(self, children: list[Child], ahead: bool) -> Iterator[Buffer]:
        if not ahead or self._fetch_many is None:
            yield from self._read_children(children)
            return
        for at in range(0, len(children), READ_AHEAD_PAGES):
            some = children[at : at + READ_AHEAD_PAGES]
            try:
                pages = self._fetch_many([child.id for child in some])
            except LOSSES:
                if self._on_lost is None:
                    raise
                yield from self._read_children(some)
            else:
                yield from pages

    def _read_children(self, children: list[Child]) -> Iterator[Buffer]:
        """Pages one by one; those that are lost are told of and passed over."""
        for child in children:
            try:
                page = self._fetch(child.id)
            except LOSSES as error:
                if self._on_lost is None:
                    raise
                self._on_lost(child.key, error)
                continue
            yield page


def is_directory(entry: Entry) -> bool:
    return entry.type == EntryType.DIRECTORY
