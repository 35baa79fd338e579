"""Which ext file systems The Sleuth Kit reads as the kernel does: it replays no journal, and does
not know every way to store content."""

from __future__ import annotations

import struct

BEGIN, LENGTH = 1024, 1024
MAGIC = b"\x53\xef"
VALID, ERRORS = 1, 2
# Known to it: types in folders, extents, 64-bit block numbers, flexible groups, the seed of sums.
READ = 0x2 | 0x40 | 0x80 | 0x200 | 0x2000
# And of what a reader need not know, all but clusters (0x200) and what came later.
SEEN = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x400 | 0x2000
NEEDS_RECOVERY = 0x4


def unsure(block: bytes) -> str:
    """Why a file system with this super block (1024 bytes) is left to others; "" when it is not."""
    if len(block) < LENGTH or block[56:58] != MAGIC:
        return "it has no super block"
    (state,) = struct.unpack_from("<H", block, 58)
    reading, writing = struct.unpack_from("<II", block, 96)
    if reading & NEEDS_RECOVERY:
        return "its journal is to be replayed"
    if not state & VALID or state & ERRORS:
        return "it was not left clean"
    if reading & ~READ or writing & ~SEEN:
        return "it has features beyond the common ones"
    return ""
