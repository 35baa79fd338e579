"""Byte streams: what is written is read back; what was altered is refused."""

from __future__ import annotations

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import IntegrityError
from holdfast.vaultstore import manifest_stream
from holdfast.vaultstore.entries import encode_extent_page
from holdfast.vaultstore.manifest_pages import page_references
from holdfast.vaultstore.manifest_stream import (
    StreamChild,
    encode_stream_page,
    read_stream,
    write_stream,
)
from holdfast.vaultstore.root import Stream

MOST = 1 << 22


class Chunks(dict[bytes, bytes]):
    def put(self, data: bytes) -> bytes:
        name = blake2b(data, digest_size=32).digest()
        self[name] = data
        return name

    def fetch(self, ids: list[bytes]) -> list[bytes]:
        return [self[one] for one in ids]


def stream(root: bytes, length: int) -> Stream:
    return Stream(name="s", kind="byte-stream", page_root=root, logical_bytes=length)


@given(st.binary(max_size=200))
def test_a_stream_is_read_back(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_stream, "PIECE_BYTES", 16)
        chunks = Chunks()
        made = write_stream("machine", data, chunks.put, chunks.put, "text/plain")
    assert read_stream(made, chunks.fetch, MOST) == data
    assert made.parameters == {"media_type": "text/plain"}
    with pytest.raises(IntegrityError):
        read_stream(made, chunks.fetch, len(data) - 1)


def deep(chunks: Chunks, levels: int = 2) -> bytes:
    """A stream of 40 bytes in 4 extent pages below stream pages."""
    pages = [
        StreamChild(
            chunks.put(encode_extent_page([(chunks.put(b"%010d" % n), 0, 10 * n, 10)])), 10 * n
        )
        for n in range(4)
    ]
    halves = [
        StreamChild(chunks.put(encode_stream_page(1, pages[at : at + 2])), pages[at].offset)
        for at in (0, 2)
    ]
    return chunks.put(encode_stream_page(levels, halves))


def test_a_stream_of_several_pages_is_read() -> None:
    chunks = Chunks()
    root = deep(chunks)
    whole = b"".join(b"%010d" % n for n in range(4))
    assert read_stream(stream(root, 40), chunks.fetch, MOST) == whole
    assert len(page_references(chunks[root]).pages) == 2


def test_streams_that_do_not_fit_are_refused() -> None:
    chunks = Chunks()
    one = chunks.put(b"0123456789")
    wrong = [
        (deep(chunks), 39),
        (deep(chunks), 41),
        (deep(chunks, levels=1), 40),
        (deep(chunks, levels=3), 40),
        (chunks.put(encode_extent_page([(one, 5, 0, 10)])), 10),
        (chunks.put(encode_extent_page([(one, 0, 1, 10)])), 10),
        (chunks.put(encode_extent_page([(one, 0, 0, 10), (one, 0, 5, 10)])), 20),
    ]
    for root, length in wrong:
        with pytest.raises(IntegrityError):
            read_stream(stream(root, length), chunks.fetch, MOST)


@given(st.binary(max_size=60))
def test_stream_pages_of_any_bytes_are_read_or_refused(tail: bytes) -> None:
    for page in (b"S" + tail, b"S\x01\x01" + tail):
        try:
            page_references(page)
        except IntegrityError as error:
            assert error.code == "ManifestDamaged"
