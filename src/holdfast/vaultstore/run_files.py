"""Long runs as files of the node's cache, mapped: an index of any size opens at once.

Never truth, and rebuilt when anything is missing. A run's bytes and the rows it points to are on
the disk before ``runs.json`` names it, so a run that is named there is whole after any crash. Room
is taken before anything is mapped: a full disk is an error here, not a signal later.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from holdfast.files import read_small, write_whole
from holdfast.vaultstore.runs import (
    Places,
    Prefixes,
    SortedRun,
    TableSpan,
    bits_of,
    fences_of,
    pieces_of,
)

LIST = "runs.json"


class _Listed(msgspec.Struct, frozen=True):
    name: str
    rows: int
    tables: list[tuple[bytes, int, int]]


class RunFiles:
    """The run files under ``folder``, which is made when the first is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, live: Mapping[bytes, tuple[int, int]], rows: int) -> list[SortedRun]:
        """The runs of earlier processes, longest first, without those of which more than half
        belongs to tables that are gone. ``live``: base and rows of each table; ``rows``: how many
        the store holds."""
        found: list[SortedRun] = []
        for listed in self._listed():
            tables = [TableSpan(*one) for one in listed.tables]
            of_live = [one for one in tables if live.get(one.table_id) == (one.base, one.count)]
            is_worth = 2 * sum(one.count for one in of_live) >= listed.rows
            if is_worth and max((one.base + one.count for one in tables), default=0) <= rows:
                found += self._mapped(listed.name, listed.rows, tuple(of_live))
        self._sweep(found)
        return sorted(found, key=len, reverse=True)

    def merge(self, older: SortedRun, newer: SortedRun) -> SortedRun | None:
        """Both in one, in a file; None when there is no room for it."""
        rows = len(older) + len(newer)
        path = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fd, name = tempfile.mkstemp(".run", dir=self._folder)
            path = Path(name)
            _write(fd, rows, pieces_of(older, newer))
        except OSError:
            if path is not None:
                path.unlink(missing_ok=True)
            return None
        found = self._mapped(path.name, rows, (*older.tables, *newer.tables))
        return found[0] if found else None

    def keep(self, runs: Iterable[SortedRun]) -> None:
        """Name the runs that count from now on; files of others go. Their rows are durable."""
        kept = [run for run in runs if run.name]
        listed = [
            _Listed(
                run.name,
                len(run),
                [(one.table_id, one.base, one.count) for one in run.tables],
            )
            for run in kept
        ]
        with suppress(OSError):  # the next process builds it again
            write_whole(self._folder / LIST, msgspec.json.encode(listed))
            self._sweep(kept)

    def _listed(self) -> list[_Listed]:
        try:
            return msgspec.json.decode(read_small(self._folder / LIST), type=list[_Listed])
        except (OSError, msgspec.MsgspecError):
            return []

    def _mapped(self, name: str, rows: int, tables: tuple[TableSpan, ...]) -> list[SortedRun]:
        """One run, or none when its file is not as long as it should be."""
        try:
            with (self._folder / name).open("rb") as file:
                if os.fstat(file.fileno()).st_size != _size(rows):
                    return []
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except OSError:
            return []
        fences, prefixes, ordinals = _parts(mapped, rows)
        return [SortedRun(prefixes, ordinals, fences, tables, name)]

    def _sweep(self, kept: Iterable[SortedRun]) -> None:
        """Remove what does not count any more; a run that is still mapped stays readable."""
        named = {LIST, *(run.name for run in kept)}
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in named:
                    path.unlink()


def _write(fd: int, rows: int, pieces: Iterable[tuple[Prefixes, Places]]) -> None:
    """Make the open file a durable run, and close it. OSError."""
    try:
        os.posix_fallocate(fd, 0, _size(rows))
        with mmap.mmap(fd, _size(rows)) as mapped:
            _fill(mapped, rows, pieces)
            mapped.flush()
        os.fsync(fd)
    finally:
        os.close(fd)


def _fill(mapped: mmap.mmap, rows: int, pieces: Iterable[tuple[Prefixes, Places]]) -> None:
    fences, prefixes, ordinals = _parts(mapped, rows)
    at = 0
    for more_prefixes, more_ordinals in pieces:
        end = at + len(more_prefixes)
        prefixes[at:end], ordinals[at:end] = more_prefixes, more_ordinals
        at = end
    fences[:] = fences_of(prefixes)


def _size(rows: int) -> int:
    return 8 * ((1 << bits_of(rows)) + 1 + 2 * rows)


def _parts(mapped: mmap.mmap, rows: int) -> tuple[Places, Prefixes, Places]:
    fences = (1 << bits_of(rows)) + 1
    whole: npt.NDArray[Any] = np.frombuffer(mapped, np.int64)
    return whole[:fences], whole[fences : fences + rows].view(np.uint64), whole[fences + rows :]
