"""Dirty bitmaps of a disk: what they are called, which can be used, and how they are rotated.

A name is ``holdfast-DISK-TOKEN``: DISK says which machine and LUN it was made for, so that images
that changed places are noticed; TOKEN is the recovery point the bitmap counts from. Everything
here decides; the actions it returns are one QMP ``transaction``, all or nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.errors import UsageError
from holdfast.ports.hypervisor import Parent

PREFIX = "holdfast-"
GRANULARITY = 65536  # bytes a bit stands for: QEMU's cluster, and small for a chunk
TOKEN = re.compile(r"[a-z0-9-]{1,64}")
Action = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bitmap:
    """As the monitor shows it. ``inconsistent``: QEMU ended without storing it. ``busy``: somebody
    uses it now."""

    name: str
    recording: bool = True
    inconsistent: bool = False
    busy: bool = False


def check_token(token: str) -> None:
    """UsageError when it cannot be part of a name."""
    if not TOKEN.fullmatch(token):
        raise UsageError(f"the token {token!r} is not 1 to 64 of a-z, 0-9 and -")


def disk_mark(machine: str, lun: int) -> str:
    """Eight hex digits for a machine's disk."""
    return hashlib.sha256(f"{machine}/{lun}".encode()).hexdigest()[:8]


def bitmap_name(machine: str, lun: int, token: str) -> str:
    check_token(token)
    return f"{PREFIX}{disk_mark(machine, lun)}-{token}"


def read_bitmaps(shown: Sequence[Mapping[str, Any]]) -> tuple[Bitmap, ...]:
    """From a node's ``dirty-bitmaps``; bitmaps of running jobs have no name and are left out."""
    return tuple(
        Bitmap(
            str(one["name"]),
            bool(one.get("recording")),
            bool(one.get("inconsistent")),
            bool(one.get("busy")),
        )
        for one in shown
        if one.get("name")
    )


def choose(
    bitmaps: Sequence[Bitmap], name: str, parent: Parent | None, identity: str
) -> tuple[Bitmap | None, str]:
    """The bitmap an increment can be taken from, or None and why the disk is read in full."""
    if parent is None:
        return None, "first backup of this disk"
    if parent.identity != identity:
        return None, "another image has taken the place of this disk"
    found = next((one for one in bitmaps if one.name == name), None)
    if found is None:
        return None, "the record of changes is gone: the machine ended before it was stored"
    if found.inconsistent:
        return None, "the record of changes is incomplete: the machine ended without storing it"
    if found.busy:
        return None, "the record of changes is in use by another program"
    if not found.recording:
        return None, "the record of changes was stopped by another program"
    return found, ""


def start(node: str, new: str, old: str | None, *, persistent: bool) -> list[Action]:
    """Stop ``old``, record into ``new`` from this moment."""
    adding = {"node": node, "name": new, "persistent": persistent, "granularity": GRANULARITY}
    actions = [_action("add", adding)]
    return [_action("disable", {"node": node, "name": old}), *actions] if old else actions


def commit(node: str, old: str | None) -> list[Action]:
    """The new one counts."""
    return [_remove(node, old)] if old else []


def rollback(node: str, new: str, old: str | None) -> list[Action]:
    """The old one counts, with what changed meanwhile."""
    return [*_join(node, old, [new]), _remove(node, new)] if old else [_remove(node, new)]


def forget(node: str, bitmaps: Sequence[Bitmap]) -> list[Action]:
    """Remove ours from a disk that is backed up no more."""
    ours = [one for one in bitmaps if one.name.startswith(PREFIX) and not one.busy]
    return [_remove(node, one.name) for one in ours]


def settle(
    node: str, bitmaps: Sequence[Bitmap], machine: str, lun: int, committed: str | None
) -> list[Action]:
    """Bring our bitmaps of a disk to the committed token, whatever was interrupted.

    The committed one still records: it is the newest, the others are done with. It was stopped:
    a later backup began and came to no end, and what was recorded since belongs to it. Adding too
    much is safe, it is only read again.
    """
    ours = [one for one in bitmaps if one.name.startswith(PREFIX) and not one.busy]
    wanted = bitmap_name(machine, lun, committed) if committed else ""
    kept = next((one for one in ours if one.name == wanted and not one.inconsistent), None)
    others = [one for one in ours if one is not kept]
    actions = []
    if kept is not None and not kept.recording:
        mark = f"{PREFIX}{disk_mark(machine, lun)}-"
        later = [one for one in others if one.name.startswith(mark)]
        if not later or any(one.inconsistent for one in later):
            others.append(kept)  # what was written since it stopped is known to nobody
        else:
            actions = _join(node, kept.name, [one.name for one in later])
    return actions + [_remove(node, one.name) for one in others]


def _join(node: str, old: str, later: Sequence[str]) -> list[Action]:
    return [
        _action("enable", {"node": node, "name": old}),
        _action("merge", {"node": node, "target": old, "bitmaps": list(later)}),
    ]


def _remove(node: str, name: str) -> Action:
    return _action("remove", {"node": node, "name": name})


def _action(verb: str, data: dict[str, Any]) -> Action:
    return {"type": f"block-dirty-bitmap-{verb}", "data": data}
