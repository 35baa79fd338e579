"""Whether a dirty bitmap can be true: clean blocks, drawn at random, are compared with the point.

A bitmap is a hint. Blocks it calls clean must be what the point before says; one that is not shows
that the bitmap lies, and then everything is read.

The last clean block with data is always compared. QEMU does not mark what is cut off when a disk is
made smaller, so one that was cut and grew again has zeros there and calls them clean; whatever
else was lost lies between the cut and that block.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from holdfast.ports.block_device import BlockSource
from holdfast.ports.clock import Random
from holdfast.vaultstore.disk_pages import BlockState, Leaf
from holdfast.vaultstore.ids import ChunkKind, IdKeys, chunk_name
from holdfast.vaultstore.manifest_disk import DiskMap
from holdfast.workloads.vm.disks.blocks import (
    BlockReader,
    Mask,
    Wanted,
    dirty_mask,
    is_zero,
    survey,
    windows,
)
from holdfast.workloads.vm.disks.parent import from_parent
from holdfast.workloads.vm.disks.values import Audit, AuditOutcome

LEAVES, EVEN_LEAVES = 12, 4  # regions of a disk that are looked into: with data, and without
BLOCKS_A_LEAF = 64  # compared in one of them, before more are looked into
DRAWN = 128
SECTOR = 512


def audit_disk(
    source: BlockSource,
    reader: BlockReader,
    parent: DiskMap,
    keys: IdKeys,
    rng: Random,
    most: int,
) -> Audit:
    """Compare the last clean data block, up to ``most`` others, and as many that hold none where
    the source has data by now. SourceError, ParentUnreadableError."""
    if not most:
        return Audit()
    draw = np.random.default_rng(int.from_bytes(rng.token(16), "little"))
    before = reader.read_bytes
    last = from_parent(lambda: _last_clean(source, parent))
    if last is not None and (wrong_end := _compare_end(source, reader, parent, keys, last)):
        offset = last << parent.geometry.grid_exponent
        return Audit(wrong_end, 1, (offset,), reader.read_bytes - before)
    regions = from_parent(lambda: _regions(draw, parent, most))
    checked, left, wrong = 0, most, []
    for number, index in enumerate(regions):
        leaf = from_parent(partial(parent.leaf, index))
        share = -(-left // (len(regions) - number))
        blocks = _drawn(draw, leaf, _clean(source, parent, leaf), share)
        for block, name in _read(source, reader, parent, keys, blocks):
            held = leaf.id_of(block)
            checked, left = checked + 1, left - (held is not None)
            if name != held:
                wrong.append(block << parent.geometry.grid_exponent)
    if not checked:
        return Audit()
    outcome = AuditOutcome.LYING if wrong else AuditOutcome.TRUE
    return Audit(outcome, checked, tuple(sorted(wrong)), reader.read_bytes - before)


def _last_clean(source: BlockSource, parent: DiskMap) -> int | None:
    """The highest block that holds data in the point and is called unchanged."""
    for index in reversed(range(parent.geometry.leaves)):
        if not parent.child(index).is_page:
            continue
        leaf = parent.leaf(index)
        places = np.flatnonzero(_clean(source, parent, leaf) & (leaf.states == BlockState.DATA))
        if len(places):
            return leaf.first + int(places[-1])
    return None


def _compare_end(
    source: BlockSource, reader: BlockReader, parent: DiskMap, keys: IdKeys, block: int
) -> AuditOutcome | None:
    """CUT, LYING, or None when the block is what the point has. What was cut off ends in zeros."""
    found = survey(source, parent.geometry, block, 1)
    if found.states[0] != BlockState.DATA:
        return AuditOutcome.CUT
    (view,) = reader.read([Wanted(block, found.pieces[0])])
    if chunk_name(keys, ChunkKind.DATA, view)[:32] == parent.block_id(block):
        return None
    return AuditOutcome.CUT if is_zero(view[-SECTOR:]) else AuditOutcome.LYING


def _regions(draw: np.random.Generator, parent: DiskMap, most: int) -> list[int]:
    """Leaves to look into, most of them with data; the more blocks, the more leaves."""
    wanted = max(LEAVES, -(-most // BLOCKS_A_LEAF))
    leaves = parent.geometry.leaves
    drawn = draw.choice(leaves, min(max(DRAWN, 2 * wanted), leaves), replace=False)
    pages: list[int] = []
    even: list[int] = []
    for index in drawn.tolist():
        (pages if parent.child(index).is_page else even).append(index)
    return pages[:wanted] + even[:EVEN_LEAVES]


def _clean(source: BlockSource, parent: DiskMap, leaf: Leaf) -> Mask:
    """Blocks of a leaf that the source says did not change, of one length in both."""
    count = len(leaf.states)
    whole = min(source.size, parent.geometry.size) >> parent.geometry.grid_exponent
    if source.size == parent.geometry.size:
        whole = parent.geometry.blocks
    inside: Mask = leaf.first + np.arange(count) < whole
    reach = min(count, max(0, whole - leaf.first))
    if not reach:
        return inside
    dirty = dirty_mask(source, parent.geometry, leaf.first, reach)
    if dirty is None:
        return np.zeros(count, bool)
    inside[:reach] &= ~dirty
    return inside


def _drawn(draw: np.random.Generator, leaf: Leaf, clean: Mask, share: int) -> list[int]:
    """Blocks to compare: some that hold data, some that read as zeros."""
    chosen: list[int] = []
    data = leaf.states == BlockState.DATA
    for kind in (clean & data, clean & ~data):
        places = np.flatnonzero(kind)
        chosen += (leaf.first + draw.permutation(places)[:share]).tolist()
    return sorted(chosen)


def _read(
    source: BlockSource, reader: BlockReader, parent: DiskMap, keys: IdKeys, blocks: list[int]
) -> Iterator[tuple[int, bytes | None]]:
    """(block, its chunk id by what the disk holds now, or None for zeros). A block that reads as
    zeros by the source's word costs nothing."""
    geometry, wanted = parent.geometry, []
    for block in blocks:
        found = survey(source, geometry, block, 1)
        if found.states[0] == BlockState.DATA:
            wanted.append(Wanted(block, found.pieces[0]))
        else:
            yield block, None
    for window in windows(wanted, geometry):
        for (block, _), view in zip(window, reader.read(window), strict=True):
            name = None if is_zero(view) else chunk_name(keys, ChunkKind.DATA, view)[:32]
            yield block, name
