"""Serving a restore: locations, frame keys and ciphertext of what its recovery points refer to.

A restore session may read exactly the chunks in the refsets of the points it pins, frame by frame;
it never gets a pack's or a session's key. Readers inside the service use ``PointReader``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from holdfast.errors import (
    AccessError,
    ConflictError,
    IntegrityError,
    LimitError,
    ObjectMissingError,
    UsageError,
)
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore import layout, refset
from holdfast.vaultstore.births import Births, birth_of, births_of
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.frames import ChunkReader
from holdfast.vaultstore.manifest_files import FileTree
from holdfast.vaultstore.references import MissingChunksError, chunks_of
from holdfast.vaultstore.root import Root, decode_root
from holdfast.vaultstore.seal import frame_key
from holdfast.vaultstore.state import PackEntry, Point
from holdfast.vaultstore.table import Rows
from holdfast.vaultstore.values import FrameLocation, Frames

T = TypeVar("T")
MAX_IDS = 4096
PIECE_BYTES = 4 * 1024 * 1024  # [bytes] most that one piece of ``read_frames`` holds
_PAGES_KEPT = 64
_LOCATED = (
    "pack",
    "frame",
    "offset",
    "clen",
    "ulen",
    "codec",
    "flags",
    "kind",
    "birth_frame",
    "origin",
)


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What a session may read: ordinals, and for each frame (pack number and frame in one sorted
    number) where it lies. A frame that was moved since the session began has two places: what was
    located before stays readable. ``moves``: how many of the core's moves this knows of."""

    moves: int
    ordinals: refset.Ordinals
    frames: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint32]


class RestoreDesk:
    """Answers restore sessions."""

    def __init__(self, core: VaultCore) -> None:
        self._core = core
        self._allowed: dict[bytes, _Allowed] = {}

    def locate(self, session_id: bytes, ids: bytes) -> list[FrameLocation]:
        """Locations and keys of packed 32-byte ids."""
        if len(ids) % 32 or len(ids) > 32 * MAX_IDS:
            raise LimitError(f"give at most {MAX_IDS} ids of 32 bytes", code="TooManyIds")
        core = self._core
        wanted = np.frombuffer(ids, np.uint8).reshape(-1, 32)
        with core.lock:
            allowed = self._allowed_of(session_id)
            ordinals = core.find(wanted, within=allowed.ordinals)
            if (ordinals < 0).any():
                raise _refused(wanted[int(np.argmin(ordinals))].tobytes())
            rows = core.index.rows(ordinals)
            packs = {
                number: (core.pack_names[number], births_of(core, self._entry(number)))
                for number in np.unique(rows["pack"]).tolist()
            }
        return list(_locations(rows, packs))

    def _entry(self, number: int) -> PackEntry:
        return self._core.state.packs[self._core.pack_names[number]]

    def read_frames(self, session_id: bytes, pack_id: bytes, frames: Sequence[int]) -> Frames:
        """Ciphertext of frames in the order given. Everything is authorised before any byte."""
        core = self._core
        with core.lock:
            allowed = self._allowed_of(session_id)
            entry = core.state.packs.get(pack_id)
            if entry is None:
                raise _refused(pack_id)
            spans = self._spans(allowed, entry.ordinal, frames)
            key = layout.pack_key(entry.pack.session_id, pack_id)
        size = sum(length for _, length in spans)
        return Frames(size, self._read(session_id, key, spans))

    @staticmethod
    def _spans(allowed: _Allowed, number: int, frames: Sequence[int]) -> list[tuple[int, int]]:
        """(offset, length) of reads that give the frames in order, neighbours joined."""
        if any(not 0 <= frame < 1 << 32 for frame in frames):
            raise UsageError("a frame number is out of range")
        asked = (np.uint64(number) << np.uint64(32)) | np.array(frames, np.uint64)
        if not bool(refset.contains(allowed.frames, asked).all()):
            raise _refused(asked.tobytes())
        places = np.searchsorted(allowed.frames, asked)
        spans: list[tuple[int, int]] = []
        pairs = zip(allowed.offsets[places].tolist(), allowed.lengths[places].tolist(), strict=True)
        for offset, length in pairs:
            if spans:
                start, size = spans[-1]
                if start + size == offset and size + length <= PIECE_BYTES:
                    spans[-1] = (start, size + length)
                    continue
            spans.append((offset, length))
        return spans

    def _read(
        self, session_id: bytes, key: str, spans: Sequence[tuple[int, int]]
    ) -> Iterator[bytes]:
        for offset, length in spans:
            try:
                yield self._core.objects.read_range(key, offset, length)
            except ObjectMissingError:
                if self._core.chain.doubt is None:
                    self._core.refresh()
                self._core.session(session_id)
                raise

    def forget(self, session_id: bytes) -> None:
        """Drop what was remembered of an ended session."""
        with self._core.lock:
            self._allowed.pop(session_id, None)

    def _allowed_of(self, session_id: bytes) -> _Allowed:
        opened = self._core.session(session_id).opened
        found = self._allowed.get(session_id)
        if found is None:
            ordinals = self._ordinals(opened.pins)
            found = self._allowed[session_id] = self._places(ordinals)
        elif found.moves != self._core.moves:
            found = self._allowed[session_id] = _joined(found, self._places(found.ordinals))
        return found

    def _ordinals(self, pins: Sequence[str]) -> refset.Ordinals:
        core = self._core
        if not pins:
            raise ConflictError("this session reads no recovery point", code="SessionKindWrong")
        points = [core.state.points.get(rp) or core.state.expired[rp] for rp in pins]
        return refset.union(chunks_of(core, point) for point in points)

    def _places(self, ordinals: refset.Ordinals) -> _Allowed:
        rows = self._core.index.rows(ordinals.astype(np.int64))
        rows = rows[rows["clen"] > 0]
        numbers = (rows["pack"].astype(np.uint64) << np.uint64(32)) | rows["frame"]
        order = np.argsort(numbers, kind="stable")
        return _Allowed(
            self._core.moves,
            ordinals,
            numbers[order],
            rows["offset"][order].copy(),
            rows["clen"][order].copy(),
        )


