"""Objects no record names: what crashes and refused uploads leave behind.

Order makes this safe without a clock: the store is listed first and the log read after. Whatever
was listed was written by a session that was open by record before; if after the listing no record
names the object and its session has ended, no record ever will, because records are refused in the
name of an ended session and packs are only taken over from an open one.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.errors import HoldfastError
from holdfast.ports.object_store import ObjectInfo
from holdfast.vaultstore import layout
from holdfast.vaultstore.core import SESSION_BYTES, VaultCore
from holdfast.vaultstore.format import ObjectKind
from holdfast.vaultstore.state import LogState
from holdfast.vaultstore.table import decode_table

_ROOMS = (layout.PACKS, layout.TABLES, layout.REFSETS, layout.SESSIONS, layout.PROBE)


def find_orphans(core: VaultCore) -> list[ObjectInfo]:
    """Objects that may be deleted. Reads the log after listing."""
    listed = [info for room in _ROOMS for info in core.objects.list(room)]
    core.refresh()
    state = core.state
    refsets = {point.op.refset.name for point in (*state.points.values(), *state.expired.values())}
    return list(_unnamed(core, state, refsets, listed))


def _unnamed(
    core: VaultCore, state: LogState, refsets: set[str], listed: list[ObjectInfo]
) -> Iterator[ObjectInfo]:
    for info in listed:
        room, _, name = info.key.partition("/")
        if room == "probe" or (room == "sessions" and _id(name) not in state.sessions):
            yield info
        elif room == "packs":
            session_name, _, pack_name = name.partition("/")
            if _id(session_name) not in state.sessions and _id(pack_name) not in state.packs:
                yield info
        elif (room == "tables" and _id(name) not in state.tables) or (
            room == "refsets" and name not in refsets
        ):
            writer = _writer_of(core, info.key)
            if writer is not None and writer not in state.sessions:
                yield info


def _writer_of(core: VaultCore, key: str) -> bytes | None:
    """The session that wrote a table or refset, or None when it cannot be told."""
    try:
        data = core.objects.read(key)
        if key.startswith(layout.REFSETS):
            return core.seal.open(ObjectKind.REFSET, data)[:SESSION_BYTES]
        return decode_table(core.seal.open(ObjectKind.TABLE, data)).header.session_id
    except HoldfastError:
        return None


def _id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
