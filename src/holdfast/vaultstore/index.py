"""Finding chunks: rows by ordinal, and ordinals by id, in batches.

Rows lie in one array addressed by ordinal (``RowStore``: memory, or a file of the node's cache that
is mapped). Ids are found through sorted runs of (first 8 bytes of the id, ordinal); a hit counts
only after the whole 32 bytes match. Runs are merged so that there are about log2(rows) of them; a
long one over mapped rows lies in a file too, so memory does not grow with the vault and opening it
reads none of it. Nothing here is truth: all of it is rebuilt from the sealed tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from holdfast.vaultstore.refset import Ordinals, contains
from holdfast.vaultstore.rowstore import RowStore
from holdfast.vaultstore.run_files import RunFiles
from holdfast.vaultstore.runs import (
    EMPTY,
    PIECE_ROWS,
    Places,
    SortedRun,
    TableSpan,
    fences_of,
    merged,
    run_of,
)
from holdfast.vaultstore.table import Bytes2D, Rows

ABSENT = -1
FILE_ROWS = 65_536  # from here on a run over mapped rows is a file
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Usable:
    """Which rows a search may answer: ``packs`` flags by pack number; ``writer`` a container's
    number or None for any; ``proofs`` n x 16 bytes that must match, or None; ``within``: sorted
    ordinals a row must be among, or None; ``without``: sorted ordinals it must not be."""

    packs: Flags
    writer: int | None = None
    proofs: Bytes2D | None = None
    within: Ordinals | None = None
    without: Ordinals | None = None


def prefixes_of(ids: Bytes2D) -> npt.NDArray[np.uint64]:
    """First 8 bytes of n x 32 ids as numbers that sort like the ids."""
    return np.ascontiguousarray(ids[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


class ChunkIndex:
    """All rows of the current table set. Not thread safe; the vault's lock guards it."""

    def __init__(self, rows: RowStore) -> None:
        self._rows = rows
        self._runs: list[SortedRun] = []

    def open_runs(self, live: Mapping[bytes, tuple[int, int]]) -> None:
        """Take what an earlier process left. ``live``: base and rows of each table."""
        if self._rows.runs is not None:
            self._runs = self._rows.runs.open(live, len(self._rows.all()))

    def drop_runs(self) -> None:
        """Forget what earlier processes left."""
        if self._rows.runs is not None:
            self._rows.runs.keep(())

    def is_sound(self) -> bool:
        """Whether every run says of its rows what they say themselves. Reads all of them."""
        return all(self._is_sound(run) for run in list(self._runs))

    def _is_sound(self, run: SortedRun) -> bool:
        table = self._rows.all()
        if not np.array_equal(run.fences, fences_of(run.prefixes)):
            return False
        for start in range(0, len(run), PIECE_ROWS):
            piece = slice(start, start + PIECE_ROWS)
            ordinals, prefixes = run.ordinals[piece], run.prefixes[piece]
            if ordinals.min() < 0 or ordinals.max() >= len(table):
                return False
            if not np.array_equal(prefixes_of(table["id"][ordinals]), prefixes):
                return False
        return bool((run.prefixes[1:] >= run.prefixes[:-1]).all())

    def tables(self) -> set[bytes]:
        """The tables whose rows are found."""
        return set(self.by_base().values())

    def by_base(self) -> dict[int, bytes]:
        """The same, by the ordinal of their first row."""
        return {one.base: one.table_id for run in self._runs for one in run.tables}

    def rename(self, old: bytes, new: bytes) -> None:
        """Another table has taken the place of ``old``: the same ids under the same ordinals."""
        for number, run in enumerate(self._runs):
            if any(one.table_id == old for one in run.tables):
                tables = tuple(
                    replace(one, table_id=new) if one.table_id == old else one for one in run.tables
                )
                self._runs[number] = replace(run, tables=tables)
                if run.name and self._rows.runs is not None:
                    self._keep(self._rows.runs)

    def add(self, base: int, rows: Rows, table_id: bytes = b"") -> None:
        """Add a table's rows (sorted by id; ``pack`` and ``writer`` in the vault's numbers)."""
        self._rows.put(base, rows)
        self.add_stored(base, len(rows), table_id)

    def add_stored(self, base: int, count: int, table_id: bytes = b"") -> None:
        """Add a table whose rows already lie in the row store."""
        prefixes = prefixes_of(self._rows.view(base, count)["id"])
        ordinals = np.arange(base, base + count, dtype=np.int64)
        before = self._file_names()
        newest = run_of(prefixes, ordinals, (TableSpan(table_id, base, count),))
        while self._runs and len(self._runs[-1]) < 2 * len(newest):
            newest = self._merged(self._runs.pop(), newest)
        self._runs.append(newest if newest.name else self._merged(newest, EMPTY))
        if self._rows.runs is not None and self._file_names() != before:
            self._keep(self._rows.runs)

    def _file_names(self) -> list[str]:
        return [run.name for run in self._runs if run.name]

    def _keep(self, files: RunFiles) -> None:
        try:
            self._rows.sync()
        except OSError:  # then the next process reads the tables again
            return
        files.keep(self._runs)

    def _merged(self, older: SortedRun, newer: SortedRun) -> SortedRun:
        """Both in one: in a file if that is possible and worth it."""
        files = self._rows.runs
        if files is not None and len(older) + len(newer) >= FILE_ROWS:
            made = files.merge(older, newer)
            if made is not None:
                return made
        return merged(older, newer) if len(newer) else older

    def rows(self, ordinals: Places) -> Rows:
        """The rows of these ordinals, as a copy."""
        return self._rows.take(ordinals)

    def view(self, base: int, count: int) -> Rows:
        """The rows of one table, not copied."""
        return self._rows.view(base, count)

    def find(self, ids: Bytes2D, usable: Usable) -> Places:
        """The lowest usable ordinal of each of n x 32 ids, or ABSENT."""
        found = np.full(len(ids), ABSENT, np.int64)
        if not len(ids):
            return found
        wanted = prefixes_of(ids)
        order = np.argsort(wanted, kind="stable")
        for run in self._runs:
            self._find_in(run, _Query(ids, wanted[order], order, usable), found)
        return found

    def _find_in(self, run: SortedRun, query: _Query, found: Places) -> None:
        starts = run.first(query.prefixes)
        asked = query.order
        prefixes = query.prefixes
        while len(asked):
            inside = starts < len(run.prefixes)
            inside[inside] = run.prefixes[starts[inside]] == prefixes[inside]
            starts, asked, prefixes = starts[inside], asked[inside], prefixes[inside]
            ordinals = run.ordinals[starts]
            good = self._matches(ordinals, asked, query)
            hits, places = asked[good], ordinals[good]
            better = (found[hits] == ABSENT) | (places < found[hits])
            found[hits[better]] = places[better]
            starts = starts + 1

    def _matches(self, ordinals: Places, asked: npt.NDArray[np.intp], query: _Query) -> Flags:
        table = self._rows.all()
        there = (ordinals >= 0) & (ordinals < len(table))  # a damaged run is no run
        ordinals = np.where(there, ordinals, 0)
        good = there & (_words(table["id"][ordinals]) == _words(query.ids[asked])).all(axis=1)
        good &= query.usable.packs[table["pack"][ordinals]]
        if query.usable.writer is not None:
            good &= table["writer"][ordinals] == query.usable.writer
        if query.usable.proofs is not None:
            proofs = query.usable.proofs[asked]
            good &= (_words(table["proof"][ordinals]) == _words(proofs)).all(axis=1)
        if query.usable.within is not None:
            good &= contains(query.usable.within, ordinals.astype(np.uint64))
        if query.usable.without is not None:
            good &= ~contains(query.usable.without, ordinals.astype(np.uint64))
        return np.asarray(good)


@dataclass(frozen=True, slots=True)
class _Query:
    ids: Bytes2D
    prefixes: npt.NDArray[np.uint64]
    order: npt.NDArray[np.intp]
    usable: Usable


def _words(data: Bytes2D) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(data).view(np.uint64)
