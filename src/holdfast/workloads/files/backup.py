"""One backup of a files item: scan, read what changed, page the tree, commit.

The scan runs in tree order, of a large tree in a process of its own. An unchanged directory costs
its ``lstat`` calls and a comparison; its encoded segments are used again. Changed files become
tasks of a thread pool. Directories wait in a queue until their tasks are done and leave it in
order, so that the manifest is built as a stream.
"""

from __future__ import annotations

import grp
import logging
import pwd
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.domain.work_hours import WorkHours, rate_at
from holdfast.errors import CancelledError, ConflictError, InternalError
from holdfast.ports.clock import Clock, Random
from holdfast.vaultstore.entries import Entry, SegmentEncoder, first_name, splits_before
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.vaultstore.manifest_files import ManifestBuilder
from holdfast.vaultstore.root import Root, Stream, encode_root
from holdfast.workloads.files.batches import Batches
from holdfast.workloads.files.cache import CacheHead, CacheReader, CacheWriter
from holdfast.workloads.files.changes import Comparer, Pending
from holdfast.workloads.files.content import ContentReader
from holdfast.workloads.files.listing import Listing, tree_order
from holdfast.workloads.files.scan import check_includes
from holdfast.workloads.files.scan_process import Scanner
from holdfast.workloads.files.selection import compile_excludes, normalise_includes
from holdfast.workloads.findings import Findings
from holdfast.workloads.packing import SETTLE_SECONDS, ChunkWriter, Throttle, stop_if
from holdfast.workloads.transport import BackupTransport

