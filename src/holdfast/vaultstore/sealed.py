"""Sealing of the service's own small objects: log records, tables, refsets, sessions.

Each object carries in its plain header the generation of the service ring's keys that sealed it.
A log record also carries its sequence, term and the hash of the record before it. It ends with an
Ed25519 signature over all bytes before, and so do life and health objects.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature

from holdfast.errors import IntegrityError, InternalError
from holdfast.ports.clock import Random
from holdfast.vaultstore import log
from holdfast.vaultstore.checkpoint import Checkpoint, decode_checkpoint, encode_state
from holdfast.vaultstore.format import (
    CRITICAL,
    HORIZONS,
    MOVED_FRAMES,
    SALT_BYTES,
    Header,
    ObjectKind,
    Tlv,
    decode_header,
    open_object,
    seal_object,
)
from holdfast.vaultstore.keys import ServiceRing
from holdfast.vaultstore.locking import is_immutable
from holdfast.vaultstore.state import LogState

SIGNATURE_BYTES = 64
GENERATION = 1  # of the service ring's keys; a later one needs a ring that holds both
TLV_GENERATION = 0x20
TLV_SEQUENCE = 0x21
TLV_TERM = 0x22
TLV_PREVIOUS = 0x23
_KNOWN = frozenset({TLV_GENERATION, TLV_SEQUENCE, TLV_TERM, TLV_PREVIOUS})


class ServiceSeal:
    """Seals and opens under one service ring. Without randomness (a reader) it only opens."""

    def __init__(self, vault_id: bytes, ring: ServiceRing, rng: Random | None) -> None:
        self._vault_id = vault_id
        self._signer = ring.signer
        self._verifier = self._signer.public_key()
        self._rng = rng
        self._keys = {
            ObjectKind.LOG_RECORD: ring.log,
            ObjectKind.CHECKPOINT: ring.log,
            ObjectKind.TABLE: ring.table,
            ObjectKind.REFSET: ring.refset,
            ObjectKind.SESSION: ring.session,
            ObjectKind.LIFE: ring.log,
            ObjectKind.HEALTH: ring.log,
        }

    def seal(
        self, kind: ObjectKind, body: bytes, extra: tuple[Tlv, ...] = (), to_read: int = 0
    ) -> bytes:
        """A sealed object of ``kind``. ``to_read``: features one must know to read it."""
        if self._rng is None:
            raise InternalError("a reader was asked to seal an object")
        generation = Tlv(TLV_GENERATION | CRITICAL, GENERATION.to_bytes(4, "little"))
        features = (to_read, 0, 0, 0)
        header = Header(kind, self._vault_id, tlvs=(generation, *extra), features=features)
        return seal_object(header, self._keys[kind], self._rng.token(SALT_BYTES), body)

    def open(self, kind: ObjectKind, data: bytes) -> bytes:
        """The body of a sealed object. IntegrityError as ``format.open_object``."""
        return self._open(kind, data)[1]

    def seal_signed(
        self, kind: ObjectKind, body: bytes, extra: tuple[Tlv, ...] = (), to_read: int = 0
    ) -> bytes:
        """A sealed object with the service's signature behind it."""
        data = self.seal(kind, body, extra, to_read)
        return data + self._signer.sign(data)

    def open_signed(self, kind: ObjectKind, data: bytes) -> bytes:
        """The body of a sealed object whose signature holds. IntegrityError (ObjectDamaged)."""
        return self._open(kind, self._checked(data))[1]

    def _checked(self, data: bytes) -> bytes:
        """What is signed, without the signature."""
        signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
        try:
            self._verifier.verify(signature, signed)
        except InvalidSignature as error:
            raise IntegrityError("its signature is wrong", code="ObjectDamaged") from error
        return signed

    def seal_record(self, record: log.LogRecord) -> bytes:
        """A log object: sealed body, plain chain fields, signature."""
        extra = (
            Tlv(TLV_SEQUENCE | CRITICAL, record.sequence.to_bytes(8, "little")),
            Tlv(TLV_TERM | CRITICAL, record.term.to_bytes(8, "little")),
            Tlv(TLV_PREVIOUS | CRITICAL, record.previous),
        )
        return self.seal_signed(ObjectKind.LOG_RECORD, log.encode_record(record), extra)

    @property
    def may_seal(self) -> bool:
        """Whether this is no reader's."""
        return self._rng is not None

    def seal_checkpoint(self, state: LogState) -> bytes:
        """A checkpoint object: sealed body, plain fields of the record it follows, signature."""
        extra = (
            Tlv(TLV_SEQUENCE | CRITICAL, state.sequence.to_bytes(8, "little")),
            Tlv(TLV_TERM | CRITICAL, state.term.to_bytes(8, "little")),
            Tlv(TLV_PREVIOUS | CRITICAL, state.hash),
        )
        moved = any(entry.moved for entry in state.tables.values())
        to_read = MOVED_FRAMES if moved else 0
        to_read |= HORIZONS if is_immutable(state) else 0
        return self.seal_signed(ObjectKind.CHECKPOINT, encode_state(state), extra, to_read)

    def open_checkpoint(self, data: bytes) -> Checkpoint:
        """The checkpoint of an object, its signature checked. IntegrityError (ObjectDamaged)."""
        return decode_checkpoint(self.open_signed(ObjectKind.CHECKPOINT, data))

    def open_record(self, data: bytes) -> log.LogRecord:
        """The record of a log object, its signature and plain fields checked."""
        header, body = self._open(ObjectKind.LOG_RECORD, self._checked(data))
        try:
            record = log.decode_record(body)
        except msgspec.MsgspecError as error:
            raise IntegrityError(
                f"it holds an operation unknown to this version: {error}",
                code="FormatTooNew",
                hint="upgrade Holdfast",
            ) from error
        plain = (
            int.from_bytes(header.value(TLV_SEQUENCE), "little"),
            int.from_bytes(header.value(TLV_TERM), "little"),
            header.value(TLV_PREVIOUS),
        )
        if plain != (record.sequence, record.term, record.previous):
            raise IntegrityError("its plain fields contradict its body", code="ObjectDamaged")
        return record

    def _open(self, kind: ObjectKind, data: bytes) -> tuple[Header, bytes]:
        header, _ = decode_header(data, kind, self._vault_id, known=_KNOWN)
        generation = int.from_bytes(header.value(TLV_GENERATION), "little")
        if generation != GENERATION:
            raise IntegrityError(
                f"it is sealed under generation {generation} of the service's keys",
                code="KeyMissing",
                hint="Open the vault with its newest key ring.",
            )
        return open_object(data, self._keys[kind], kind, self._vault_id, known=_KNOWN)
