"""An index of many runs, in memory and in files, answers as a dictionary does, also after it was
opened anew, lost files, or had no room."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import StoreFullError
from holdfast.vaultstore import index as index_module
from holdfast.vaultstore import runs as runs_module
from holdfast.vaultstore.index import ABSENT, ChunkIndex, Usable
from holdfast.vaultstore.rowstore import MappedRowStore
from holdfast.vaultstore.run_files import LIST
from holdfast.vaultstore.table import Rows, empty_rows, order_by_id

EVERY = Usable(np.ones(1, bool))


@pytest.fixture(autouse=True)
def little_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "FILE_ROWS", 40)
    monkeypatch.setattr(runs_module, "PIECE_ROWS", 16)


def rows_of(count: int, seed: int, spread: int = 256) -> Rows:
    """``spread``: how many values the first bytes of the ids take; few make many equal prefixes."""
    rng = np.random.default_rng(seed)
    rows = empty_rows(count)
    rows["id"] = rng.integers(0, 256, (count, 32), np.uint8)
    rows["id"][:, :8] = rng.integers(0, spread, (count, 8), np.uint8)
    return rows[order_by_id(rows["id"])]


class Node:
    """A node's cache over some tables, as the vault's core uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables: dict[bytes, tuple[int, Rows]] = {}
        self.end = 0
        self.open()

    def open(self) -> None:
        self.store = MappedRowStore(self.folder)
        self.index = ChunkIndex(self.store)
        self.index.open_runs({one: (base, len(rows)) for one, (base, rows) in self.tables.items()})
        self.found_again = self.index.tables()
        for table_id, (base, rows) in self.tables.items():
            if table_id not in self.found_again:
                self._put(table_id, base, rows)

    def _put(self, table_id: bytes, base: int, rows: Rows) -> None:
        if not self.store.has_table(table_id, base, len(rows)):
            self.store.put(base, rows)
            self.store.note_table(table_id, base, len(rows))
        self.index.add_stored(base, len(rows), table_id)

    def add(self, rows: Rows) -> None:
        table_id = len(self.tables).to_bytes(16, "big")
        self.tables[table_id] = self.end, rows
        self._put(table_id, self.end, rows)
        self.end += len(rows)

    def is_right(self) -> None:
        for base, rows in self.tables.values():
            found = self.index.find(rows["id"], EVERY)
            assert found.tolist() == list(range(base, base + len(rows)))
        assert (self.index.find(rows_of(200, 10**9)["id"], EVERY) == ABSENT).all()

    @property
    def files(self) -> list[Path]:
        return sorted((self.folder / "runs").glob("*.run"))


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 90), min_size=1, max_size=9),
    spread=st.sampled_from([1, 2, 256]),
    opened=st.sets(st.integers(0, 8)),
)
def test_it_answers_as_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], spread: int, opened: set[int]
) -> None:
    node = Node(tmp_path_factory.mktemp("node"))
    for seed, count in enumerate(counts):
        node.add(rows_of(count, seed, spread))
        if seed in opened:
            node.open()
        node.is_right()
    named = {run.name for run in node.index._runs if run.name}
    assert {path.name for path in node.files} == named


@pytest.fixture
def node(tmp_path: Path) -> Node:
    made = Node(tmp_path / "cache")
    for seed in range(12):
        made.add(rows_of(50, seed))
    return made


def test_what_is_in_files_is_not_read_when_it_is_opened(node: Node) -> None:
    node.open()
    assert len(node.found_again) >= 8
    held = [run for run in node.index._runs if not run.name]
    assert sum(map(len, held)) < 4 * 50
    node.is_right()


@pytest.mark.parametrize("harm", ["cut", "gone", "list", "nonsense", "junk", "rows"])
def test_a_harmed_cache_is_built_again(node: Node, harm: str) -> None:
    longest = max(node.files, key=lambda path: path.stat().st_size)
    if harm == "cut":
        os.truncate(longest, longest.stat().st_size - 8)
    elif harm == "gone":
        longest.unlink()
    elif harm == "list":
        longest.with_name(LIST).write_bytes(b"[{")
    elif harm == "nonsense":
        longest.with_name(LIST).write_bytes(b'[{"name": "x", "rows": 0, "tables": []}]')
    elif harm == "rows":
        (node.folder / "rows").unlink()
    else:
        longest.with_name("half.run").write_bytes(b"x")
    node.open()
    node.is_right()
    node.open()
    node.is_right()
    assert not longest.with_name("half.run").exists()


def test_runs_of_tables_that_are_gone_are_dropped(node: Node) -> None:
    node.tables = dict([*node.tables.items()][-1:])
    node.open()
    assert not node.found_again
    node.is_right()
    assert sum(map(len, node.index._runs)) == 50


def test_without_room_for_a_file_the_run_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path / "cache")
    node.add(rows_of(39, 1))
    monkeypatch.setattr(os, "posix_fallocate", _full)
    node.add(rows_of(39, 2))
    node.is_right()
    assert not node.files
    monkeypatch.undo()
    shutil.rmtree(node.folder / "runs", ignore_errors=True)
    node.open()
    node.is_right()


def test_without_room_for_rows_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path / "cache")
    monkeypatch.setattr(os, "posix_fallocate", _full)
    with pytest.raises(StoreFullError, match="no room for the index"):
        node.add(rows_of(39, 1))


def _full(_fd: int, _offset: int, _length: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_damaged_run_ends_no_lookup(node: Node) -> None:
    """A flipped bit of an ordinal hides a row, and every other is found."""
    longest = max(node.files, key=lambda path: path.stat().st_size)
    with longest.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x40")
    node.open()
    found = [node.index.find(rows["id"], EVERY) for _, rows in node.tables.values()]
    assert sum(int((one == ABSENT).sum()) for one in found) == 1
