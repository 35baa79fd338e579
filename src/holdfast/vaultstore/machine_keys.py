"""Keys of a machine's encrypted volumes as a recovery point keeps them: wrapped once more.

The stream's chunk is sealed as every chunk is, and whoever may read the point could open that. So
what is in it is encrypted under a key of its own, made from the key of the session that wrote the
point. The service gives it to restores that are to put keys back, and to nobody else.

    'K' · u8 version · salt (32 B) · AES-256-GCM(msgpack list of keys)
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import IntegrityError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.format import SALT_BYTES, TAG_BYTES, ZERO_NONCE, derive

KEYS_STREAM = "machine.keys"
MEDIA_TYPE = "application/vnd.holdfast.wrapped-keys"
MAX_KEYS_BYTES = 16 * 1024 * 1024
_HEAD = b"K\x01"


class MachineKey(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as its host's key vault had it. ``luns``: the disks it is for, none for all."""

    name: str
    version: str
    luns: tuple[int, ...] = ()
    value: bytes

    def __repr__(self) -> str:
        return f"MachineKey({self.name}/{self.version})"


def wrapping_key(session_key: bytes) -> bytes:
    """What wraps the keys of the point a session makes; nothing else can be opened with it."""
    return derive("machine keys", session_key)


def wrap_keys(key: bytes, vault_id: bytes, keys: tuple[MachineKey, ...], rng: Random) -> bytes:
    """``key``: ``wrapping_key`` of the session that makes the point."""
    salt = rng.token(SALT_BYTES)
    body = msgspec.msgpack.encode(keys)
    own = derive("machine keys body", key, salt)
    return _HEAD + salt + AESGCM(own).encrypt(ZERO_NONCE, body, _HEAD + vault_id)


def unwrap_keys(key: bytes, vault_id: bytes, wrapped: Buffer) -> tuple[MachineKey, ...]:
    """Inverse of ``wrap_keys``. IntegrityError (MachineKeysDamaged, FormatTooNew)."""
    data = bytes(wrapped)
    if data[:1] == _HEAD[:1] and data[1:2] > _HEAD[1:]:
        raise IntegrityError(
            "the recovery point's keys need a newer version",
            code="FormatTooNew",
            hint="upgrade Holdfast",
        )
    start = len(_HEAD) + SALT_BYTES
    if data[: len(_HEAD)] != _HEAD or len(data) < start + TAG_BYTES:
        raise _damaged()
    own = derive("machine keys body", key, data[len(_HEAD) : start])
    try:
        body = AESGCM(own).decrypt(ZERO_NONCE, data[start:], _HEAD + vault_id)
        return msgspec.msgpack.decode(body, type=tuple[MachineKey, ...])
    except (InvalidTag, msgspec.MsgspecError, ValueError) as error:
        raise _damaged() from error


def _damaged() -> IntegrityError:
    return IntegrityError(
        "the keys in the recovery point cannot be unwrapped",
        code="MachineKeysDamaged",
        hint="restore them from another recovery point; the disks are not touched by this",
    )
