"""What a recovery point refers to, read from its root and pages (never the agent's word).

Every page is opened and its id recomputed; its entries are not read, only the chunk tables of its
segments. Pages seen before are remembered per container (ids only, which never go stale: each
commit resolves every id again against its own state).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from holdfast.errors import ConflictError, IntegrityError, ObjectMissingError
from holdfast.vaultstore import refset
from holdfast.vaultstore.core import VaultCore
from holdfast.vaultstore.frames import ChunkReader
from holdfast.vaultstore.ids import ChunkKind
from holdfast.vaultstore.manifest_files import PageReferences, page_references
from holdfast.vaultstore.root import Root, decode_root
from holdfast.vaultstore.state import Point
from holdfast.vaultstore.table import Bytes2D

REMEMBERED_BYTES = 64 * 1024 * 1024  # [bytes] of page references kept
_BATCH = 256
_ROOTS = (int(ChunkKind.ROOT),)
_PAGES = (int(ChunkKind.FILE_PAGE), int(ChunkKind.DISK_PAGE))
_CONTENT = (int(ChunkKind.DATA), int(ChunkKind.BUNDLE))


class MissingChunksError(ConflictError):
    """Chunks a recovery point needs are not usable by its container; send ``missing`` again."""

    code = "MissingChunks"

    def __init__(self, missing: Sequence[bytes]) -> None:
        super().__init__(
            f"{len(missing)} chunks of the recovery point are not in the vault",
            hint="Send these chunks again, then commit again.",
            retry="later",
        )
        self.missing = list(missing)


@dataclass(frozen=True, slots=True)
class References:
    """All ids of a point, n x 32 each, repetitions possible."""

    root: Root
    root_id: Bytes2D
    pages: Bytes2D
    content: Bytes2D


class Resolver:
    """Reads what points refer to, and resolves ids to ordinals."""

    def __init__(self, core: VaultCore) -> None:
        self._core = core
        self._reader = ChunkReader(core)
        self._known: OrderedDict[tuple[str | None, bytes], PageReferences] = OrderedDict()
        self._known_bytes = 0

    def references(self, root_id: bytes, container: str | None) -> References:
        """Walk root and pages. MissingChunksError, IntegrityError. Takes the lock only to look
        up."""
        root = decode_root(self._read([root_id], _ROOTS, container)[0])
        level = [stream.page_root for stream in root.streams]
        pages: list[bytes] = []
        content: list[Bytes2D] = []
        seen: set[bytes] = set()
        while level:
            level = [page_id for page_id in dict.fromkeys(level) if page_id not in seen]
            seen.update(level)
            pages += level
            below: list[bytes] = []
            for start in range(0, len(level), _BATCH):
                for found in self._pages(level[start : start + _BATCH], container):
                    below += found.pages
                    content.append(found.chunks)
            level = below
        joined = np.concatenate(content) if content else np.empty((0, 32), np.uint8)
        return References(root, matrix([root_id]), matrix(pages), joined)

    def resolve(self, found: References, container: str | None) -> npt.NDArray[np.int64]:
        """Ordinals of everything, repetitions possible. Caller holds the lock.
        MissingChunksError, IntegrityError (ChunkKindWrong)."""
        parts = [
            self._resolve(found.root_id, _ROOTS, container),
            self._resolve(found.pages, _PAGES, container),
            self._resolve(found.content, _CONTENT, container),
        ]
        missing = [ids[ordinals < 0] for ids, ordinals in parts]
        lost = {row.tobytes(): None for part in missing for row in part}
        if lost:
            raise MissingChunksError(list(lost))
        return np.concatenate([ordinals for _, ordinals in parts])

    def _resolve(
        self, ids: Bytes2D, kinds: tuple[int, ...], container: str | None
    ) -> tuple[Bytes2D, npt.NDArray[np.int64]]:
        core = self._core
        ordinals = core.find(ids, container=container, sound=True)
        found = core.index.rows(ordinals[ordinals >= 0])["kind"]
        if not bool(np.isin(found, kinds).all()):
            raise IntegrityError(
                "a recovery point refers to a chunk of another kind than it says",
                code="ChunkKindWrong",
            )
        return ids, ordinals

    def _pages(self, page_ids: list[bytes], container: str | None) -> list[PageReferences]:
        """What pages refer to. A page known from another container's walk is not known here: it
        would tell that container's ids to whoever names its page."""
        held = {page_id: self._known.get((container, page_id)) for page_id in page_ids}
        known = {page_id: found for page_id, found in held.items() if found is not None}
        unknown = [page_id for page_id in page_ids if page_id not in known]
        fresh = {
            page_id: page_references(page)
            for page_id, page in zip(unknown, self._read(unknown, _PAGES, container), strict=True)
        }
        for page_id, found in fresh.items():
            self._remember((container, page_id), found)
        known.update(fresh)
        return [known[page_id] for page_id in page_ids]

    def _remember(self, key: tuple[str | None, bytes], found: PageReferences) -> None:
        own = found._replace(chunks=found.chunks.copy())
        self._known[key] = own
        self._known_bytes += 32 * (len(own.chunks) + len(own.pages)) + 200
        while self._known_bytes > REMEMBERED_BYTES:
            _, old = self._known.popitem(last=False)
            self._known_bytes -= 32 * (len(old.chunks) + len(old.pages)) + 200

    def _read(
        self, ids: list[bytes], kinds: tuple[int, ...], container: str | None
    ) -> list[bytes | bytearray | memoryview]:
        if not ids:
            return []
        wanted = matrix(ids)
        with self._core.lock:
            _, ordinals = self._resolve(wanted, kinds, container)
            if (ordinals < 0).any():
                raise MissingChunksError([row.tobytes() for row in wanted[ordinals < 0]])
            rows = self._core.index.rows(ordinals)
        plain = dict(self._reader.read(rows))
        return [plain[index] for index in range(len(ids))]


def chunks_of(core: VaultCore, point: Point) -> refset.Ordinals:
    """What a point needs: its refset, or when that is damaged what its pages say.

    The pages give the same ordinals: each commit chose the lowest usable row of the container, what
    a live point needs is never condemned, and a condemned row never becomes usable again.
    IntegrityError when the pages cannot be read either.
    """
    try:
        return core.refset_of(point)
    except (IntegrityError, ObjectMissingError):
        return chunks_from_pages(core, point)


def chunks_from_pages(core: VaultCore, point: Point) -> refset.Ordinals:
    """A point's chunks, computed from its root and pages. IntegrityError, MissingChunksError."""
    container = point.op.item_key.rpartition("/")[0]
    resolver = Resolver(core)
    found = resolver.references(point.op.root_id, container)
    with core.lock:
        return refset.normal(resolver.resolve(found, container).astype(np.uint64))


def matrix(ids: Sequence[bytes]) -> Bytes2D:
    """n x 32 bytes of a list of ids."""
    return np.frombuffer(b"".join(ids), np.uint8).reshape(len(ids), 32)
