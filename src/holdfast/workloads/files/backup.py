"""One backup of a files item: scan, read what changed, page the tree, commit.

The scan runs in tree order on the calling thread. An unchanged directory costs its ``lstat`` calls
and a comparison; its encoded segments are used again. Changed files become tasks of a thread pool.
Directories wait in a queue until their tasks are done and leave it in order, so that the manifest
is built as a stream.
"""

from __future__ import annotations

import grp
import os
import pwd
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.errors import CancelledError, ConflictError, InternalError
from holdfast.ports.clock import Clock, Random
from holdfast.vaultstore.chunker import SMALL_FILE_BYTES
from holdfast.vaultstore.entries import (
    Entry,
    EntryType,
    SegmentEncoder,
    decode_segment,
    first_name,
    splits_before,
)
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.vaultstore.manifest_files import ManifestBuilder
from holdfast.vaultstore.root import Root, Stream, encode_root
from holdfast.workloads.files.cache import (
    ROW_BYTES,
    CacheHead,
    CacheReader,
    CacheWriter,
    Remembered,
    stat_rows,
)
from holdfast.workloads.files.content import ContentReader, Source
from holdfast.workloads.files.metadata import entry_type, new_entry, read_link, read_xattrs
from holdfast.workloads.files.scan import Directory, scan
from holdfast.workloads.files.selection import compile_excludes, normalise_includes
from holdfast.workloads.findings import Findings
from holdfast.workloads.packing import ChunkWriter, Throttle, stop_if
from holdfast.workloads.transport import BackupTransport

BATCH_BYTES, BATCH_FILES = 4 * 1024 * 1024, 2048
MAX_BATCH_BYTES = 16 * 1024 * 1024
MAX_WAITING_TASKS = 12
MAX_HELD_ENTRIES = 25_000
SETTLE_SECONDS, SETTLE_BYTES = 600.0, 32 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPlan:
    """What to protect and how. ``base``: where "/" is read from (a volume snapshot)."""

    include_paths: Sequence[str]
    exclude_globs: Sequence[str] = ()
    throttle_bytes_per_second: int | None = None
    base: bytes = b""
    consistency: str = "CrashConsistent"
    consistency_reason: str = "files were read live, without a volume snapshot"
    host: str = ""
    threads: int = 0


