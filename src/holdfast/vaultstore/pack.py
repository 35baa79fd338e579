"""Packs: many sealed frames in one object, built in a reused buffer.

    header | frames ... | sealed trailer | zero padding | footer (40 B) | BLAKE3 of all before (32)

The trailer lists every frame; it is sealed, so chunk sizes do not show at rest. Footer: u64 offset
and u32 length of the sealed trailer, u32 row count, 16 B reserved (zero), 8 B magic. A buffer that
was sealed is never sealed again under its pack id: a retry sends the same bytes, a restart draws a
new id (rule 7).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError, InternalError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.format import (
    CRITICAL,
    TAG_BYTES,
    ZERO_NONCE,
    Header,
    ObjectKind,
    Tlv,
    encode_header,
)
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.seal import (
    MAX_CHUNK_BYTES,
    FrameBinding,
    frame_key,
    key_commitment,
    pack_key,
    seal_frame,
    trailer_key,
)

ROW_STRUCT = struct.Struct("<32s16sBBHQIIHI")
TRAILER_ROW = np.dtype(
    [
        ("id", "u1", (32,)),
        ("proof", "u1", (16,)),
        ("kind", "u1"),
        ("codec", "u1"),
        ("flags", "<u2"),
        ("offset", "<u8"),
        ("clen", "<u4"),
        ("ulen", "<u4"),
        ("origin", "<u2"),
        ("birth_frame", "<u4"),
    ]
)
TrailerRows = npt.NDArray[np.void]
FOOTER = struct.Struct("<QII16s8s")
FOOTER_MAGIC = b"HFSTPACK"
HASH_BYTES = 32
ID_BYTES = 16
MAX_ROWS = 20_000  # bounds the trailer a checker keeps: 20,000 x 74 B = 1.5 MB
MAX_PACK_BYTES = 128 * 1024 * 1024
PAGES_TARGET_BYTES = 8 * 1024 * 1024  # pages are read again soon, and their buffer stays in memory
SLACK_BYTES = 2 * 1024 * 1024  # of a buffer beyond its frames: header, trailer, padding


class PackClass(IntEnum):
    PAGES = 1
    FILES = 2
    DISKS = 3
    LOGS = 4
    DB = 5


class PackTlv(IntEnum):
    """Header fields of a pack; all critical."""

    PACK_ID = 1
    CLASS = 2
    LOCK_GENERATION = 3
    EPOCH = 4
    WRAPPED_KEY = 5
    COMMITMENT = 6
    SESSION_ID = 7
    ORIGINS = 8
    DICTIONARY = 9


KNOWN_TLVS = frozenset(int(kind) for kind in PackTlv)
_ORIGIN = struct.Struct("<16s32s16sI60s")


class Origin(NamedTuple):
    """Where moved frames were born: what their keys and authenticated data are made from. Row
    field ``origin`` n > 0 names entry n - 1 of the pack's table; 0 is the pack itself."""

    pack_id: bytes
    header_hash: bytes
    session_id: bytes
    epoch: int
    wrapped_session_key: bytes


def encode_origins(origins: Sequence[Origin]) -> bytes:
    return b"".join(_ORIGIN.pack(*origin) for origin in origins)


def decode_origins(data: bytes) -> list[Origin]:
    """Inverse of ``encode_origins``. IntegrityError (ObjectDamaged)."""
    if len(data) % _ORIGIN.size:
        raise IntegrityError("a pack's table of origins is cut off", code="ObjectDamaged")
    return [Origin(*row) for row in _ORIGIN.iter_unpack(data)]


def encode_pack_header(
    grant: SessionGrant, pack_id: bytes, pack_class: PackClass, origins: Sequence[Origin] = ()
) -> bytes:
    k_pack = pack_key(grant.session_key, pack_id)
    values = {
        PackTlv.PACK_ID: pack_id,
        PackTlv.CLASS: bytes([pack_class]),
        PackTlv.LOCK_GENERATION: bytes(4),
        PackTlv.EPOCH: grant.epoch.to_bytes(4, "little"),
        PackTlv.WRAPPED_KEY: grant.wrapped_session_key,
        PackTlv.COMMITMENT: key_commitment(k_pack),
        PackTlv.SESSION_ID: grant.session_id,
        PackTlv.ORIGINS: encode_origins(origins),
        PackTlv.DICTIONARY: bytes(4),
    }
    tlvs = tuple(Tlv(kind | CRITICAL, value) for kind, value in values.items())
    return encode_header(Header(ObjectKind.PACK, grant.vault_id, grant.domain_id, tlvs))


