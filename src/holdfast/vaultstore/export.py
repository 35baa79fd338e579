"""Exporting a recovery key: a file that opens the vault, and rings made later, without a server."""

from __future__ import annotations

import msgspec

from holdfast.errors import ConflictError
from holdfast.vaultstore import log
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.recovery_key import SCRYPT_N, make_recovery_key
from holdfast.vaultstore.rings import Rings, store_rings


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
        rings = next_rings(core.rings, (*core.rings.recovery, public))
        store_rings(core.objects, core.vault_id, rings, platform_key, core.rng)
        core.rings = rings
        core.append(lambda _state: (log.KeyExported(),))
    return data


def next_rings(rings: Rings, recovery: tuple[bytes, ...]) -> Rings:
    """The same keys under the next numbers, for other slots."""
    replace = msgspec.structs.replace
    return Rings(
        replace(rings.service, number=rings.service.number + 1),
        replace(rings.domain, number=rings.domain.number + 1),
        recovery,
    )
