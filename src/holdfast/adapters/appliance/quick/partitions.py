"""Where the volumes of a disk lie: GPT and MBR tables, numbered as Linux numbers them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

SECTOR = 512
EXTENDED = (0x05, 0x0F, 0x85)
PROTECTIVE = 0xEE
MOST_ENTRIES, MOST_LOGICAL = 256, 60
_ENTRY = struct.Struct("<B3xB3xII")  # flag, kind, first sector, sectors
_HEADER = struct.Struct("<8s64xQII")  # signature, where entries are, how many, bytes of each

Read = Callable[[int, int], bytes]  # offset, length


class OddTableError(Exception):
    """A table that this does not read for certain."""


@dataclass(frozen=True, slots=True)
class Span:
    """``number`` of the partition, 0 of a whole disk; ``offset`` and ``size`` in bytes."""

    number: int
    offset: int
    size: int


def find_partitions(read: Read, size: int) -> list[Span]:
    """Of a disk of that size, by number; the whole disk when it has no table. OddTableError."""
    head = read(0, 2 * SECTOR)
    if len(head) < 2 * SECTOR:
        return [Span(0, 0, size)]
    if head[SECTOR : SECTOR + 8] == b"EFI PART":
        found = _gpt(read, head[SECTOR:])
    elif head[510:512] == b"\x55\xaa":
        found = _mbr(read, head)
    else:
        found = []
    for one in found:
        if one.offset <= 0 or one.size <= 0 or one.offset + one.size > size:
            raise OddTableError(f"partition {one.number} does not lie on the disk")
    return sorted(found, key=lambda one: one.number) or [Span(0, 0, size)]


def _gpt(read: Read, header: bytes) -> list[Span]:
    _, at, count, width = _HEADER.unpack_from(header)
    if not 128 <= width <= 4096 or not 0 < count <= MOST_ENTRIES:
        raise OddTableError("an odd GUID partition table")
    table = read(at * SECTOR, count * width)
    if len(table) < count * width:
        raise OddTableError("a GUID partition table that is cut off")
    found = []
    for number in range(count):
        entry = table[number * width : (number + 1) * width]
        if any(entry[:16]):
            first, last = struct.unpack_from("<QQ", entry, 32)
            found.append(Span(number + 1, first * SECTOR, (last - first + 1) * SECTOR))
    return found


def _mbr(read: Read, sector: bytes) -> list[Span]:
    entries = _entries(sector)
    if any(flag not in (0, 0x80) for flag, *_ in entries):
        return []  # code of a boot sector, not a table
    if any(kind == PROTECTIVE for _, kind, _, _ in entries):
        raise OddTableError("a GUID partition table without its header")
    found = []
    for number, (_, kind, first, count) in enumerate(entries, 1):
        if kind in EXTENDED:
            found += _logical(read, first)
        elif kind and count:
            found.append(Span(number, first * SECTOR, count * SECTOR))
    return found


def _logical(read: Read, base: int) -> list[Span]:
    """The chain of tables in an extended partition; its volumes count from 5."""
    found: list[Span] = []
    at = base
    while at:
        sector = read(at * SECTOR, SECTOR)
        if sector[510:512] != b"\x55\xaa" or len(found) >= MOST_LOGICAL:
            raise OddTableError("an odd chain of logical partitions")
        own, following, *_ = _entries(sector)
        if own[1] and own[3]:
            found.append(Span(5 + len(found), (at + own[2]) * SECTOR, own[3] * SECTOR))
        at = base + following[2] if following[1] in EXTENDED and following[3] else 0
    return found


def _entries(sector: bytes) -> list[tuple[int, int, int, int]]:
    return [_ENTRY.unpack_from(sector, 446 + 16 * number) for number in range(4)]
