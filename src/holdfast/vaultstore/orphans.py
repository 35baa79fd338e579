"""Objects no record names: what crashes and refused uploads leave behind.

Order makes this safe without a clock: the store is listed first and the log read after. Whatever
was listed was written by a session that was open by record before; if after the listing no record
names the object and its session has ended, no record ever will, because records are refused in the
name of an ended session and packs are only taken over from an open one.

A table or refset that a write left torn does not tell whose it is. It waits until every session
that may have written it has ended: those that were open when it was first noticed. Which record
that was, a process remembers; another begins to wait anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.errors import HoldfastError, IntegrityError
from holdfast.ports.object_store import ObjectInfo
from holdfast.vaultstore import layout, locking
from holdfast.vaultstore.core import SESSION_BYTES, VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.table import decode_table

Torn = dict[str, int]  # by key: the record after which an unreadable object was first noticed
_SEALED = (layout.TABLES, layout.REFSETS)
_ROOMS = (layout.PACKS, layout.TABLES, layout.REFSETS, layout.SESSIONS, layout.PROBE)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """``free`` may be deleted; ``waiting``, which cannot be read, when ``sessions`` have ended."""

    free: list[ObjectInfo]
    waiting: list[ObjectInfo]
    sessions: list[bytes]


def find_orphans(core: VaultCore, torn: Torn) -> Leftovers:
    """Objects no record names. Reads the log after listing. ``torn`` is brought up to date."""
    listed = [info for room in _ROOMS for info in core.objects.list(room)]
    core.refresh()
    return judge(core, core.state, listed, torn)


def judge(core: VaultCore, state: LogState, listed: list[ObjectInfo], torn: Torn) -> Leftovers:
    """What a state of the log makes of objects that were listed before it was read."""
    free, unreadable = [], []
    for info in _unnamed(state, core.quarantined, listed):
        if not info.key.startswith(_SEALED):
            free.append(info)
            continue
        try:
            if _writer_of(core, info.key) not in state.sessions:
                free.append(info)
        except IntegrityError as error:
            if error.code not in ("FormatTooNew", "KeyMissing"):
                unreadable.append(info)
        except HoldfastError:
            continue  # out of reach now
    now = {info.key: torn.get(info.key, state.sequence) for info in unreadable}
    torn.clear()
    torn.update(now)
    fences = {info.key: _fence_of(state, now[info.key]) for info in unreadable}
    free += [info for info in unreadable if not fences[info.key]]
    waiting = [info for info in unreadable if fences[info.key]]
    return Leftovers(free, waiting, list(dict.fromkeys(s for one in fences.values() for s in one)))


def _fence_of(state: LogState, noticed_at: int) -> list[bytes]:
    """Open sessions that may have written what was noticed at this record; restores write none."""
    sessions = state.fence_of(noticed_at + 1)
    return [one for one in sessions if state.sessions[one].opened.kind != "restore"]


def _unnamed(
    state: LogState, quarantined: frozenset[str], listed: list[ObjectInfo]
) -> Iterator[ObjectInfo]:
    """Objects that no record names; of those that say in their name whose they are, the ones whose
    session has ended. What a repair has put aside stays, and what is locked."""
    refsets = {point.op.refset.name for point in (*state.points.values(), *state.expired.values())}
    for info in {info.key: info for info in listed}.values():
        room, _, name = info.key.partition("/")
        if info.key in quarantined or locking.horizon_of(state, info.key) > state.time_ns:
            continue
        if room == "probe" or (room == "sessions" and _id(name) not in state.sessions):
            yield info
        elif room == "packs":
            session_name, _, pack_name = name.partition("/")
            if _id(session_name) not in state.sessions and _id(pack_name) not in state.packs:
                yield info
        elif (room == "tables" and _id(name) not in state.tables) or (
            room == "refsets" and name not in refsets
        ):
            yield info


def _writer_of(core: VaultCore, key: str) -> bytes:
    """The session that wrote a table or refset. IntegrityError when it cannot be read."""
    data = core.objects.read(key)
    if key.startswith(layout.REFSETS):
        return core.seal.open(ObjectKind.REFSET, data)[:SESSION_BYTES]
    return decode_table(core.seal.open(ObjectKind.TABLE, data)).header.session_id


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
