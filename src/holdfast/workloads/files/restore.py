"""Restoring a recovery point's files: in windows of tree order, pack by pack within a window.

The calling thread plans windows: it makes directories, chooses names and asks where chunks lie. A
pool of threads fetches, checks and writes. While one window's last files are written the next one
is planned. Memory holds two windows, whatever the tree. File systems are synced along the way and
at the end (restore_sync); a run that was interrupted skips the windows its journal names.
"""

from __future__ import annotations

import grp
import pwd
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast import crashpoint
from holdfast.errors import HoldfastError
from holdfast.vaultstore.manifest_files import FileTree
from holdfast.vaultstore.manifest_pages import path_of_key
from holdfast.vaultstore.root import Root, decode_root
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.files.journal import RestoreJournal
from holdfast.workloads.files.paths import Folder, TargetTree, folders_at_once
from holdfast.workloads.files.restore_content import EarlyRoom
from holdfast.workloads.files.restore_context import Context
from holdfast.workloads.files.restore_fetch import ChunkSource
from holdfast.workloads.files.restore_folders import WaitingFolders
from holdfast.workloads.files.restore_links import LinkTable
from holdfast.workloads.files.restore_names import NameChooser
from holdfast.workloads.files.restore_plan import RestorePlan, Selection
from holdfast.workloads.files.restore_preview import Preview
from holdfast.workloads.files.restore_progress import RestoreProgress
from holdfast.workloads.files.restore_sync import Syncer
from holdfast.workloads.files.restore_window import WindowWriter, skip_window
from holdfast.workloads.files.restore_writer import EntryWriter, Owners, open_umask
from holdfast.workloads.files.selection import folders_above
from holdfast.workloads.files.writer_helper import WriterHelper
from holdfast.workloads.files.writer_process import SLOTS
from holdfast.workloads.findings import Findings
from holdfast.workloads.packing import stop_if

__all__ = ["FilesRestore", "RestorePlan", "RestoreProgress", "RestoreResult"]