@dataclass(slots=True)
class Progress:
    """Figures of a running backup; read by a reporting thread."""

    phase: str = "Scan"
    done_files: int = 0
    done_bytes: int = 0
    read_bytes: int = 0
    transferred_bytes: int = 0
    total_files: int | None = None
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a backup made. Bytes: logical = all files, transferred = sent to the vault."""

    recovery_point_id: str
    logical_bytes: int
    transferred_bytes: int
    files: int
    findings_count: int


@dataclass(slots=True)
class _Pending:
    """A directory on its way into the manifest. ``segments``: of an unchanged one."""

    directory: Directory
    rows: bytes
    segments: list[bytes] | None = None
    entries: list[Entry] = field(default_factory=list)
    sources: dict[int, Source] = field(default_factory=dict)
    twins: list[tuple[Entry, Source]] = field(default_factory=list)
    tasks: list[Future[None]] = field(default_factory=list)
    unsent: bool = False


class FilesBackup:
    """One run. ``cache_path``: the item's cache file; ``cancelled`` is asked all along."""

    def __init__(
        self,
        plan: BackupPlan,
        transport: BackupTransport,
        cache_path: Path,
        clock: Clock,
        rng: Random,
        *,
        cancelled: Callable[[], bool] = lambda: False,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.plan = plan
        self.progress = Progress()
        self.findings = Findings()
        self._transport = transport
        self._cache_path = cache_path
        self._clock = clock
        self._rng = rng
        self._cancelled = cancelled
        self._throttle = Throttle(plan.throttle_bytes_per_second, wait)

    def run(self) -> BackupResult:
        """Make the recovery point. SourceError, CancelledError (what was sent stays findable),
        or what the transport raises."""
        try:
            return self._attempt(use_cache=True)
        except ConflictError as error:
            if error.code != "MissingChunks":
                raise
            return self._attempt(use_cache=False)  # the cache spoke of chunks that are gone

    def _attempt(self, *, use_cache: bool) -> BackupResult:
        grant = self._transport.grant
        parent = grant.parent.rp_id if grant.parent and use_cache else None
        self.findings = Findings()
        started_ns = int(self._clock.now().timestamp() * 1e9)
        run = _Run(self, CacheReader(self._cache_path, parent), started_ns)
        try:
            return run.execute()
        except CancelledError:
            run.settle()
            raise
        finally:
            run.close()

    @property
    def parts(self) -> tuple[BackupTransport, Path, Random, Throttle, Callable[[], bool]]:
        """What a run works with."""
        return self._transport, self._cache_path, self._rng, self._throttle, self._cancelled


class _Run:
    """The moving parts of one attempt."""

    def __init__(self, backup: FilesBackup, cache: CacheReader, started_ns: int) -> None:
        self._transport, cache_path, rng, throttle, self._cancelled = backup.parts
        grant = self._transport.grant
        self._backup = backup
        self._plan = backup.plan
        self._findings = backup.findings
        self._progress = backup.progress
        self._cache = cache
        self._next_cache = CacheWriter(cache_path, started_ns)
        self._writer = ChunkWriter(self._transport, rng, throttle)
        self._reader = ContentReader(self._writer, backup.plan.base, self._findings.add)
        self._reader.prepare(grant.id_keys, grant.chunker_seed)
        threads = backup.plan.threads or min(4, (os.cpu_count() or 2) + 1)
        self._pool = ThreadPoolExecutor(threads, "read")
        self._builder = ManifestBuilder(self._put_page)
        self._pages = bytearray()
        self._queue: deque[_Pending] = deque()
        self._room = threading.Semaphore(MAX_WAITING_TASKS)
        self._held = 0
        self._batch: list[Source] = []
        self._batch_owners: list[_Pending] = []
        self._batch_bytes = 0
        self._links: dict[int, tuple[Source, int]] = {}
        self._owners: set[int] = set()
        self._groups: set[int] = set()
        self._files = 0
        self._settled_at = time.monotonic()

    def execute(self) -> BackupResult:
        plan = self._plan
        includes = normalise_includes(plan.include_paths)
        excludes = compile_excludes(plan.exclude_globs)
        self._progress.phase = "Transfer data to vault"
        for directory in scan(includes, excludes, self._findings.add, plan.base):
            stop_if(self._cancelled)
            self._take(directory)
            self._drain(block=False)
            while self._held > MAX_HELD_ENTRIES:  # one long file must not let the rest pile up
                self._drain_one()
            self._settle_in_time()
        self._submit_batch()
        self._drain(block=True)
        tree = self._builder.finish()
        return self._commit(tree.id, tree.entries, tree.logical_bytes, includes)

    def settle(self) -> None:
        """An orderly stop: keep what was sent findable for the next attempt."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        receipts = self._writer.finish()
        if receipts:
            self._transport.checkpoint(receipts)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._writer.stop()
        self._cache.close()
        self._next_cache.abort()

    # directories in

    def _take(self, directory: Directory) -> None:
        rows = stat_rows(directory.stats, snapshot=bool(self._plan.base))
        pending = _Pending(directory, rows)
        self._owners.update([info.st_uid for info in directory.stats])
        self._groups.update([info.st_gid for info in directory.stats])
        known = self._cache.take(directory.path.replace(b"/", b"\0"))
        if known is not None and known.rows == rows and known.names == directory.names:
            pending.segments = known.segments
        else:
            self._compare(pending, known)
        self._queue.append(pending)
        self._held += len(directory.names)

    def _compare(self, pending: _Pending, known: Remembered | None) -> None:
        """Entries of a new or changed directory; unchanged ones keep what is known of them."""
        directory = pending.directory
        old = _unchanged(known, directory, pending.rows) if known is not None else {}
        for number, (name, info) in enumerate(zip(directory.names, directory.stats, strict=True)):
            entry = old.get(name)
            if entry is None:
                entry = self._new_entry(pending, number, name, info)
                if entry is None:
                    continue
            pending.entries.append(entry)

    def _new_entry(
        self, pending: _Pending, number: int, name: bytes, info: os.stat_result
    ) -> Entry | None:
        folder = pending.directory.path
        path = folder + b"/" + name if folder else name
        kind = entry_type(info.st_mode)
        if kind is None:
            self._findings.add("SocketSkipped", path, "sockets cannot be protected")
            return None
        entry = new_entry(name, info, kind)
        full = b"/" + (self._plan.base + b"/" + path if self._plan.base else path)
        try:
            entry.xattrs = read_xattrs(full)
            if kind is EntryType.SYMLINK:
                entry.link_target = read_link(full)
        except FileNotFoundError:
            self._findings.add("FileVanished", path, "it vanished while it was read")
            return None
        except OSError as error:
            self._findings.add("AttributeUnreadable", path, error.strerror or str(error))
        if kind is EntryType.FILE:
            self._read_content(pending, number, Source(path, entry, info))
        return entry

    def _read_content(self, pending: _Pending, number: int, source: Source) -> None:
        entry, info = source.entry, source.stat
        if entry.link_group:
            first, left = self._links.get(entry.link_group, (None, info.st_nlink))
            if left <= 2 and first is not None:
                self._links.pop(entry.link_group, None)
            else:
                self._links[entry.link_group] = (first or source, left - 1)
            if first is not None:
                pending.twins.append((entry, first))
                return
        if info.st_size == 0:
            return
        pending.sources[number] = source
        if info.st_size >= SMALL_FILE_BYTES:
            self._submit(lambda: self._reader.read_large(source), [pending])
            return
        pending.unsent = True
        self._batch.append(source)
        self._batch_bytes += info.st_size
        if not self._batch_owners or self._batch_owners[-1] is not pending:
            self._batch_owners.append(pending)
        if self._batch_full(source.path):
            self._submit_batch()

    def _batch_full(self, path: bytes) -> bool:
        """Batches end where a path says, so that they fall alike in the next full read."""
        if self._batch_bytes >= MAX_BATCH_BYTES or len(self._batch) >= BATCH_FILES:
            return True
        return self._batch_bytes >= BATCH_BYTES and zlib.crc32(path) % 16 == 0

    def _submit_batch(self) -> None:
        if self._batch:
            batch, owners = self._batch, self._batch_owners
            self._batch, self._batch_owners, self._batch_bytes = [], [], 0
            self._submit(lambda: self._reader.read_small(batch), owners)
            for owner in owners:
                owner.unsent = False

    def _submit(self, task: Callable[[], None], owners: list[_Pending]) -> None:
        self._room.acquire()
        stop_if(self._cancelled)
        future = self._pool.submit(task)
        future.add_done_callback(lambda _: self._room.release())
        for owner in owners:
            owner.tasks.append(future)

    # directories out

    def _drain(self, *, block: bool) -> None:
        """Page the directories at the head of the queue whose content is stored."""
        while self._queue:
            pending = self._queue[0]
            if not block and not self._is_ready(pending):
                return
            self._drain_one()

    def _drain_one(self) -> None:
        """Page the oldest directory, waiting for its tasks."""
        pending = self._queue[0]
        if pending.unsent:
            self._submit_batch()
        for task in pending.tasks:
            stop_if(self._cancelled)
            task.result()
        self._queue.popleft()
        self._held -= len(pending.directory.names)
        self._page(pending)

    def _is_ready(self, pending: _Pending) -> bool:
        return not pending.unsent and all(task.done() for task in pending.tasks)

    def _page(self, pending: _Pending) -> None:
        directory = pending.directory
        unsure: list[int] = []
        if pending.segments is None:
            lost = self._join_twins(pending)
            if not all(source.read or source.gone for source in pending.sources.values()):
                raise InternalError("a directory was closed before its files were read")
            gone = lost | {id(one.entry) for one in pending.sources.values() if one.gone}
            unsure = [n for n, source in pending.sources.items() if source.gone or source.unsure]
            kept = [entry for entry in pending.entries if id(entry) not in gone]
            pending.segments = self._encode(directory.path, kept)
        for segment in pending.segments:
            self._builder.add_segment(segment, first_name(segment))
        self._next_cache.add(
            directory.path, directory.names, pending.rows, directory.stats, pending.segments, unsure
        )
        self._count(directory)

    def _join_twins(self, pending: _Pending) -> set[int]:
        """Give hard links the content of the name that was read; the ids of entries whose content
        could not be."""
        lost: set[int] = set()
        for entry, first in pending.twins:
            if first.gone:
                lost.add(id(entry))
                path = pending.directory.path + b"/" + entry.name
                self._findings.add("Unreadable", path, "another name of it could not be read")
                continue
            read = first.entry
            entry.extents, entry.digest, entry.size = read.extents, read.digest, read.size
            entry.mtime_ns = read.mtime_ns
        return lost

    def _encode(self, path: bytes, entries: list[Entry]) -> list[bytes]:
        segments: list[bytes] = []
        encoder, count = SegmentEncoder(path, self._put_page), 0
        for entry in entries:
            if count and splits_before(entry.name, count):
                segments.append(encoder.finish())
                encoder, count = SegmentEncoder(path, self._put_page), 0
            encoder.add(entry)
            count += 1
        if count:
            segments.append(encoder.finish())
        return segments

    def _count(self, directory: Directory) -> None:
        self._files += len(directory.names)
        self._progress.done_files = self._files
        self._progress.done_bytes += sum(
            [info.st_size for info in directory.stats if info.st_mode & 0o170000 == 0o100000]
        )
        self._progress.transferred_bytes = self._writer.sent_bytes

    def _put_page(self, page: bytes) -> bytes:
        name = chunk_name(self._transport.grant.id_keys, ChunkKind.FILE_PAGE, page)
        page_id = name[:32]
        self._pages += page_id
        if page_id not in self._cache.pages:
            self._writer.store(ChunkKind.FILE_PAGE, [(name, page)])
        return page_id

    def _settle_in_time(self) -> None:
        late = time.monotonic() - self._settled_at > SETTLE_SECONDS
        if late or self._writer.unsettled_bytes > SETTLE_BYTES:
            self._writer.settle()
            self._settled_at = time.monotonic()

    # the end

    def _commit(
        self, page_root: bytes, entries: int, logical: int, includes: tuple[bytes, ...]
    ) -> BackupResult:
        plan, findings = self._plan, self._findings
        self._progress.phase = "Commit"
        stream = Stream(
            name="files",
            kind="file-tree",
            page_root=page_root,
            logical_bytes=logical,
            entries=entries,
        )
        root = encode_root(
            Root(
                streams=(stream,),
                host=plan.host,
                platform="linux",
                include_paths=tuple(b"/" + path for path in includes),
                exclude_globs=tuple(plan.exclude_globs),
                consistency=plan.consistency,
                consistency_reason=plan.consistency_reason,
                findings=findings.all(),
                findings_count=findings.count,
                owners=_names(self._owners, lambda uid: pwd.getpwuid(uid).pw_name),
                groups=_names(self._groups, lambda gid: grp.getgrgid(gid).gr_name),
            )
        )
        name = chunk_name(self._transport.grant.id_keys, ChunkKind.ROOT, root)
        self._writer.store(ChunkKind.ROOT, [(name, root)])
        receipts = self._writer.finish()
        stop_if(self._cancelled)
        claims: dict[str, Any] = {
            "transferredBytes": self._writer.sent_bytes,
            "fileCount": entries,
            "findingsCount": findings.count,
            "consistency": plan.consistency,
            "consistencyReason": plan.consistency_reason,
        }
        rp_id = self._transport.commit(receipts, name[:32], claims)
        self._next_cache.publish(CacheHead(rp_id=rp_id, pages=bytes(self._pages)))
        sent = self._progress.transferred_bytes = self._writer.sent_bytes
        return BackupResult(rp_id, logical, sent, entries, findings.count)


def _unchanged(known: Remembered, directory: Directory, rows: bytes) -> dict[bytes, Entry]:
    """Entries of ``known`` whose row is the same now."""
    before = {
        name: known.rows[n * ROW_BYTES : (n + 1) * ROW_BYTES] for n, name in enumerate(known.names)
    }
    same = {
        name
        for n, name in enumerate(directory.names)
        if before.get(name) == rows[n * ROW_BYTES : (n + 1) * ROW_BYTES]
    }
    if not same:
        return {}
    found: dict[bytes, Entry] = {}
    for segment in known.segments:
        try:
            found.update({e.name: e for e in decode_segment(segment) if e.name in same})
        except Exception:  # noqa: BLE001 - whatever is wrong with a cache: read the files again
            return {}
    return found


def _names(ids: set[int], name_of: Callable[[int], str]) -> dict[int, str]:
    found = {}
    for number in sorted(ids):
        try:
            found[number] = name_of(number)
        except KeyError:
            continue
    return found
