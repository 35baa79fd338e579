"""Fetching chunks of one recovery point, pack by pack, opened and verified."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from holdfast.errors import IntegrityError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.ids import IdKeys
from holdfast.vaultstore.seal import FrameBinding, check_id, open_frame
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.transport import RestoreTransport

LOCATE_BATCH = 4096
RUN_BYTES, RUN_FRAMES = 4 * 1024 * 1024, 512
PAGE_CACHE = 64


def binding_of(row: FrameLocation) -> FrameBinding:
    """What a located frame is bound to."""
    return FrameBinding(
        row.birth_header_hash,
        row.birth_frame,
        row.kind,
        row.id,
        row.clen,
        row.ulen,
        row.codec,
        row.flags,
    )


def open_row(keys: IdKeys, row: FrameLocation, sealed: Buffer) -> Buffer:
    """A located frame's plain bytes. IntegrityError when it is not what it should be."""
    binding = binding_of(row)
    plain = open_frame(row.key, binding, sealed)
    check_id(keys, binding, plain)
    return plain


class ChunkSource(Protocol):
    """Where a restore gets chunks from. Thread safe; what it hands over is verified."""

    @property
    def root_id(self) -> bytes: ...

    @property
    def keys(self) -> IdKeys: ...

    def locate(self, ids: Iterable[bytes]) -> list[FrameLocation]: ...

    def runs(self, rows: Iterable[FrameLocation]) -> Iterator[list[FrameLocation]]: ...

    def read_run(
        self, run: list[FrameLocation], take: Callable[[FrameLocation, Buffer], None]
    ) -> None: ...

    def sealed(self, run: list[FrameLocation]) -> list[tuple[FrameLocation, memoryview]] | None:
        """The frames of a run as they are stored; None where only plain ones are at hand."""
        ...

    def page(self, page_id: bytes) -> Buffer: ...

    def pages(self, page_ids: Sequence[bytes]) -> list[Buffer]: ...


class ChunkFetcher:
    """Chunks through a restore session: each is authenticated and its id recomputed here."""

    def __init__(self, transport: RestoreTransport) -> None:
        self._transport = transport
        self.root_id = transport.grant.root_id
        self.keys: IdKeys = transport.grant.id_keys
        self._pages: OrderedDict[bytes, Buffer] = OrderedDict()
        self._lock = threading.Lock()

    def locate(self, ids: Iterable[bytes]) -> list[FrameLocation]:
        """Locations of distinct ids, sorted by pack and frame."""
        wanted = list(ids)
        rows: list[FrameLocation] = []
        for start in range(0, len(wanted), LOCATE_BATCH):
            rows += self._transport.locate(b"".join(wanted[start : start + LOCATE_BATCH]))
        rows.sort(key=lambda row: (row.pack, row.frame))
        return rows

    def runs(self, rows: Iterable[FrameLocation]) -> Iterator[list[FrameLocation]]:
        """Located frames of one pack at a time, up to RUN_BYTES together."""
        run: list[FrameLocation] = []
        size = 0
        for row in rows:
            full = size + row.clen > RUN_BYTES or len(run) >= RUN_FRAMES
            if run and (full or row.pack != run[0].pack):
                yield run
                run, size = [], 0
            run.append(row)
            size += row.clen
        if run:
            yield run

    def read_run(
        self, run: list[FrameLocation], take: Callable[[FrameLocation, Buffer], None]
    ) -> None:
        """Read the frames of a run and hand each chunk's plain bytes to ``take``."""
        for row, sealed in self.sealed(run):
            take(row, open_row(self.keys, row, sealed))

    def sealed(self, run: list[FrameLocation]) -> list[tuple[FrameLocation, memoryview]]:
        """The frames of a run as they are stored, valid until the same thread reads the next one.
        IntegrityError (PackTruncated)."""
        data = memoryview(self._transport.read_frames(run[0].pack, [row.frame for row in run]))
        if len(data) != sum([row.clen for row in run]):
            raise IntegrityError(
                "the vault sent fewer bytes than a pack holds", code="PackTruncated"
            )
        frames, at = [], 0
        for row in run:
            frames.append((row, data[at : at + row.clen]))
            at += row.clen
        return frames

    def page(self, page_id: bytes) -> Buffer:
        """One chunk by id, from a small cache."""
        with self._lock:
            if page_id in self._pages:
                self._pages.move_to_end(page_id)
                return self._pages[page_id]
        found = self.pages([page_id])[0]
        with self._lock:
            self._pages[page_id] = found
            while len(self._pages) > PAGE_CACHE:
                self._pages.popitem(last=False)
        return found

    def pages(self, page_ids: Sequence[bytes]) -> list[Buffer]:
        """Several chunks at once, in the order asked; not cached."""
        found: dict[bytes, Buffer] = {}
        for run in self.runs(self.locate(dict.fromkeys(page_ids))):
            self.read_run(run, lambda row, plain: found.update({row.id: plain}))
        return [found[page_id] for page_id in page_ids]
