"""Check a pack while its bytes arrive, keeping only its header and its end in memory.

What is checked (vault protocol rule 11): the header names this vault, session and pack and carries
the wrapped session key that was issued; the key commitment; the hash of the whole; the trailer
opens; its rows tile the frame area; lengths and kinds are within the class's limits.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer, ObjectStore
from holdfast.vaultstore.format import (
    FIXED_BYTES,
    TAG_BYTES,
    ZERO_NONCE,
    Header,
    ObjectKind,
    decode_header,
    header_length,
)
from holdfast.vaultstore.ids import ChunkKind
from holdfast.vaultstore.pack import (
    FOOTER,
    FOOTER_MAGIC,
    HASH_BYTES,
    KNOWN_TLVS,
    MAX_PACK_BYTES,
    MAX_ROWS,
    ROW_STRUCT,
    TRAILER_ROW,
    PackClass,
    PackTlv,
    TrailerRows,
    padded_size,
)
from holdfast.vaultstore.seal import (
    CODEC_RAW,
    CODEC_ZSTD,
    MAX_CHUNK_BYTES,
    key_commitment,
    pack_key,
    trailer_key,
)

_KINDS = {
    PackClass.PAGES: (ChunkKind.FILE_PAGE, ChunkKind.DISK_PAGE, ChunkKind.ROOT),
    PackClass.FILES: (ChunkKind.DATA, ChunkKind.BUNDLE),
    PackClass.DISKS: (ChunkKind.DATA,),
    PackClass.LOGS: (ChunkKind.DATA,),
    PackClass.DB: (ChunkKind.DATA,),
}
_CONTENT_BYTES = 8 * 1024 * 1024  # the longest chunk of content; bundles end below 5 MiB
_MAX_LENGTHS = dict.fromkeys(PackClass, _CONTENT_BYTES) | {PackClass.PAGES: MAX_CHUNK_BYTES}
_TAIL_BYTES = MAX_ROWS * ROW_STRUCT.size + TAG_BYTES + FOOTER.size + HASH_BYTES + 65536
_MIN_BYTES = FIXED_BYTES + TAG_BYTES + FOOTER.size + HASH_BYTES
_MAX_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class ExpectedPack:
    """Who may have made the pack: what the session was issued."""

    vault_id: bytes
    session_id: bytes
    pack_id: bytes
    epoch: int
    wrapped_session_key: bytes
    session_key: bytes


@dataclass(frozen=True, slots=True)
class PackSummary:
    """A checked pack. ``rows``: dtype TRAILER_ROW, in frame order. Hashes: 32 bytes; ``hash`` is
    the one the pack ends with, ``header_hash`` the one its frames are bound to."""

    pack_id: bytes
    session_id: bytes
    pack_class: PackClass
    size: int
    hash: bytes
    header_hash: bytes
    trailer_hash: bytes
    epoch: int
    rows: TrailerRows


def _bad(why: str, code: str = "PackRefused") -> IntegrityError:
    return IntegrityError(f"the pack was refused: {why}", code=code)


class PackChecker:
    """Feed every byte in order, then ``finish``. Memory: header plus at most 1.7 MB."""

    def __init__(self, expected: ExpectedPack, size: int) -> None:
        if not _MIN_BYTES <= size <= MAX_PACK_BYTES or size != padded_size(size):
            raise _bad(f"{size} bytes is no size of a pack", "PackSizeRefused")
        self._expected = expected
        self._size = size
        self._seen = 0
        self._head = bytearray()
        self._header: Header | None = None
        self._header_bytes = b""
        self._k_pack = b""
        self._tail: list[bytes] = []
        self._tail_from = max(0, size - _TAIL_BYTES)
        self._hasher = blake3()

    def feed(self, data: Buffer) -> None:
        """Take the next bytes; the header is checked as soon as it is whole, so that a foreign
        pack is refused before it is received. IntegrityError."""
        view = memoryview(data).cast("B")
        start, end = self._seen, self._seen + len(view)
        if end > self._size:
            raise _bad("it is longer than announced", "PackSizeRefused")
        hashed = self._size - HASH_BYTES
        if start < hashed:
            self._hasher.update(view[: hashed - start])
        if self._header is None:
            self._head += view[: _MAX_HEAD - len(self._head)]
            self._try_header()
        if end > self._tail_from:
            self._tail.append(bytes(view[max(0, self._tail_from - start) :]))
        self._seen = end

    def finish(self) -> PackSummary:
        """IntegrityError names the first check that failed."""
        if self._seen != self._size:
            raise _bad(f"only {self._seen} of {self._size} bytes arrived", "PackTruncated")
        tail = b"".join(self._tail)
        own_hash = self._hasher.digest()
        if not hmac.compare_digest(own_hash, tail[-HASH_BYTES:]):
            raise _bad("its hash does not match its bytes", "PackHashMismatch")
        if self._header is None:
            raise _bad("its header is cut off", "PackTruncated")
        at, rows_data, trailer = self._open_trailer(self._k_pack, self._header_bytes, tail)
        rows = np.frombuffer(rows_data, TRAILER_ROW)
        pack_class = PackClass(self._header.value(PackTlv.CLASS)[0])
        _check_rows(rows, len(self._header_bytes), at, pack_class)
        return PackSummary(
            self._expected.pack_id,
            self._expected.session_id,
            pack_class,
            self._size,
            own_hash,
            blake3(self._header_bytes).digest(),
            blake3(trailer).digest(),
            self._expected.epoch,
            rows,
        )

    def _try_header(self) -> None:
        """Read and check the header when enough of it is here."""
        if len(self._head) < FIXED_BYTES:
            return
        if len(self._head) < min(header_length(self._head), _MAX_HEAD):
            return
        header, length = decode_header(
            self._head, ObjectKind.PACK, self._expected.vault_id, known=KNOWN_TLVS
        )
        self._k_pack = self._check_header(header)
        self._header, self._header_bytes = header, bytes(self._head[:length])

    def _check_header(self, header: Header) -> bytes:
        expected = self._expected
        wanted = {
            PackTlv.LOCK_GENERATION: bytes(4),
            PackTlv.DICTIONARY: bytes(4),
            PackTlv.ORIGINS: b"",
            PackTlv.PACK_ID: expected.pack_id,
            PackTlv.SESSION_ID: expected.session_id,
            PackTlv.EPOCH: expected.epoch.to_bytes(4, "little"),
            PackTlv.WRAPPED_KEY: expected.wrapped_session_key,
        }
        for kind, value in wanted.items():
            if not hmac.compare_digest(header.value(kind), value):
                raise _bad(f"its {kind.name.lower()} is not this session's", "PackForeign")
        if header.value(PackTlv.CLASS) not in {bytes([kind]) for kind in PackClass}:
            raise _bad("its class is unknown")
        k_pack = pack_key(expected.session_key, expected.pack_id)
        if not hmac.compare_digest(header.value(PackTlv.COMMITMENT), key_commitment(k_pack)):
            raise _bad("it was sealed under another key", "PackKeyMismatch")
        return k_pack

    def _open_trailer(self, k_pack: bytes, plain: bytes, tail: bytes) -> tuple[int, bytes, bytes]:
        at, length, count, spare, magic = FOOTER.unpack_from(
            tail, len(tail) - HASH_BYTES - FOOTER.size
        )
        whole = magic == FOOTER_MAGIC and not any(spare)
        padded = padded_size(at + length + FOOTER.size + HASH_BYTES)
        if not whole or length != count * ROW_STRUCT.size + TAG_BYTES or padded != self._size:
            raise _bad("its footer is wrong")
        if not 0 < count <= MAX_ROWS or at < self._tail_from:
            raise _bad("its trailer is out of range")
        sealed = tail[at - self._tail_from : at - self._tail_from + length]
        try:
            return at, AESGCM(trailer_key(k_pack)).decrypt(ZERO_NONCE, sealed, plain), sealed
        except InvalidTag as error:
            raise _bad("its trailer does not open", "PackTrailerSealed") from error


def _check_rows(rows: TrailerRows, first: int, end: int, pack_class: PackClass) -> None:
    offsets = rows["offset"].astype(np.int64)
    ends = offsets + rows["clen"]
    tiles = offsets[0] == first and ends[-1] == end and bool((offsets[1:] == ends[:-1]).all())
    if not tiles:
        raise _bad("its frames do not tile it")
    lengths = (rows["ulen"] <= _MAX_LENGTHS[pack_class]) & (rows["clen"] > TAG_BYTES)
    lengths &= rows["clen"] <= rows["ulen"].astype(np.int64) + TAG_BYTES
    raw = rows["codec"] == CODEC_RAW
    lengths &= ~raw | (rows["clen"] == rows["ulen"].astype(np.int64) + TAG_BYTES)
    if not bool(lengths.all()):
        raise _bad("a frame's length is out of range")
    if not bool((raw | (rows["codec"] == CODEC_ZSTD)).all()) or rows["flags"].any():
        raise _bad("a frame's codec or flags are unknown")
    if not bool(np.isin(rows["kind"], [int(kind) for kind in _KINDS[pack_class]]).all()):
        raise _bad(f"a frame's kind has no place in a pack of {pack_class.name.lower()}")
    numbers = np.arange(len(rows), dtype=np.uint32)
    if rows["origin"].any() or not bool((rows["birth_frame"] == numbers).all()):
        raise _bad("a new pack's frames must be born in it")


def pack_session(store: ObjectStore, key: str, vault_id: bytes) -> tuple[Header, int]:
    """Header and size of a stored pack, for those who take over an earlier attempt's packs."""
    size = store.size(key)
    if not size:
        raise IntegrityError("the pack is empty or missing", code="PackTruncated")
    head = store.read_range(key, 0, min(size, _MAX_HEAD))
    header, _ = decode_header(head, ObjectKind.PACK, vault_id, known=KNOWN_TLVS)
    return header, size
