"""A minimal agent in memory: backs up and restores a dict of files through the vault service.

For tests and the simulation: real packs, pages and roots, no scanning and no threads. Files are
``{path: content}`` with relative byte paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import numpy as np

from holdfast.ports.clock import Random
from holdfast.vaultstore.disk_pages import LEAF_BLOCKS, BlockState, Leaf, geometry_of
from holdfast.vaultstore.entries import Entry, EntryType, SegmentEncoder
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.ids import ChunkKind, chunk_name, content_hasher
from holdfast.vaultstore.manifest_disk import DiskMapWriter, Tally, disk_stream, open_disk_map
from holdfast.vaultstore.manifest_files import ManifestBuilder
from holdfast.vaultstore.pack import PackBuilder, PackClass, SealedPack
from holdfast.vaultstore.root import Root, Stream, encode_root
from holdfast.vaultstore.seal import Compressor, FrameBinding, open_frame
from holdfast.vaultstore.values import (
    CommitRequest,
    FrameLocation,
    PointClaims,
    PointFacts,
    RecoveryPointRecord,
)
from holdfast.vaultstore.vault import MissingChunksError, Vault

CHUNK_BYTES = 4096
DISK_GRID = 12
A_DAY = datetime(2026, 3, 1, 12, tzinfo=UTC)


class LittleAgent:
    """Protects one item of one container. ``with_disk``: its points hold, beside the files, a disk
    with their contents one after another, and a restore compares the two."""

    def __init__(
        self,
        vault: Vault,
        rng: Random,
        container: str = "Linux;a",
        item: str = "docs",
        *,
        with_disk: bool = False,
    ) -> None:
        self.with_disk = with_disk
        self.vault = vault
        self.rng = rng
        self.container = container
        self.item_key = f"{container}/FileFolder;{item}"
        self.sent_bytes = 0

    def back_up(
        self,
        files: Mapping[bytes, bytes],
        job_id: bytes | None = None,
        *,
        time: datetime = A_DAY,
        attempt: int = 1,
        facts: PointFacts | None = None,
        close: bool = True,
    ) -> RecoveryPointRecord:
        """A whole backup: session, packs, commit (again when chunks are missing), close."""
        job_id = job_id or self.rng.token(16)
        grant = self.vault.begin_session(
            "backup", self.container, self.item_key, job_id, attempt=attempt
        )
        run = BackupRun(self, grant)
        root_id = run.send(files)
        record = run.commit(root_id, facts or PointFacts(time=time))
        if close:
            self.vault.close_session(grant.session_id)
        return record

    def restore(self, rp_id: str) -> dict[bytes, bytes]:
        """All files of a point, through a restore session: located, fetched, opened, verified."""
        job_id = self.rng.token(16)
        grant = self.vault.begin_session(
            "restore", self.container, self.item_key, job_id, pins=[rp_id]
        )
        try:
            return self.read_all(grant, rp_id)
        finally:
            self.vault.close_session(grant.session_id)

    def read_all(self, grant: SessionGrant, rp_id: str) -> dict[bytes, bytes]:
        """All files of a point within an open restore session."""
        tree = self.vault.file_tree(rp_id)
        found: dict[bytes, bytes] = {}
        for path, entries in tree.walk():
            for entry in entries:
                if entry.type != EntryType.FILE:
                    continue
                name = path + b"/" + entry.name if path else entry.name
                found[name] = self._content(grant, entry)
        for stream in self.vault.root(rp_id).streams:
            if stream.kind == "disk-map" and self._disk(grant, stream) != _joined(found):
                raise AssertionError(f"the disk of {rp_id} was restored with other bytes")
        return found

    def _disk(self, grant: SessionGrant, stream: Stream) -> bytes:
        """All bytes of a disk, its pages and chunks through the session."""
        found = open_disk_map(stream, lambda page_id: self._chunks(grant, [page_id])[0])
        geometry, content = found.geometry, bytearray()
        ids = [found.block_id(block) for block in range(geometry.blocks)]
        plain = dict(
            zip(wanted := [one for one in ids if one], self._chunks(grant, wanted), strict=True)
        )
        for block, chunk_id in enumerate(ids):
            content += plain[chunk_id] if chunk_id else bytes(geometry.block_length(block))
        return bytes(content)

    def _chunks(self, grant: SessionGrant, ids: list[bytes]) -> list[bytes]:
        located = self.vault.locate(grant.session_id, b"".join(ids)) if ids else []
        return [self.open_chunk(grant, where) for where in located]

    def _content(self, grant: SessionGrant, entry: Entry) -> bytes:
        content = bytearray(entry.size)
        ids = [extent[0] for extent in entry.extents]
        located = self.vault.locate(grant.session_id, b"".join(ids)) if ids else []
        for (_, start, at, length), where in zip(entry.extents, located, strict=True):
            plain = self.open_chunk(grant, where)
            content[at : at + length] = plain[start : start + length]
        hasher = content_hasher(grant.id_keys)
        hasher.update(content)
        if entry.digest != hasher.digest():
            raise AssertionError(f"{entry.name!r} was restored with other bytes")
        return bytes(content)

    def open_chunk(self, grant: SessionGrant, where: FrameLocation) -> bytes:
        """Fetch and open one located frame, checking its id."""
        pieces = self.vault.read_frames(grant.session_id, where.pack, [where.frame])
        binding = FrameBinding(
            where.birth_header_hash,
            where.birth_frame,
            where.kind,
            where.id,
            where.clen,
            where.ulen,
            where.codec,
            where.flags,
        )
        plain = bytes(open_frame(where.key, binding, b"".join(pieces)))
        if chunk_name(grant.id_keys, where.kind, plain)[:32] != where.id:
            raise AssertionError("a chunk has other content than its id says")
        return plain


class BackupRun:
    """One session's upload. ``receipts``: of packs not yet committed."""

    def __init__(self, agent: LittleAgent, grant: SessionGrant) -> None:
        self.agent = agent
        self.grant = grant
        self.receipts: list[bytes] = []
        self.known: set[bytes] = set()
        self.asks = True
        self._compressor = Compressor(grant.zstd_level)
        self._builders: dict[PackClass, PackBuilder] = {}
        self._chunks: dict[bytes, tuple[PackClass, int, bytes]] = {}

    def send(self, files: Mapping[bytes, bytes]) -> bytes:
        """Send what the vault lacks of these files; the id of their root."""
        manifest = ManifestBuilder(self._put_page)
        logical = 0
        for path, names in _directories(files):
            encoder = SegmentEncoder(path, self._put_page)
            for name in names:
                content = files.get(path + b"/" + name if path else name)
                encoder.add(self._entry(name, content))
                logical += len(content or b"")
            manifest.add_segment(encoder.finish(), names[0])
        top = manifest.finish()
        stream = Stream(
            name="files",
            kind="file-tree",
            page_root=top.id,
            logical_bytes=logical,
            entries=top.entries,
        )
        streams = (stream, self._disk(_joined(files))) if self.agent.with_disk else (stream,)
        root_id = self._put(PackClass.PAGES, ChunkKind.ROOT, encode_root(Root(streams=streams)))
        self.flush()
        return root_id

    def _disk(self, content: bytes) -> Stream:
        """A disk of this content; blocks of zeros are none."""
        geometry = geometry_of(len(content), DISK_GRID)
        writer = DiskMapWriter(
            lambda page: self._put(PackClass.PAGES, ChunkKind.DISK_PAGE, page), geometry
        )
        for leaf in range(geometry.leaves):
            first = leaf * LEAF_BLOCKS
            blocks = [
                content[block << DISK_GRID : (block + 1) << DISK_GRID]
                for block in range(first, first + geometry.leaf_blocks(leaf))
            ]
            states = [BlockState.DATA if any(data) else BlockState.ZERO for data in blocks]
            ids = b"".join(
                self._put(PackClass.FILES, ChunkKind.DATA, data) for data in blocks if any(data)
            )
            writer.add_leaf(
                Leaf(
                    DISK_GRID,
                    first,
                    np.array(states, np.uint8),
                    np.frombuffer(ids, np.uint8).reshape(-1, 32),
                )
            )
        return disk_stream("disk-0", writer.finish(), geometry, Tally(len(content)))

    def _entry(self, name: bytes, content: bytes | None) -> Entry:
        kind = EntryType.DIRECTORY if content is None else EntryType.FILE
        entry = Entry(name, int(kind), 0o644, 0, 0, 1_700_000_000_000_000_000)
        if content is None:
            return entry
        hasher = content_hasher(self.grant.id_keys)
        hasher.update(content)
        entry.size, entry.digest = len(content), hasher.digest()
        entry.extents = [
            (
                self._put(PackClass.FILES, ChunkKind.DATA, content[at : at + CHUNK_BYTES]),
                0,
                at,
                min(CHUNK_BYTES, len(content) - at),
            )
            for at in range(0, len(content), CHUNK_BYTES)
        ]
        return entry

    def _put_page(self, page: bytes) -> bytes:
        return self._put(PackClass.PAGES, ChunkKind.FILE_PAGE, page)

    def _put(self, pack_class: PackClass, kind: ChunkKind, plain: bytes) -> bytes:
        name = chunk_name(self.grant.id_keys, kind, plain)
        if name not in self._chunks:
            self._chunks[name] = (pack_class, int(kind), plain)
        return name[:32]

    def flush(self, only: Iterable[bytes] | None = None) -> None:
        """Pack and send gathered chunks the vault lacks, or exactly ``only`` these 32-byte ids."""
        if only is None:
            names = [name for name in self._chunks if name not in self.known]
            if self.asks and not self.grant.container_is_empty and names:
                present = self.agent.vault.lookup(self.grant.session_id, b"".join(names))
                here = np.frombuffer(present, bool).tolist()
                names = [name for name, found in zip(names, here, strict=True) if not found]
            self.known.update(self._chunks)
        else:
            wanted = set(only)
            names = [name for name in self._chunks if name[:32] in wanted]
        for pack_class in (PackClass.FILES, PackClass.PAGES):
            self._send_packs(
                pack_class, [name for name in names if self._chunks[name][0] == pack_class]
            )

    def _send_packs(self, pack_class: PackClass, names: list[bytes]) -> None:
        if not names:
            return
        builder = self._builders.setdefault(pack_class, PackBuilder(self.grant, pack_class))
        builder.begin(self.agent.rng.token(16))
        for name in names:
            _, kind, plain = self._chunks[name]
            codec, body = self._compressor.compress(plain)
            slot = builder.reserve(kind, name, len(plain), len(body), codec)
            if slot is None:
                self.send_pack(builder.finish())
                builder.begin(self.agent.rng.token(16))
                slot = builder.reserve(kind, name, len(plain), len(body), codec)
            if slot is None:
                raise AssertionError("a chunk does not fit an empty pack")
            builder.seal(slot, body)
        self.send_pack(builder.finish())

    def send_pack(self, pack: SealedPack) -> None:
        """Send one sealed pack and keep its receipt."""
        receiver = self.agent.vault.start_pack(self.grant.session_id, pack.pack_id, len(pack.data))
        try:
            half = len(pack.data) // 2
            receiver.write(pack.data[:half])
            receiver.write(pack.data[half:])
            self.receipts.append(receiver.finish())
        finally:
            receiver.abort()
        self.agent.sent_bytes += len(pack.data)

    def commit(self, root_id: bytes, facts: PointFacts) -> RecoveryPointRecord:
        """Commit, sending again what the vault finds missing."""
        while True:
            request = CommitRequest(
                receipts=tuple(self.receipts),
                root_id=root_id,
                facts=facts,
                claims=PointClaims(transferred_bytes=self.agent.sent_bytes),
            )
            try:
                return self.agent.vault.commit(self.grant.session_id, request)
            except MissingChunksError as missing:
                self.flush(missing.missing)


def _joined(files: Mapping[bytes, bytes]) -> bytes:
    return b"".join(files[path] or b"" for path in sorted(files))


def _directories(files: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """(directory, sorted names) in tree order."""
    children: dict[bytes, set[bytes]] = {b"": set()}
    for path in files:
        parts = path.split(b"/")
        for depth in range(len(parts)):
            children.setdefault(b"/".join(parts[:depth]), set()).add(parts[depth])

    def visit(path: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
        names = sorted(children[path])
        if names:
            yield path, names
        for name in names:
            below = path + b"/" + name if path else name
            if below in children:
                yield from visit(below)

    return visit(b"")
