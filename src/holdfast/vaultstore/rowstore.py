"""Where index rows lie in memory: one array by ordinal, plain or a mapped file.

The file cache belongs to one node and is never truth: ``rows`` holds the rows, ``tables`` one line
per table that is whole in it (id, base, count, checksum of its rows). A line is written after its
rows, and a table whose rows do not match its checksum is built again from the sealed table, so a
crash or a disk that lost a page costs time only. Rows that a long run points to were made durable
before the run was named, and are not read again when the vault is opened.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from holdfast.errors import StoreFullError
from holdfast.vaultstore.run_files import RunFiles
from holdfast.vaultstore.table import ROW, Rows, empty_rows

_FIRST_CAPACITY = 4096


class RowStore:
    """Rows in plain memory."""

    runs: RunFiles | None = None  # where long runs over these rows are kept

    def __init__(self) -> None:
        self._array = empty_rows(0)

    def sync(self) -> None:
        """Make the rows durable. OSError."""

    def all(self) -> Rows:
        """The whole array, indexed by ordinal; unused places are zero."""
        return self._array

    def put(self, base: int, rows: Rows) -> None:
        if base + len(rows) > len(self._array):
            self._grow(base + len(rows))
        self._array[base : base + len(rows)] = rows

    def view(self, base: int, count: int) -> Rows:
        return self._array[base : base + count]

    def take(self, ordinals: npt.NDArray[np.int64]) -> Rows:
        return self._array[ordinals]

    def has_table(self, table_id: bytes, base: int, count: int) -> bool:
        """Whether the rows of this table are already here, from an earlier process."""
        return False

    def is_sound(self, table_id: bytes, base: int, count: int) -> bool:
        """Whether the rows are still those that were put here for this table."""
        return base + count <= len(self._array)

    def note_table(self, table_id: bytes, base: int, count: int) -> None:
        """Remember that the table's rows are whole."""

    def _grow(self, needed: int) -> None:
        larger = empty_rows(max(needed, 2 * len(self._array), _FIRST_CAPACITY))
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
        self.runs = RunFiles(folder / "runs")
        self._mapped: mmap.mmap | None = None
        self._known = self._read_journal()
        self._map(self._path.stat().st_size // ROW.itemsize)

    def has_table(self, table_id: bytes, base: int, count: int) -> bool:
        noted = self._known.get(table_id)
        if noted is None or base + count > len(self._array):
            return False
        return noted == (base, count, self._checksum(base, count))

    def is_sound(self, table_id: bytes, base: int, count: int) -> bool:
        return self.has_table(table_id, base, count)

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

    def sync(self) -> None:
        if self._mapped is not None:
            self._mapped.flush()

    def _map(self, capacity: int) -> None:
        if capacity == 0:
            return
        with self._path.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), capacity * ROW.itemsize)
        self._array = np.frombuffer(self._mapped, ROW)

    def _grow(self, needed: int) -> None:
        """A file grows by an eighth. Room is taken before it is mapped: a full disk is an error
        here, not a signal later."""
        capacity = max(needed, len(self._array) * 9 // 8, _FIRST_CAPACITY)
        try:
            with self._path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, capacity * ROW.itemsize)
        except OSError as error:
            raise StoreFullError(
                f"there is no room for the index of a vault in {self._path.parent}: "
                f"{error.strerror}",
                code="IndexCacheFull",
                hint="free space in the server's data folder; nothing committed was lost",
            ) from error
        self._map(capacity)


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
