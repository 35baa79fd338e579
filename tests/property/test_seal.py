"""Frames come back exactly, and never as anything else: not altered, moved, swapped or renamed."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.errors import IntegrityError
from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore import seal
from holdfast.vaultstore.format import TAG_BYTES
from holdfast.vaultstore.ids import ChunkKind, chunk_name, content_hasher, derive_id_keys
from holdfast.vaultstore.seal import CODEC_RAW, CODEC_ZSTD, Compressor, FrameBinding

KEYS = derive_id_keys(b"i" * 32)
KEY, HEADER_HASH = b"k" * 32, b"h" * 32
COMPRESSOR = Compressor(3)


def sealed(plain: bytes, frame: int = 0) -> tuple[FrameBinding, bytearray]:
    codec, body = COMPRESSOR.compress(plain)
    chunk_id = chunk_name(KEYS, ChunkKind.DATA, plain)[:32]
    binding = FrameBinding(
        HEADER_HASH, frame, ChunkKind.DATA, chunk_id, len(body) + TAG_BYTES, len(plain), codec, 0
    )
    out = bytearray(binding.clen)
    seal.seal_frame(seal.frame_key(KEY, frame), binding, body, memoryview(out))
    return binding, out


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 200), st.integers(0, 2**32 - 1))
@example(SeededRandom(1).token(1_500_000), 1, 0)
@example(b"zero" * 200_000, 2, 7)
@settings(max_examples=60, deadline=None)
def test_a_chunk_comes_back(piece: bytes, times: int, frame: int) -> None:
    plain = piece * times
    binding, out = sealed(plain, frame)
    assert binding.clen <= len(plain) + TAG_BYTES
    found = seal.open_frame(seal.frame_key(KEY, frame), binding, out)
    assert bytes(found) == plain
    seal.check_id(KEYS, binding, found)


@pytest.mark.parametrize("plain", [b"text " * 50, SeededRandom(2).token(200)])
def test_no_bit_and_no_field_of_a_frame_can_change(plain: bytes) -> None:
    binding, out = sealed(plain)
    key = seal.frame_key(KEY, 0)
    for place in range(len(out)):
        changed = bytearray(out)
        changed[place] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            seal.open_frame(key, binding, changed)
    other_fields = {
        "header_hash": b"g" * 32,
        "frame": 1,
        "kind": int(ChunkKind.BUNDLE),
        "id": b"x" * 32,
        "clen": binding.clen + 1,
        "ulen": binding.ulen + 1,
        "codec": 1 - binding.codec,
        "flags": 1,
    }
    for name, value in other_fields.items():
        with pytest.raises(IntegrityError):
            seal.open_frame(key, binding._replace(**{name: value}), out)
    for length in range(len(out)):
        with pytest.raises(IntegrityError):
            seal.open_frame(key, binding._replace(clen=length), out[:length])


def test_frames_of_one_pack_cannot_be_swapped() -> None:
    (first, one), (second, two) = sealed(b"same length one!", 0), sealed(b"same length two!", 1)
    for binding, out in ((first, two), (second, one)):
        for frame in (0, 1):
            with pytest.raises(IntegrityError):
                seal.open_frame(seal.frame_key(KEY, frame), binding, out)


def test_content_that_is_not_what_its_id_says_is_noticed() -> None:
    binding, out = sealed(b"the wrong content")
    lying = binding._replace(id=chunk_name(KEYS, ChunkKind.DATA, b"what others need")[:32])
    seal.seal_frame(seal.frame_key(KEY, 0), lying, b"the wrong content", memoryview(out))
    found = seal.open_frame(seal.frame_key(KEY, 0), lying, out)
    with pytest.raises(IntegrityError) as forged:
        seal.check_id(KEYS, lying, found)
    assert forged.value.code == "ChunkForged"


def test_a_compression_bomb_is_never_unpacked() -> None:
    """The agent's word on lengths is bound: it cannot make a reader allocate more than it said."""
    codec, body = COMPRESSOR.compress(bytes(10_000_000))
    assert codec == CODEC_ZSTD
    for ulen in (100, seal.MAX_CHUNK_BYTES + 1):
        binding = FrameBinding(HEADER_HASH, 0, 1, b"x" * 32, len(body) + TAG_BYTES, ulen, codec, 0)
        out = bytearray(binding.clen)
        seal.seal_frame(KEY, binding, body, memoryview(out))
        with pytest.raises(IntegrityError):
            seal.open_frame(KEY, binding, out)


def test_unknown_codecs_belong_to_a_newer_version() -> None:
    binding = FrameBinding(HEADER_HASH, 0, 1, b"x" * 32, 4 + TAG_BYTES, 4, 9, 0)
    out = bytearray(binding.clen)
    seal.seal_frame(KEY, binding, b"body", memoryview(out))
    with pytest.raises(IntegrityError) as refused:
        seal.open_frame(KEY, binding, out)
    assert refused.value.code == "FormatTooNew"


def test_what_does_not_compress_is_stored_as_it_is() -> None:
    noise = SeededRandom(3).token(600_000)
    codec, body = COMPRESSOR.compress(noise)
    assert codec == CODEC_RAW
    assert body is noise
    assert COMPRESSOR.compress(b"a" * 600_000)[0] == CODEC_ZSTD


@given(st.binary(max_size=300))
def test_no_content_has_the_same_id_as_another_kind(content: bytes) -> None:
    """So a user's file can never be taken for a manifest page."""
    names = {kind: chunk_name(KEYS, kind, content) for kind in ChunkKind}
    assert len({name[:32] for name in names.values()}) == len(ChunkKind)
    assert len({name[32:] for name in names.values()}) == len(ChunkKind)
    hasher = content_hasher(KEYS)
    hasher.update(content)
    assert hasher.digest() == names[ChunkKind.DATA][:32]


def test_ids_and_proofs_are_unrelated_to_those_of_another_domain() -> None:
    ours, theirs = chunk_name(KEYS, 1, b"x"), chunk_name(derive_id_keys(b"j" * 32), 1, b"x")
    assert ours[:32] != theirs[:32]
    assert ours[32:] != theirs[32:]
