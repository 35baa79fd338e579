"""Data blocks of a disk of a point: located by the leaf, fetched by packs, lengths checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.disk_pages import Geometry
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.files.restore_fetch import ChunkSource

Located = Mapping[bytes, FrameLocation]


def locate(source: ChunkSource, ids: Iterable[bytes]) -> Located:
    """Where chunks lie, by id."""
    return {row.id: row for row in source.locate(dict.fromkeys(ids))}


def fetch(source: ChunkSource, ids: Sequence[bytes], located: Located) -> dict[bytes, Buffer]:
    """Plain bytes of chunks, verified, each read once. IntegrityError."""
    rows = sorted(
        (located[chunk_id] for chunk_id in dict.fromkeys(ids)),
        key=lambda row: (row.pack, row.frame),
    )
    found: dict[bytes, Buffer] = {}

    def take(row: FrameLocation, plain: Buffer) -> None:
        found[row.id] = plain

    for run in source.runs(rows):
        source.read_run(run, take)
    return found


def block_of(geometry: Geometry, block: int, plain: Buffer) -> memoryview:
    """A block's bytes. IntegrityError (ManifestDamaged) when its chunk has another length."""
    view = memoryview(plain)
    if len(view) != geometry.block_length(block):
        raise IntegrityError(
            f"block {block} of a disk has {len(view)} bytes", code="ManifestDamaged"
        )
    return view
