"""The manifest of a disk: written leaf by leaf, read at any offset, compared by pages.

The writer keeps an unchanged region's page of the parent point without reading it. The reader
works over any function that returns a page by its id; ``disk_pages`` has the bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from holdfast.errors import IntegrityError, InternalError, UsageError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.disk_pages import (
    FANOUT,
    LEAF_BLOCKS,
    NO_ID,
    BlockState,
    Child,
    Geometry,
    Leaf,
    damaged,
    decode_leaf,
    decode_map,
    encode_leaf,
    encode_map,
    even_leaf,
    geometry_of,
)
from holdfast.vaultstore.root import Stream

Fetch = Callable[[bytes], Buffer]
PutPage = Callable[[bytes], bytes]
MAPS_KEPT, LEAVES_KEPT = 32, 16


class DiskMapWriter:
    """Takes the leaves of a disk in order, each as blocks or as the parent's unchanged page, and
    stores pages with ``put_page`` (bytes -> 32-byte id). Memory: one open page a level."""

    def __init__(self, put_page: PutPage, geometry: Geometry) -> None:
        self._put_page = put_page
        self._geometry = geometry
        self._levels: list[list[Child]] = [[] for _ in range(geometry.level)]
        self._leaves = 0
        self._root: Child | None = None

    @property
    def leaves(self) -> int:
        """Leaves taken so far: the index of the next one."""
        return self._leaves

    def add_leaf(self, leaf: Leaf) -> None:
        """The next leaf's blocks. InternalError when they are another leaf's."""
        geometry, index = self._geometry, self._leaves
        fits = leaf.first == index * LEAF_BLOCKS and leaf.grid_exponent == geometry.grid_exponent
        if not fits or len(leaf.states) != geometry.leaf_blocks(index):
            raise InternalError(f"leaf {index} of a disk map does not lie where it should")
        state = BlockState(int(leaf.states[0])) if len(leaf.states) else BlockState.UNALLOCATED
        even = state != BlockState.DATA and bool((leaf.states == state).all())
        if even and geometry.level:
            self.add_child(Child(state))
        else:
            self.add_child(Child(BlockState.DATA, self._put_page(encode_leaf(leaf))))

    def add_child(self, child: Child) -> None:
        """The next leaf, as a parent's map has it. The root of a map is always a page."""
        self._leaves += 1
        self._add(0, child)

    def _add(self, level: int, child: Child) -> None:
        if level == self._geometry.level:
            self._root = child
            return
        row = self._levels[level]
        row.append(child)
        if len(row) == FANOUT:
            self._close(level)

    def _close(self, level: int) -> None:
        row = self._levels[level]
        self._levels[level] = []
        state = row[0].state
        top = level + 1 == self._geometry.level
        if not top and state != BlockState.DATA and all(child.state == state for child in row):
            self._add(level + 1, Child(state))
            return
        page_id = self._put_page(encode_map(level + 1, row))
        self._add(level + 1, Child(BlockState.DATA, page_id))

    def finish(self) -> bytes:
        """Close all pages; the id of the root page. InternalError when leaves are missing."""
        if self._leaves != self._geometry.leaves:
            raise InternalError(f"a disk map ended after {self._leaves} leaves")
        for level, row in enumerate(self._levels):
            if row:
                self._close(level)
        if self._root is None or not self._root.is_page:
            raise InternalError("a disk map has no root page")
        return self._root.id


class Run(NamedTuple):
    """Neighbouring blocks of one state: bytes ``offset`` to ``offset + length``."""

    offset: int
    length: int
    state: BlockState