def _joined(before: _Allowed, now: _Allowed) -> _Allowed:
    """The places of both."""
    frames = np.concatenate((before.frames, now.frames))
    frames, first = np.unique(frames, return_index=True)
    offsets = np.concatenate((before.offsets, now.offsets))[first]
    lengths = np.concatenate((before.lengths, now.lengths))[first]
    return _Allowed(now.moves, now.ordinals, frames, offsets, lengths)


def _locations(rows: Rows, packs: Mapping[int, tuple[bytes, Births]]) -> Iterator[FrameLocation]:
    """Whole columns at once: reading rows one field at a time costs more than all their keys."""
    columns = (rows[name].tolist() for name in _LOCATED)
    ids = rows["id"].tobytes()
    for at, row in enumerate(zip(*columns, strict=True)):
        number, frame, offset, clen, ulen, codec, flags, kind, birth_frame, origin = row
        pack_id, births = packs[number]
        birth = birth_of(origin, births)
        yield FrameLocation(
            id=ids[32 * at : 32 * at + 32],
            pack=pack_id,
            frame=frame,
            offset=offset,
            clen=clen,
            ulen=ulen,
            codec=codec,
            flags=flags,
            kind=kind,
            birth_header_hash=birth.header_hash,
            birth_frame=birth_frame,
            key=frame_key(birth.k_pack, birth_frame),
        )


def _refused(what: bytes) -> AccessError:
    return AccessError(
        f"{what.hex()[:16]} is not part of the recovery points of this session",
        code="ChunkNotInRecoveryPoint",
        hint="Open a restore session for the recovery point that holds it.",
    )


class PointReader:
    """Reads one recovery point inside the service: root, file tree, chunks."""

    def __init__(self, core: VaultCore, point: Point) -> None:
        self._core = core
        self._reader = ChunkReader(core)
        self.point = point
        self._within = self._steadily(lambda: chunks_of(core, point))
        self._pages: OrderedDict[bytes, Buffer] = OrderedDict()

    def fetch(self, ids: Sequence[bytes]) -> list[Buffer]:
        """Plain bytes of chunks of this point, verified. IntegrityError (ChunkLost),
        NotFoundError (RecoveryPointMissing) when the point was dropped meanwhile."""
        return self._steadily(lambda: self._reader.fetch(ids, self._within))

    def _steadily(self, work: Callable[[], T]) -> T:
        """``work``, again when a collect moved chunks elsewhere meanwhile. A point that was
        dropped, whose chunks a collect may delete, is told from a damaged one."""
        core, rp_id = self._core, self.point.op.rp_id
        while True:
            moves = core.moves
            try:
                return work()
            except (IntegrityError, ObjectMissingError, MissingChunksError):
                if core.chain.doubt is not None:
                    raise
                core.refresh()
                if core.moves != moves:
                    continue
                if core.surroundings is not None and rp_id not in core.state.expired:
                    core.point(rp_id)
                raise

    def root(self) -> Root:
        return decode_root(self.fetch([self.point.op.root_id])[0])

    def file_tree(self) -> FileTree:
        """The point's file tree. IntegrityError when it has none."""
        return FileTree(self._page, self.root().file_tree.page_root)

    def _page(self, page_id: bytes) -> Buffer:
        page = self._pages.get(page_id)
        if page is None:
            page = self._pages[page_id] = self.fetch([page_id])[0]
            if len(self._pages) > _PAGES_KEPT:
                self._pages.popitem(last=False)
        return page
