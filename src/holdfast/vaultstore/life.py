"""How items stand that are stopped, suspended or deleted, kept beside the log for an import.

The log says which recovery points there are and nothing of what people decided about their item.
That is written here as a whole whenever it changes, in ``life/<number>``. A vault without it is
read as one whose items are stopped with their data retained.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.vaultstore import layout
from holdfast.vaultstore.beside import Beside
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.locking import LOCKED


class ItemLife(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item. ``state``: ProtectionStopped or BackupsSuspended; ``policy``: of a suspended item,
    as in an item document. Times [ns since the epoch] are those of a deletion."""

    state: str
    policy: dict[str, Any] | None = None
    deleted_at_ns: int | None = None
    purge_at_ns: int | None = None
    soft_delete_days: int | None = None


class VaultLife(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``version`` grows with every change. ``items``: by item key, those that neither run nor wait
    for their first backup. ``soft_delete``: the vault's softDeleteSettings. ``immutability``: its
    state, when it is not Disabled."""

    version: int = 0
    items: dict[str, ItemLife] = {}
    soft_delete: dict[str, Any] = {}
    immutability: str = ""


_ROOM = Beside(layout.LIFE, ObjectKind.LIFE, "life", VaultLife)


def write_life(core: VaultCore, life: VaultLife) -> int:
    """Make ``life`` what an import finds, unless the vault holds that version or a later one; the
    version it holds then. A lock that stands there stays. IntegrityError while the log is in
    doubt."""
    held = life.version

    def newer(there: VaultLife | None) -> VaultLife | None:
        nonlocal held
        if there is not None and there.version >= life.version:
            held = there.version
            return None
        if there is not None and there.immutability == LOCKED:
            return msgspec.structs.replace(life, immutability=LOCKED)
        return life

    with core.lock:
        core.require_sound()
        _ROOM.change(core, newer)
    return held


def read_life(core: VaultCore) -> VaultLife | None:
    """What was written last; None when nothing ever was. IntegrityError (ObjectDamaged)."""
    return _ROOM.newest(core)
