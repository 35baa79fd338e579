"""Verify: read back what live recovery points need, and name exactly what is damaged.

Packs are read whole: size and hash against the log, then every frame that a point refers to is
decrypted, decompressed and its id recomputed. The log is replayed from the store, tables and
refsets are compared with the hashes the log has. A session pins nothing here: a pack that a collect
removed meanwhile is passed over, because the log then no longer names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3

from holdfast.errors import HoldfastError, IntegrityError, ObjectMissingError
from holdfast.vaultstore import layout, refset
from holdfast.vaultstore.births import Births, binding_of, births_of
from holdfast.vaultstore.chain import Chain
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.index import Flags
from holdfast.vaultstore.records import hash_object
from holdfast.vaultstore.references import MissingChunksError, chunks_from_pages
from holdfast.vaultstore.rings import damaged_rings
from holdfast.vaultstore.runs import Places
from holdfast.vaultstore.scrub import problem_of
from holdfast.vaultstore.seal import check_id, open_frame
from holdfast.vaultstore.state import LogState, PackEntry, Point
from holdfast.vaultstore.table import Rows
from holdfast.vaultstore.values import Damage, Problem, VerifyReport

HASH_BYTES = 32
Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]


@dataclass(slots=True)
class _Work:
    """What a run gathers. ``needed``: each point's chunks. ``looked_at``: numbers of packs."""

    needed: dict[str, refset.Ordinals] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    looked_at: set[int] = field(default_factory=set)
    packs: int = 0
    frames: int = 0
    stored: int = 0
    plain: int = 0
    complete: bool = True


def verify_vault(
    core: VaultCore,
    items: Sequence[str] | None,
    progress: Progress,
    cancelled: Cancelled,
) -> VerifyReport:
    """Verify all items, or some. Nothing is written. StoreUnavailableError when the store does not
    answer: a passing fault is not damage."""
    work = _small_objects(core, items)
    _check_packs(core, work, progress, cancelled)
    return VerifyReport(
        sequence=core.state.sequence,
        packs=work.packs,
        frames=work.frames,
        stored_bytes=work.stored,
        plain_bytes=work.plain,
        recovery_points=len(work.points),
        damages=tuple(work.damages),
        complete=work.complete,
    )


def diagnose(core: VaultCore, keys: Collection[str]) -> list[Damage]:
    """Damage of these packs and of all smaller objects, with the points that need them. Of packs
    only those are told of that hold chunks in use; the chunks of the others count as damaged."""
    work = _small_objects(core, None)
    _check_packs(core, work, lambda _done, _total: None, lambda: False, frozenset(keys))
    with core.lock:
        for entry in core.state.packs.values():
            key = layout.pack_key(entry.pack.session_id, entry.pack.pack_id)
            if key in keys and entry.ordinal not in work.looked_at:
                unused = core.ordinals_of(entry)
                core.note_damage(unused, unused)
    return work.damages


def _small_objects(core: VaultCore, items: Sequence[str] | None) -> _Work:
    """A run that has looked at everything but packs."""
    core.refresh()
    core.check_cache()
    work = _Work()
    _check_log(core, work)
    _check_rings(core, work)
    _gather(core, items, work)
    _check_tables(core, work)
    return work


def _check_log(core: VaultCore, work: _Work) -> None:
    again = Chain(core.objects, core.seal, core.chain.descriptor_hash)
    try:
        again.replay()
        short = again.state.sequence < core.state.sequence
        broken = again.state.sequence + 1
        detail = "the record is missing" if short else ""
    except IntegrityError as error:
        short, broken, detail = True, again.state.sequence + 1, error.message
    if short:
        points = [p for p in core.state.points.values() if p.sequence >= broken]
        problem: Problem = "missing" if "missing" in detail else "altered"
        work.damages.append(_damage(layout.log_key(broken), problem, detail, points))


def _check_rings(core: VaultCore, work: _Work) -> None:
    for key, error in damaged_rings(core.objects, core.vault_id, core.rings):
        if key in core.quarantined:
            continue
        problem = "empty" if error.code == "ObjectTruncated" else problem_of(error)
        work.damages.append(_damage(key, problem, error.message, core.state.points.values()))
    if core.objects.size(layout.DESCRIPTOR) is None:
        points = core.state.points.values()
        work.damages.append(_damage(layout.DESCRIPTOR, "missing", "it is gone", points))


