"""Scrubbing an open vault: every object without any key, then what was found damaged with keys.

A run that was stopped or killed is gone on with by the next one, on any server: its cursor is kept
with the vault's health.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.vaultstore import layout
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.health import note_check, read_health
from holdfast.vaultstore.liveness import needed_points
from holdfast.vaultstore.scrub import Cancelled, Progress, Scrub, ScrubResult, Wanted
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.values import Check, Damage, ScrubReport
from holdfast.vaultstore.vaultclock import to_ns
from holdfast.vaultstore.verify import diagnose

SAVE_SECONDS = 60.0  # how much work a kill may cost


@dataclass(frozen=True, slots=True)
class _Before:
    """What an earlier run that was stopped has done."""

    started_ns: int
    cursor: str = ""
    objects: int = 0
    stored_bytes: int = 0
    damages: tuple[Damage, ...] = ()


def scrub_vault(core: VaultCore, progress: Progress, cancelled: Cancelled) -> ScrubReport:
    """Scrub everything, or go on where the last run was stopped. StoreUnavailableError when the
    store does not answer: a passing fault is not damage."""
    core.refresh()
    before = _before(core)
    wanted = wanted_of(core.state)
    scrub = Scrub(core.objects, core.vault_id, wanted, lambda key: _still_wanted(core, key))
    clock = core.writing.clock
    save_at = clock.monotonic() + SAVE_SECONDS
    result = ScrubResult(cursor=before.cursor)
    for result in scrub.run(before.cursor, progress, cancelled):
        if clock.monotonic() >= save_at:
            save_at = clock.monotonic() + SAVE_SECONDS
            _note(core, before, result, [*before.damages, *result.damages])
    damages = [*before.damages, *result.damages]
    if result.complete:
        damages = _diagnosed(core, damages)
    check = _note(core, before, result, damages)
    return ScrubReport(
        sequence=check.sequence,
        objects=check.objects,
        stored_bytes=check.stored_bytes,
        damages=tuple(damages),
        complete=check.complete,
        resumed=bool(before.cursor),
    )


def _before(core: VaultCore) -> _Before:
    health = read_health(core)
    last = health.checks.get("scrub")
    if last is None or last.complete:
        return _Before(to_ns(core.writing.clock.now()))
    told = [one for one in health.found if one.by == "scrub" and one.at_ns >= last.started_ns]
    seen = tuple(one.damage for one in told if one.damage.key <= last.cursor)
    return _Before(last.started_ns, last.cursor, last.objects, last.stored_bytes, seen)


def _note(
    core: VaultCore, before: _Before, result: ScrubResult, damages: Sequence[Damage]
) -> Check:
    check = Check(
        started_ns=before.started_ns,
        ended_ns=to_ns(core.writing.clock.now()),
        sequence=core.state.sequence,
        objects=before.objects + result.objects,
        stored_bytes=before.stored_bytes + result.stored_bytes,
        complete=result.complete,
        cursor="" if result.complete else result.cursor,
        damages=len(damages),
    )
    note_check(core, "scrub", check, damages)
    return check


def _diagnosed(core: VaultCore, damages: Sequence[Damage]) -> list[Damage]:
    """The same, each with the recovery points that need it where keys can tell; without what is
    in quarantine and not needed."""
    if not damages:
        return []
    known = {damage.key: damage for damage in diagnose(core, [one.key for one in damages])}
    others = [one for one in damages if one.key not in known]
    return [*known.values(), *(one for one in others if one.key not in core.quarantined)]


def wanted_of(state: LogState) -> dict[str, Wanted]:
    """What a state of the log says of the store's objects, by name."""
    wanted = {layout.log_key(number + 1): Wanted() for number in range(state.sequence)}
    wanted[layout.DESCRIPTOR] = Wanted()
    for entry in state.packs.values():
        pack = entry.pack
        key = layout.pack_key(pack.session_id, pack.pack_id)
        wanted[key] = Wanted(pack.size, pack.hash, entry.condemned_at is None)
    for table_id, held in state.tables.items():
        wanted[layout.table_key(table_id)] = Wanted(held.table.size, held.table.hash)
    for point in needed_points(state).values():
        named = point.op.refset
        wanted[layout.refset_key(named.name)] = Wanted(None, named.hash)
    return wanted


def _still_wanted(core: VaultCore, key: str) -> bool:
    """Whether the newest record still names an object that is not there."""
    core.refresh()
    wanted = wanted_of(core.state).get(key)
    return wanted is not None and wanted.needed