class DiskMap:
    """Reads a map. ``fetch`` returns the plain bytes of a page by its 32-byte id, verified by who
    provides it. Keeps a few pages; not thread safe."""

    def __init__(self, fetch: Fetch, root: bytes, geometry: Geometry) -> None:
        self._fetch = fetch
        self._root = Child(BlockState.DATA, root)
        self.geometry = geometry
        self._maps: OrderedDict[bytes, list[Child]] = OrderedDict()
        self._leaves: OrderedDict[int, Leaf] = OrderedDict()

    def child(self, leaf: int) -> Child:
        """What the map has for a leaf, the leaf itself unread. IntegrityError."""
        return self._node(0, leaf)

    def _node(self, level: int, index: int) -> Child:
        """The region ``index`` of ``level``; 0 is a leaf."""
        if level == self.geometry.level:
            return self._root
        above = self._node(level + 1, index // FANOUT)
        if not above.is_page:
            return above
        return self._children(above.id, level + 1, index // FANOUT)[index % FANOUT]

    def _children(self, page_id: bytes, level: int, index: int) -> list[Child]:
        found = self._maps.get(page_id)
        if found is None:
            found = decode_map(self._fetch(page_id), level)
            self._maps[page_id] = found
            if len(self._maps) > MAPS_KEPT:
                self._maps.popitem(last=False)
        if len(found) != self.geometry.children(level, index):
            raise damaged()
        return found

    def leaf(self, index: int) -> Leaf:
        """The blocks of leaf ``index``. IntegrityError (ManifestDamaged)."""
        found = self._leaves.get(index)
        if found is None:
            found = self._leaves[index] = self._read_leaf(index)
            if len(self._leaves) > LEAVES_KEPT:
                self._leaves.popitem(last=False)
        return found

    def _read_leaf(self, index: int) -> Leaf:
        child = self.child(index)
        if not child.is_page:
            return even_leaf(self.geometry, index, child.state)
        leaf = decode_leaf(self._fetch(child.id))
        fits = leaf.first == index * LEAF_BLOCKS
        fits = fits and leaf.grid_exponent == self.geometry.grid_exponent
        if not fits or len(leaf.states) != self.geometry.leaf_blocks(index):
            raise damaged()
        return leaf

    def block_id(self, block: int) -> bytes | None:
        """The chunk of a block, or None when it reads as zeros. IntegrityError."""
        return self.leaf(block // LEAF_BLOCKS).id_of(block)

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """The states of a range of bytes, in order, covering it. IntegrityError."""
        grid, end = self.geometry.grid_exponent, offset + length
        while offset < end:
            leaf = self.leaf((offset >> grid) // LEAF_BLOCKS)
            first = (offset >> grid) - leaf.first
            last = min(len(leaf.states), ((end - 1) >> grid) - leaf.first + 1)
            states = leaf.states[first:last]
            borders = np.flatnonzero(np.diff(states)) + 1
            for border in [*borders.tolist(), len(states)]:
                stop = min(end, (leaf.first + first + border) << grid)
                state = BlockState(int(leaf.states[first + border - 1]))
                yield Run(offset, stop - offset, state)
                offset = stop

    def same_region(self, other: DiskMap, level: int, index: int) -> bool:
        """Whether both maps have the same page, or the same nothing, for a region."""
        if level > min(self.geometry.level, other.geometry.level):
            return False
        return self._node(level, index) == other._node(level, index)


def differing_runs(old: DiskMap, new: DiskMap) -> Iterator[tuple[int, int]]:
    """(offset, length) of what ``new`` holds otherwise than ``old``, by blocks, in order; what lies
    beyond the end of ``old`` differs unless it reads as zeros. Equal pages are not read.
    IntegrityError; InternalError for maps of different grids."""
    if old.geometry.grid_exponent != new.geometry.grid_exponent:
        raise InternalError("maps of different grids cannot be compared")
    start = end = -1
    for block in _differing_blocks(old, new):
        if block != end:
            if start >= 0:
                yield _bytes_of(new.geometry, start, end)
            start = block
        end = block + 1
    if start >= 0:
        yield _bytes_of(new.geometry, start, end)


def _bytes_of(geometry: Geometry, first: int, end: int) -> tuple[int, int]:
    offset = first << geometry.grid_exponent
    return offset, min(end << geometry.grid_exponent, geometry.size) - offset


def _differing_blocks(old: DiskMap, new: DiskMap) -> Iterator[int]:
    index = 0
    while index < new.geometry.leaves:
        skipped = _same_leaves(old, new, index)
        if not skipped:
            yield from _differing_in_leaf(old, new, index)
        index += max(skipped, 1)


def _same_leaves(old: DiskMap, new: DiskMap, index: int) -> int:
    """Leaves from ``index`` on that a page both maps have speaks for; as many as one page can."""
    common = min(old.geometry.leaves, new.geometry.leaves)
    for level in range(min(old.geometry.level, new.geometry.level), -1, -1):
        span: int = FANOUT**level
        whole = index % span == 0 and index + span <= common
        if whole and new.same_region(old, level, index // span):
            return span
    return 0


def _differing_in_leaf(old: DiskMap, new: DiskMap, index: int) -> Iterator[int]:
    mine = new.leaf(index).ids_by_block()
    theirs = np.zeros_like(mine)
    if index < old.geometry.leaves:
        found = old.leaf(index).ids_by_block()[: len(mine)]
        theirs[: len(found)] = found
    places = np.flatnonzero((mine != theirs).any(axis=1))
    yield from (index * LEAF_BLOCKS + place for place in places.tolist())


class Tally(NamedTuple):
    """Data blocks of a disk: their bytes and number."""

    bytes: int = 0
    blocks: int = 0

    def __add__(self, other: object) -> Tally:
        if not isinstance(other, Tally):
            return NotImplemented
        return Tally(self.bytes + other.bytes, self.blocks + other.blocks)

    def __sub__(self, other: Tally) -> Tally:
        return Tally(self.bytes - other.bytes, self.blocks - other.blocks)


def disk_stream(name: str, root: bytes, geometry: Geometry, data: Tally, **more: object) -> Stream:
    """The stream of a disk in a root; ``more``: further parameters."""
    parameters = {"size": geometry.size, "grid_exponent": geometry.grid_exponent, **more}
    return Stream(
        name=name,
        kind="disk-map",
        page_root=root,
        logical_bytes=data.bytes,
        entries=data.blocks,
        parameters=parameters,
    )


def open_disk_map(stream: Stream, fetch: Fetch) -> DiskMap:
    """The map of a stream. IntegrityError (ManifestDamaged) when the stream is none."""
    size = stream.parameters.get("size")
    exponent = stream.parameters.get("grid_exponent")
    whole = stream.kind == "disk-map" and len(stream.page_root) == len(NO_ID)
    if not whole or not isinstance(size, int) or not isinstance(exponent, int):
        raise IntegrityError(f"stream {stream.name} is no disk", code="ManifestDamaged")
    try:
        geometry = geometry_of(size, exponent)
    except UsageError as error:
        raise IntegrityError(f"stream {stream.name} is no disk", code="ManifestDamaged") from error
    return DiskMap(fetch, stream.page_root, geometry)
