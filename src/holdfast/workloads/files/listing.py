"""What a scan says of one directory: plain values that pass between processes and into the cache.

A row holds what ``lstat`` says of one entry, 60 bytes, little-endian: inode, device, size, mtime
[ns], ctime [ns], mode, uid, gid, links. Equal rows mean an unchanged entry. In a volume snapshot
the device is left out (0), as every snapshot of a volume has another.
"""

from __future__ import annotations

import struct

import msgspec

ROW = struct.Struct("<QQQqqIIIQ")
ROW_BYTES = ROW.size
RowTuple = tuple[int, int, int, int, int, int, int, int, int]
INODE, DEVICE, SIZE, MTIME, CTIME, MODE, UID, GID, LINKS = range(9)
FindingTuple = tuple[str, bytes, str]


class Listing(msgspec.Struct, array_like=True, gc=False):
    """A scanned directory: ``path`` without leading slash, ``names`` sorted and joined by NUL, a
    row for each. ``racy``: numbers of entries that changed so shortly before the scan that a
    second change might not show. ``devices``: number of an entry -> its device number, of device
    nodes. ``owners`` and ``groups``: ids not met in an earlier listing. ``device``: of the
    directory itself; -1 above the includes. ``logical_bytes``: of its regular files."""

    path: bytes
    names: bytes
    rows: bytes
    logical_bytes: int
    device: int
    racy: list[int]
    devices: dict[int, int]
    owners: list[int]
    groups: list[int]

    @property
    def count(self) -> int:
        """Entries."""
        return len(self.rows) // ROW_BYTES

    def name_list(self) -> list[bytes]:
        return self.names.split(b"\0") if self.rows else []


class Batch(msgspec.Struct, array_like=True, gc=False):
    """Listings in tree order, and what could not be read: (code, path, message)."""

    listings: list[Listing]
    findings: list[FindingTuple]


def within_range(time_ns: int) -> int:
    """The time [ns] nearest to ``time_ns`` that 64 bits hold: years 1677 to 2262."""
    return max(-(1 << 63), min(time_ns, (1 << 63) - 1))


def tree_order(path: bytes) -> bytes:
    """A key by which directories sort as a scan meets them."""
    return path.replace(b"/", b"\0")
