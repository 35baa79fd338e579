"""Reading the trailer of a stored pack, and turning its rows into index rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import layout
from holdfast.vaultstore.format import (
    FIXED_BYTES,
    MAX_HEADER_BYTES,
    TAG_BYTES,
    ZERO_NONCE,
    ObjectKind,
    decode_header,
    header_length,
)
from holdfast.vaultstore.pack import (
    FOOTER,
    FOOTER_MAGIC,
    HASH_BYTES,
    KNOWN_TLVS,
    MAX_ROWS,
    ROW_STRUCT,
    TRAILER_ROW,
    PackTlv,
    TrailerRows,
)
from holdfast.vaultstore.seal import pack_key, trailer_key
from holdfast.vaultstore.state import PackEntry
from holdfast.vaultstore.table import Rows, empty_rows

if TYPE_CHECKING:
    from holdfast.vaultstore.core import VaultCore

_HEAD_BYTES = 4096  # a header without origins has about 350 bytes
_TAIL_BYTES = 64 * 1024  # usually holds footer and trailer


@dataclass(frozen=True, slots=True)
class StoredTrailer:
    """What the ends of a stored pack say. Hashes: 32 bytes."""

    size: int
    pack_class: int
    hash: bytes
    header_hash: bytes
    trailer_hash: bytes
    rows: TrailerRows


def _bad(why: str) -> IntegrityError:
    return IntegrityError(f"the pack's trailer cannot be read: {why}", code="PackDamaged")


def read_trailer(
    store: ObjectStore, key: str, size: int, *, vault_id: bytes, k_pack: bytes
) -> StoredTrailer:
    """Read header, trailer and footer of the pack at ``key``. The frames are not read.

    IntegrityError (PackDamaged), ObjectMissingError.
    """
    if size < FOOTER.size + HASH_BYTES:
        raise _bad("it is too short")
    head = store.read_range(key, 0, min(size, _HEAD_BYTES))
    length = header_length(head) if len(head) >= FIXED_BYTES else 0
    if _HEAD_BYTES < length <= min(size, MAX_HEADER_BYTES):
        head = store.read_range(key, 0, length)
    header, length = decode_header(head, ObjectKind.PACK, vault_id, known=KNOWN_TLVS)
    plain = head[:length]
    tail = store.read_range(key, size - min(size, _TAIL_BYTES), min(size, _TAIL_BYTES))
    footer_at = len(tail) - HASH_BYTES - FOOTER.size
    at, sealed_size, count, _, magic = FOOTER.unpack_from(tail, footer_at)
    fits = sealed_size == count * ROW_STRUCT.size + TAG_BYTES and at + sealed_size <= size
    if magic != FOOTER_MAGIC or not 0 < count <= MAX_ROWS or not fits:
        raise _bad("its footer is wrong")
    start = at - (size - len(tail))
    sealed = (
        tail[start : start + sealed_size] if start >= 0 else store.read_range(key, at, sealed_size)
    )
    try:
        rows = AESGCM(trailer_key(k_pack)).decrypt(ZERO_NONCE, sealed, plain)
    except InvalidTag as error:
        raise _bad("it was altered") from error
    return StoredTrailer(
        size,
        header.value(PackTlv.CLASS)[0],
        tail[-HASH_BYTES:],
        blake3(plain).digest(),
        blake3(sealed).digest(),
        np.frombuffer(rows, TRAILER_ROW),
    )


def table_rows(trailer: TrailerRows) -> Rows:
    """Index rows of a pack's trailer rows (in frame order; pack and writer numbers 0)."""
    rows = empty_rows(len(trailer))
    names = (
        "id", "proof", "kind", "codec", "flags", "offset", "clen", "ulen", "origin", "birth_frame",
    )  # fmt: skip
    for name in names:
        rows[name] = trailer[name]
    rows["frame"] = np.arange(len(trailer))
    return rows


def rows_of_pack(core: VaultCore, entry: PackEntry) -> Rows:
    """Index rows of a pack of the vault, read from its trailer. IntegrityError, StoreError."""
    pack = entry.pack
    key = layout.pack_key(pack.session_id, pack.pack_id)
    found = read_trailer(
        core.objects,
        key,
        pack.size,
        vault_id=core.vault_id,
        k_pack=pack_key(core.session_key(pack.session_id), pack.pack_id),
    )
    if (found.hash, found.header_hash) != (pack.hash, pack.header_hash):
        raise _bad("it is not the pack the log names")
    return table_rows(found.rows)
