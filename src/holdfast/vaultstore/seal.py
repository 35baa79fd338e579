"""Compress and encrypt one chunk into a frame, and open a frame again.

A frame is AES-256-GCM over the (compressed) chunk under a key of its own, so the nonce is zero.
Its authenticated data binds it to the pack and place of its *birth*, its kind, id and lengths
(vault protocol rule 7): a frame may be moved verbatim, never passed off as another.
"""

from __future__ import annotations

import struct
import threading
from typing import NamedTuple

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.format import TAG_BYTES, ZERO_NONCE, derive
from holdfast.vaultstore.ids import IdKeys, chunk_name

CODEC_RAW, CODEC_ZSTD = 0, 1
MAX_CHUNK_BYTES = 16 * 1024 * 1024
WORTH_RATIO = 0.97  # stored raw when compression saves less than 3 %
_AAD = struct.Struct("<32sIB32sIIBH")
_FRAME_CONTEXT = "holdfast vault v1 frame key"


def pack_key(session_key: bytes, pack_id: bytes) -> bytes:
    """K_pack."""
    return derive("pack key", session_key, pack_id)


def trailer_key(k_pack: bytes) -> bytes:
    return derive("trailer key", k_pack)


def key_commitment(k_pack: bytes) -> bytes:
    """32 bytes that only this key gives; GCM alone does not commit to its key."""
    return derive("key commitment", k_pack)


def frame_key(k_pack: bytes, frame: int) -> bytes:
    """K_frame of frame number ``frame``."""
    return blake3(frame.to_bytes(4, "little"), key=k_pack).digest()


class FrameBinding(NamedTuple):
    """What a frame's authenticated data names. ``header_hash`` and ``frame`` are of its birth."""

    header_hash: bytes
    frame: int
    kind: int
    id: bytes
    clen: int
    ulen: int
    codec: int
    flags: int


class Compressor:
    """zstd at one level; a context per thread is kept inside. Thread safe.

    There is no probe before: zstd itself passes over what does not compress at several GB/s."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()

    def compress(self, data: Buffer) -> tuple[int, Buffer]:
        """(codec, bytes): compressed, or ``data`` itself when that saves too little."""
        try:
            context: zstandard.ZstdCompressor = self._local.context
        except AttributeError:
            context = zstandard.ZstdCompressor(level=self._level, write_content_size=True)
            self._local.context = context
        packed = context.compress(data)
        if len(packed) > WORTH_RATIO * len(data):
            return CODEC_RAW, data
        return CODEC_ZSTD, packed


def seal_frame(key: bytes, binding: FrameBinding, body: Buffer, out: memoryview) -> None:
    """Encrypt ``body`` into ``out``, which has exactly ``binding.clen`` bytes (body + 16)."""
    AESGCM(key).encrypt_into(ZERO_NONCE, body, _AAD.pack(*binding), out)


class _Own(threading.local):
    """What a thread keeps for opening frames: a decompressor and a buffer for compressed bytes."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self.scratch = bytearray()

    def room(self, size: int) -> memoryview:
        if len(self.scratch) < size:
            self.scratch = bytearray(size)
        return memoryview(self.scratch)[:size]


_own = _Own()


def open_frame(key: bytes, binding: FrameBinding, sealed: Buffer) -> Buffer:
    """The chunk's bytes. IntegrityError (FrameDamaged) when anything does not fit."""
    if len(sealed) != binding.clen or binding.ulen > MAX_CHUNK_BYTES or binding.clen <= TAG_BYTES:
        raise _damaged(binding, "its length is wrong")
    size = binding.clen - TAG_BYTES
    body = _own.room(size) if binding.codec else memoryview(bytearray(size))
    try:
        AESGCM(key).decrypt_into(ZERO_NONCE, sealed, _AAD.pack(*binding), body)
    except InvalidTag as error:
        raise _damaged(binding, "it was altered") from error
    return decompress(binding, body)


def decompress(binding: FrameBinding, body: Buffer) -> Buffer:
    """Undo the codec; never allocates more than ``ulen``."""
    if binding.codec == CODEC_RAW:
        plain: Buffer = body
    elif binding.codec == CODEC_ZSTD:
        try:
            size = zstandard.frame_content_size(body)
            if size != binding.ulen:
                raise _damaged(binding, "its content length is wrong")
            plain = _own.decompressor.decompress(body, max_output_size=binding.ulen)
        except zstandard.ZstdError as error:
            raise _damaged(binding, "it cannot be decompressed") from error
    else:
        raise IntegrityError(
            f"a frame uses codec {binding.codec}", code="FormatTooNew", hint="upgrade Holdfast"
        )
    if len(plain) != binding.ulen:
        raise _damaged(binding, "its content length is wrong")
    return plain


def check_id(keys: IdKeys, binding: FrameBinding, plain: Buffer) -> None:
    """Recompute the id. IntegrityError (ChunkForged) when the content is not what it is named."""
    if chunk_name(keys, binding.kind, plain)[:32] != binding.id:
        raise IntegrityError(
            f"chunk {binding.id.hex()[:16]} holds other content than its name says",
            code="ChunkForged",
        )


def _damaged(binding: FrameBinding, why: str) -> IntegrityError:
    return IntegrityError(f"frame of chunk {binding.id.hex()[:16]}: {why}", code="FrameDamaged")
