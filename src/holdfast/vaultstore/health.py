"""What is known of a vault's soundness, kept beside the log: the last checks, and what is damaged.

Nothing is decided by it but this: chunks known to be damaged answer absent, so that the next backup
that holds them sends them anew. It is written after each check, and read when the vault is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from holdfast.errors import IntegrityError, ObjectMissingError, StoreError
from holdfast.vaultstore import layout, refset
from holdfast.vaultstore.beside import Beside
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.values import Check, CheckKind, Damage, Found, VaultHealth

log = logging.getLogger(__name__)
KEPT = 1000  # damaged objects that are remembered by name


class _Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``chunks``: the damaged ones, encoded as a refset; empty for none."""

    checks: dict[str, Check] = {}
    found: tuple[Found, ...] = ()
    chunks: bytes = b""
    quarantined: tuple[str, ...] = ()


_ROOM = Beside(layout.HEALTH, ObjectKind.HEALTH, "health", _Stored)


def read_health(core: VaultCore) -> VaultHealth:
    """What the last checks found; nothing when that was never written or cannot be read."""
    stored = _readable(core)
    return VaultHealth(checks=stored.checks, found=stored.found, quarantined=stored.quarantined)


def load_damage(core: VaultCore) -> None:
    """Take over which chunks are known to be damaged, and what is in quarantine, unless this
    process wrote it or has read it before."""
    stored = _readable(core)
    core.quarantined = frozenset(stored.quarantined)
    if stored.chunks == core.damage_noted:
        return
    try:
        chunks = refset.decode_refset(stored.chunks) if stored.chunks else refset.union(())
    except IntegrityError:
        return
    with core.lock:
        core.damaged = chunks
        core.damage_noted = stored.chunks


def _readable(core: VaultCore) -> _Stored:
    try:
        return _ROOM.newest(core) or _Stored()
    except (IntegrityError, ObjectMissingError):
        return _Stored()


def note_check(core: VaultCore, kind: CheckKind, check: Check, damages: Sequence[Damage]) -> None:
    """Write down a check and what it found.

    A whole check replaces what was known: a verify everything but damage of objects that no point
    needs, a scrub everything but chunks that do not open in packs that are whole. A part of one
    only adds to it."""

    def noted(there: _Stored | None) -> _Stored:
        known = there or _Stored()
        stays = [one for one in known.found if not check.complete or _beyond(kind, one)]
        told = {damage.key for damage in damages}
        kept = [one for one in stays if one.damage.key not in told]
        new = [Found(by=kind, at_ns=check.ended_ns, damage=damage) for damage in damages]
        return msgspec.structs.replace(
            known,
            checks={**known.checks, kind: check},
            found=tuple([*kept, *new][:KEPT]),
            chunks=_chunks(core),
        )

    if core.chain.doubt is not None:  # nothing is written beside a log in doubt
        return
    try:
        _ROOM.change(core, noted)
    except StoreError as error:  # a full or read-only store can be checked as well
        log.warning("what a %s found is not kept with the vault: %s", kind, error.message)


def note_repair(
    core: VaultCore, left: Sequence[Damage], settled: Collection[str], now_ns: int
) -> None:
    """Write down what is still damaged after a repair, and names of damaged objects that nothing
    needs any more."""

    def noted(there: _Stored | None) -> _Stored:
        known = there or _Stored()
        before = {one.damage.key: one for one in known.found}
        found = []
        for damage in left:
            old = before.get(damage.key)
            by, at_ns = (old.by, old.at_ns) if old is not None else ("verify", now_ns)
            found.append(Found(by=by, at_ns=at_ns, damage=damage))
        core.quarantined = frozenset({*known.quarantined, *settled})
        return msgspec.structs.replace(
            known,
            found=tuple(found[:KEPT]),
            chunks=_chunks(core),
            quarantined=tuple(sorted(core.quarantined)),
        )

    _ROOM.change(core, noted)


def _chunks(core: VaultCore) -> bytes:
    """The damaged chunks whose packs are still in use."""
    with core.lock:
        packs = core.index.rows(core.damaged.astype(np.int64))["pack"]
        core.damaged = core.damaged[core.usable[packs]]
        chunks = refset.encode_refset(core.damaged) if len(core.damaged) else b""
        core.damage_noted = chunks
    return chunks


def _beyond(kind: CheckKind, one: Found) -> bool:
    """Whether a whole check of this kind does not look at what was found."""
    if kind == "verify":
        return one.by == "scrub" and not one.damage.recovery_points
    return one.damage.problem == "unreadable"
