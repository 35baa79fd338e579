"""The frame every object of a vault has: a plain header, and for small objects a sealed body.

Header (little-endian, docs/design/vault-format.md section 1):

    0  4  magic "HFST"          8  4x8  feature bits: read, write, delete, check (u64 each)
    4  1  kind                  40 4    header length, TLVs included
    5  1  major (1)             44 16   vault id      60 16  domain id (zero for the service's own)
    6  2  minor                 76 ..   TLVs: u16 type (bit 15 = critical), u32 length, value

A reader refuses an unknown major, an unknown critical TLV, and any unknown bit in the feature set
of what it is about to do; unknown other TLVs are kept when an object is rewritten.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer

MAGIC = b"HFST"
MAJOR, MINOR = 1, 0
CRITICAL = 0x8000
_FIXED = struct.Struct("<4sBBH4QI16s16s")
FIXED_BYTES = _FIXED.size
_TLV = struct.Struct("<HI")
MAX_HEADER_BYTES = 1024 * 1024  # a header is small; bounds what a damaged length can allocate
SALT_BYTES = 32
TAG_BYTES = 16
ZERO_NONCE = bytes(12)

FeatureSet = Literal["read", "write", "delete", "check"]
_SETS: tuple[FeatureSet, ...] = ("read", "write", "delete", "check")
MOVED_FRAMES = 1  # to read: frames may lie in other packs than those they were added with
HORIZONS = 2  # to read: recovery points and packs may have lock horizons
KNOWN_FEATURES: tuple[int, int, int, int] = (MOVED_FRAMES | HORIZONS, 0, 0, 0)


class ObjectKind(IntEnum):
    DESCRIPTOR = 1
    KEYRING = 2
    PACK = 3
    TABLE = 4
    REFSET = 5
    LOG_RECORD = 6
    CHECKPOINT = 7
    SESSION = 8
    RESERVE = 9
    LIFE = 10
    HEALTH = 11


@dataclass(frozen=True, slots=True)
class Tlv:
    """A typed value of a header; ``type`` includes the critical bit."""

    type: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """``features``: four u64 bit sets (read, write, delete, check)."""

    kind: ObjectKind
    vault_id: bytes
    domain_id: bytes = bytes(16)
    tlvs: tuple[Tlv, ...] = ()
    features: tuple[int, int, int, int] = (0, 0, 0, 0)
    minor: int = field(default=MINOR)

    def value(self, kind: int) -> bytes:
        """The value of TLV ``kind`` (critical bit ignored). IntegrityError when absent."""
        for tlv in self.tlvs:
            if tlv.type & ~CRITICAL == kind & ~CRITICAL:
                return tlv.value
        raise IntegrityError(
            f"a {self.kind.name.lower()} object lacks header field {kind & ~CRITICAL}",
            code="ObjectDamaged",
        )

    def require(self, operation: FeatureSet) -> None:
        """Refuse ``operation`` when the object was made with features unknown to us."""
        number = _SETS.index(operation)
        if self.features[number] & ~KNOWN_FEATURES[number]:
            raise IntegrityError(
                f"a newer version made this {self.kind.name.lower()} object; "
                f"this one may not {operation} it",
                code="FormatTooNew",
                hint="upgrade Holdfast",
            )


def encode_tlvs(tlvs: tuple[Tlv, ...]) -> bytes:
    return b"".join(_TLV.pack(tlv.type, len(tlv.value)) + tlv.value for tlv in tlvs)


def decode_tlvs(data: bytes) -> tuple[Tlv, ...]:
    """Inverse of ``encode_tlvs``; IntegrityError when a length runs over the end."""
    found, offset = [], 0
    while offset < len(data):
        if offset + _TLV.size > len(data):
            raise IntegrityError("a header field is cut off", code="ObjectDamaged")
        kind, length = _TLV.unpack_from(data, offset)
        offset += _TLV.size
        if offset + length > len(data):
            raise IntegrityError("a header field is cut off", code="ObjectDamaged")
        found.append(Tlv(kind, bytes(data[offset : offset + length])))
        offset += length
    return tuple(found)


def encode_header(header: Header) -> bytes:
    body = encode_tlvs(header.tlvs)
    fixed = _FIXED.pack(
        MAGIC,
        header.kind,
        MAJOR,
        header.minor,
        *header.features,
        FIXED_BYTES + len(body),
        header.vault_id,
        header.domain_id,
    )
    return fixed + body


def decode_header(
    data: Buffer,
    kind: ObjectKind,
    vault_id: bytes | None,
    *,
    known: frozenset[int] = frozenset(),
    operation: FeatureSet = "read",
) -> tuple[Header, int]:
    """Header and its length in bytes. ``known``: TLV types (without critical bit) the caller
    understands. IntegrityError: ObjectTruncated, ObjectDamaged, ObjectMisplaced, FormatTooNew."""
    view = memoryview(data)
    if len(view) < FIXED_BYTES:
        raise IntegrityError("the object is empty or cut off", code="ObjectTruncated")
    magic, raw_kind, major, minor, read, write, delete, check, length, vault, domain = (
        _FIXED.unpack_from(view)
    )
    if magic != MAGIC:
        raise IntegrityError("this is no object of a vault", code="ObjectDamaged")
    if major != MAJOR:
        raise IntegrityError(
            f"the object has format {major}, this version reads {MAJOR}",
            code="FormatTooNew",
            hint="upgrade Holdfast",
        )
    if raw_kind != kind or (vault_id is not None and vault != vault_id):
        raise IntegrityError("an object is not where it belongs", code="ObjectMisplaced")
    if not FIXED_BYTES <= length <= MAX_HEADER_BYTES or length > len(view):
        raise IntegrityError("the object's header is cut off", code="ObjectTruncated")
    tlvs = decode_tlvs(bytes(view[FIXED_BYTES:length]))
    for tlv in tlvs:
        if tlv.type & CRITICAL and tlv.type & ~CRITICAL not in known:
            raise IntegrityError(
                f"the object needs feature {tlv.type & ~CRITICAL}, unknown to this version",
                code="FormatTooNew",
                hint="upgrade Holdfast",
            )
    header = Header(kind, vault, domain, tlvs, (read, write, delete, check), minor)
    header.require(operation)
    return header, length


def header_length(data: Buffer) -> int:
    """The length a header says it has [bytes], from its first FIXED_BYTES bytes, unchecked."""
    return int(_FIXED.unpack_from(data)[8])


def derive(context: str, *parts: bytes) -> bytes:
    """A 32-byte key from key material and its binding, under a context of ours."""
    hasher = blake3(derive_key_context=f"holdfast vault v1 {context}")
    for part in parts:
        hasher.update(len(part).to_bytes(4, "little"))
        hasher.update(part)
    return hasher.digest()


def seal_object(header: Header, key: bytes, salt: bytes, body: Buffer) -> bytes:
    """header | salt | AES-256-GCM(body). ``salt``: 32 random bytes, never used twice."""
    plain = encode_header(header)
    own = derive("sealed object", key, salt, blake3(plain).digest())
    return plain + salt + AESGCM(own).encrypt(ZERO_NONCE, bytes(body), plain + salt)


def open_object(
    data: Buffer,
    key: bytes,
    kind: ObjectKind,
    vault_id: bytes,
    *,
    known: frozenset[int] = frozenset(),
    operation: FeatureSet = "read",
) -> tuple[Header, bytes]:
    """Header and body of a sealed object. IntegrityError as ``decode_header``, or ObjectDamaged
    when the body was altered, swapped or sealed under another key."""
    header, length = decode_header(data, kind, vault_id, known=known, operation=operation)
    view = memoryview(data)
    if len(view) < length + SALT_BYTES + TAG_BYTES:
        raise IntegrityError("the object is cut off", code="ObjectTruncated")
    plain, salt = bytes(view[:length]), bytes(view[length : length + SALT_BYTES])
    own = derive("sealed object", key, salt, blake3(plain).digest())
    try:
        body = AESGCM(own).decrypt(ZERO_NONCE, bytes(view[length + SALT_BYTES :]), plain + salt)
    except InvalidTag as error:
        raise IntegrityError("the object was altered", code="ObjectDamaged") from error
    return header, body
