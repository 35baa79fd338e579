"""The key rings of a vault in its store: read the newest, write the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from holdfast.errors import ConflictError, IntegrityError, UsageError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import keys
from holdfast.vaultstore.chain import create_or_find
from holdfast.vaultstore.format import Header
from holdfast.vaultstore.recovery_key import open_recovery_key
from holdfast.vaultstore.values import Unlock

SERVICE_FOLDER = "keyring/service/"
GAP = 1  # numbers that may be missing in a row
Opened = TypeVar("Opened")


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
    """Open the newest rings that are whole (all numbers hold the same keys, newer ones more slots
    or epochs). AccessError (WrongKey); IntegrityError (KeyringMissing, KeyringDamaged)."""
    service, slots = _newest_whole(
        store, SERVICE_FOLDER, vault_id, lambda data: keys.open_service_ring(data, vault_id, opener)
    )
    domain, _ = _newest_whole(
        store,
        domain_folder(domain_id),
        vault_id,
        lambda data: keys.open_domain_ring(data, vault_id, opener, service.verifier, domain_id),
    )
    return Rings(service, domain, keys.recovery_publics(slots))


def following(store: ObjectStore, rings: Rings, recovery: tuple[bytes, ...]) -> Rings:
    """The same keys under numbers not yet used, for other slots."""
    folders = (SERVICE_FOLDER, domain_folder(rings.domain.domain_id))
    used = [int(name.rpartition("/")[2]) for folder in folders for name in _names(store, folder)]
    number = 1 + max(used, default=0)
    replace = msgspec.structs.replace
    return Rings(
        replace(rings.service, number=number), replace(rings.domain, number=number), recovery
    )


def domain_folder(domain_id: bytes) -> str:
    return f"keyring/domain-{domain_id.hex()}/"


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


def _names(store: ObjectStore, folder: str) -> list[str]:
    """By number. A listing may be older than the store: the numbers after the last one it has are
    looked at by name. One may be missing between two, where a change was cut off."""
    listed = (info.key[len(folder) :] for info in store.list(folder))
    numbers = {int(name) for name in listed if name.isdigit()}
    at = max(numbers, default=0) + 1
    last = at + GAP
    while at <= last:
        if store.size(_name(folder, at)) is not None:
            numbers.add(at)
            last = at + 1 + GAP
        at += 1
    return [_name(folder, number) for number in sorted(numbers)]


def _name(folder: str, number: int) -> str:
    return f"{folder}{number:08d}"


def _newest_whole(
    store: ObjectStore, folder: str, vault_id: bytes, open_ring: Callable[[bytes], Opened]
) -> Opened:
    first: IntegrityError | None = None
    for name in reversed(_names(store, folder)):
        try:
            data = store.read(name)
            if keys.ring_number(data, vault_id) != int(name[len(folder) :]):
                raise IntegrityError("it is stored under another ring's number")
            return open_ring(data)
        except IntegrityError as error:
            first = first or IntegrityError(
                f"the vault's key ring {name} cannot be used: {error.message}",
                code="KeyringDamaged",
                hint="Put the keyring folder back from a copy of the store.",
                target=name,
            )
    raise first or IntegrityError(
        f"the vault's key ring {folder} is missing",
        code="KeyringMissing",
        hint="Put the keyring folder back from a copy of the store.",
    )


def check_ring_name(key: str, header: Header) -> None:
    """Whether a ring object's header belongs to its name. IntegrityError (ObjectMisplaced)."""
    folder, _, name = key.rpartition("/")
    number = int.from_bytes(header.value(keys.TLV_NUMBER), "little")
    own = {domain_folder(header.domain_id)}
    if not any(header.domain_id):
        own.add(SERVICE_FOLDER)
    if f"{folder}/" not in own or not name.isdigit() or int(name) != number:
        raise IntegrityError(f"it is ring {number} of another folder", code="ObjectMisplaced")


def damaged_rings(
    store: ObjectStore, vault_id: bytes, rings: Rings
) -> list[tuple[str, IntegrityError]]:
    """(key, what is wrong) of ring objects that are empty, another's, or whose signature does not
    hold."""
    verifier = Ed25519PublicKey.from_public_bytes(rings.service.verifier)
    found = []
    for folder in (SERVICE_FOLDER, domain_folder(rings.domain.domain_id)):
        for name in _names(store, folder):
            try:
                _check_ring(name, store.read(name), vault_id, verifier)
            except IntegrityError as error:
                found.append((name, error))
    return found


def _check_ring(name: str, data: bytes, vault_id: bytes, verifier: Ed25519PublicKey) -> None:
    if not data:
        raise IntegrityError("it is empty", code="ObjectTruncated")
    signed, signature = data[: -keys.SIGNATURE_BYTES], data[-keys.SIGNATURE_BYTES :]
    try:
        verifier.verify(signature, signed)
    except InvalidSignature as error:
        raise IntegrityError("its signature is wrong", code="ObjectDamaged") from error
    check_ring_name(name, keys.ring_header(data, vault_id))
