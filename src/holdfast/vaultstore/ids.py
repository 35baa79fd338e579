"""Names of chunks: a keyed hash per kind, so that no content of one kind passes for another.

One keyed BLAKE3 call gives 48 bytes: the id (32) and the proof of possession (16). The proof is
known only to who held the content, and is never part of a manifest (vault protocol rule 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from blake3 import blake3

from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.format import derive

ID_BYTES = 32
PROOF_BYTES = 16
NAME_BYTES = ID_BYTES + PROOF_BYTES


class ChunkKind(IntEnum):
    DATA = 1
    BUNDLE = 2
    FILE_PAGE = 3
    DISK_PAGE = 4
    ROOT = 5
    REFSET = 6


IdKeys = Mapping[int, bytes]


def derive_id_keys(k_id: bytes) -> dict[int, bytes]:
    """The 32-byte key of each kind, from a domain's id key."""
    return {int(kind): derive("chunk id", k_id, bytes([kind])) for kind in ChunkKind}


def chunk_name(keys: IdKeys, kind: int, data: Buffer) -> bytes:
    """48 bytes: id and proof of ``data`` as a chunk of ``kind``."""
    return blake3(data, key=keys[kind]).digest(length=NAME_BYTES)


def content_hasher(keys: IdKeys) -> blake3:
    """An incremental hasher whose 32-byte digest is a file's digest: the DATA id of its content."""
    return blake3(key=keys[ChunkKind.DATA])
