"""Finding chunks: rows by ordinal, and ordinals by id, in batches.

Rows lie in one array addressed by ordinal (``RowStore``: memory, or a file of the node's cache that
is mapped). Ids are found through sorted runs of (first 8 bytes of the id, ordinal); a hit counts
only after the whole 32 bytes match. Runs are merged so that there are about log2(rows) of them.
Nothing here is truth: all of it is rebuilt from the sealed tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from holdfast.vaultstore.refset import Ordinals, contains
from holdfast.vaultstore.rowstore import RowStore
from holdfast.vaultstore.table import Bytes2D, Rows

ABSENT = -1
Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Run:
    prefixes: npt.NDArray[np.uint64]
    ordinals: npt.NDArray[np.int64]


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
        self._runs: list[_Run] = []
        self.count = 0

    def add(self, base: int, rows: Rows) -> None:
        """Add a table's rows (sorted by id; ``pack`` and ``writer`` in the vault's numbers)."""
        self._rows.put(base, rows)
        self.add_stored(base, len(rows))

    def add_stored(self, base: int, count: int) -> None:
        """Add a table whose rows already lie in the row store."""
        prefixes = prefixes_of(self._rows.view(base, count)["id"])
        self._runs.append(_Run(prefixes, np.arange(base, base + count, dtype=np.int64)))
        self.count += count
        while len(self._runs) > 1 and len(self._runs[-2].prefixes) < 2 * len(
            self._runs[-1].prefixes
        ):
            newer, older = self._runs.pop(), self._runs.pop()
            self._runs.append(_merged(older, newer))

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

    def _find_in(self, run: _Run, query: _Query, found: Places) -> None:
        starts = np.searchsorted(run.prefixes, query.prefixes)
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
        good = (_words(table["id"][ordinals]) == _words(query.ids[asked])).all(axis=1)
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


def _merged(older: _Run, newer: _Run) -> _Run:
    prefixes = np.concatenate((older.prefixes, newer.prefixes))
    order = np.argsort(prefixes, kind="stable")
    return _Run(prefixes[order], np.concatenate((older.ordinals, newer.ordinals))[order])
