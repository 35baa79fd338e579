"""Exporting a recovery key: a file that opens the vault, and rings made later, without a server."""

from __future__ import annotations

from holdfast.errors import ConflictError
from holdfast.vaultstore import log
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.recovery_key import SCRYPT_N, make_recovery_key
from holdfast.vaultstore.rings import following, store_rings


def export_key(
    core: VaultCore, platform_key: bytes | None, passphrase: str, scrypt_n: int = SCRYPT_N
) -> bytes:
    """The key file. The rings are written anew with a slot for its public half, and a record says
    that a key was exported. UsageError (PassphraseTooShort)."""
    if platform_key is None:
        raise ConflictError(
            "a vault opened by a recovery key exports none; open it by the platform's key",
            code="VaultReadOnly",
        )
    service = core.rings.service
    data, public = make_recovery_key(
        core.vault_id, service.verifier, passphrase, core.rng, scrypt_n=scrypt_n
    )
    with core.lock:
        core.require_sound()
        rings = following(core.objects, core.rings, (*core.rings.recovery, public))
        store_rings(core.objects, core.vault_id, rings, platform_key, core.rng)
        core.rings = rings
        core.append(lambda _state: (log.KeyExported(),))
    return data
