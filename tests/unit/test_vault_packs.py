"""Packs: built in parallel, checked while they arrive, refused when anything is not as issued."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError, InternalError
from holdfast.testing.ports import SeededRandom
from holdfast.vaultstore import pack, seal
from holdfast.vaultstore.format import TAG_BYTES, ZERO_NONCE, ObjectKind, decode_header
from holdfast.vaultstore.grant import SessionGrant, decode_grant, encode_grant
from holdfast.vaultstore.ids import ChunkKind, chunk_name, derive_id_keys
from holdfast.vaultstore.pack import PackBuilder, PackClass, SealedPack
from holdfast.vaultstore.pack_check import ExpectedPack, PackChecker, PackSummary

PACK_ID = b"P" * 16
GRANT = SessionGrant(
    vault_id=b"v" * 16,
    domain_id=b"d" * 16,
    session_id=b"s" * 16,
    epoch=3,
    wrapped_session_key=b"w" * 60,
    session_key=b"k" * 32,
    id_keys=derive_id_keys(b"i" * 32),
    chunker_seed=5,
    pack_target_bytes=256 * 1024,
    zstd_level=3,
)
COMPRESSOR = seal.Compressor(3)


def chunks(count: int, seed: int = 1) -> list[bytes]:
    rng = SeededRandom(seed)
    return [rng.token(50 + 37 * n) if n % 2 else b"text %d " % n * (n + 5) for n in range(count)]


def put(builder: PackBuilder, plain: bytes, kind: ChunkKind = ChunkKind.DATA) -> pack.Slot | None:
    codec, body = COMPRESSOR.compress(plain)
    name = chunk_name(GRANT.id_keys, kind, plain)
    slot = builder.reserve(kind, name, len(plain), len(body), codec)
    if slot is not None:
        builder.seal(slot, body)
    return slot


def build(
    plains: list[bytes],
    grant: SessionGrant = GRANT,
    pack_class: PackClass = PackClass.FILES,
    kind: ChunkKind = ChunkKind.DATA,
) -> bytes:
    builder = PackBuilder(grant, pack_class)
    builder.begin(PACK_ID)
    for plain in plains:
        assert put(builder, plain, kind)
    return bytes(builder.finish().data)


def expected(grant: SessionGrant = GRANT, pack_id: bytes = PACK_ID) -> ExpectedPack:
    return ExpectedPack(
        vault_id=grant.vault_id,
        session_id=grant.session_id,
        pack_id=pack_id,
        epoch=grant.epoch,
        wrapped_session_key=grant.wrapped_session_key,
        session_key=grant.session_key,
    )


def check(data: bytes, wanted: ExpectedPack | None = None, step: int = 1000) -> PackSummary:
    checker = PackChecker(wanted or expected(), len(data))
    for start in range(0, len(data), step):
        checker.feed(data[start : start + step])
    return checker.finish()


def refusal(data: bytes, wanted: ExpectedPack | None = None) -> str:
    with pytest.raises(IntegrityError) as refused:
        check(data, wanted)
    return refused.value.code


def open_row(data: bytes, summary: PackSummary, number: int, session_key: bytes) -> bytes:
    row = summary.rows[number]
    binding = seal.FrameBinding(
        summary.header_hash,
        int(row["birth_frame"]),
        int(row["kind"]),
        row["id"].tobytes(),
        int(row["clen"]),
        int(row["ulen"]),
        int(row["codec"]),
        int(row["flags"]),
    )
    key = seal.frame_key(seal.pack_key(session_key, summary.pack_id), number)
    sealed = data[int(row["offset"]) : int(row["offset"]) + int(row["clen"])]
    return bytes(seal.open_frame(key, binding, sealed))


@pytest.mark.parametrize("step", [1, 61, 4096, 1 << 20])
def test_a_pack_checks_and_opens_whatever_pieces_it_arrives_in(step: int) -> None:
    plains = chunks(9)
    data = build(plains)
    summary = check(data, step=step)
    assert (summary.size, summary.pack_class) == (len(data), PackClass.FILES)
    assert summary.hash == data[-32:] == blake3(data[:-32]).digest()
    for number, plain in enumerate(plains):
        assert open_row(data, summary, number, GRANT.session_key) == plain
        name = summary.rows[number]["id"].tobytes() + summary.rows[number]["proof"].tobytes()
        assert name == chunk_name(GRANT.id_keys, ChunkKind.DATA, plain)


def test_parallel_sealing_gives_the_bytes_of_serial_sealing() -> None:
    plains = chunks(60)
    builder = PackBuilder(GRANT, PackClass.FILES)
    builder.begin(PACK_ID)
    places = []
    for plain in plains:
        codec, body = COMPRESSOR.compress(plain)
        name = chunk_name(GRANT.id_keys, ChunkKind.DATA, plain)
        slot = builder.reserve(ChunkKind.DATA, name, len(plain), len(body), codec)
        assert slot
        places.append((slot, body))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda place: builder.seal(*place), places))
    assert bytes(builder.finish().data) == build(plains)


def test_a_full_pack_says_so_and_a_large_chunk_gets_its_own() -> None:
    builder = PackBuilder(GRANT, PackClass.FILES)
    builder.begin(PACK_ID)
    assert put(builder, SeededRandom(2).token(200_000))
    assert put(builder, SeededRandom(3).token(200_000)) is None
    first = builder.finish()
    assert (first.frames, first.plain_bytes) == (1, 200_000)
    builder.begin(b"Q" * 16)
    large = SeededRandom(4).token(4 * 1024 * 1024)
    assert put(builder, large)
    data = bytes(builder.finish().data)
    summary = check(data, expected(pack_id=b"Q" * 16), step=1 << 20)
    assert open_row(data, summary, 0, GRANT.session_key) == large


def test_nothing_is_sealed_twice() -> None:
    builder = PackBuilder(GRANT, PackClass.FILES)
    with pytest.raises(InternalError):
        builder.reserve(1, bytes(48), 1, 1, 0)
    builder.begin(PACK_ID)
    with pytest.raises(InternalError):
        builder.finish()
    slot = builder.reserve(ChunkKind.DATA, bytes(48), 4, 4, 0)
    assert slot
    with pytest.raises(InternalError):
        builder.begin(b"Q" * 16)
    builder.seal(slot, b"once")
    with pytest.raises(InternalError):
        builder.seal(slot, b"more")
    builder.finish()
    with pytest.raises(InternalError):
        builder.finish()
    with pytest.raises(InternalError):
        builder.begin(PACK_ID)


def test_a_frame_that_failed_to_seal_spoils_its_pack() -> None:
    builder = PackBuilder(GRANT, PackClass.FILES)
    builder.begin(PACK_ID)
    slot = builder.reserve(ChunkKind.DATA, bytes(48), 4, 4, 0)
    assert slot
    with pytest.raises(ValueError):
        builder.seal(slot, b"longer than said")
    with pytest.raises(InternalError):
        builder.finish()
    builder.begin(b"Q" * 16)
    assert put(builder, b"next")
    builder.finish()


def test_no_byte_of_a_pack_can_change_and_none_can_be_missing() -> None:
    data = build(chunks(3))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            check(bytes(changed), step=1 << 20)
    for length in range(0, len(data), 101):
        with pytest.raises(IntegrityError):
            check(data[:length], step=1 << 20)
    checker = PackChecker(expected(), len(data))
    checker.feed(data[:-1])
    with pytest.raises(IntegrityError):
        checker.finish()
    with pytest.raises(IntegrityError):
        checker.feed(b"xy")


def rehash(data: bytes) -> bytes:
    """With its last hash made right again, as an attacker would."""
    return data[:-32] + blake3(data[:-32]).digest()


def test_an_attacker_who_fixes_the_hash_is_still_refused() -> None:
    data = build(chunks(3))
    _, first = decode_header(data, ObjectKind.PACK, None, known=pack.KNOWN_TLVS)
    at, length, *_ = pack.FOOTER.unpack_from(data, len(data) - 72)
    for place in (*range(first), *range(at, at + length), *range(len(data) - 72, len(data) - 32)):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        with pytest.raises(IntegrityError):
            check(rehash(bytes(changed)), step=1 << 20)


def test_a_pack_sealed_under_another_key_is_refused() -> None:
    wrong = msgspec.structs.replace(GRANT, session_key=b"x" * 32)
    assert refusal(build(chunks(3), wrong)) == "PackKeyMismatch"


def test_a_commitment_of_the_right_key_does_not_carry_frames_of_a_wrong_one() -> None:
    """The trailer of such a pack does not open under the committed key."""
    good, evil = (
        build(chunks(3)),
        build(chunks(3), msgspec.structs.replace(GRANT, session_key=b"x" * 32)),
    )
    _, first = decode_header(good, ObjectKind.PACK, None, known=pack.KNOWN_TLVS)
    assert refusal(rehash(good[:first] + evil[first:])) == "PackTrailerSealed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vault_id": b"w" * 16}, "ObjectMisplaced"),
        ({"session_id": b"t" * 16}, "PackForeign"),
        ({"epoch": 4}, "PackForeign"),
        ({"wrapped_session_key": b"u" * 60}, "PackForeign"),
    ],
)
def test_a_pack_of_another_vault_session_or_epoch_is_refused(
    changes: dict[str, object], code: str
) -> None:
    assert refusal(build(chunks(3), msgspec.structs.replace(GRANT, **changes))) == code


def test_a_foreign_pack_is_refused_at_its_header() -> None:
    data = build(chunks(3), msgspec.structs.replace(GRANT, session_id=b"t" * 16))
    checker = PackChecker(expected(), len(data))
    with pytest.raises(IntegrityError):
        checker.feed(data[:1024])


def test_a_pack_under_another_name_is_refused() -> None:
    assert refusal(build(chunks(3)), expected(pack_id=b"Q" * 16)) == "PackForeign"


@pytest.mark.parametrize(
    ("pack_class", "kind"),
    [
        (PackClass.FILES, ChunkKind.ROOT),
        (PackClass.FILES, ChunkKind.FILE_PAGE),
        (PackClass.PAGES, ChunkKind.DATA),
        (PackClass.DISKS, ChunkKind.BUNDLE),
        (PackClass.PAGES, ChunkKind.REFSET),
    ],
)
def test_kinds_have_their_class(pack_class: PackClass, kind: ChunkKind) -> None:
    assert refusal(build(chunks(2), pack_class=pack_class, kind=kind)) == "PackRefused"


def reseal(data: bytes, **columns: int) -> bytes:
    """The pack with columns of its first trailer row changed by who holds the session key."""
    _, first = decode_header(data, ObjectKind.PACK, None, known=pack.KNOWN_TLVS)
    at, length, *_ = pack.FOOTER.unpack_from(data, len(data) - 72)
    key = AESGCM(seal.trailer_key(seal.pack_key(GRANT.session_key, PACK_ID)))
    plain = key.decrypt(ZERO_NONCE, data[at : at + length], data[:first])
    rows = np.frombuffer(plain, pack.TRAILER_ROW).copy()
    for name, value in columns.items():
        rows[name][0] = value
    sealed = key.encrypt(ZERO_NONCE, rows.tobytes(), data[:first])
    return rehash(data[:at] + sealed + data[at + length :])


@pytest.mark.parametrize(
    "columns",
    [
        {"offset": 1},
        {"clen": TAG_BYTES},
        {"clen": 2**32 - 1},
        {"ulen": 2**32 - 1},
        {"ulen": 1},
        {"codec": 7},
        {"flags": 1},
        {"origin": 1},
        {"birth_frame": 1},
        {"kind": 99},
    ],
)
def test_a_lying_trailer_is_refused(columns: dict[str, int]) -> None:
    data = build(chunks(3))
    assert check(reseal(data)).size == len(data)
    assert refusal(reseal(data, **columns)) == "PackRefused"


def test_padding_cannot_carry_anything_more() -> None:
    data = build(chunks(3))
    longer = data[:-72] + bytes(4096) + data[-72:]
    assert refusal(rehash(longer)) == "PackRefused"


@pytest.mark.parametrize("size", [0, 1, 500, 200 * 1024 * 1024])
def test_sizes_out_of_range_are_refused_before_a_byte_is_read(size: int) -> None:
    with pytest.raises(IntegrityError) as refused:
        PackChecker(expected(), size)
    assert refused.value.code == "PackSizeRefused"


def test_sizes_at_rest_are_rounded() -> None:
    sizes = {len(build([SeededRandom(1).token(length)])) for length in range(100, 3000, 100)}
    assert sizes == {4096}
    assert pack.padded_size(1024 * 1024 + 1) == 1024 * 1024 + 65536


def test_origins_come_back() -> None:
    origins = [
        pack.Origin(bytes([n]) * 16, bytes([n]) * 32, bytes([n]) * 16, n, bytes([n]) * 60)
        for n in range(3)
    ]
    data = pack.encode_origins(origins)
    assert pack.decode_origins(data) == origins
    assert pack.decode_origins(b"") == []
    with pytest.raises(IntegrityError):
        pack.decode_origins(data[:-1])


def test_a_grant_comes_back_and_hides_its_keys() -> None:
    assert decode_grant(encode_grant(GRANT)) == GRANT
    assert "kkkk" not in repr(GRANT)


def test_a_sealed_pack_is_valid_until_the_next_begins() -> None:
    builder = PackBuilder(GRANT, PackClass.FILES)
    builder.begin(PACK_ID)
    assert put(builder, b"first")
    first: SealedPack = builder.finish()
    kept = bytes(first.data)
    assert check(kept).size == len(first.data)
