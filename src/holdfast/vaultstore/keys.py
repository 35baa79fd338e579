"""Key rings: the keys of a vault, and the session keys made under them.

A vault has a **service ring** (log signing, log, tables, refsets, receipts) and one **domain ring**
per deduplication domain (epoch keys, id key, chunker seed). A ring is a numbered immutable object:
a random ring key seals the body, and slots (``ring_slots``) wrap that ring key for who may open it;
an exported key's slot is made from its public half, so that rings made after the export are wrapped
to it too (vault protocol rule 6). The whole object is signed by the service's signing key; who
opens by recovery key checks that signature against the key in the exported file.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError
from holdfast.ports.clock import Random
from holdfast.vaultstore.format import (
    CRITICAL,
    ZERO_NONCE,
    Header,
    ObjectKind,
    Tlv,
    decode_header,
    derive,
    encode_header,
)
from holdfast.vaultstore.ids import derive_id_keys
from holdfast.vaultstore.ring_slots import (
    KEY_BYTES,
    Locks,
    Opener,
    Slot,
    Slots,
    make_slots,
    open_slots,
    unwrap,
    wrap,
)

__all__ = ["KEY_BYTES", "DomainRing", "Locks", "Opener", "ServiceRing", "Slot", "Slots"]

SIGNATURE_BYTES = 64
TLV_NUMBER = 0x30
_KNOWN = frozenset({TLV_NUMBER})
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class ServiceRing(msgspec.Struct, frozen=True, kw_only=True):
    """The service's own keys (32 bytes each)."""

    number: int
    sign_seed: bytes
    log: bytes
    table: bytes
    refset: bytes
    session: bytes
    receipt: bytes

    def __repr__(self) -> str:
        return f"ServiceRing({self.number})"

    @property
    def signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.sign_seed)

    @property
    def verifier(self) -> bytes:
        """The public signing key, 32 bytes."""
        return self.signer.public_key().public_bytes_raw()


