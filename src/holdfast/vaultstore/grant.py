"""What the service hands an agent for one session: enough to name, cut, seal and send; no ring."""

from __future__ import annotations

import msgspec


class ParentPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The item's newest recovery point, pinned while the session lives. Root id: 32 bytes."""

    rp_id: str
    root_id: bytes


class SessionGrant(msgspec.Struct, frozen=True, kw_only=True):
    """Ids of 16 bytes; keys of 32. ``session_key``, ``wrapped_session_key`` and ``id_keys`` are
    empty in a restore's grant except the id keys of its pages; ``root_id`` is set there instead.
    ``container_is_empty``: nothing of this container is in the vault, so lookups can be skipped.
    ``keys_key``: unwraps the machine keys of a restore's point; empty unless they are put back.
    ``witness``: the vault's head, for the agent to keep (vaultstore.head)."""

    vault_id: bytes
    domain_id: bytes
    session_id: bytes
    epoch: int
    wrapped_session_key: bytes
    session_key: bytes
    id_keys: dict[int, bytes]
    chunker_seed: int
    pack_target_bytes: int
    zstd_level: int
    parent: ParentPoint | None = None
    container_is_empty: bool = False
    root_id: bytes = b""
    keys_key: bytes = b""
    witness: bytes = b""

    def __repr__(self) -> str:
        return f"SessionGrant({self.session_id.hex()})"


def encode_grant(grant: SessionGrant) -> bytes:
    return msgspec.msgpack.encode(grant)


def decode_grant(data: bytes) -> SessionGrant:
    return msgspec.msgpack.decode(data, type=SessionGrant)
