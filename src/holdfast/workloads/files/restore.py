"""Restoring a recovery point's files: in windows of tree order, pack by pack within a window.

A window makes its directories, fetches the chunks its files need once each, writes the files, links
hard links, finishes directories no later window touches; then the file systems are synced and the
journal says so. A run that was interrupted skips finished windows.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.errors import NotFoundError, TargetError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import Entry, EntryType, is_name
from holdfast.vaultstore.manifest_files import FileTree
from holdfast.vaultstore.root import Root, decode_root
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.files.journal import RestoreJournal
from holdfast.workloads.files.paths import BlockedError, TargetTree
from holdfast.workloads.files.restore_fetch import ChunkSource
from holdfast.workloads.files.restore_writer import Conflict, EntryWriter, Owners, write_all
from holdfast.workloads.findings import Findings
from holdfast.workloads.packing import stop_if

WINDOW_ENTRIES, WINDOW_BYTES = 20_000, 512 * 1024 * 1024
WINDOW_FOLDERS = 500  # each holds a descriptor open
SYNC_SECONDS = 30.0  # how much work an interruption may cost
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What to restore where. ``target`` None: the original place. ``paths``: absolute; none means
    everything. ``suffix``: of copies kept beside existing files."""

    target: Path | None
    paths: Sequence[str] = ()
    conflict: Conflict = "overwrite"
    dry_run: bool = False
    suffix: str = ".restored"
    threads: int = 3


