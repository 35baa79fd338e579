"""How items stand that are stopped, suspended or deleted, kept beside the log for an import.

The log says which recovery points there are and nothing of what people decided about their item.
That is written here as a whole whenever it changes: a sealed and signed object ``life/<number>``,
of which the highest number counts and the one before it stays. Versions that do not know it pass
over it, and a vault without it is read as one whose items are stopped with their data retained.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.errors import IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout
from holdfast.vaultstore.chain import create_or_find
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.format import ObjectKind

MOST_BYTES = 64 * 1024 * 1024


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
    for their first backup. ``soft_delete``: the vault's softDeleteSettings."""

    version: int = 0
    items: dict[str, ItemLife] = {}
    soft_delete: dict[str, Any] = {}


class _Numbered(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    life: VaultLife


def write_life(core: VaultCore, life: VaultLife) -> int:
    """Make ``life`` what an import finds, unless the vault holds that version or a later one; the
    version it holds then."""
    with core.lock:
        while True:
            numbers = _numbers(core)
            newest = numbers[-1] if numbers else 0
            there = _version(core, newest)
            if there is not None and there >= life.version:
                return there
            body = msgspec.msgpack.encode(_Numbered(number=newest + 1, life=life))
            data = core.seal.seal_signed(ObjectKind.LIFE, body)
            if create_or_find(core.objects, layout.life_key(newest + 1), data):
                break
        for number in numbers[:-1]:
            core.objects.delete(layout.life_key(number))
    return life.version


def _version(core: VaultCore, newest: int) -> int | None:
    """None when there is none that can be read."""
    try:
        return _read(core, newest).version if newest else None
    except (IntegrityError, ObjectMissingError):
        return None


def read_life(core: VaultCore) -> VaultLife | None:
    """What was written last; None when nothing ever was. IntegrityError (ObjectDamaged) when that
    cannot be read: what was before it does not count any more."""
    numbers = _numbers(core)
    try:
        return _read(core, numbers[-1]) if numbers else None
    except ObjectMissingError:  # replaced by another process just now
        return _read(core, _numbers(core)[-1])


def _numbers(core: VaultCore) -> list[int]:
    found = (layout.life_number(info.key) for info in core.objects.list(layout.LIFE))
    return sorted(number for number in found if number is not None)


def _read(core: VaultCore, number: int) -> VaultLife:
    data = core.objects.read(layout.life_key(number))
    if len(data) > MOST_BYTES:
        raise IntegrityError("it is too large", code="ObjectDamaged")
    body = core.seal.open_signed(ObjectKind.LIFE, data)
    try:
        found = msgspec.msgpack.decode(body, type=_Numbered)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"its body is damaged: {error}", code="ObjectDamaged") from error
    if found.number != number:
        raise IntegrityError("it is stored under another number", code="ObjectDamaged")
    return found.life
