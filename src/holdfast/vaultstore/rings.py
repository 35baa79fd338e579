"""The key rings of a vault in its store: read the newest, write the next."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.errors import ConflictError, IntegrityError, UsageError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import keys
from holdfast.vaultstore.chain import create_or_find
from holdfast.vaultstore.recovery_key import open_recovery_key
from holdfast.vaultstore.values import Unlock


@dataclass(frozen=True, slots=True)
class Rings:
    """The newest service and domain ring; ``recovery``: public halves of exported keys."""

    service: keys.ServiceRing
    domain: keys.DomainRing
    recovery: tuple[bytes, ...]


def opener_of(unlock: Unlock, vault_id: bytes) -> keys.Opener:
    """What opens the rings. AccessError (WrongKey, WrongPassphrase), UsageError."""
    if unlock.platform_key is not None:
        return keys.Opener(platform_key=unlock.platform_key)
    if unlock.key_file is None or unlock.passphrase is None:
        raise UsageError("neither a platform key nor a key file with its passphrase was given")
    file_vault, opener = open_recovery_key(unlock.key_file, unlock.passphrase)
    if file_vault != vault_id:
        raise UsageError(
            "the key file belongs to another vault",
            code="KeyFileInvalid",
            hint="Give the key file exported from this vault.",
        )
    return opener


def load_rings(store: ObjectStore, vault_id: bytes, domain_id: bytes, opener: keys.Opener) -> Rings:
    """Open the newest rings. AccessError (WrongKey); IntegrityError when damaged or forged."""
    data = _newest(store, "keyring/service/", vault_id)
    service, slots = keys.open_service_ring(data, vault_id, opener)
    data = _newest(store, f"keyring/domain-{domain_id.hex()}/", vault_id)
    domain, _ = keys.open_domain_ring(data, vault_id, opener, service.verifier, domain_id)
    return Rings(service, domain, keys.recovery_publics(slots))


def store_rings(
    store: ObjectStore, vault_id: bytes, rings: Rings, platform_key: bytes, rng: Random
) -> None:
    """Write both rings under their numbers, the domain's first: who sees the new service ring
    finds a domain ring wrapped alike. ConflictError (KeyringChanged) when a number is taken."""
    for ring in (rings.domain, rings.service):
        data = keys.encode_ring(
            ring,
            vault_id,
            rings.service.signer,
            rng,
            platform_key=platform_key,
            recovery_publics=rings.recovery,
        )
        if not create_or_find(store, keys.ring_key_name(ring), data):
            raise ConflictError(
                "the vault's key ring was changed by somebody else at the same time",
                code="KeyringChanged",
                hint="Try again.",
                retry="same",
            )


def _newest(store: ObjectStore, prefix: str, vault_id: bytes) -> bytes:
    names = [info.key for info in store.list(prefix)]
    if not names:
        raise IntegrityError(
            f"the vault's key ring {prefix} is missing",
            code="KeyringMissing",
            hint="Put the keyring folder back from a copy of the store.",
        )
    data = store.read(names[-1])
    if names[-1] != f"{prefix}{keys.ring_number(data, vault_id):08d}":
        raise IntegrityError("a key ring has another ring's number", code="ObjectMisplaced")
    return data