def _gather(core: VaultCore, items: Sequence[str] | None, work: _Work) -> None:
    for rp_id, point in core.state.points.items():
        if items is not None and point.op.item_key not in items:
            continue
        try:
            work.needed[rp_id] = core.refset_of(point)
            work.points[rp_id] = point
        except (IntegrityError, ObjectMissingError) as error:
            if rp_id not in _now(core).points:
                continue
            work.points[rp_id] = point
            key = layout.refset_key(point.op.refset.name)
            detail = f"{error.message}; the list of chunks was computed from the pages"
            work.damages.append(_damage(key, _problem_of(core, key, error), detail, [point]))
            work.needed[rp_id] = _from_pages(core, point)


def _now(core: VaultCore) -> LogState:
    """The newest state: what is missing may have been let go since the run began."""
    core.refresh()
    return core.state


def _from_pages(core: VaultCore, point: Point) -> refset.Ordinals:
    try:
        return chunks_from_pages(core, point)
    except (IntegrityError, ObjectMissingError, MissingChunksError):
        return np.empty(0, np.uint64)


def _check_tables(core: VaultCore, work: _Work) -> None:
    for table_id, entry in core.state.tables.items():
        try:
            core.read_table(table_id, entry)
        except (IntegrityError, ObjectMissingError) as error:
            if table_id not in _now(core).tables:
                continue
            key = layout.table_key(table_id)
            points: list[Point] = []
            detail = f"{error.message}; it is rebuilt from the packs' trailers"
            if table_id in core.lost_tables:
                base = entry.table.base
                points = _affected(work, np.arange(base, base + entry.table.rows))
                detail = f"{error.message}; its packs are damaged too, so it cannot be rebuilt"
            work.damages.append(_damage(key, _problem_of(core, key, error), detail, points))


def _check_packs(
    core: VaultCore,
    work: _Work,
    progress: Progress,
    cancelled: Cancelled,
    only: Collection[str] | None = None,
) -> None:
    wanted = refset.union(work.needed.values()).astype(np.int64)
    with core.lock:
        rows = core.index.rows(wanted)
        wanted, rows = wanted[rows["clen"] > 0], rows[rows["clen"] > 0]
        entries = {
            entry.ordinal: entry
            for entry in core.state.packs.values()
            if only is None or layout.pack_key(entry.pack.session_id, entry.pack.pack_id) in only
        }
    numbers = np.unique(rows["pack"]).tolist()
    total = sum(entries[number].pack.size for number in numbers if number in entries)
    order = np.argsort(rows["pack"], kind="stable")
    starts = np.searchsorted(rows["pack"][order], numbers)
    groups = np.split(order, starts[1:]) if numbers else []
    for number, members in zip(numbers, groups, strict=True):
        if cancelled():
            work.complete = False
            return
        if number in entries:
            work.looked_at.add(number)
            _check_pack(core, work, entries[number], (rows[members], wanted[members]))
            progress(work.stored, total)


def _check_pack(
    core: VaultCore,
    work: _Work,
    entry: PackEntry,
    members: tuple[Rows, Places],
) -> None:
    pack = entry.pack
    rows, ordinals = members
    key = layout.pack_key(pack.session_id, pack.pack_id)
    try:
        data = core.objects.read(key)
    except ObjectMissingError:
        core.refresh()
        current = core.state.packs.get(pack.pack_id)
        if current is not None and current.condemned_at is None:
            _note(core, current, ordinals, ordinals)
            affected = _affected(work, ordinals)
            work.damages.append(
                _damage(key, "missing", "the pack is gone", affected, frames=len(rows))
            )
        return
    with core.lock:
        if pack.pack_id not in core.state.packs:
            return
        births = births_of(core, entry)
    work.packs += 1
    work.stored += len(data)
    bad = np.zeros(len(rows), bool)
    for index, plain_bytes in _bad_frames(core, births, rows, memoryview(data)):
        bad[index] = plain_bytes is None
        work.plain += plain_bytes or 0
    work.frames += len(rows)
    problem = _pack_problem(entry, data, bad)
    if problem is not None and _is_left(core, entry, ordinals):
        return
    _note(core, entry if problem is not None else None, ordinals, ordinals[bad])
    if problem is not None and (bool(bad.any()) or key not in core.quarantined):
        affected = _affected(work, ordinals[bad])
        frames = int(bad.sum())
        detail = f"{frames} of {len(rows)} chunks in use cannot be read"
        work.damages.append(_damage(key, problem, detail, affected, frames=frames))


