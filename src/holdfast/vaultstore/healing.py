"""Better refsets: the chunks of a recovery point by sound copies where its own are damaged.

A backup that found a chunk damaged has sent it again under a new ordinal. The bytes of an id are
always the same, so an older point that needs the id may take the new copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from holdfast.errors import IntegrityError, ObjectMissingError
from holdfast.vaultstore import refset
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.references import MissingChunksError, Resolver
from holdfast.vaultstore.state import Point
from holdfast.vaultstore.table import Bytes2D


@dataclass(frozen=True, slots=True)
class Better:
    """What a point could refer to. ``readable``: whether its own refset can be read; ``found``
    chunks have a sound copy in place of a damaged one; ``lost``: ids (n x 32) that have none.
    ``ordinals`` is None when neither refset nor pages tell what the point needs."""

    readable: bool
    ordinals: refset.Ordinals | None
    found: int
    lost: Bytes2D

    @property
    def changes(self) -> bool:
        return self.ordinals is not None and (self.found > 0 or not self.readable)


_NONE: Bytes2D = np.empty((0, 32), np.uint8)


def better_refset(core: VaultCore, point: Point) -> Better:
    """Look for sound copies of what a point needs, among the chunks of its own container. Takes the
    lock only to look up."""
    try:
        needed = core.refset_of(point)
    except (IntegrityError, ObjectMissingError):
        return _from_pages(core, point)
    with core.lock:
        bad = needed[refset.contains(core.damaged, needed)]
        rows = core.index.rows(bad.astype(np.int64))
        ids = np.ascontiguousarray(rows["id"])
        copies = core.find(ids, container=container_of(point), sound=True)
    sound = copies >= 0
    if not bool(sound.any()):
        return Better(True, needed, 0, ids)
    kept = refset.difference(needed, bad[sound])
    better = refset.union((kept, refset.normal(copies[sound].astype(np.uint64))))
    return Better(True, better, int(sound.sum()), ids[~sound])


def _from_pages(core: VaultCore, point: Point) -> Better:
    """By the point's pages. Chunks known to be damaged that have no sound copy stay named, so that
    their pack stays."""
    container = container_of(point)
    resolver = Resolver(core)
    try:
        found = resolver.references(point.op.root_id, container)
    except (IntegrityError, ObjectMissingError, MissingChunksError):
        return Better(False, None, 0, _NONE)
    ids = np.unique(np.concatenate((found.root_id, found.pages, found.content)), axis=0)
    with core.lock:
        sound = core.find(ids, container=container, sound=True)
        held = core.find(ids, container=container)
    lost = ids[sound < 0]
    chosen = np.where(sound >= 0, sound, held)
    if bool((chosen < 0).any()):
        return Better(False, None, 0, lost)
    return Better(False, refset.normal(chosen.astype(np.uint64)), 0, lost)


def brought_copies(core: VaultCore, point: Point) -> bool:
    """Whether what was sent for a point holds sound copies of damaged chunks. Caller holds the
    lock."""
    if not len(core.damaged):
        return False
    state = core.state
    ids = np.ascontiguousarray(core.index.rows(core.damaged.astype(np.int64))["id"])
    copies = core.find(ids, container=container_of(point), sound=True)
    keys, job = state.sealing_keys, (point.op.item_key, point.op.job_id)
    sent = {name for name, key in keys.items() if (key.item_key, key.job_id) == job}
    for entry in state.tables.values():
        packs = (state.packs[pack_id] for pack_id in entry.all_packs if pack_id in state.packs)
        if any(one.pack.session_id in sent for one in packs):
            first, end = entry.table.base, entry.table.base + entry.table.rows
            if bool(((copies >= first) & (copies < end)).any()):
                return True
    return False


def container_of(point: Point) -> str:
    """Whose chunks a point may refer to."""
    return point.op.item_key.rpartition("/")[0]
