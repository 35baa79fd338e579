"""Keys of a machine's encrypted volumes: into its recovery point, wrapped, and out of it.

What anybody may read of a point names them and shows no value; see ``vaultstore.machine_keys``.
"""

from __future__ import annotations

from typing import Any

from holdfast.errors import IntegrityError
from holdfast.ports.clock import Random
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.machine_keys import (
    KEYS_STREAM,
    MAX_KEYS_BYTES,
    MEDIA_TYPE,
    MachineKey,
    unwrap_keys,
    wrap_keys,
    wrapping_key,
)
from holdfast.vaultstore.manifest_stream import FetchAll, Put, read_stream, write_stream
from holdfast.vaultstore.root import Root, Stream
from holdfast.workloads.vm.disks.values import KeysInput

Shown = list[dict[str, Any]]


def keys_shown(given: KeysInput | None) -> Shown:
    """Names, versions and disks of the keys; no values."""
    keys = given.keys if given is not None else ()
    return [{"name": one.name, "version": one.version, "luns": list(one.luns)} for one in keys]


def keys_claims(given: KeysInput | None) -> dict[str, Any]:
    """What the backup says of them; nothing of a machine that has none."""
    if given is None:
        return {}
    return {"encrypted": True, "keys": keys_shown(given), "keysMissing": list(given.missing)}


def write_keys(
    given: KeysInput | None, grant: SessionGrant, rng: Random, put_chunk: Put, put_page: Put
) -> tuple[Stream, ...]:
    """Their stream, in a backup's session; none when there are none."""
    if given is None or not given.keys:
        return ()
    wrapped = wrap_keys(wrapping_key(grant.session_key), grant.vault_id, given.keys, rng)
    return (write_stream(KEYS_STREAM, wrapped, put_chunk, put_page, MEDIA_TYPE),)


def holds_keys(root: Root) -> bool:
    return any(stream.name == KEYS_STREAM for stream in root.streams)


def read_keys(root: Root, fetch: FetchAll, key: bytes, vault_id: bytes) -> tuple[MachineKey, ...]:
    """Unwrapped with the ``wrapping_key`` of the session that made the point. IntegrityError
    (MachineKeysDamaged, ManifestDamaged)."""
    for stream in root.streams:
        if stream.name == KEYS_STREAM:
            wrapped: Buffer = read_stream(stream, fetch, MAX_KEYS_BYTES)
            return unwrap_keys(key, vault_id, wrapped)
    raise IntegrityError("the recovery point holds no keys", code="ManifestDamaged")