def _is_left(core: VaultCore, entry: PackEntry, ordinals: Places) -> bool:
    """Whether a collect has moved what was needed out of a pack since the run began: its damage
    takes nothing along."""
    now = _now(core).packs.get(entry.pack.pack_id)
    if now is None or now.condemned_at is not None:
        return True
    with core.lock:
        return not bool((core.index.rows(ordinals)["pack"] == entry.ordinal).any())


def _note(core: VaultCore, pack: PackEntry | None, checked: Places, damaged: Places) -> None:
    """Remember what was found of a pack's chunks in use; of a damaged one (``pack``) the others,
    which nobody has looked at, count as damaged: no backup may come to rely on them."""
    all_checked = refset.normal(checked.astype(np.uint64))
    bad = refset.normal(damaged.astype(np.uint64))
    if pack is not None:
        with core.lock:
            others = core.ordinals_of(pack)
        bad = refset.union((bad, refset.difference(others, all_checked)))
        all_checked = refset.union((all_checked, others))
    core.note_damage(all_checked, bad)


def _pack_problem(entry: PackEntry, data: bytes, bad: Flags) -> Problem | None:
    size = entry.pack.size
    if not data:
        return "empty"
    if len(data) != size:
        return "truncated" if len(data) < size else "oversized"
    own = blake3(memoryview(data)[:-HASH_BYTES]).digest()
    if own != entry.pack.hash or data[-HASH_BYTES:] != entry.pack.hash:
        return "misplaced" if own == data[-HASH_BYTES:] else "altered"
    return "unreadable" if bool(bad.any()) else None


def _bad_frames(
    core: VaultCore, births: Births, rows: Rows, data: memoryview
) -> Iterator[tuple[int, int | None]]:
    """(index, plain length) of each row's frame; None when it cannot be opened."""
    for index, row in enumerate(rows):
        start = int(row["offset"])
        try:
            key, binding = binding_of(row, births)
            plain = open_frame(key, binding, data[start : start + binding.clen])
            check_id(core.id_keys, binding, plain)
            yield index, len(plain)
        except IntegrityError:
            yield index, None


def _affected(work: _Work, ordinals: Places) -> list[Point]:
    wanted = np.sort(ordinals).astype(np.uint64)
    return [
        work.points[rp_id]
        for rp_id, needed in work.needed.items()
        if bool(refset.contains(needed, wanted).any())
    ]


def _problem_of(core: VaultCore, key: str, error: HoldfastError) -> Problem:
    """What is wrong with a table or refset whose hash is not the one in the log."""
    if isinstance(error, ObjectMissingError):
        return "missing"
    data = core.objects.read(key)
    if not data:
        return "empty"
    tables = {layout.table_key(name): entry.table for name, entry in core.state.tables.items()}
    if key in tables and len(data) < tables[key].size:
        return "truncated"
    others = {table.hash for table in tables.values()}
    others |= {point.op.refset.hash for point in core.state.points.values()}
    if hash_object(data) in others:
        return "misplaced"
    return "truncated" if error.code == "ObjectTruncated" else "altered"


def _damage(
    key: str, problem: Problem, detail: str, points: Iterable[Point], *, frames: int = 0
) -> Damage:
    affected = list(points)
    return Damage(
        key=key,
        problem=problem,
        detail=detail,
        recovery_points=tuple(point.op.rp_id for point in affected),
        items=tuple(dict.fromkeys(point.op.item_key for point in affected)),
        frames=frames,
    )
