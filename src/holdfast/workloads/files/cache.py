"""What the agent remembers of the last committed recovery point, to know what did not change.

A file of records in tree order, read as a stream beside the scan: per directory one row of
``lstat`` figures for each entry (``listing``), and the encoded segments. An entry is unchanged when
its row is equal. Rows of entries changed within two seconds before the scan began are blanked, as
the clock of the file system may be too coarse to show a second change (the racy-clean rule).

The file counts only for the recovery point it names; a damaged record ends it, and what follows is
read anew. It is written aside and put in place after the commit.

    record: u32 length of the rest · u32 crc · u32 path · path · u32 names · names, NUL between ·
            u32 rows · rows (60 B) · u32 segments · u32 length of each · segments
    end:    record of length 0

A second file, ``.head``, names the recovery point: magic · u32 length · msgpack CacheHead · crc.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from holdfast.workloads.files.listing import ROW_BYTES, Listing, tree_order

MAGIC = b"HFCACHE1"
BLANK = b"\xff" * ROW_BYTES
_U32 = struct.Struct("<I")
_LEAD = struct.Struct("<II")
MAX_RECORD = 1 << 30


class CacheHead(msgspec.Struct, frozen=True, kw_only=True):
    """The recovery point the records describe, and the ids of all its pages (32 B each)."""

    rp_id: str
    pages: bytes


@dataclass(slots=True)
class Remembered:
    """A directory of the cache; ``names`` joined by NUL."""

    path: bytes
    names: bytes
    rows: bytes
    segments: list[bytes]

    @property
    def key(self) -> bytes:
        return tree_order(self.path)


class CacheWriter:
    """Writes the next cache beside the current one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._staged = path.with_name(path.name + ".new")
        self._body = self._staged.open("wb", buffering=1 << 20)

    def add(self, listing: Listing, segments: Sequence[bytes], unsure: Sequence[int] = ()) -> None:
        """A directory. ``unsure``: numbers of entries to read again next time in any case."""
        rows = listing.rows
        if listing.racy or unsure:
            changed = bytearray(rows)
            for number in (*listing.racy, *unsure):
                changed[number * ROW_BYTES : (number + 1) * ROW_BYTES] = BLANK
            rows = bytes(changed)
        path, names = listing.path, listing.names
        body = b"".join(
            (
                _U32.pack(len(path)),
                path,
                _U32.pack(len(names)),
                names,
                _U32.pack(listing.count),
                rows,
                _U32.pack(len(segments)),
                *(_U32.pack(len(segment)) for segment in segments),
                *segments,
            )
        )
        self._body.write(_LEAD.pack(len(body), zlib.crc32(body)) + body)

    def finish(self) -> None:
        """Make the records durable, before the commit: a full disk must be met while the backup
        can still be tried again."""
        self._body.write(_LEAD.pack(0, 0))
        self._body.flush()
        os.fsync(self._body.fileno())
        self._body.close()

    def publish(self, head: CacheHead) -> None:
        """Put the finished cache in place, for the point that was just committed."""
        encoded = msgspec.msgpack.encode(head)
        lead = MAGIC + _U32.pack(len(encoded)) + encoded + _U32.pack(zlib.crc32(encoded))
        head_path = self._path.with_name(self._path.name + ".head")
        with contextlib.suppress(FileNotFoundError):
            head_path.unlink()  # no head: no cache, until the new pair is whole
        self._staged.replace(self._path)
        staged = head_path.with_name(head_path.name + ".new")
        with staged.open("wb") as out:
            out.write(lead)
            out.flush()
            os.fsync(out.fileno())
        staged.replace(head_path)

    def abort(self) -> None:
        """Forget what was written; the current cache stays."""
        with contextlib.suppress(OSError):
            self._body.close()
        with contextlib.suppress(OSError):
            self._staged.unlink()


class CacheReader:
    """Streams the cache of recovery point ``rp_id``; empty when there is none or it is damaged."""

    def __init__(self, path: Path, rp_id: str | None) -> None:
        self._file: BinaryIO | None = None
        self.pages: set[bytes] = set()
        head = _head_of(path)
        if rp_id is not None and head is not None and head.rp_id == rp_id:
            self.pages = {head.pages[at : at + 32] for at in range(0, len(head.pages), 32)}
            with contextlib.suppress(OSError):
                self._file = path.open("rb", buffering=1 << 20)
        self._records = self._read()
        self._ahead = next(self._records, None)

    @property
    def usable(self) -> bool:
        return self._ahead is not None

    def take(self, key: bytes) -> Remembered | None:
        """The record of the directory with sort key ``key``. Keys must be asked in tree order."""
        while self._ahead is not None and self._ahead.key < key:
            self._ahead = next(self._records, None)
        if self._ahead is not None and self._ahead.key == key:
            found, self._ahead = self._ahead, next(self._records, None)
            return found
        return None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self) -> Iterator[Remembered]:
        if self._file is None:
            return
        while True:
            lead = self._file.read(_LEAD.size)
            if len(lead) < _LEAD.size:
                return
            length, crc = _LEAD.unpack(lead)
            if not 0 < length <= MAX_RECORD:
                return
            body = self._file.read(length)
            if len(body) != length or zlib.crc32(body) != crc:
                return
            yield _decode(body)


def _decode(body: bytes) -> Remembered:
    (length,) = _U32.unpack_from(body)
    at = 4 + length
    path = body[4:at]
    (length,) = _U32.unpack_from(body, at)
    names = body[at + 4 : at + 4 + length]
    at += 4 + length
    (count,) = _U32.unpack_from(body, at)
    rows = body[at + 4 : at + 4 + count * ROW_BYTES]
    at += 4 + count * ROW_BYTES
    (number,) = _U32.unpack_from(body, at)
    lengths = struct.unpack_from(f"<{number}I", body, at + 4)
    at += 4 + 4 * number
    segments = []
    for size in lengths:
        segments.append(body[at : at + size])
        at += size
    return Remembered(path, names, rows, segments)


def _head_of(path: Path) -> CacheHead | None:
    """The recovery point the cache at ``path`` is of, or None."""
    try:
        data = path.with_name(path.name + ".head").read_bytes()
        (length,) = _U32.unpack_from(data, len(MAGIC))
        encoded = data[len(MAGIC) + 4 : len(MAGIC) + 4 + length]
        (crc,) = _U32.unpack_from(data, len(MAGIC) + 4 + length)
        if data[: len(MAGIC)] != MAGIC or zlib.crc32(encoded) != crc:
            return None
        return msgspec.msgpack.decode(encoded, type=CacheHead)
    except (OSError, struct.error, msgspec.MsgspecError):
        return None
