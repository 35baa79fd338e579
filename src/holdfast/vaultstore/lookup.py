"""Presence: which chunks an agent need not send."""

from __future__ import annotations

import numpy as np

from holdfast.errors import LimitError
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.ids import ID_BYTES, NAME_BYTES

MAX_LOOKUP = 65_536  # names in one call


def lookup(core: VaultCore, session_id: bytes, packed: bytes) -> bytes:
    """n x 48 bytes (id and proof) in, n bytes out: 1 when this session's own container wrote the
    chunk, it is in a table of the log, and the proof of possession matches. LimitError."""
    if len(packed) % NAME_BYTES or len(packed) > NAME_BYTES * MAX_LOOKUP:
        raise LimitError(
            f"give at most {MAX_LOOKUP} names of {NAME_BYTES} bytes", code="TooManyIds"
        )
    names = np.frombuffer(packed, np.uint8).reshape(-1, NAME_BYTES)
    ids = np.ascontiguousarray(names[:, :ID_BYTES])
    proofs = np.ascontiguousarray(names[:, ID_BYTES:])
    with core.lock:
        container = core.session(session_id, "backup").opened.container
        found = core.find(ids, container=container, proofs=proofs, sound=True)
    return (found >= 0).astype(np.uint8).tobytes()
