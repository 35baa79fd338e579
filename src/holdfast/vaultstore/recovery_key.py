"""The exported recovery key: a file that, with its passphrase, opens the vault without a server."""

from __future__ import annotations

import base64
import binascii

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import AccessError, IntegrityError, UsageError
from holdfast.ports.clock import Random
from holdfast.vaultstore.format import ZERO_NONCE
from holdfast.vaultstore.ring_slots import KEY_BYTES, SALT_BYTES, SCRYPT_N, SCRYPT_R, Opener, scrypt

__all__ = ["SCRYPT_N", "make_recovery_key", "open_recovery_key"]

TITLE = "holdfast recovery key"
MIN_PASSPHRASE = 8


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    title: str
    version: int
    vault_id: str
    n: int
    r: int
    p: int
    salt: str
    sealed: str


class _Secret(msgspec.Struct, frozen=True, kw_only=True):
    private: bytes
    verifier: bytes


def make_recovery_key(
    vault_id: bytes, verifier: bytes, passphrase: str, rng: Random, *, scrypt_n: int = SCRYPT_N
) -> tuple[bytes, bytes]:
    """(key file, public half to wrap rings to). UsageError for a short passphrase."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise UsageError(
            f"the passphrase is shorter than {MIN_PASSPHRASE} characters",
            code="PassphraseTooShort",
            hint="choose a longer one; it protects the key to all of the vault's data",
        )
    private = X25519PrivateKey.from_private_bytes(rng.token(KEY_BYTES))
    salt = rng.token(SALT_BYTES)
    key = scrypt(passphrase, salt, scrypt_n)
    secret = _Secret(private=private.private_bytes_raw(), verifier=verifier)
    sealed = AESGCM(key).encrypt(ZERO_NONCE, msgspec.msgpack.encode(secret), vault_id)
    file = _KeyFile(
        title=TITLE,
        version=1,
        vault_id=vault_id.hex(),
        n=scrypt_n,
        r=SCRYPT_R,
        p=1,
        salt=base64.b64encode(salt).decode(),
        sealed=base64.b64encode(sealed).decode(),
    )
    data = msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
    return data, private.public_key().public_bytes_raw()


def open_recovery_key(data: bytes, passphrase: str) -> tuple[bytes, Opener]:
    """(vault id, opener). UsageError when this is no key file, AccessError (WrongPassphrase),
    IntegrityError for a version or cost out of range."""
    try:
        file = msgspec.json.decode(data, type=_KeyFile)
        vault_id = bytes.fromhex(file.vault_id)
        salt, sealed = base64.b64decode(file.salt), base64.b64decode(file.sealed)
    except (msgspec.MsgspecError, binascii.Error, ValueError) as error:
        raise UsageError(
            "this is no recovery key file",
            code="KeyFileInvalid",
            hint="give the file that `holdfast vault export-key` wrote",
        ) from error
    if file.title != TITLE or file.version != 1:
        raise IntegrityError("the key file is of an unknown version", code="FormatTooNew")
    if (file.r, file.p) != (SCRYPT_R, 1):
        raise IntegrityError("the key file's parameters are out of range", code="KeyFileInvalid")
    key = scrypt(passphrase, salt, file.n)
    try:
        body = AESGCM(key).decrypt(ZERO_NONCE, sealed, vault_id)
    except InvalidTag as error:
        raise AccessError(
            "the passphrase does not open the key file",
            code="WrongPassphrase",
            hint="try the passphrase given at export; after many exports, the matching file",
        ) from error
    secret = msgspec.msgpack.decode(body, type=_Secret)
    return vault_id, Opener(recovery_private=secret.private, verifier=secret.verifier)
