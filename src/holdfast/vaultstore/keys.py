"""Key rings: what opens a vault, and how the platform or an exported key opens them.

A vault has a **service ring** (log signing, log, tables, refsets, receipts) and one **domain ring**
per deduplication domain (epoch keys, id key, chunker seed). A ring is a numbered immutable object:
a random ring key seals the body, and slots wrap that ring key: for the platform key, for each
exported recovery key (a public key, so that rings made after the export are wrapped to it too,
vault protocol rule 6), for a passphrase. The whole object is signed by the service's signing key;
who opens by recovery key checks that signature against the key in the exported file.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import AccessError, IntegrityError
from holdfast.ports.clock import Random
from holdfast.vaultstore.format import (
    ZERO_NONCE,
    Header,
    ObjectKind,
    decode_header,
    derive,
    encode_header,
)
from holdfast.vaultstore.ids import derive_id_keys

KEY_BYTES = 32
SIGNATURE_BYTES = 64
SlotKind = Literal["platform", "recovery"]


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


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One way to the ring key. ``public``: a recovery key's public half; ``ephemeral``: ours."""

    kind: SlotKind
    public: bytes = b""
    ephemeral: bytes = b""
    wrapped: bytes


class _RingBody(msgspec.Struct, frozen=True, kw_only=True):
    slots: tuple[Slot, ...]
    sealed: bytes


class Opener(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller holds: the platform key, or a recovery key with the signer it trusts."""

    platform_key: bytes = b""
    recovery_private: bytes = b""
    verifier: bytes = b""

    def __repr__(self) -> str:
        return f"Opener({'platform' if self.platform_key else 'recovery'})"


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
    domain = ring.domain_id if isinstance(ring, DomainRing) else bytes(16)
    plain = encode_header(Header(ObjectKind.KEYRING, vault_id, domain))
    ring_key = rng.token(KEY_BYTES)
    slots = [Slot(kind="platform", wrapped=_wrap(platform_key, ring_key, plain, rng))]
    for public in recovery_publics:
        private = X25519PrivateKey.from_private_bytes(rng.token(KEY_BYTES))
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        own = private.public_key().public_bytes_raw()
        wrapped = _wrap(derive("recovery slot", shared, own, public), ring_key, plain, rng)
        slots.append(Slot(kind="recovery", public=public, ephemeral=own, wrapped=wrapped))
    body_key = derive("ring body", ring_key)
    sealed = AESGCM(body_key).encrypt(ZERO_NONCE, msgspec.msgpack.encode(ring), plain)
    unsigned = plain + msgspec.msgpack.encode(_RingBody(slots=tuple(slots), sealed=sealed))
    return unsigned + signer.sign(unsigned)


def open_service_ring(data: bytes, vault_id: bytes, opener: Opener) -> tuple[ServiceRing, Slots]:
    """Ring and slots; AccessError (WrongKey) when the opener's key fits no slot."""
    body, slots = _open_ring(data, vault_id, opener)
    ring = msgspec.msgpack.decode(body, type=ServiceRing)
    _check_signature(data, opener.verifier or ring.verifier)
    if opener.verifier and opener.verifier != ring.verifier:
        raise IntegrityError("the key ring was exchanged", code="KeyringForged")
    return ring, slots


def open_domain_ring(
    data: bytes, vault_id: bytes, opener: Opener, verifier: bytes
) -> tuple[DomainRing, Slots]:
    """As ``open_service_ring``; ``verifier`` is the service ring's."""
    _check_signature(data, verifier)
    body, slots = _open_ring(data, vault_id, opener)
    return msgspec.msgpack.decode(body, type=DomainRing), slots


Slots = tuple[Slot, ...]


def recovery_publics(slots: Slots) -> tuple[bytes, ...]:
    """Public halves of the exported keys a ring is wrapped to."""
    return tuple(slot.public for slot in slots if slot.kind == "recovery")


def _open_ring(data: bytes, vault_id: bytes, opener: Opener) -> tuple[bytes, Slots]:
    _, length = decode_header(data, ObjectKind.KEYRING, vault_id)
    if len(data) < length + SIGNATURE_BYTES:
        raise IntegrityError("a key ring is cut off", code="ObjectTruncated")
    try:
        body = msgspec.msgpack.decode(data[length:-SIGNATURE_BYTES], type=_RingBody)
    except msgspec.MsgspecError as error:
        raise IntegrityError("a key ring is damaged", code="ObjectDamaged") from error
    ring_key = _ring_key(body.slots, opener, data[:length])
    try:
        key = derive("ring body", ring_key)
        return AESGCM(key).decrypt(ZERO_NONCE, body.sealed, data[:length]), body.slots
    except InvalidTag as error:
        raise IntegrityError("a key ring was altered", code="ObjectDamaged") from error


def _ring_key(slots: Slots, opener: Opener, plain: bytes) -> bytes:
    for slot in slots:
        if slot.kind == "platform" and opener.platform_key:
            key = opener.platform_key
        elif slot.kind == "recovery" and opener.recovery_private:
            private = X25519PrivateKey.from_private_bytes(opener.recovery_private)
            if private.public_key().public_bytes_raw() != slot.public:
                continue
            shared = private.exchange(X25519PublicKey.from_public_bytes(slot.ephemeral))
            key = derive("recovery slot", shared, slot.ephemeral, slot.public)
        else:
            continue
        try:
            return AESGCM(key).decrypt(slot.wrapped[:12], slot.wrapped[12:], plain)
        except InvalidTag:
            continue
    raise AccessError(
        "this key does not open the vault",
        code="WrongKey",
        hint="use the key file exported from this vault, or the server that made it",
    )


def _wrap(key: bytes, payload: bytes, bound_to: bytes, rng: Random) -> bytes:
    nonce = rng.token(12)
    return nonce + AESGCM(key).encrypt(nonce, payload, bound_to)


def _check_signature(data: bytes, verifier: bytes) -> None:
    unsigned, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(verifier).verify(signature, unsigned)
    except InvalidSignature as error:
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
    return _wrap(ring.epochs[ring.epoch], session_key, bound, rng)


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
    try:
        if key is None:
            raise InvalidTag
        return AESGCM(key).decrypt(wrapped[:12], wrapped[12:], bound)
    except InvalidTag as error:
        raise IntegrityError(
            "a session key does not belong to this vault, session and container",
            code="SessionKeyForged",
        ) from error