@dataclass(slots=True)
class RestoreProgress:
    """Figures of a running restore."""

    phase: str = "Transfer data from vault"
    done_files: int = 0
    done_bytes: int = 0
    total_files: int | None = None
    total_bytes: int | None = None
    transferred_bytes: int = 0
    skipped_files: int = 0


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did. In a dry run: what it would do."""

    files: int
    directories: int
    logical_bytes: int
    skipped: int
    findings_count: int
    dry_run: bool


@dataclass(slots=True)
class _File:
    """A file being written. ``left``: extents still to come; ``fd`` -1 until the first one."""

    folder: int
    path: bytes
    name: bytes
    entry: Entry
    left: int
    fd: int = -1
    temporary: bytes = b""
    failed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class _Window:
    """Runs of entries handled together."""

    runs: list[tuple[bytes, list[Entry]]] = field(default_factory=list)
    entries: int = 0
    bytes: int = 0


class FilesRestore:
    """One run. ``journal_path``: where progress is kept for a later resume."""

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
        self._fetcher = source
        self._root_id = source.root_id
        self._journal_path = journal_path
        self._cancelled = cancelled
        self._directories = 0
        self._links: dict[int, bytes] = {}

    def run(self) -> RestoreResult:
        """Restore. TargetError, StoreFullError (TargetFull), CancelledError, NotFoundError when a
        path is not in the recovery point, or what the transport raises."""
        root = decode_root(self._fetcher.page(self._root_id))
        stream = root.file_tree
        tree = FileTree(self._fetcher.page, stream.page_root)
        selection = _Selection(tree, self.plan.paths)
        if not self.plan.paths:
            self.progress.total_files = stream.entries
            self.progress.total_bytes = stream.logical_bytes
        if self.plan.dry_run:
            return self._dry_run(selection)
        target = TargetTree(self.plan.target or Path("/"))
        journal = RestoreJournal(self._journal_path)
        complete = False
        try:
            self._write(root, selection, target, journal)
            complete = True
        finally:
            target.close()
            journal.close(delete=complete)
        return self._result(dry_run=False)

    def _result(self, *, dry_run: bool) -> RestoreResult:
        figures = self.progress
        return RestoreResult(
            figures.done_files,
            self._directories,
            figures.done_bytes,
            figures.skipped_files,
            self.findings.count,
            dry_run,
        )

    def _dry_run(self, selection: _Selection) -> RestoreResult:
        base = self.plan.target or Path("/")
        for path, entries in selection.runs():
            stop_if(self._cancelled)
            for entry in entries:
                there = os.path.lexists(base / os.fsdecode(_join(path, entry.name)))
                if entry.type == EntryType.DIRECTORY:
                    self._directories += not there
                elif there and self.plan.conflict == "skip":
                    self.progress.skipped_files += 1
                else:
                    self.progress.done_files += 1
                    self.progress.done_bytes += entry.size
        return self._result(dry_run=True)

    def _write(
        self, root: Root, selection: _Selection, target: TargetTree, journal: RestoreJournal
    ) -> None:
        writer = EntryWriter(
            _owners_here(root), self.plan.conflict, os.fsencode(self.plan.suffix), self.findings.add
        )
        resumed = journal.resumed
        journal.begin()
        folders = _OpenFolders(target, writer, self.plan, selection)
        unsynced: list[int] = []
        synced_at = time.monotonic()
        with ThreadPoolExecutor(self.plan.threads, "restore") as pool:
            for number, window in enumerate(selection.windows()):
                stop_if(self._cancelled)
                if number in journal.done:
                    self._count_done(window)
                    continue
                job = _WindowWriter(self, window, target, writer, folders, pool, resumed=resumed)
                job.run()
                folders.leave(window.runs[-1][0])
                target.release_old()
                unsynced.append(number)
                if time.monotonic() - synced_at > SYNC_SECONDS:
                    sync_devices(target)
                    journal.finish_windows(unsynced)
                    unsynced, synced_at = [], time.monotonic()
        folders.leave(None)
        sync_devices(target)

    def _count_done(self, window: _Window) -> None:
        for _, entries in window.runs:
            for entry in entries:
                if entry.type != EntryType.DIRECTORY:
                    self.progress.done_files += 1
                    self.progress.done_bytes += entry.size

    # what a window's writer needs

    @property
    def fetcher(self) -> ChunkSource:
        return self._fetcher

    @property
    def cancelled(self) -> Callable[[], bool]:
        return self._cancelled

    @property
    def links(self) -> dict[int, bytes]:
        """Link group -> path of the member restored first."""
        return self._links

    def count_directory(self) -> None:
        self._directories += 1


class _Selection:
    """The chosen part of a tree, with the folders that lead to it."""

    def __init__(self, tree: FileTree, paths: Sequence[str]) -> None:
        self._tree = tree
        wanted = {os.path.normpath(os.fsencode(path)).strip(b"/") for path in paths}
        wanted.discard(b".")
        self.paths = sorted(wanted, key=lambda path: path.replace(b"/", b"\0"))
        self._everything = not self.paths or b"" in wanted

    def covers(self, path: bytes) -> bool:
        """Whether ``path`` itself was asked for (not only led through)."""
        if self._everything:
            return True
        return any(path == one or path.startswith(one + b"/") for one in self.paths)

    def runs(self) -> Iterator[tuple[bytes, list[Entry]]]:
        """(directory, entries) in tree order. NotFoundError (PathNotInRecoveryPoint)."""
        if self._everything:
            yield from self._tree.walk()
            return
        led: set[bytes] = set()
        for path in self.paths:
            yield from self._lead(path, led)
            found = self._tree.lookup(path)
            if found is None:
                shown = os.fsdecode(b"/" + path)
                raise NotFoundError(
                    f"{shown} is not in the recovery point",
                    code="PathNotInRecoveryPoint",
                    hint="look with: holdfast recovery-point browse",
                    target=shown,
                )
            yield path.rpartition(b"/")[0], [found]
            if found.type == EntryType.DIRECTORY:
                yield from self._tree.walk(path)

    def _lead(self, path: bytes, led: set[bytes]) -> Iterator[tuple[bytes, list[Entry]]]:
        """The folders above ``path``, each once."""
        parts = path.split(b"/")[:-1]
        for depth in range(1, len(parts) + 1):
            above = b"/".join(parts[:depth])
            if above not in led:
                led.add(above)
                found = self._tree.lookup(above)
                if found is not None:
                    yield above.rpartition(b"/")[0], [found]

    def windows(self) -> Iterator[_Window]:
        """The same windows for the same selection, whatever was done before."""
        window = _Window()
        for path, entries in self.runs():
            window.runs.append((path, entries))
            window.entries += len(entries)
            window.bytes += sum(entry.size for entry in entries if entry.extents)
            large = window.entries >= WINDOW_ENTRIES or window.bytes >= WINDOW_BYTES
            if large or len(window.runs) >= WINDOW_FOLDERS:
                yield window
                window = _Window()
        if window.runs:
            yield window


class _OpenFolders:
    """Directories whose attributes wait until their last child is written."""

    def __init__(
        self, target: TargetTree, writer: EntryWriter, plan: RestorePlan, selection: _Selection
    ) -> None:
        self._target = target
        self._writer = writer
        self._plan = plan
        self._selection = selection
        self._open: list[tuple[bytes, Entry]] = []

    def enter(self, path: bytes, entry: Entry) -> None:
        """A directory of the window was made or met."""
        ours = path in self._target.created
        self._target.created.discard(path)
        taken = self._plan.conflict == "overwrite" and self._selection.covers(path)
        if ours or taken:
            self._open.append((path, entry))

    def leave(self, current: bytes | None) -> None:
        """Finish what no later run can touch, deepest first; None: everything."""
        waiting: list[tuple[bytes, Entry]] = []
        for path, entry in reversed(self._open):
            if current is not None and _may_grow(path, current):
                waiting.append((path, entry))
                continue
            try:
                fd = self._target.directory(path, create=False)
            except OSError:
                continue
            self._writer.finish_directory(fd, entry, path)
            self._target.release_old()
        self._open = waiting[::-1]


def _may_grow(path: bytes, current: bytes) -> bool:
    """Whether runs after the one of directory ``current`` may still write into ``path``."""
    if path == current or current.startswith(path + b"/"):
        return True
    return path.replace(b"/", b"\0") > current.replace(b"/", b"\0")


class _WindowWriter:
    """Writes one window."""

    def __init__(
        self,
        restore: FilesRestore,
        window: _Window,
        target: TargetTree,
        writer: EntryWriter,
        folders: _OpenFolders,
        pool: ThreadPoolExecutor,
        *,
        resumed: bool,
    ) -> None:
        self._restore = restore
        self._window = window
        self._target = target
        self._writer = writer
        self._folders = folders
        self._pool = pool
        self._resumed = resumed
        self._wanted: dict[bytes, list[tuple[_File, int, int, int]]] = {}
        self._links: list[_File] = []
        self._report = restore.findings.add

    def run(self) -> None:
        for path, entries in self._window.runs:
            self._plan_run(path, entries)
        self._fetch()
        for link in self._links:
            self._link(link)

    def _plan_run(self, path: bytes, entries: list[Entry]) -> None:
        try:
            folder = self._target.directory(path)
        except BlockedError as error:
            self._report("TargetBlocked", path, error.strerror or "something stands in the way")
            return
        except OSError as error:
            raise TargetError(
                f"the folder /{os.fsdecode(path)} cannot be made: {error.strerror}",
                hint="choose a target this user may write",
            ) from error
        for entry in entries:
            full = _join(path, entry.name)
            if not is_name(entry.name):
                self._report("NameRefused", full, "the name would leave the target")
            elif entry.type == EntryType.DIRECTORY:
                self._directory(folder, full, entry)
            else:
                self._plan_entry(folder, full, entry)

    def _directory(self, folder: int, path: bytes, entry: Entry) -> None:
        if not self._target.ensure(folder, entry.name, path):
            removable = self._restore.plan.conflict == "overwrite"
            if not (removable and self._writer.clear_way(folder, entry.name, path)):
                self._report("TargetBlocked", path, "something that is no folder has the name")
                return
            self._target.ensure(folder, entry.name, path)
        self._restore.count_directory()
        self._folders.enter(path, entry)

    def _plan_entry(self, folder: int, path: bytes, entry: Entry) -> None:
        name = self._writer.choose_name(folder, entry, resumed=self._resumed)
        if name is None:
            self._restore.progress.skipped_files += 1
            if entry.link_group:
                self._restore.links.setdefault(entry.link_group, path)
            return
        try:
            self._begin(_File(folder, path, name, entry, len(entry.extents)))
        except OSError as error:
            self._report("NotRestored", path, error.strerror or str(error))

    def _begin(self, file: _File) -> None:
        entry = file.entry
        if entry.link_group and entry.link_group in self._restore.links:
            self._links.append(file)
            return
        if entry.type != EntryType.FILE:
            self._writer.make_special(file.folder, file.name, entry, file.path)
            self._done(entry)
            return
        if entry.link_group:
            self._restore.links[entry.link_group] = _join(file.path.rpartition(b"/")[0], file.name)
        if not entry.extents:
            self._writer.write_small(file.folder, file.name, entry, b"", file.path)
            self._done(entry)
            return
        for chunk_id, offset, at, length in entry.extents:
            self._wanted.setdefault(chunk_id, []).append((file, offset, at, length))

    def _done(self, entry: Entry) -> None:
        self._restore.progress.done_files += 1
        self._restore.progress.done_bytes += entry.size

    def _fetch(self) -> None:
        fetcher = self._restore.fetcher
        rows = fetcher.locate(self._wanted)
        tasks = [self._pool.submit(self._run, run) for run in fetcher.runs(rows)]
        try:
            for task in tasks:
                stop_if(self._restore.cancelled)
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                if not task.cancelled():
                    with suppress(Exception):
                        task.result()
            self._drop_unfinished()

    def _run(self, run: list[FrameLocation]) -> None:
        if self._restore.cancelled():
            return
        self._restore.fetcher.read_run(run, self._take)
        self._restore.progress.transferred_bytes += sum(row.clen for row in run)

    def _take(self, row: FrameLocation, plain: Buffer) -> None:
        view = memoryview(plain)
        for file, offset, at, length in self._wanted[row.id]:
            data = view[offset : offset + length]
            try:
                self._write(file, data, at)
            except OSError as error:
                file.failed = True
                self._report("NotRestored", file.path, error.strerror or str(error))

    def _write(self, file: _File, data: memoryview, at: int) -> None:
        entry = file.entry
        if len(entry.extents) == 1 and at == 0:
            file.left = 0
            self._writer.write_small(file.folder, file.name, entry, data, file.path)
            self._done(entry)
            return
        with file.lock:
            if file.fd < 0 and not file.failed:
                file.fd, file.temporary = self._writer.begin_file(file.folder, file.path)
                os.ftruncate(file.fd, entry.size)
        if file.failed:
            return
        write_all(file.fd, data, at)
        with file.lock:
            file.left -= 1
            last = file.left == 0
        if last:
            fd, file.fd = file.fd, -1
            self._writer.finish_file(fd, file.folder, file.temporary, file.name, entry, file.path)
            self._done(entry)

    def _drop_unfinished(self) -> None:
        for uses in self._wanted.values():
            for file, *_ in uses:
                if file.fd >= 0:
                    os.close(file.fd)
                    file.fd = -1
                    self._writer.drop(file.folder, file.temporary)

    def _link(self, file: _File) -> None:
        source = self._restore.links[file.entry.link_group]
        try:
            folder = self._target.directory(source.rpartition(b"/")[0], create=False)
            there = (folder, source.rpartition(b"/")[2])
            self._writer.link(there, file.folder, file.name, file.path)
            self._done(file.entry)
        except OSError as error:
            self._report("LinkNotRestored", file.path, error.strerror or str(error))


def sync_devices(target: TargetTree) -> None:
    """One ``syncfs`` for every file system written to. TargetError when one fails."""
    for fd in target.devices.values():
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise TargetError(
                f"the target could not be made durable: {os.strerror(number)}",
                hint="check the target's file system; the restore can be started again",
            )


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


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name