class DomainRing(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of a deduplication domain. ``epochs``: number -> key; the highest is current."""

    number: int
    domain_id: bytes
    epochs: dict[int, bytes]
    k_id: bytes
    chunker_seed: int

    def __repr__(self) -> str:
        return f"DomainRing({self.domain_id.hex()}, {self.number})"

    @property
    def epoch(self) -> int:
        return max(self.epochs)

    @property
    def id_keys(self) -> dict[int, bytes]:
        return derive_id_keys(self.k_id)


class _RingBody(msgspec.Struct, frozen=True, kw_only=True):
    slots: Slots
    sealed: bytes


Ring = ServiceRing | DomainRing


def new_service_ring(rng: Random) -> ServiceRing:
    keys = {
        name: rng.token(KEY_BYTES) for name in ServiceRing.__struct_fields__ if name != "number"
    }
    return ServiceRing(number=1, **keys)


def new_domain_ring(domain_id: bytes, rng: Random) -> DomainRing:
    return DomainRing(
        number=1,
        domain_id=domain_id,
        epochs={1: rng.token(KEY_BYTES)},
        k_id=rng.token(KEY_BYTES),
        chunker_seed=int.from_bytes(rng.token(8), "little"),
    )


def rotate_epoch(ring: DomainRing, rng: Random) -> DomainRing:
    """The next ring: a new epoch for new packs; older epochs stay readable."""
    return msgspec.structs.replace(
        ring,
        number=ring.number + 1,
        epochs={**ring.epochs, ring.epoch + 1: rng.token(KEY_BYTES)},
    )


def ring_key_name(ring: Ring) -> str:
    """Object key of a ring below the vault's prefix."""
    room = "service" if isinstance(ring, ServiceRing) else f"domain-{ring.domain_id.hex()}"
    return f"keyring/{room}/{ring.number:08d}"


def encode_ring(
    ring: Ring,
    vault_id: bytes,
    signer: Ed25519PrivateKey,
    rng: Random,
    *,
    platform_key: bytes,
    recovery_publics: tuple[bytes, ...] = (),
) -> bytes:
    """header | msgpack(slots, sealed body) | signature. Each call draws a new ring key."""
    locks = Locks(platform_key=platform_key, recovery=recovery_publics)
    return encode_locked_ring(ring, vault_id, signer, rng, locks)


def encode_locked_ring(
    ring: Ring, vault_id: bytes, signer: Ed25519PrivateKey, rng: Random, locks: Locks
) -> bytes:
    """As ``encode_ring``, for any set of locks (a domain's passphrase, a customer's key)."""
    domain = ring.domain_id if isinstance(ring, DomainRing) else bytes(16)
    number = Tlv(TLV_NUMBER | CRITICAL, ring.number.to_bytes(4, "little"))
    plain = encode_header(Header(ObjectKind.KEYRING, vault_id, domain, (number,)))
    ring_key = rng.token(KEY_BYTES)
    body_key = derive("ring body", ring_key)
    sealed = AESGCM(body_key).encrypt(ZERO_NONCE, msgspec.msgpack.encode(ring), plain)
    body = _RingBody(slots=make_slots(locks, ring_key, plain, rng), sealed=sealed)
    unsigned = plain + msgspec.msgpack.encode(body)
    return unsigned + signer.sign(unsigned)


def open_service_ring(data: bytes, vault_id: bytes, opener: Opener) -> tuple[ServiceRing, Slots]:
    """Ring and slots. AccessError (WrongKey) when the opener's key fits no slot; IntegrityError
    (KeyringForged, ObjectDamaged, ObjectMisplaced)."""
    if opener.verifier:
        _check_signature(data, opener.verifier)
    number, body, slots = _open_ring(data, vault_id, bytes(16), opener)
    ring = _decode(body, ServiceRing)
    _check_signature(data, ring.verifier)
    if ring.number != number or opener.verifier not in (b"", ring.verifier):
        raise IntegrityError("the key ring was exchanged", code="KeyringForged")
    return ring, slots


def open_domain_ring(
    data: bytes, vault_id: bytes, opener: Opener, verifier: bytes, domain_id: bytes | None = None
) -> tuple[DomainRing, Slots]:
    """As ``open_service_ring``; ``verifier`` is the service ring's."""
    _check_signature(data, verifier)
    number, body, slots = _open_ring(data, vault_id, domain_id, opener)
    ring = _decode(body, DomainRing)
    if ring.number != number or not ring.epochs:
        raise IntegrityError("the key ring was exchanged", code="KeyringForged")
    return ring, slots


def ring_number(data: bytes, vault_id: bytes) -> int:
    """The number a ring object says it has; its name must be the same."""
    return int.from_bytes(ring_header(data, vault_id).value(TLV_NUMBER), "little")


def ring_header(data: bytes, vault_id: bytes) -> Header:
    """The plain header of a ring object. IntegrityError."""
    return decode_header(data, ObjectKind.KEYRING, vault_id, known=_KNOWN)[0]


def recovery_publics(slots: Slots) -> tuple[bytes, ...]:
    """Public halves of the exported keys a ring is wrapped to."""
    return tuple(slot.public for slot in slots if slot.kind == "recovery")


def _open_ring(
    data: bytes, vault_id: bytes, domain_id: bytes | None, opener: Opener
) -> tuple[int, bytes, Slots]:
    header, length = decode_header(data, ObjectKind.KEYRING, vault_id, known=_KNOWN)
    if domain_id is not None and header.domain_id != domain_id:
        raise IntegrityError("a key ring is not where it belongs", code="ObjectMisplaced")
    if len(data) < length + SIGNATURE_BYTES:
        raise IntegrityError("a key ring is cut off", code="ObjectTruncated")
    body = _decode(data[length:-SIGNATURE_BYTES], _RingBody)
    ring_key = open_slots(body.slots, opener, data[:length])
    try:
        key = derive("ring body", ring_key)
        plain = AESGCM(key).decrypt(ZERO_NONCE, body.sealed, data[:length])
    except InvalidTag as error:
        raise IntegrityError("a key ring was altered", code="ObjectDamaged") from error
    return int.from_bytes(header.value(TLV_NUMBER), "little"), plain, body.slots


def _decode(data: bytes, kind: type[_Struct]) -> _Struct:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise IntegrityError("a key ring is damaged", code="ObjectDamaged") from error


def _check_signature(data: bytes, verifier: bytes) -> None:
    unsigned, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(verifier).verify(signature, unsigned)
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError("a key ring's signature is wrong", code="KeyringForged") from error


def _session_binding(vault_id: bytes, session_id: bytes, container: str, epoch: int) -> bytes:
    return b"".join((vault_id, session_id, epoch.to_bytes(4, "little"), container.encode()))


def wrap_session_key(
    ring: DomainRing,
    vault_id: bytes,
    session_id: bytes,
    container: str,
    session_key: bytes,
    rng: Random,
) -> bytes:
    """The session key under the domain's current epoch (60 bytes), bound to who uses it."""
    bound = _session_binding(vault_id, session_id, container, ring.epoch)
    return wrap(ring.epochs[ring.epoch], session_key, bound, rng)


def unwrap_session_key(
    ring: DomainRing,
    vault_id: bytes,
    session_id: bytes,
    container: str,
    epoch: int,
    wrapped: bytes,
) -> bytes:
    """Inverse of ``wrap_session_key``. IntegrityError (SessionKeyForged) when it does not fit."""
    key = ring.epochs.get(epoch)
    bound = _session_binding(vault_id, session_id, container, epoch)
    session_key = unwrap(key, wrapped, bound) if key is not None else None
    if session_key is None:
        raise IntegrityError(
            "a session key does not belong to this vault, session and container",
            code="SessionKeyForged",
        )
    return session_key
