"""What is written is proven by a digest or by the chunk's id, never by neither, and its mode."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from holdfast.errors import IntegrityError
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.vaultstore.ids import ChunkKind, chunk_name, derive_id_keys
from holdfast.vaultstore.seal import FrameBinding, seal_frame
from holdfast.workloads.files.restore_content import check_small, open_for_files
from holdfast.workloads.files.restore_writer import open_umask

KEYS = derive_id_keys(b"k" * 32)
FRAME_KEY = b"f" * 32
CONTENT = b"what the file holds"
DIGEST = chunk_name(KEYS, ChunkKind.DATA, CONTENT)[:32]


def sealed(kind: int, name: bytes, content: bytes) -> tuple[FrameBinding, bytes]:
    """A frame an agent sealed in due form, whatever its content."""
    binding = FrameBinding(b"h" * 32, 0, kind, name, len(content) + 16, len(content), 0, 0)
    out = bytearray(binding.clen)
    seal_frame(FRAME_KEY, binding, content, memoryview(out))
    return binding, bytes(out)


def small_file(digest: bytes) -> Entry:
    return Entry(b"file", int(EntryType.FILE), 0o644, 0, 0, 1, len(CONTENT), digest)


@pytest.mark.parametrize("digest", [b"", DIGEST])
def test_a_chunk_that_proves_its_files_is_hashed(digest: bytes) -> None:
    binding, frame = sealed(ChunkKind.DATA, DIGEST, b"other content of it")
    with pytest.raises(IntegrityError) as forged:
        open_for_files(KEYS, FRAME_KEY, binding, frame, [b"d" * 32, digest])
    assert forged.value.code == "ChunkForged"


def test_other_content_in_a_bundle_is_found_by_the_digests_of_its_files() -> None:
    binding, frame = sealed(ChunkKind.BUNDLE, b"n" * 32, CONTENT[::-1] + CONTENT)
    plain = memoryview(open_for_files(KEYS, FRAME_KEY, binding, frame, [DIGEST]))
    half = len(CONTENT)
    with pytest.raises(IntegrityError) as damaged:
        check_small(KEYS, small_file(DIGEST), binding.kind, binding.id, plain[:half])
    assert damaged.value.code == "ContentDamaged"
    check_small(KEYS, small_file(DIGEST), binding.kind, binding.id, plain[half:])


def test_a_thread_that_opens_its_umask_leaves_that_of_others(tmp_path: Path) -> None:
    def make(name: str) -> int:
        path = tmp_path / name
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o646))
        return path.stat().st_mode & 0o777

    def work() -> None:
        open_umask()
        made.append(make("theirs"))

    made: list[int] = []
    before = os.umask(0o077)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert make("ours") == 0o600
    finally:
        os.umask(before)
    assert made in ([0o646], [0o600])  # where a thread can have none of its own, a chmod follows