WINDOWS_OPEN = 2
WAITING_RUNS_A_THREAD = 8  # lists of places, no data: enough to do while a window is planned


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did; in a dry run, what it would do. ``files`` were restored; of them
    ``replaced`` took an existing name and ``beside`` are copies next to an existing file.
    ``skipped`` were left alone. ``preview``: (what would happen, path), in a dry run, the first
    ones. ``transferred_bytes`` came from the vault."""

    files: int
    directories: int
    logical_bytes: int
    skipped: int
    findings_count: int
    dry_run: bool
    replaced: int = 0
    beside: int = 0
    transferred_bytes: int = 0
    preview: tuple[tuple[str, bytes], ...] = ()


class FilesRestore:
    """One run. ``journal_path``: where progress is kept, so that the same plan started again after
    an interruption goes on; None keeps none. ``progress`` and ``findings`` may be read all along
    from other threads."""

    def __init__(
        self,
        plan: RestorePlan,
        source: ChunkSource,
        journal_path: Path | None = None,
        *,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan = plan
        self.progress = RestoreProgress()
        self.findings = Findings()
        self._source = source
        self._journal_path = journal_path
        self._cancelled = cancelled
        self._lost: set[bytes] = set()

    def run(self) -> RestoreResult:
        """Restore. NotFoundError (PathNotInRecoveryPoint) before anything is written; TargetError
        (TargetFull, TargetBusy, TargetUnavailable) and CancelledError, after which the same run can
        be started again; or what the source raises."""
        root = decode_root(self._source.page(self._source.root_id))
        stream = root.file_tree
        pages = self._source.pages
        tree = FileTree(self._source.page, stream.page_root, pages, self._list_lost)
        selection = Selection(tree, self.plan.paths)
        selection.check()
        if selection.is_everything:
            self.progress.total_files = stream.entries
            self.progress.total_bytes = stream.logical_bytes
        owners = Owners({}, {}) if self.plan.numeric else _owners_here(root)
        if self.plan.dry_run:
            return self._preview(selection, owners)
        self._restore(selection, owners, folders_above(root.include_paths))
        return self._result()

    def _list_lost(self, key: bytes, error: HoldfastError) -> None:
        """A page of the list of files is damaged: say where, once, and restore the others."""
        if key not in self._lost:
            self._lost.add(key)
            self.findings.add(
                "FileListDamaged",
                path_of_key(key),
                f"a page of the point's list of files cannot be read ({error.message}): files "
                "from this one on, up to the next one that was restored, are not",
            )

    def _result(self) -> RestoreResult:
        figures = self.progress
        return RestoreResult(
            files=figures.done_files,
            directories=figures.directories,
            logical_bytes=figures.done_bytes,
            skipped=figures.skipped_files,
            findings_count=self.findings.count,
            dry_run=self.plan.dry_run,
            replaced=figures.replaced_files,
            beside=figures.beside_files,
            transferred_bytes=figures.transferred_bytes,
        )

    def _preview(self, selection: Selection, owners: Owners) -> RestoreResult:
        names = self._names(owners, resumed=False)
        found = Preview(self.plan, names, self.progress).look(selection, self._cancelled)
        return replace(self._result(), preview=found)

    def _names(self, owners: Owners, *, resumed: bool) -> NameChooser:
        plan = self.plan
        keys = self._source.keys
        return NameChooser(plan.conflict, plan.suffix, owners, keys, resumed=resumed)

    def _restore(self, selection: Selection, owners: Owners, leading: frozenset[bytes]) -> None:
        identity = self.plan.identity(self._source.root_id)
        token = identity[:8].encode()
        writer = EntryWriter(owners, token, self.findings.add, leading)
        with ExitStack() as stack:
            journal = RestoreJournal(self._journal_path, identity, self._cancelled)
            complete = False
            stack.callback(lambda: journal.close(delete=complete))
            on_open = _partials_remover(writer) if journal.resumed else None
            target = TargetTree(self.plan.place, on_open)
            stack.callback(target.close)
            keys, held = self._source.keys, journal.held
            helper = WriterHelper(target.top_fd, owners, token, keys, held)
            stack.callback(helper.close)
            links = LinkTable()
            stack.callback(links.close)
            syncer = Syncer(target.device_descriptors, journal)
            stack.callback(syncer.stop)
            context = Context(
                plan=self.plan,
                selection=selection,
                source=self._source,
                keys=self._source.keys,
                target=target,
                writer=writer,
                helper=helper,
                names=self._names(owners, resumed=journal.resumed),
                waiting=WaitingFolders(target, writer),
                early=EarlyRoom(),
                links=links,
                journal=journal,
                progress=self.progress,
                report=self.findings.add,
                cancelled=self._cancelled,
            )
            _Windows(context, syncer).write()
            context.waiting.leave(None)
            target.lock_again()
            syncer.finish()
            complete = True


class _Windows:
    """Writes windows one after the other, two of them open at a time."""

    def __init__(self, context: Context, syncer: Syncer) -> None:
        self._context = context
        self._syncer = syncer
        self._open: deque[tuple[WindowWriter, list[Future[None]]]] = deque()
        self._room = threading.Semaphore(context.plan.threads * WAITING_RUNS_A_THREAD)
        self._failed = threading.Event()

    def write(self) -> None:
        context = self._context
        with self._pool() as pool:
            for number, window in enumerate(context.selection.windows(folders_at_once())):
                stop_if(context.cancelled)
                if number in context.journal.done:
                    self._close(0)
                    skip_window(context, window)
                    continue
                writer = WindowWriter(context, number, window)
                tasks: list[Future[None]] = []
                self._open.append((writer, tasks))
                writer.plan()
                for run in writer.runs():
                    tasks.append(self._submit(pool, writer, run))
                self._close(WINDOWS_OPEN - 1)
            self._close(0)
            stop_if(context.cancelled)

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        threads = self._context.plan.threads + SLOTS
        pool = ThreadPoolExecutor(threads, "restore", initializer=open_umask)
        try:
            yield pool
        finally:
            self._failed.set()
            pool.shutdown(wait=True, cancel_futures=True)
            for writer, _ in self._open:
                writer.drop()

    def _submit(
        self, pool: ThreadPoolExecutor, writer: WindowWriter, run: list[FrameLocation]
    ) -> Future[None]:
        self._room.acquire()
        if self._failed.is_set():
            self._close(0)  # raises what failed
        stop_if(self._context.cancelled)
        task = pool.submit(self._read, writer, run)
        task.add_done_callback(lambda _: self._room.release())
        return task

    def _read(self, writer: WindowWriter, run: list[FrameLocation]) -> None:
        if self._failed.is_set():
            return
        try:
            writer.read(run)
        except BaseException:
            self._failed.set()
            raise

    def _close(self, keep: int) -> None:
        """Finish the oldest windows until ``keep`` are open."""
        context = self._context
        while len(self._open) > keep:
            writer, tasks = self._open[0]
            for task in tasks:
                task.result()
            stop_if(context.cancelled)
            writer.close()
            self._open.popleft()
            context.waiting.leave(writer.last_folder)
            context.target.release_old()
            self._syncer.window_written(writer.number)
            crashpoint.reach("restore.window")


def _partials_remover(writer: EntryWriter) -> Callable[[Folder], None]:
    def remove(folder: Folder) -> None:
        with suppress(OSError):
            writer.remove_partials(folder)

    return remove


def _owners_here(root: Root) -> Owners:
    """Map owners by name where the name exists here under another number."""
    users, groups = {}, {}
    for number, name in root.owners.items():
        with suppress(KeyError):
            users[number] = pwd.getpwnam(name).pw_uid
    for number, name in root.groups.items():
        with suppress(KeyError):
            groups[number] = grp.getgrnam(name).gr_gid
    return Owners(users, groups)