log = logging.getLogger(__name__)
MAX_HELD_ENTRIES = 24_000
DRAIN_EVERY = 16  # directories; asking each time costs more than it frees


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPlan:
    """What to protect and how. ``base``: where "/" is read from (a volume snapshot);
    ``settle_seconds``: how often what was sent is made findable for later backups."""

    include_paths: Sequence[str]
    exclude_globs: Sequence[str] = ()
    throttle_bytes_per_second: int | None = None
    work_hours: WorkHours | None = None
    base: bytes = b""
    consistency: str = "CrashConsistent"
    consistency_reason: str = "files were read live, without a volume snapshot"
    host: str = ""
    threads: int = 0
    settle_seconds: float = SETTLE_SECONDS


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
        self._limits = (plan.throttle_bytes_per_second, plan.work_hours)
        self._throttle = Throttle(self._rate, wait)

    def limit(self, outside: int | None, hours: WorkHours | None) -> None:
        """Other limits from now on."""
        self._limits = (outside, hours)

    def _rate(self) -> int | None:
        return rate_at(*self._limits, self._clock.now())

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
        grant, plan = self._transport.grant, backup.plan
        self._plan = plan
        self._started_ns = started_ns
        self._findings = backup.findings
        self._progress = backup.progress
        self._cache = cache
        self._next_cache = CacheWriter(cache_path)
        self._writer = ChunkWriter(
            self._transport, rng, throttle, settle_seconds=plan.settle_seconds
        )
        self._reader = ContentReader(self._writer, plan.base, self._findings.add)
        self._reader.prepare(grant.id_keys, grant.chunker_seed)
        self._batches = Batches(self._reader, plan.threads, self._cancelled)
        self._comparer = Comparer(plan.base, self._findings.add)
        self._scanner: Scanner | None = None
        self._builder = ManifestBuilder(self._put_page)
        self._pages = bytearray()
        self._queue: deque[Pending] = deque()
        self._held = 0
        self._owners: set[int] = set()
        self._groups: set[int] = set()
        self._files = 0

    def execute(self) -> BackupResult:
        includes = normalise_includes(self._plan.include_paths)
        self._progress.phase = "Transfer data to vault"
        for listing in self._scan(includes):
            stop_if(self._cancelled)
            self._take(listing)
            if len(self._queue) % DRAIN_EVERY == 0:
                self._drain(block=False)
            while self._held > MAX_HELD_ENTRIES:  # one long file must not let the rest pile up
                self._drain_one()
        self._batches.flush()
        self._drain(block=True)
        tree = self._builder.finish()
        return self._commit(tree.id, tree.entries, tree.logical_bytes, includes)

    def _scan(self, includes: tuple[bytes, ...]) -> Iterable[Listing]:
        plan = self._plan
        compile_excludes(plan.exclude_globs)  # refused before anything is read
        check_includes(includes, plan.base)
        self._scanner = Scanner(
            includes,
            plan.exclude_globs,
            self._findings.add,
            base=plan.base,
            started_ns=self._started_ns,
        )
        return self._scanner

    def settle(self) -> None:
        """An orderly stop: keep what was sent findable for the next attempt."""
        self._batches.close()
        receipts = self._writer.finish()
        if receipts:
            self._transport.checkpoint(receipts)

    def close(self) -> None:
        self._batches.close()
        self._reader.close()
        if self._scanner is not None:
            self._scanner.close()
        self._writer.stop()
        self._cache.close()
        self._next_cache.abort()

    # directories in

    def _take(self, listing: Listing) -> None:
        self._owners.update(listing.owners)
        self._groups.update(listing.groups)
        pending = self._comparer.compare(listing, self._cache.take(tree_order(listing.path)))
        self._queue.append(pending)
        self._held += listing.count + 1
        self._batches.add(pending)

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
            self._batches.flush()
        for task in pending.tasks:
            stop_if(self._cancelled)
            task.result()
        self._queue.popleft()
        self._held -= pending.listing.count + 1
        self._page(pending)

    def _is_ready(self, pending: Pending) -> bool:
        return not pending.unsent and all(task.done() for task in pending.tasks)

    def _page(self, pending: Pending) -> None:
        listing = pending.listing
        unsure = pending.unsure
        if pending.segments is None:
            pending.join_twins(self._reader.read)
            if not all(source.read or source.gone for source in pending.sources.values()):
                raise InternalError("a directory was closed before its files were read")
            gone = {id(one.entry) for one in pending.sources.values() if one.gone}
            unsure += [n for n, source in pending.sources.items() if source.gone or source.unsure]
            kept = [entry for entry in pending.entries if id(entry) not in gone]
            pending.segments = self._encode(listing.path, kept)
        for segment in pending.segments:
            self._builder.add_segment(segment, first_name(segment))
        self._next_cache.add(listing, pending.segments, unsure)
        self._count(listing)

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

    def _count(self, listing: Listing) -> None:
        self._files += listing.count
        self._progress.done_files = self._files
        self._progress.done_bytes += listing.logical_bytes
        self._progress.transferred_bytes = self._writer.sent_bytes

    def _put_page(self, page: bytes) -> bytes:
        name = chunk_name(self._transport.grant.id_keys, ChunkKind.FILE_PAGE, page)
        page_id = name[:32]
        self._pages += page_id
        if page_id not in self._cache.pages:
            self._writer.store(ChunkKind.FILE_PAGE, [(name, page)])
        return page_id

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
        self._next_cache.finish()
        rp_id = self._transport.commit(receipts, name[:32], claims)
        self._publish(CacheHead(rp_id=rp_id, pages=bytes(self._pages)))
        sent = self._progress.transferred_bytes = self._writer.sent_bytes
        return BackupResult(rp_id, logical, sent, entries, findings.count)

    def _publish(self, head: CacheHead) -> None:
        """The recovery point is there; without the cache only the next backup takes longer."""
        try:
            self._next_cache.publish(head)
        except OSError as error:
            log.warning("the file cache could not be kept: %s", error)


def _names(ids: set[int], name_of: Callable[[int], str]) -> dict[int, str]:
    found = {}
    for number in sorted(ids):
        try:
            found[number] = name_of(number)
        except KeyError:
            continue
    return found
