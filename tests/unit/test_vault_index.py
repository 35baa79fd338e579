"""Lookups answer the lowest usable row of the exact id, through tables, memory and the cache."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import IntegrityError
from holdfast.vaultstore.index import ABSENT, ChunkIndex, Usable
from holdfast.vaultstore.rowstore import MappedRowStore, RowStore
from holdfast.vaultstore.table import (
    build_table,
    decode_table,
    empty_rows,
    encode_table,
    order_by_id,
)


def rows_of(count: int, seed: int, pack: int = 0, writer: int = 0):
    rng = np.random.default_rng(seed)
    rows = empty_rows(count)
    rows["id"] = rng.integers(0, 256, (count, 32), np.uint8)
    rows["proof"] = rng.integers(0, 256, (count, 16), np.uint8)
    rows["frame"] = np.arange(count)
    rows["pack"] = pack
    rows["writer"] = writer
    return rows[order_by_id(rows["id"])]


@pytest.fixture(params=["memory", "mapped"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> ChunkIndex:
    return ChunkIndex(RowStore() if request.param == "memory" else MappedRowStore(tmp_path))


def test_every_row_of_many_tables_is_found(index: ChunkIndex) -> None:
    base, tables = 0, []
    for seed, count in enumerate([100, 1, 7, 300, 2, 2, 2, 50]):
        rows = rows_of(count, seed)
        index.add(base, rows)
        tables.append((base, rows))
        base += count
    everything = Usable(np.ones(1, bool))
    for base, rows in tables:
        assert index.find(rows["id"], everything).tolist() == list(range(base, base + len(rows)))
    assert (index.find(rows_of(500, 99)["id"], everything) == ABSENT).all()


def test_equal_prefixes_and_repeated_ids_give_the_lowest_usable(index: ChunkIndex) -> None:
    rows = rows_of(4, 1)
    rows["id"][:, :8] = 7
    rows = rows[order_by_id(rows["id"])]
    again = rows.copy()
    again["pack"] = 1
    again["writer"] = 5
    index.add(0, rows)
    index.add(4, again)
    both, first_gone = np.array([True, True]), np.array([False, True])
    assert index.find(rows["id"], Usable(both)).tolist() == [0, 1, 2, 3]
    assert index.find(rows["id"], Usable(first_gone)).tolist() == [4, 5, 6, 7]
    assert index.find(rows["id"], Usable(both, writer=5)).tolist() == [4, 5, 6, 7]
    assert (index.find(rows["id"], Usable(both, writer=9)) == ABSENT).all()


def test_a_wrong_proof_or_half_an_id_finds_nothing(index: ChunkIndex) -> None:
    rows = rows_of(64, 3)
    index.add(0, rows)
    flags = np.ones(1, bool)
    assert (index.find(rows["id"], Usable(flags, proofs=rows["proof"])) >= 0).all()
    wrong = rows["proof"].copy()
    wrong[:, 15] ^= 1
    assert (index.find(rows["id"], Usable(flags, proofs=wrong)) == ABSENT).all()
    half = rows["id"].copy()
    half[:, 20] ^= 1
    assert (index.find(half, Usable(flags)) == ABSENT).all()


def test_a_table_survives_its_bytes_and_refuses_damage() -> None:
    rows = rows_of(40, 5)
    table = build_table(b"s" * 16, "Linux;a", [(b"p" * 16, rows), (b"q" * 16, rows_of(3, 6))])
    data = encode_table(table)
    back = decode_table(data)
    assert back.header == table.header
    assert back.rows.tobytes() == table.rows.tobytes()
    for cut in (0, 3, 30, len(data) // 2, len(data) - 1):
        with pytest.raises(IntegrityError):
            decode_table(data[:cut])


def test_the_mapped_cache_knows_whole_tables_only(tmp_path: Path) -> None:
    rows = rows_of(10, 1)
    store = MappedRowStore(tmp_path)
    store.put(0, rows)
    store.note_table(b"t" * 16, 0, 10)
    again = MappedRowStore(tmp_path)
    assert again.has_table(b"t" * 16, 0, 10)
    assert not again.has_table(b"t" * 16, 5, 10)
    assert not again.has_table(b"u" * 16, 0, 10)
    again.all()["id"][3] = 0
    assert not MappedRowStore(tmp_path).has_table(b"t" * 16, 0, 10)


def test_a_batch_of_4096_in_a_million_rows_is_quick() -> None:
    index = ChunkIndex(RowStore())
    rows = rows_of(250_000, 1)
    for part in range(4):
        more = rows if part == 0 else rows_of(250_000, part + 1)
        index.add(part * 250_000, more)
    ids = rows["id"][::61][:4096]
    usable = Usable(np.ones(1, bool), writer=0, proofs=rows["proof"][::61][:4096])
    index.find(ids, usable)
    started = time.perf_counter()
    found = index.find(ids, usable)
    seconds = time.perf_counter() - started
    assert (found >= 0).all()
    assert seconds < 0.1, f"{seconds * 1000:.1f} ms"
