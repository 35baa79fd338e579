"""Reading chunks: rows to ranged reads, frames to bytes. Runs outside the vault's lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.errors import HoldfastError, IntegrityError, ObjectMissingError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore import layout
from holdfast.vaultstore.births import Births, binding_of, births_of
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.refset import Ordinals
from holdfast.vaultstore.seal import check_id, open_frame
from holdfast.vaultstore.table import Rows

GAP_BYTES = 64 * 1024  # [bytes] read through smaller gaps rather than ask twice
READ_BYTES = 8 * 1024 * 1024  # [bytes] most that one ranged read brings


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring frames of one pack that one ranged read brings. ``members``: indexes into the
    rows the run was made from, by offset."""

    offset: int
    length: int
    members: tuple[int, ...]


def runs_of(rows: Rows) -> list[Run]:
    """Ranged reads over rows of one pack, by offset."""
    runs: list[Run] = []
    members: list[int] = []
    start = end = 0
    for index in np.argsort(rows["offset"], kind="stable").tolist():
        offset, length = int(rows["offset"][index]), int(rows["clen"][index])
        if members and (offset - end > GAP_BYTES or offset + length - start > READ_BYTES):
            runs.append(Run(start, end - start, tuple(members)))
            members = []
        if not members:
            start = offset
        members.append(index)
        end = max(end, offset + length) if len(members) > 1 else offset + length
    if members:
        runs.append(Run(start, end - start, tuple(members)))
    return runs


class ChunkReader:
    """Opens chunks of a vault by ordinal or id, verified against their ids."""

    def __init__(self, core: VaultCore) -> None:
        self._core = core

    def read(self, rows: Rows) -> Iterator[tuple[int, Buffer]]:
        """(index into ``rows``, plain bytes) of each row, grouped by pack, in no fixed order.

        IntegrityError (FrameDamaged, ChunkForged), ObjectMissingError.
        """
        for number in np.unique(rows["pack"]).tolist():
            chosen = np.flatnonzero(rows["pack"] == number)
            for index, plain in self._read_pack(number, rows[chosen]):
                if isinstance(plain, HoldfastError):
                    raise plain
                yield int(chosen[index]), plain

    def _read_pack(self, number: int, rows: Rows) -> Iterator[tuple[int, Buffer | HoldfastError]]:
        """Each row's bytes, or why they cannot be read."""
        core = self._core
        with core.lock:
            entry = core.state.packs.get(core.pack_names.get(number, b""))
            births = births_of(core, entry) if entry is not None else ()
        if entry is None:
            gone = ObjectMissingError(f"pack number {number} was collected")
            yield from ((index, gone) for index in range(len(rows)))
            return
        pack = entry.pack
        key = layout.pack_key(pack.session_id, pack.pack_id)
        for run in runs_of(rows):
            try:
                data = memoryview(core.objects.read_range(key, run.offset, run.length))
            except (IntegrityError, ObjectMissingError) as error:
                yield from ((index, error) for index in run.members)
                continue
            for index in run.members:
                start = int(rows[index]["offset"]) - run.offset
                sealed = data[start : start + int(rows[index]["clen"])]
                yield index, self._open(rows[index], births, sealed)

    def _open(self, row: np.void, births: Births, sealed: Buffer) -> Buffer | HoldfastError:
        try:
            key, binding = binding_of(row, births)
            plain = open_frame(key, binding, sealed)
            check_id(self._core.id_keys, binding, plain)
        except IntegrityError as error:
            return error
        return plain

    def fetch(self, ids: Sequence[bytes], within: Ordinals | None = None) -> list[Buffer]:
        """Plain bytes of chunks by id, in the order asked; ``within``: only these ordinals. A
        damaged copy is passed over when there is another. IntegrityError (ChunkLost) naming the
        first id that cannot be read."""
        wanted = np.frombuffer(b"".join(ids), np.uint8).reshape(len(ids), 32)
        found: dict[int, Buffer] = {}
        excluded: set[int] = set()
        left = list(range(len(ids)))
        while left:
            with self._core.lock:
                ordinals = self._core.find(wanted[left], excluded_packs=excluded, within=within)
                if (ordinals < 0).any():
                    raise _lost(wanted[left[int(np.argmin(ordinals))]].tobytes())
                rows = self._core.index.rows(ordinals)
            left = self._fetch_some(rows, left, found, excluded)
        return [found[index] for index in range(len(ids))]

    def _fetch_some(
        self, rows: Rows, left: list[int], found: dict[int, Buffer], excluded: set[int]
    ) -> list[int]:
        """Read these rows; returns what could not be, and adds their packs to ``excluded``."""
        failed = []
        for number in np.unique(rows["pack"]).tolist():
            chosen = np.flatnonzero(rows["pack"] == number)
            for index, plain in self._read_pack(number, rows[chosen]):
                place = left[int(chosen[index])]
                if isinstance(plain, HoldfastError):
                    excluded.add(number)
                    failed.append(place)
                else:
                    found[place] = plain
        return failed


def _lost(chunk_id: bytes) -> IntegrityError:
    return IntegrityError(
        f"chunk {chunk_id.hex()[:16]} is in no readable pack of this vault",
        code="ChunkLost",
        hint="Run `holdfast vault verify` to see which recovery points are affected.",
    )
