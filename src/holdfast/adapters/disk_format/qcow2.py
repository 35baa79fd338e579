"""QCOW2 images written block by block, as QEMU's docs/interop/qcow2.rst describes version 3.

``qemu-img`` can only copy from a server of ours, which costs a socket and a second copy of every
byte; this takes what a restore has in hand. The layout is fixed from the start: header, first
level table, room for all second level tables (unused ones stay holes), data clusters in the order
they are first written, and the reference counts last. Tables lie in memory a few at a time.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from holdfast.adapters.disk_format.partial import failed
from holdfast.adapters.disk_format.raw import RawFile

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
ENTRIES = CLUSTER // 8  # of a second level table: each maps 512 MiB
COUNTS = CLUSTER // 2  # reference counts of 16 bits in a block
TABLES_KEPT = 64
COPIED = 1 << 63  # of an entry: its cluster has one reference
_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")
_MAGIC, _VERSION, _COUNT_ORDER = b"QFI\xfb", 3, 4

Table = npt.NDArray[np.uint64]


class Qcow2File:
    """A ``BlockTarget`` over an empty open file, a disk of ``size`` bytes (a multiple of 512).
    ``path`` names it in errors. It is an image after ``flush``; writing may go on then."""

    def __init__(self, fd: int, size: int, path: Path) -> None:
        self._fd, self._size, self._path = fd, size, path
        self._linked = np.zeros(-(-size // (CLUSTER * ENTRIES)), bool)
        self._first_table = CLUSTER * (1 + max(1, _clusters(8 * len(self._linked))))
        self._end = self._first_table + CLUSTER * len(self._linked)
        self._file = RawFile(fd, self._end, path)
        self._tables: OrderedDict[int, Table] = OrderedDict()
        self._lock = threading.Lock()
        self._has_counts = False

    @property
    def size(self) -> int:
        return self._size

    def write(self, offset: int, view: memoryview) -> None:
        data = view.cast("B")
        with self._lock:
            runs = self._runs(offset, len(data))
        for at, place, length in runs:
            self._file.write(place, data[at : at + length])

    def write_zeroes(self, offset: int, length: int) -> None:
        """What was never written reads as zeros already."""
        with self._lock:
            runs = list(self._written(offset, offset + length))
        for place, part in runs:
            self._file.write_zeroes(place, part)

    def flush(self) -> None:
        with self._lock:
            for index, table in self._tables.items():
                self._store(index, table)
            tables = self._first_table + CLUSTER * np.arange(len(self._linked), dtype=np.uint64)
            first = np.where(self._linked, tables | np.uint64(COPIED), 0).astype(">u8")
            self._put(CLUSTER, first.tobytes())
            self._put(0, self._header(*self._count()))
            self._has_counts = True
        self._file.flush()

    # where the disk's bytes lie

    def _runs(self, offset: int, length: int) -> list[tuple[int, int, int]]:
        """(offset in the bytes given, place in the file, length), with room made for all."""
        runs: list[tuple[int, int, int]] = []
        at = 0
        while at < length:
            cluster, inside = divmod(offset + at, CLUSTER)
            part = min(CLUSTER - inside, length - at)
            place = self._room(cluster) + inside
            if runs and runs[-1][1] + runs[-1][2] == place:
                begin, start, before = runs.pop()
                runs.append((begin, start, before + part))
            else:
                runs.append((at, place, part))
            at += part
        return runs

    def _room(self, cluster: int) -> int:
        """The place of a cluster of the disk in the file; a fresh one reads as zeros."""
        index, slot = divmod(cluster, ENTRIES)
        table = self._table(index)
        entry = int(table[slot])
        if entry:
            return entry ^ COPIED
        if self._has_counts:  # they lie where the cluster comes, and are written again at the end
            self._cut()
        place = self._end
        self._end += CLUSTER
        table[slot] = place | COPIED
        self._linked[index] = True
        return place

    def _written(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """(place in the file, length) of what was written of a range."""
        while start < end:
            index = start // (CLUSTER * ENTRIES)
            stop = min(end, (index + 1) * CLUSTER * ENTRIES)
            if self._linked[index]:
                low = start // CLUSTER
                part = self._table(index)[low % ENTRIES :][: -(-stop // CLUSTER) - low]
                for found in np.flatnonzero(part).tolist():
                    begin = max(start, (low + found) * CLUSTER)
                    until = min(stop, (low + found + 1) * CLUSTER)
                    yield (int(part[found]) ^ COPIED) + begin % CLUSTER, until - begin
            start = stop

    # tables

    def _table(self, index: int) -> Table:
        found = self._tables.get(index)
        if found is None:
            found = self._load(index) if self._linked[index] else np.zeros(ENTRIES, np.uint64)
            self._tables[index] = found
            if len(self._tables) > TABLES_KEPT:
                self._store(*self._tables.popitem(last=False))
        self._tables.move_to_end(index)
        return found

    def _load(self, index: int) -> Table:
        try:
            data = os.pread(self._fd, CLUSTER, self._first_table + CLUSTER * index)
        except OSError as error:
            raise failed(self._path, error) from error
        return np.frombuffer(data, ">u8").astype(np.uint64)

    def _store(self, index: int, table: Table) -> None:
        if self._linked[index]:
            self._put(self._first_table + CLUSTER * index, table.astype(">u8").tobytes())

    def _count(self) -> tuple[int, int]:
        """Write the reference counts; (where their table is, its clusters)."""
        used = blocks = self._end // CLUSTER
        total, entries = used + 1, 0
        while total != used + blocks + entries:  # they count themselves too
            total = used + blocks + entries
            blocks = -(-total // COUNTS)
            entries = _clusters(8 * blocks)
        unused = self._first_table // CLUSTER + np.flatnonzero(~self._linked)
        place = self._end + CLUSTER * entries
        listed = place + CLUSTER * np.arange(CLUSTER * entries // 8, dtype=np.uint64)
        listed[blocks:] = 0
        self._put(self._end, listed.astype(">u8").tobytes())
        for block in range(blocks):
            counts: npt.NDArray[Any] = np.ones(COUNTS, ">u2")
            counts[max(0, total - block * COUNTS) :] = 0
            here = unused - block * COUNTS
            counts[here[(here >= 0) & (here < COUNTS)]] = 0
            self._put(place + CLUSTER * block, counts.tobytes())
        return self._end, entries

    def _header(self, counts: int, count_clusters: int) -> bytes:
        return _HEADER.pack(
            *(_MAGIC, _VERSION, 0, 0, CLUSTER_BITS, self._size, 0),
            *(len(self._linked), CLUSTER, counts, count_clusters, 0, 0),
            *(0, 0, 0, _COUNT_ORDER, _HEADER.size),
        )

    def _put(self, offset: int, data: bytes) -> None:
        self._file.write(offset, memoryview(data))

    def _cut(self) -> None:
        try:
            os.ftruncate(self._fd, self._end)
        except OSError as error:
            raise failed(self._path, error) from error
        self._has_counts = False


def _clusters(size: int) -> int:
    return -(-size // CLUSTER)
