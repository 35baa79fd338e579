"""A Merkle tree over the log's records that grows by one leaf at a time.

Leaves are the hashes of records in order; pairs are hashed, an odd last one is carried up. Of the
tree only its peaks are kept: the roots of its full subtrees, largest first, one for each bit of the
number of leaves.
"""

from __future__ import annotations

from functools import reduce

from blake3 import blake3

Peaks = tuple[bytes, ...]


def with_leaf(peaks: Peaks, count: int, leaf: bytes) -> Peaks:
    """The peaks after leaf number ``count`` (from 1). Hashes of 32 bytes."""
    found = [*peaks, leaf]
    while count % 2 == 0:
        right, left = found.pop(), found.pop()
        found.append(_pair(left, right))
        count //= 2
    return tuple(found)


def root_of(peaks: Peaks) -> bytes:
    """The root of the tree; 32 zero bytes for none."""
    if not peaks:
        return bytes(32)
    return reduce(lambda right, left: _pair(left, right), reversed(peaks))


def _pair(left: bytes, right: bytes) -> bytes:
    return blake3(left + right).digest()
