"""Which blocks a file lies in, as its file system tells (FIEMAP), and where two files differ.

Two files that share a block cannot differ in it: whoever writes to either is given another block
first. So a copy is brought up to date by looking where the maps differ, whatever the image's format
and whoever wrote. Dirty pages are written out before a map is told (FIEMAP_FLAG_SYNC): until then
it would show the block that is still shared.
"""

from __future__ import annotations

import fcntl
import struct

import numpy as np
from numpy.typing import NDArray

FIEMAP = 0xC020660B
SYNC, BATCH = 1, 8192
HEAD = struct.Struct("=QQIIII")
EXTENT = np.dtype(
    [
        ("at", "<u8"),
        ("block", "<u8"),
        ("length", "<u8"),
        ("spare", "<u8", 2),
        ("flags", "<u4"),
        ("more", "<u4", 3),
    ]
)
LAST, ENCODED, UNWRITTEN = 0x1, 0x8, 0x800
UNSTABLE = 0x2 | 0x4 | 0x80 | 0x100 | 0x200 | 0x400  # unknown, not yet placed, inside metadata
Map = NDArray[np.void]
Range = tuple[int, int]  # offset and length in bytes


def read_map(fd: int, size: int) -> Map:
    """All blocks that hold data of a file of ``size`` bytes; neighbours are joined. OSError, as
    where the file system tells no map."""
    buffer, at, found = bytearray(HEAD.size + BATCH * EXTENT.itemsize), 0, []
    while at < size:
        HEAD.pack_into(buffer, 0, at, size - at, SYNC, 0, BATCH, 0)
        fcntl.ioctl(fd, FIEMAP, buffer)
        count = HEAD.unpack_from(buffer)[3]
        if not count:
            break
        part = np.frombuffer(bytes(buffer), EXTENT, count, HEAD.size)
        found.append(part)
        if int(part["flags"][-1]) & LAST:
            break
        at = int(part["at"][-1] + part["length"][-1])
    every = np.concatenate(found) if found else np.zeros(0, EXTENT)
    return _joined(every[(every["flags"] & UNWRITTEN) == 0])


def _joined(extents: Map) -> Map:
    """File systems cut the same run of blocks differently."""
    if not len(extents):
        return extents
    kind = extents["flags"] & (UNSTABLE | ENCODED)
    ends, blocks = extents["at"] + extents["length"], extents["block"] + extents["length"]
    begins = np.ones(len(extents), bool)
    begins[1:] = (
        (ends[:-1] != extents["at"][1:])
        | (blocks[:-1] != extents["block"][1:])
        | (kind[:-1] != 0)
        | (kind[1:] != 0)
    )
    starts = np.flatnonzero(begins)
    joined = extents[starts].copy()
    joined["length"] = np.add.reduceat(extents["length"], starts)
    joined["flags"] = kind[starts]
    return joined


def differing(here: Map, there: Map, size: int) -> list[Range]:
    """Where ``here`` does not share its blocks with ``there``, within ``size`` bytes; sorted, and
    no two overlap."""
    fresh = here[~_in(here, there) | ((here["flags"] & UNSTABLE) != 0)]
    gone = there[~_in(there, here)]
    return _united(np.concatenate([fresh[["at", "length"]], gone[["at", "length"]]]), size)


def _in(extents: Map, others: Map) -> NDArray[np.bool_]:
    """Which of them the others have too: same place, same block, same length."""
    if not len(others):
        return np.zeros(len(extents), bool)
    near = np.minimum(np.searchsorted(others["at"], extents["at"]), len(others) - 1)
    same = np.ones(len(extents), bool)
    for key in ("at", "block", "length"):
        same &= others[key][near] == extents[key]
    return same


def _united(parts: Map, size: int) -> list[Range]:
    found: list[Range] = []
    for at, length in sorted((int(one["at"]), int(one["length"])) for one in parts):
        end = min(at + length, size)
        if at >= end:
            continue
        if found and at <= (before := sum(found[-1])):
            found[-1] = (found[-1][0], max(before, end) - found[-1][0])
        else:
            found.append((at, end - at))
    return found
