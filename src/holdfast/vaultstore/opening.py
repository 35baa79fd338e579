"""Creating and opening a vault's core."""

from __future__ import annotations

from pathlib import Path

from holdfast.errors import ConflictError, IntegrityError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import ObjectStore
from holdfast.vaultstore import keys, layout, log
from holdfast.vaultstore.chain import Chain, create_or_find
from holdfast.vaultstore.core import Surroundings, VaultCore
from holdfast.vaultstore.descriptor import (
    Descriptor,
    encode_descriptor,
    new_descriptor,
    read_descriptor,
)
from holdfast.vaultstore.layout import VaultObjects
from holdfast.vaultstore.probe import probe_store
from holdfast.vaultstore.rings import Rings, load_rings
from holdfast.vaultstore.rowstore import MappedRowStore, RowStore
from holdfast.vaultstore.sealed import ServiceSeal
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.values import VaultIds, VaultOptions
from holdfast.vaultstore.vaultclock import VaultClock


def create_vault(
    store: ObjectStore,
    platform_key: bytes,
    ids: VaultIds,
    options: VaultOptions,
    surroundings: Surroundings,
) -> None:
    """Write what makes a vault: rings, descriptor, first record. Each step finds what an earlier,
    interrupted creation left. ConflictError (VaultExists) when the last step was already done."""
    objects = VaultObjects(store, ids.vault_id)
    if objects.size(layout.log_key(log.FIRST_SEQUENCE)) is not None:
        raise ConflictError(
            f"vault {layout.vault_prefix(ids.vault_id).rstrip('/')} exists in this store",
            code="VaultExists",
        )
    finding = probe_store(objects, surroundings.rng) if options.probe else "not probed"
    rings = _first_rings(objects, platform_key, ids, surroundings)
    if objects.size(layout.DESCRIPTOR) is None:
        data = encode_descriptor(new_descriptor(ids, options, finding))
        create_or_find(objects, layout.DESCRIPTOR, data)
    descriptor = read_descriptor(objects, ids.vault_id)
    seal = ServiceSeal(ids.vault_id, rings.service, surroundings.rng)
    chain = Chain(objects, seal, descriptor.hash)
    clock = VaultClock(surroundings.clock, 0)

    def first(state: LogState) -> tuple[log.Operation, ...]:
        if state.sequence:
            return ()
        return (log.VaultOpened(vault_id=ids.vault_id, domain_id=ids.domain_id),)

    chain.append(first, lambda state: max(clock.now_ns(), state.time_ns))


def _first_rings(
    objects: VaultObjects, platform_key: bytes, ids: VaultIds, surroundings: Surroundings
) -> Rings:
    """The first rings, the service's before the domain's, which it signs."""
    rng = surroundings.rng
    opener = keys.Opener(platform_key=platform_key)
    service = keys.new_service_ring(rng)
    name = keys.ring_key_name(service)
    if objects.size(name) is None:
        create_or_find(objects, name, _encode(service, service, ids.vault_id, platform_key, rng))
    service, _ = keys.open_service_ring(objects.read(name), ids.vault_id, opener)
    domain = keys.new_domain_ring(ids.domain_id, rng)
    name = keys.ring_key_name(domain)
    if objects.size(name) is None:
        create_or_find(objects, name, _encode(domain, service, ids.vault_id, platform_key, rng))
    return load_rings(objects, ids.vault_id, ids.domain_id, opener)


def _encode(
    ring: keys.Ring,
    service: keys.ServiceRing,
    vault_id: bytes,
    platform_key: bytes,
    rng: Random,
) -> bytes:
    return keys.encode_ring(ring, vault_id, service.signer, rng, platform_key=platform_key)


def open_core(
    store: ObjectStore,
    vault_id: bytes,
    opener: keys.Opener,
    surroundings: Surroundings | None,
    *,
    cache_dir: Path | None = None,
    accept_damage: bool = False,
) -> tuple[VaultCore, Descriptor]:
    """Open a vault: descriptor, rings, log, index.

    ``accept_damage``: a damaged log is read up to the damage, and nothing is appended to it.
    NotFoundError (VaultMissing), AccessError (WrongKey), IntegrityError (LogDamaged).
    """
    objects = VaultObjects(store, vault_id, whole=True)
    descriptor = read_descriptor(objects, vault_id)
    rings = load_rings(objects, vault_id, descriptor.ids.domain_id, opener)
    rng = surroundings.rng if surroundings else None
    chain = Chain(objects, ServiceSeal(vault_id, rings.service, rng), descriptor.hash)
    try:
        chain.replay()
    except IntegrityError:
        if not accept_damage or not chain.state.sequence:
            raise
    if not chain.state.sequence:
        raise IntegrityError(
            "the vault has no log: its creation was interrupted, or its folder is damaged",
            code="LogDamaged",
            hint="Create the vault again, or put the log folder back from a copy of the store.",
        )
    rows = MappedRowStore(cache_dir) if cache_dir is not None else RowStore()
    core = VaultCore(objects, rings, chain, rows, surroundings)
    core.sync()
    return core, descriptor
