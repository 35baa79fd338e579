"""Moving frames: the needed ones of some packs, verbatim, into a new pack.

Every frame is opened before it counts as copied, so what was read badly is not what stays. The new
pack is sealed for a session of the collector; its frames stay bound to the packs of their birth,
which its header lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from holdfast.crashpoint import reach
from holdfast.errors import ConflictError, IntegrityError, ObjectMissingError, StoreUnavailableError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore import layout, log
from holdfast.vaultstore.births import Births, binding_of, births_of
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.frames import runs_of
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.index import Flags
from holdfast.vaultstore.ingest import publish_or_find
from holdfast.vaultstore.pack import ROW_STRUCT, Origin, PackClass, encode_pack_header, pack_end
from holdfast.vaultstore.refset import Ordinals
from holdfast.vaultstore.seal import check_id, open_frame, pack_key
from holdfast.vaultstore.state import PackEntry
from holdfast.vaultstore.table import Rows

Pay = Callable[[int, int], None]  # requests, bytes


class SourceUnreadableError(IntegrityError):
    """A frame that was to be moved cannot be read; its pack stays as it is."""

    code = "FrameDamaged"

    def __init__(self, pack_id: bytes, error: Exception) -> None:
        super().__init__(f"pack {pack_id.hex()} cannot be rewritten: {error}")
        self.pack_id = pack_id


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be moved out of a pack: ordinals (ascending) and their rows. By a row's
    ``origin``: what opens the frame, and what a header says of where it was born."""

    entry: PackEntry
    ordinals: Ordinals
    rows: Rows
    births: Births
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """A new pack that is durable, and the rows of all ``ordinals`` as they are in it; only their
    field ``pack`` still says where they were read."""

    made: log.PackRewritten
    ordinals: Ordinals
    rows: Rows


def source_of(core: VaultCore, entry: PackEntry, live: Flags) -> Source:
    """The needed frames of a pack, by flags of needed ordinals. Caller holds the lock, and the pack
    is in the state."""
    own = core.ordinals_of(entry)
    own = own[own < len(live)]
    own = own[live[own.astype(np.int64)]]
    rows = core.index.rows(own.astype(np.int64))
    return Source(entry, own, rows, births_of(core, entry), tuple(_origins(core, entry)))


def _origins(core: VaultCore, entry: PackEntry) -> Iterator[Origin]:
    pack, keys = entry.pack, core.state.sealing_keys
    own = log.PackBirth(
        pack_id=pack.pack_id, header_hash=pack.header_hash, session_id=pack.session_id
    )
    for born in (own, *entry.births):
        key = keys[born.session_id]
        yield Origin(born.pack_id, born.header_hash, born.session_id, key.epoch, key.wrapped_key)


def move(core: VaultCore, grant: SessionGrant, sources: Sequence[Source], pay: Pay) -> Moved:
    """Write a pack of the frames of all sources, in their order. ``pay`` is asked before each
    request, with the bytes it moves, and may raise. SourceUnreadableError; nothing is left then but
    an upload that was given up."""
    origins: dict[Origin, int] = {}
    moved = [_with_origins(one, origins) for one in sources]
    pack_id = core.rng.token(16)
    pack_class = PackClass(sources[0].entry.pack.pack_class)
    header = encode_pack_header(grant, pack_id, pack_class, tuple(origins))
    writer = _PackWriter(core, grant, pack_id, header)
    try:
        for source, rows in zip(sources, moved, strict=True):
            for index, sealed in _sealed(core, source, pay):
                pay(0, len(sealed))
                writer.add(rows, index, sealed)
        pay(1, 0)
        added = writer.finish(int(pack_class))
    finally:
        writer.upload.abort()
    births = tuple(
        log.PackBirth(pack_id=one.pack_id, header_hash=one.header_hash, session_id=one.session_id)
        for one in origins
    )
    made = log.PackRewritten(pack=added, births=births)
    return Moved(made, np.concatenate([one.ordinals for one in sources]), np.concatenate(moved))


def _with_origins(source: Source, origins: dict[Origin, int]) -> Rows:
    """A copy of a source's rows whose origins are those of the new pack, which are numbered from 1
    in the order in which they are first named."""
    rows = source.rows.copy()
    for origin in np.unique(source.rows["origin"]).tolist():
        number = origins.setdefault(source.origins[origin], len(origins) + 1)
        rows["origin"][source.rows["origin"] == origin] = number
    return rows


def _sealed(core: VaultCore, source: Source, pay: Pay) -> Iterator[tuple[int, Buffer]]:
    """(index into the source's rows, frame) by offset; each was opened and is what it should be."""
    pack = source.entry.pack
    key = layout.pack_key(pack.session_id, pack.pack_id)
    for run in runs_of(source.rows):
        pay(1, run.length)
        try:
            data = memoryview(core.objects.read_range(key, run.offset, run.length))
            for index in run.members:
                row = source.rows[index]
                start = int(row["offset"]) - run.offset
                sealed = data[start : start + int(row["clen"])]
                frame_key, binding = binding_of(row, source.births)
                check_id(core.id_keys, binding, open_frame(frame_key, binding, sealed))
                yield index, sealed
        except (IntegrityError, ObjectMissingError) as error:
            raise SourceUnreadableError(pack.pack_id, error) from error


class _PackWriter:
    """A pack on its way to the store, frame by frame."""

    def __init__(self, core: VaultCore, grant: SessionGrant, pack_id: bytes, header: bytes) -> None:
        self._core = core
        self._session_id = grant.session_id
        self._pack_id = pack_id
        self._header = header
        self._k_pack = pack_key(grant.session_key, pack_id)
        self._key = layout.pack_key(grant.session_id, pack_id)
        self._hasher = blake3()
        self._rows = bytearray()
        self._frames = self._end = 0
        self.upload = core.objects.upload(self._key)
        self._write(header)

    def _write(self, data: Buffer) -> None:
        self._hasher.update(data)
        self.upload.write(data)
        self._end += len(data)
        reach("vault.receive.packs")

    def add(self, rows: Rows, index: int, sealed: Buffer) -> None:
        """Write a frame, and say in its row where it lies."""
        row = rows[index]
        row["offset"], row["frame"] = self._end, self._frames
        self._rows += ROW_STRUCT.pack(
            row["id"].tobytes(),
            row["proof"].tobytes(),
            *(int(row[name]) for name in _FIELDS),
        )
        self._frames += 1
        self._write(sealed)

    def finish(self, pack_class: int) -> log.PackAdded:
        """Write the end, and make the pack durable under its name."""
        self._write(pack_end(self._k_pack, self._header, bytes(self._rows), self._end))
        digest = self._hasher.digest()
        self.upload.write(digest)
        added = log.PackAdded(
            pack_id=self._pack_id,
            session_id=self._session_id,
            pack_class=pack_class,
            size=self._end + len(digest),
            hash=digest,
            header_hash=blake3(self._header).digest(),
        )
        self._core.objects.require_vault()
        reach("vault.publish.packs.before")
        try:
            publish_or_find(self._core.objects, self.upload, self._key, added)
        except ConflictError as error:
            raise StoreUnavailableError(f"{self._key}: the write broke off") from error
        reach("vault.publish.packs.after")
        return added


_FIELDS = ("kind", "codec", "flags", "offset", "clen", "ulen", "origin", "birth_frame")
