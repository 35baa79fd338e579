"""A file of several pieces becomes whole whatever their order and the room for early ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import IntegrityError
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.vaultstore.ids import content_hasher, derive_id_keys
from holdfast.workloads.files.paths import TargetTree
from holdfast.workloads.files.restore_content import EarlyRoom, GrowingFile
from holdfast.workloads.files.restore_writer import EntryWriter, Owners

KEYS = derive_id_keys(b"k" * 32)


def grown(
    folder: Path, pieces: list[bytes], order: list[int], room: EarlyRoom, digest: bytes
) -> None:
    extents, at = [], 0
    for number, piece in enumerate(pieces):
        extents.append((b"%32d" % number, 0, at, len(piece)))
        at += len(piece)
    entry = Entry(b"file", EntryType.FILE, 0o600, 0, 0, 7, at, digest, extents)
    target = TargetTree(folder)
    try:
        writer = EntryWriter(Owners({}, {}), b"12345678", lambda *_: None)
        file = GrowingFile(writer, KEYS, target.directory(b""), b"file", entry, room)
        whole = [file.put(number, memoryview(pieces[number])) for number in order]
        assert whole == [False] * (len(order) - 1) + [True]
    finally:
        target.close()


@given(st.data(), st.lists(st.binary(min_size=1, max_size=9), min_size=2, max_size=8))
def test_any_order_gives_the_same_file(data: st.DataObject, pieces: list[bytes]) -> None:
    order = data.draw(st.permutations(range(len(pieces))))
    size = data.draw(st.integers(0, 40))
    hasher = content_hasher(KEYS)
    hasher.update(b"".join(pieces))
    room = EarlyRoom(size)
    with tempfile.TemporaryDirectory() as folder:
        grown(Path(folder), pieces, order, room, hasher.digest())
        assert Path(folder, "file").read_bytes() == b"".join(pieces)
    assert room.take(size), "room for early pieces was not given back"


def test_content_other_than_the_digest_leaves_nothing(tmp_path: Path) -> None:
    room = EarlyRoom(100)
    with pytest.raises(IntegrityError):
        grown(tmp_path, [b"one", b"two", b"three"], [2, 1, 0], room, b"\x01" * 32)
    assert list(tmp_path.iterdir()) == []
    assert room.take(100)
