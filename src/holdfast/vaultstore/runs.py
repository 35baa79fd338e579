"""Sorted runs of an index: the first 8 bytes of ids in order, each with its ordinal.

Ids are outputs of a keyed hash, so their first bits say where in a run they lie: ``fences`` keeps
the place of every 32nd to 64th row, and a search goes through those few rows alone. An absent id
costs the same few cache lines as a present one, which is why there is no filter beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FENCE_SHIFT = 6  # a fence for at most 2**6 rows on average
PIECE_ROWS = 1 << 20  # merged at a time

Places = npt.NDArray[np.int64]
Prefixes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class TableSpan:
    """A table whose rows are in a run: its ordinals are ``base`` to ``base + count``."""

    table_id: bytes
    base: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class SortedRun:
    """``prefixes`` ascending, with the ``ordinals`` of the same rows; ``fences``: the first row of
    each value of the highest bits, and one more at the end. ``name``: its file, "" in memory."""

    prefixes: Prefixes
    ordinals: Places
    fences: Places
    tables: tuple[TableSpan, ...] = ()
    name: str = ""

    def __len__(self) -> int:
        return len(self.prefixes)

    def first(self, wanted: Prefixes) -> Places:
        """The first row that is not below each of ``wanted``."""
        bits = np.uint64(64 - bits_of(len(self)))
        bucket = (wanted >> bits).astype(np.int64) if len(self.fences) > 2 else _none(wanted)
        low, high = self.fences[bucket], self.fences[bucket + 1]
        last = max(0, len(self) - 1)
        while (unsure := low < high).any():
            middle = (low + high) >> 1
            below = unsure & (self.prefixes[np.minimum(middle, last)] < wanted)
            low = np.where(below, middle + 1, low)
            high = np.where(unsure & ~below, middle, high)
        return low


def _none(wanted: Prefixes) -> Places:
    return np.zeros(len(wanted), np.int64)


def bits_of(rows: int) -> int:
    """How many of the highest bits a run of so many rows has fences for."""
    return (rows >> FENCE_SHIFT).bit_length()


def fences_of(prefixes: Prefixes) -> Places:
    """The fences of sorted prefixes."""
    bits = bits_of(len(prefixes))
    starts = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits) if bits else _START
    places = np.searchsorted(prefixes, starts)
    return np.append(places, len(prefixes)).astype(np.int64)


_START = np.zeros(1, np.uint64)
_NONE = np.zeros(0, np.uint64)


def run_of(prefixes: Prefixes, ordinals: Places, tables: tuple[TableSpan, ...]) -> SortedRun:
    """A run in memory, of sorted prefixes."""
    return SortedRun(prefixes, ordinals, fences_of(prefixes), tables)


def merged(older: SortedRun, newer: SortedRun) -> SortedRun:
    """Both in one, in memory."""
    pieces = list(pieces_of(older, newer))
    prefixes = np.concatenate([piece[0] for piece in pieces])
    ordinals = np.concatenate([piece[1] for piece in pieces])
    return run_of(prefixes, ordinals, (*older.tables, *newer.tables))


def pieces_of(older: SortedRun, newer: SortedRun) -> Iterator[tuple[Prefixes, Places]]:
    """Both merged, about a million rows at a time."""
    bits = ((len(older) + len(newer)) // PIECE_ROWS).bit_length()
    inner = np.arange(1, 1 << bits, dtype=np.uint64) << np.uint64(64 - bits) if bits else _NONE
    cuts = [[0, *run.first(inner).tolist(), len(run)] for run in (older, newer)]
    for at in range(1 << bits):
        old, new = (slice(one[at], one[at + 1]) for one in cuts)
        prefixes = np.concatenate((older.prefixes[old], newer.prefixes[new]))
        order = np.argsort(prefixes, kind="stable")
        ordinals = np.concatenate((older.ordinals[old], newer.ordinals[new]))
        yield prefixes[order], ordinals[order]


EMPTY = run_of(_NONE, np.zeros(0, np.int64), ())
