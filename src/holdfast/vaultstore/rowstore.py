"""Where index rows lie in memory: one array by ordinal, plain or a mapped file.

The file cache belongs to one node and is never truth: ``rows`` holds the rows, ``tables`` one line
per table that is whole in it (id, base, count, checksum of its rows). A line is written after its
rows, and a table whose rows do not match its checksum is built again from the sealed table, so a
crash or a disk that lost a page costs time only.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from holdfast.vaultstore.table import ROW, Rows, empty_rows

_FIRST_CAPACITY = 4096


class RowStore:
    """Rows in plain memory."""

    def __init__(self) -> None:
        self._array = empty_rows(0)

    def all(self) -> Rows:
        """The whole array, indexed by ordinal; unused places are zero."""
        return self._array

    def put(self, base: int, rows: Rows) -> None:
        if base + len(rows) > len(self._array):
            self._grow(max(base + len(rows), 2 * len(self._array), _FIRST_CAPACITY))
        self._array[base : base + len(rows)] = rows

    def view(self, base: int, count: int) -> Rows:
        return self._array[base : base + count]

    def take(self, ordinals: npt.NDArray[np.int64]) -> Rows:
        return self._array[ordinals]

    def has_table(self, table_id: bytes, base: int, count: int) -> bool:
        """Whether the rows of this table are already here, from an earlier process."""
        return False

    def note_table(self, table_id: bytes, base: int, count: int) -> None:
        """Remember that the table's rows are whole."""

    def _grow(self, capacity: int) -> None:
        larger = empty_rows(capacity)
        larger[: len(self._array)] = self._array
        self._array = larger


class MappedRowStore(RowStore):
    """Rows in a file under ``folder``, mapped. The file never shrinks: an older mapping of it may
    still be in use."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "rows"
        self._journal = folder / "tables"
        self._path.touch()
        self._known = self._read_journal()
        self._map(self._path.stat().st_size // ROW.itemsize)

    def has_table(self, table_id: bytes, base: int, count: int) -> bool:
        noted = self._known.get(table_id)
        if noted is None or base + count > len(self._array):
            return False
        return noted == (base, count, self._checksum(base, count))

    def note_table(self, table_id: bytes, base: int, count: int) -> None:
        checksum = self._checksum(base, count)
        self._known[table_id] = (base, count, checksum)
        with self._journal.open("a", encoding="ascii") as journal:
            journal.write(f"{table_id.hex()} {base} {count} {checksum}\n")

    def _checksum(self, base: int, count: int) -> str:
        return blake3(self._array[base : base + count].tobytes()).hexdigest(16)

    def _read_journal(self) -> dict[bytes, tuple[int, int, str]]:
        known: dict[bytes, tuple[int, int, str]] = {}
        if not self._journal.exists():
            return known
        for line in self._journal.read_text(encoding="ascii", errors="replace").splitlines():
            parts = line.split(" ")
            if len(parts) == 4 and parts[1].isdigit() and parts[2].isdigit():
                known[_from_hex(parts[0])] = (int(parts[1]), int(parts[2]), parts[3])
        return known

    def _map(self, capacity: int) -> None:
        if capacity == 0:
            self._array = empty_rows(0)
            return
        with self._path.open("r+b") as file:
            if self._path.stat().st_size < capacity * ROW.itemsize:
                file.truncate(capacity * ROW.itemsize)
            mapped = mmap.mmap(file.fileno(), capacity * ROW.itemsize)
        self._array = np.frombuffer(mapped, ROW)

    def _grow(self, capacity: int) -> None:
        self._map(capacity)


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
