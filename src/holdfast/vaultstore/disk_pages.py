"""Pages of a disk's map: leaves of blocks, and map pages over them, in a fixed geometry.

    leaf   'D' · u8 version · u8 grid exponent · u8 zero · u64 first block · u32 blocks · a state
           per block (u8) · ids (32 B) of its data blocks in order
    map    'M' · u8 version · u8 level · u8 zero · u32 children · per child u8 state, id (32 B)

An unchanged region has the same page in every recovery point. Pages are chunks of kind DISK_PAGE.
What an agent sent is read here too, so everything is checked before it is believed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from holdfast.errors import IntegrityError, UsageError
from holdfast.ports.object_store import Buffer

VERSION = 1
LEAF_BLOCKS = 1024
FANOUT = 256
GRID_EXPONENT, SMALL_GRID_EXPONENT = 20, 16  # 1 MiB; 64 KiB, a dirty bitmap's bit, for guests
LEAST_EXPONENT, MOST_EXPONENT = 12, 23  # a block is one chunk: at most 8 MiB
MAX_LEVEL = 6
MAX_DISK_BYTES = 1 << 62
_LEAF = struct.Struct("<cBBBQI")
_MAP = struct.Struct("<cBBBI")
_CHILD = np.dtype([("state", "u1"), ("id", "u1", (32,))])
NO_ID = bytes(32)

Ids = npt.NDArray[np.uint8]
States = npt.NDArray[np.uint8]


class BlockState(IntEnum):
    """What a block is. UNALLOCATED: the source said it holds nothing; ZERO: it was read as zeros;
    both read as zeros."""

    UNALLOCATED = 0
    ZERO = 1
    DATA = 2


class Geometry(NamedTuple):
    """How a disk of ``size`` bytes lies on its grid."""

    size: int
    grid_exponent: int

    @property
    def block_bytes(self) -> int:
        return 1 << self.grid_exponent

    @property
    def blocks(self) -> int:
        return -(-self.size >> self.grid_exponent) if self.size else 0

    @property
    def leaves(self) -> int:
        """Leaf pages; an empty disk has one."""
        return max(1, -(-self.blocks // LEAF_BLOCKS))

    @property
    def level(self) -> int:
        """The level of the root page: the lowest that spans the disk; 0 is a leaf."""
        level, spanned = 0, 1
        while spanned < self.leaves:
            level, spanned = level + 1, spanned * FANOUT
        return level

    def block_length(self, block: int) -> int:
        """Bytes of a block: the last one may be short."""
        return min(self.block_bytes, self.size - (block << self.grid_exponent))

    def leaf_blocks(self, leaf: int) -> int:
        """Blocks of a leaf: the last one may be short."""
        return min(LEAF_BLOCKS, self.blocks - leaf * LEAF_BLOCKS)

    def children(self, level: int, index: int) -> int:
        """Children of map page ``index`` of ``level`` (from 1)."""
        span: int = FANOUT ** (level - 1)
        below = -(-self.leaves // span)
        return min(FANOUT, below - index * FANOUT)


def geometry_of(size: int, grid_exponent: int) -> Geometry:
    """Checked. UsageError (DiskSizeRefused) for a size or grid out of range."""
    if not 0 <= size <= MAX_DISK_BYTES or not LEAST_EXPONENT <= grid_exponent <= MOST_EXPONENT:
        raise UsageError(
            f"a disk of {size} bytes on a grid of 2^{grid_exponent} bytes cannot be stored",
            code="DiskSizeRefused",
            hint="disks may have up to 4 EiB, grids 4 KiB to 8 MiB",
        )
    return Geometry(size, grid_exponent)


class Leaf(NamedTuple):
    """Up to 1,024 blocks from ``first`` on. ``states``: a BlockState each; ``ids``: n x 32, of the
    data blocks in order."""

    grid_exponent: int
    first: int
    states: States
    ids: Ids

    def ids_by_block(self) -> Ids:
        """blocks x 32; zero where there is no data."""
        spread = np.zeros((len(self.states), 32), np.uint8)
        spread[self.states == BlockState.DATA] = self.ids
        return spread

    def id_of(self, block: int) -> bytes | None:
        """The chunk of a block of the disk, or None when it reads as zeros."""
        place = block - self.first
        if self.states[place] != BlockState.DATA:
            return None
        before = int(np.count_nonzero(self.states[:place] == BlockState.DATA))
        found: bytes = self.ids[before].tobytes()
        return found


def even_leaf(geometry: Geometry, leaf: int, state: BlockState) -> Leaf:
    """A leaf whose blocks are all unallocated, or all zero: those are not stored."""
    states = np.full(geometry.leaf_blocks(leaf), state, np.uint8)
    no_ids = np.empty((0, 32), np.uint8)
    return Leaf(geometry.grid_exponent, leaf * LEAF_BLOCKS, states, no_ids)


def encode_leaf(leaf: Leaf) -> bytes:
    head = _LEAF.pack(b"D", VERSION, leaf.grid_exponent, 0, leaf.first, len(leaf.states))
    return head + leaf.states.tobytes() + leaf.ids.tobytes()


def decode_leaf(page: Buffer) -> Leaf:
    """Inverse of ``encode_leaf``, as copies of its own. IntegrityError (ManifestDamaged)."""
    data = bytes(page)
    if len(data) < _LEAF.size:
        raise damaged()
    magic, version, exponent, spare, first, count = _LEAF.unpack_from(data)
    fits = magic == b"D" and version == VERSION and not spare
    fits = fits and LEAST_EXPONENT <= exponent <= MOST_EXPONENT and count <= LEAF_BLOCKS
    if not fits or first % LEAF_BLOCKS or len(data) < _LEAF.size + count:
        raise damaged()
    states = np.frombuffer(data, np.uint8, count, _LEAF.size)
    rest = len(data) - _LEAF.size - count
    known = not count or int(states.max()) <= BlockState.DATA
    if not known or rest != 32 * int(np.count_nonzero(states == BlockState.DATA)):
        raise damaged()
    ids = np.frombuffer(data, np.uint8, rest, _LEAF.size + count).reshape(-1, 32)
    return Leaf(exponent, first, states, ids)


class Child(NamedTuple):
    """A region as its map page has it: all of one state, or (DATA) a page with this id."""

    state: BlockState
    id: bytes = NO_ID

    @property
    def is_page(self) -> bool:
        return self.state == BlockState.DATA


def encode_map(level: int, children: Sequence[Child]) -> bytes:
    """``level``: 1 for a page over leaves."""
    rows = b"".join(bytes([child.state]) + child.id for child in children)
    return _MAP.pack(b"M", VERSION, level, 0, len(children)) + rows


def decode_map(page: Buffer, level: int | None = None) -> list[Child]:
    """The children of a map page; ``level``: what it must be, None for any. IntegrityError
    (ManifestDamaged)."""
    return [
        Child(BlockState(state), bytes(page_id))
        for state, page_id in _children(page, level).tolist()
    ]


def _children(page: Buffer, level: int | None = None) -> npt.NDArray[np.void]:
    data = bytes(page)
    if len(data) < _MAP.size:
        raise damaged()
    magic, version, own, spare, count = _MAP.unpack_from(data)
    fits = magic == b"M" and version == VERSION and not spare and 1 <= own <= MAX_LEVEL
    fits = fits and level in (None, own) and 1 <= count <= FANOUT
    if not fits or len(data) != _MAP.size + _CHILD.itemsize * count:
        raise damaged()
    rows = np.frombuffer(data, _CHILD, count, _MAP.size)
    pages = rows["state"] == BlockState.DATA
    if bool((rows["state"] > BlockState.DATA).any()) or rows["id"][~pages].any():
        raise damaged()
    return rows


def disk_page_ids(page: Buffer) -> tuple[list[bytes], Ids]:
    """What a page of a disk map refers to: (pages, data chunks as n x 32). IntegrityError
    (ManifestDamaged)."""
    if bytes(page[:1]) == b"D":
        return [], decode_leaf(page).ids
    rows = _children(page)
    pages = rows["id"][rows["state"] == BlockState.DATA]
    return [row.tobytes() for row in pages], np.empty((0, 32), np.uint8)


def damaged() -> IntegrityError:
    return IntegrityError("a page of a disk's map is damaged", code="ManifestDamaged")