def padded_size(size: int) -> int:
    """Sizes are rounded so that they tell little: to 4 KiB, and to 64 KiB from 1 MiB on."""
    step = 65536 if size >= 1024 * 1024 else 4096
    return -(-size // step) * step


def pack_end(k_pack: bytes, header: bytes, rows: bytes, end: int) -> bytes:
    """What follows the frames of a pack, which end at ``end``, up to its hash: trailer, padding,
    footer."""
    trailer = AESGCM(trailer_key(k_pack)).encrypt(ZERO_NONCE, rows, header)
    body_end = end + len(trailer)
    footer_at = padded_size(body_end + FOOTER.size + HASH_BYTES) - FOOTER.size - HASH_BYTES
    count = len(rows) // ROW_STRUCT.size
    footer = FOOTER.pack(end, len(trailer), count, bytes(16), FOOTER_MAGIC)
    return b"".join((trailer, bytes(footer_at - body_end), footer))


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A finished pack. ``data`` is a view of the builder's buffer, valid until its next ``begin``.
    ``plain_bytes`` is what its chunks hold."""

    pack_id: bytes
    pack_class: PackClass
    data: memoryview
    frames: int
    plain_bytes: int


class Slot:
    """A reserved place in a pack; sealed exactly once, from any thread."""

    __slots__ = ("_unsealed", "binding", "out")

    def __init__(self, binding: FrameBinding, out: memoryview) -> None:
        self.binding = binding
        self.out = out
        self._unsealed = [True]

    def claim(self) -> None:
        """Take the right to seal; exactly one caller ever gets it. InternalError for the rest."""
        try:
            self._unsealed.pop()
        except IndexError:
            raise InternalError("a frame must not be sealed twice") from None


class PackBuilder:
    """Builds packs one after another in one buffer: ``begin`` a pack, ``reserve`` and ``seal``
    frames (reserve is serialised inside; seal runs in parallel), ``finish`` it.

    A pack closes at ``grant.pack_target_bytes``, one of pages at PAGES_TARGET_BYTES; a chunk larger
    than that gets a pack of its own.
    """

    def __init__(self, grant: SessionGrant, pack_class: PackClass) -> None:
        self._grant = grant
        self._class = pack_class
        self._target = grant.pack_target_bytes
        if pack_class is PackClass.PAGES:
            self._target = min(self._target, PAGES_TARGET_BYTES)
        room = max(self._target, MAX_CHUNK_BYTES) + SLACK_BYTES
        self._buffer = np.zeros(room, np.uint8).data  # unused pages of it cost nothing
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._pending = 0
        self._finished = True
        self._failed = False
        self._used: set[bytes] = set()

    def begin(self, pack_id: bytes) -> None:
        """Start a pack under a fresh random id (16 bytes); the previous one's view dies.

        InternalError for an id this builder had before, or while slots are unsealed: a second
        content under one id would break the cipher."""
        with self._lock:
            if pack_id in self._used or len(pack_id) != ID_BYTES or self._pending:
                raise InternalError("a pack id was used twice, or a pack begun before its time")
            self._used.add(pack_id)
            header = encode_pack_header(self._grant, pack_id, self._class)
            self._pack_id = pack_id
            self._k_pack = pack_key(self._grant.session_key, pack_id)
            self._header_hash = blake3(header).digest()
            self._header_bytes = header
            self._buffer[: len(header)] = header
            self._end = len(header)
            self._rows = bytearray()
            self._frames = 0
            self._plain = 0
            self._finished = self._failed = False

    @property
    def frames(self) -> int:
        """Frames reserved so far in the pack that was begun last."""
        return self._frames if self._used else 0

    def reserve(
        self, kind: int, name: bytes, ulen: int, body_bytes: int, codec: int, flags: int = 0
    ) -> Slot | None:
        """A place for a frame whose (compressed) body has ``body_bytes``; ``name`` is the chunk's
        48 bytes. None when the pack is full: finish it and begin another. InternalError for an
        empty chunk and for one larger than MAX_CHUNK_BYTES."""
        if not 0 < body_bytes <= ulen <= MAX_CHUNK_BYTES:
            raise InternalError(f"a chunk of {ulen} bytes ({body_bytes} packed) is none")
        clen = body_bytes + TAG_BYTES
        with self._lock:
            if self._finished:
                raise InternalError("no pack was begun")
            frame, offset = self._frames, self._end
            room = (frame + 1) * ROW_STRUCT.size + TAG_BYTES + FOOTER.size + HASH_BYTES + 65536
            over_target = frame > 0 and offset + clen > self._target
            if over_target or frame >= MAX_ROWS or offset + clen + room > len(self._buffer):
                return None
            binding = FrameBinding(
                self._header_hash, frame, kind, name[:32], clen, ulen, codec, flags
            )
            self._rows += ROW_STRUCT.pack(
                name[:32], name[32:48], kind, codec, flags, offset, clen, ulen, 0, frame
            )
            self._frames += 1
            self._plain += ulen
            self._end = offset + clen
            self._pending += 1
        return Slot(binding, self._buffer[offset : offset + clen])

    def seal(self, slot: Slot, body: Buffer) -> None:
        """Encrypt ``body`` into its slot."""
        slot.claim()
        sealed = False
        try:
            seal_frame(frame_key(self._k_pack, slot.binding.frame), slot.binding, body, slot.out)
            sealed = True
        finally:
            slot.out.release()
            with self._idle:
                self._failed |= not sealed
                self._pending -= 1
                if not self._pending:
                    self._idle.notify_all()

    def finish(self) -> SealedPack:
        """Wait for all slots, append trailer, padding, footer and hash. The builder is then idle
        until ``begin``; the result's view stays valid until then. InternalError for a pack without
        frames, with a frame that could not be sealed, or finished before."""
        with self._idle:
            self._idle.wait_for(lambda: self._pending == 0)
            if self._finished or self._failed or not self._frames:
                raise InternalError("a pack without frames, or not whole, was to be finished")
            self._finished = True
        tail = pack_end(self._k_pack, self._header_bytes, bytes(self._rows), self._end)
        hash_at = self._end + len(tail)
        total = hash_at + HASH_BYTES
        self._buffer[self._end : hash_at] = tail
        self._buffer[hash_at:total] = blake3(self._buffer[:hash_at]).digest()
        return SealedPack(
            self._pack_id, self._class, self._buffer[:total], self._frames, self._plain
        )
