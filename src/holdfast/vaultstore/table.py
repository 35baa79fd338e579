"""Index tables: which chunks lie where, as sealed at rest and as rows in memory.

Body of a table object (sealed under the service ring, little-endian):

    u32 length of the header · header (msgpack) · ids n x 32 B · proofs n x 16 B · zstd(columns)

Rows are sorted by id. The header names the session that added the table, the containers that wrote
the chunks and the packs they lie in; the columns follow each other whole, in the order of COLUMNS.
A row's ordinal is the base the log record gives plus its place, so the bytes of a table do not
depend on the race for a record. ``verified`` is 1 when the service itself recomputed the id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from holdfast.errors import IntegrityError

Rows = npt.NDArray[np.void]
Bytes2D = npt.NDArray[np.uint8]

COLUMNS: tuple[tuple[str, str], ...] = (
    ("offset", "<u8"),
    ("clen", "<u4"),
    ("ulen", "<u4"),
    ("pack", "<u4"),
    ("frame", "<u4"),
    ("birth_frame", "<u4"),
    ("writer", "<u4"),
    ("origin", "<u2"),
    ("flags", "<u2"),
    ("kind", "u1"),
    ("codec", "u1"),
    ("verified", "u1"),
    ("spare", "u1"),
)
ROW = np.dtype([("id", "u1", (32,)), ("proof", "u1", (16,)), *COLUMNS])
_TAIL = np.dtype(list(COLUMNS))


class TableHeader(msgspec.Struct, frozen=True, kw_only=True):
    """``writers`` and ``packs`` are what the columns of those names count into."""

    session_id: bytes
    rows: int
    writers: tuple[str, ...]
    packs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table in memory. ``rows`` has dtype ROW, sorted by id."""

    header: TableHeader
    rows: Rows


def empty_rows(count: int) -> Rows:
    return np.zeros(count, ROW)


def order_by_id(ids: Bytes2D) -> npt.NDArray[np.intp]:
    """The stable order that sorts n x 32 id bytes."""
    words = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    return np.lexsort((words[:, 3], words[:, 2], words[:, 1], words[:, 0]))


def build_table(session_id: bytes, container: str, packs: Sequence[tuple[bytes, Rows]]) -> Table:
    """A table over packs (id, rows in the order of their frames; ``pack`` is filled in here)."""
    parts = []
    for number, (_, rows) in enumerate(packs):
        part = rows.copy()
        part["pack"] = number
        parts.append(part)
    joined = np.concatenate(parts)
    names = tuple(pack_id for pack_id, _ in packs)
    return table_of(session_id, container, names, joined[order_by_id(joined["id"])])


def table_of(session_id: bytes, container: str, packs: tuple[bytes, ...], rows: Rows) -> Table:
    """A table of rows in the order of their ordinals, whose field ``pack`` counts into ``packs``;
    all of one writer."""
    header = TableHeader(session_id=session_id, rows=len(rows), writers=(container,), packs=packs)
    return Table(header, rows)


def encode_table(table: Table) -> bytes:
    header = msgspec.msgpack.encode(table.header)
    tail = b"".join(np.ascontiguousarray(table.rows[name]).tobytes() for name, _ in COLUMNS)
    return b"".join(
        (
            len(header).to_bytes(4, "little"),
            header,
            table.rows["id"].tobytes(),
            table.rows["proof"].tobytes(),
            zstandard.ZstdCompressor(level=3).compress(tail),
        )
    )


def decode_table(data: bytes) -> Table:
    """Inverse of ``encode_table``. Raises IntegrityError (TableDamaged)."""
    try:
        end = 4 + int.from_bytes(data[:4], "little")
        header = msgspec.msgpack.decode(data[4:end], type=TableHeader)
        count = header.rows
        rows = empty_rows(count)
        rows["id"] = _matrix(data, end, count, 32)
        rows["proof"] = _matrix(data, end + 32 * count, count, 16)
        tail = zstandard.ZstdDecompressor().decompress(
            data[end + 48 * count :], max_output_size=_TAIL.itemsize * count + 1
        )
        _fill_columns(rows, tail)
    except (msgspec.MsgspecError, ValueError, zstandard.ZstdError) as error:
        raise IntegrityError(f"an index table is damaged: {error}", code="TableDamaged") from error
    return Table(header, rows)


def _matrix(data: bytes, offset: int, count: int, width: int) -> Any:
    return np.frombuffer(data, np.uint8, count * width, offset).reshape(count, width)


def _fill_columns(rows: Rows, tail: bytes) -> None:
    if len(tail) != _TAIL.itemsize * len(rows):
        raise ValueError("its columns do not match its row count")
    offset = 0
    for name, kind in COLUMNS:
        rows[name] = np.frombuffer(tail, kind, len(rows), offset)
        offset += np.dtype(kind).itemsize * len(rows)
