"""Where frames were born: what their keys and authenticated data are made from.

A frame may be moved verbatim into another pack and stays bound to the pack of its birth. The log
says which packs those are (``PackEntry.births``), and keeps the keys of their sessions as long as a
frame of them exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from holdfast.errors import IntegrityError
from holdfast.vaultstore.seal import FrameBinding, frame_key, pack_key
from holdfast.vaultstore.state import PackEntry

if TYPE_CHECKING:
    from holdfast.vaultstore.core import VaultCore


class Birth(NamedTuple):
    """Hash of the birth pack's header (32 B) and that pack's key (32 B)."""

    header_hash: bytes
    k_pack: bytes


Births = Sequence[Birth]


def births_of(core: VaultCore, entry: PackEntry) -> Births:
    """By a row's ``origin``: 0 is the pack itself. Caller holds the lock. ObjectMissingError,
    IntegrityError (SessionKeyForged)."""
    own = entry.pack
    found = [Birth(own.header_hash, pack_key(core.session_key(own.session_id), own.pack_id))]
    for born in entry.births:
        k_pack = pack_key(core.session_key(born.session_id), born.pack_id)
        found.append(Birth(born.header_hash, k_pack))
    return found


def birth_of(origin: int, births: Births) -> Birth:
    """The birth a row's ``origin`` names. IntegrityError (FrameDamaged)."""
    if origin >= len(births):
        raise IntegrityError(
            f"a frame says it was born in pack {origin} of {len(births) - 1}", code="FrameDamaged"
        )
    return births[origin]


def binding_of(row: np.void, births: Births) -> tuple[bytes, FrameBinding]:
    """The frame's key, and what its authenticated data names. IntegrityError (FrameDamaged)."""
    birth = birth_of(int(row["origin"]), births)
    binding = FrameBinding(
        birth.header_hash,
        int(row["birth_frame"]),
        int(row["kind"]),
        row["id"].tobytes(),
        int(row["clen"]),
        int(row["ulen"]),
        int(row["codec"]),
        int(row["flags"]),
    )
    return frame_key(birth.k_pack, binding.frame), binding
