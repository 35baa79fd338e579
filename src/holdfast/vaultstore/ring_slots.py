"""Slots of a key ring: the ways to its ring key.

Every slot wraps the same random 32-byte ring key with AES-256-GCM (12-byte nonce, then ciphertext
and tag), bound to the ring object's header:

    platform    under the platform's key
    customer    under a key the customer keeps elsewhere; ``key_name`` says which
    recovery    under a key agreed with an exported public key, so that rings made after the export
                open with it too
    passphrase  under scrypt of a passphrase; for rings only the agents may open

A slot of another kind belongs to a newer version and is passed over.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from holdfast.errors import AccessError, IntegrityError
from holdfast.ports.clock import Random
from holdfast.vaultstore.format import derive

KEY_BYTES = 32
NONCE_BYTES = 12
SALT_BYTES = 16
SCRYPT_N = 2**17  # 128 MiB of memory with r = 8: about half a second on one core
SCRYPT_MAX_N = 2**20
SCRYPT_R = 8


class Slot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to the ring key. ``public``: a recovery key's public half; ``ephemeral``: ours;
    ``salt`` and ``n``: of scrypt; ``key_name``: which customer key."""

    kind: str
    wrapped: bytes
    public: bytes = b""
    ephemeral: bytes = b""
    salt: bytes = b""
    n: int = 0
    key_name: str = ""


Slots = tuple[Slot, ...]


class Locks(msgspec.Struct, frozen=True, kw_only=True):
    """What a ring is to be opened by; at least one of them. ``recovery``: public halves of
    exported keys. ``scrypt_n`` is the passphrase's cost."""

    platform_key: bytes = b""
    recovery: tuple[bytes, ...] = ()
    customer_key: bytes = b""
    customer_key_name: str = ""
    passphrase: str = ""
    scrypt_n: int = SCRYPT_N

    def __repr__(self) -> str:
        return "Locks()"


class Opener(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller holds: the platform key, or a recovery key with the signer it trusts, or a
    customer key, or a passphrase."""

    platform_key: bytes = b""
    recovery_private: bytes = b""
    verifier: bytes = b""
    customer_key: bytes = b""
    passphrase: str = ""

    def __repr__(self) -> str:
        return f"Opener({'recovery' if self.recovery_private else 'held key'})"


def scrypt(passphrase: str, salt: bytes, n: int) -> bytes:
    """A 32-byte key. IntegrityError for a cost out of range (what it would allocate)."""
    if not (2 <= n <= SCRYPT_MAX_N and n & (n - 1) == 0) or len(salt) != SALT_BYTES:
        raise IntegrityError("the parameters of a passphrase are out of range", code="KeyDamaged")
    return Scrypt(salt=salt, length=32, n=n, r=SCRYPT_R, p=1).derive(passphrase.encode())


def wrap(key: bytes, payload: bytes, bound_to: bytes, rng: Random) -> bytes:
    """nonce | AES-256-GCM(payload), authenticated with ``bound_to``."""
    nonce = rng.token(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, payload, bound_to)


def unwrap(key: bytes, wrapped: bytes, bound_to: bytes) -> bytes | None:
    """Inverse of ``wrap``; None when the key does not fit or the bytes were altered."""
    try:
        return AESGCM(key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        return None


def make_slots(locks: Locks, ring_key: bytes, bound_to: bytes, rng: Random) -> Slots:
    """A slot for each of the locks."""
    slots = []
    if locks.platform_key:
        slots.append(
            Slot(kind="platform", wrapped=wrap(locks.platform_key, ring_key, bound_to, rng))
        )
    if locks.customer_key:
        wrapped = wrap(locks.customer_key, ring_key, bound_to, rng)
        slots.append(Slot(kind="customer", wrapped=wrapped, key_name=locks.customer_key_name))
    for public in locks.recovery:
        private = X25519PrivateKey.from_private_bytes(rng.token(KEY_BYTES))
        own = private.public_key().public_bytes_raw()
        key = _agreed(private, public, own, public)
        wrapped = wrap(key, ring_key, bound_to, rng)
        slots.append(Slot(kind="recovery", public=public, ephemeral=own, wrapped=wrapped))
    if locks.passphrase:
        salt = rng.token(SALT_BYTES)
        key = scrypt(locks.passphrase, salt, locks.scrypt_n)
        wrapped = wrap(key, ring_key, bound_to, rng)
        slots.append(Slot(kind="passphrase", wrapped=wrapped, salt=salt, n=locks.scrypt_n))
    return tuple(slots)


def open_slots(slots: Slots, opener: Opener, bound_to: bytes) -> bytes:
    """The ring key. AccessError (WrongKey) when the opener fits no slot."""
    for slot in slots:
        key = _slot_key(slot, opener)
        ring_key = unwrap(key, slot.wrapped, bound_to) if key else None
        if ring_key is not None:
            return ring_key
    raise AccessError(
        "this key does not open the vault",
        code="WrongKey",
        hint="Use the key file exported from this vault, or the server that made it.",
    )


def _slot_key(slot: Slot, opener: Opener) -> bytes:
    """The key a slot is wrapped under, as the opener has it; empty when it has none."""
    if slot.kind == "platform":
        return opener.platform_key
    if slot.kind == "customer":
        return opener.customer_key
    if slot.kind == "passphrase" and opener.passphrase:
        return scrypt(opener.passphrase, slot.salt, slot.n)
    if slot.kind == "recovery" and opener.recovery_private:
        private = X25519PrivateKey.from_private_bytes(opener.recovery_private)
        if private.public_key().public_bytes_raw() == slot.public and len(slot.ephemeral) == 32:
            return _agreed(private, slot.ephemeral, slot.ephemeral, slot.public)
    return b""


def _agreed(private: X25519PrivateKey, peer: bytes, ephemeral: bytes, public: bytes) -> bytes:
    shared = private.exchange(X25519PublicKey.from_public_bytes(peer))
    return derive("recovery slot", shared, ephemeral, public)
