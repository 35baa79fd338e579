"""Writing one window of a restore.

``plan`` makes its directories and everything without content, and notes which chunks its files
need; each chunk is fetched once and written to all of them; ``close`` adds hard links once their
first members are in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from holdfast.errors import IntegrityError, ObjectMissingError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import Entry, EntryType, is_name
from holdfast.vaultstore.ids import IdKeys
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.files.journal import RestoreJournal
from holdfast.workloads.files.paths import BlockedError, Folder, TargetTree
from holdfast.workloads.files.restore_content import GrowingFile, check_small
from holdfast.workloads.files.restore_fetch import LOCATE_BATCH, ChunkSource
from holdfast.workloads.files.restore_folders import WaitingFolders
from holdfast.workloads.files.restore_links import LinkTable
from holdfast.workloads.files.restore_names import Case, Choice, NameChooser
from holdfast.workloads.files.restore_plan import RestorePlan, Selection, Window
from holdfast.workloads.files.restore_progress import RestoreProgress
from holdfast.workloads.files.restore_writer import EntryWriter, PathReport, fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the windows of one restore share."""

    plan: RestorePlan
    selection: Selection
    source: ChunkSource
    keys: IdKeys
    target: TargetTree
    writer: EntryWriter
    names: NameChooser
    waiting: WaitingFolders
    links: LinkTable
    journal: RestoreJournal
    progress: RestoreProgress
    report: PathReport
    cancelled: Callable[[], bool]


@dataclass(slots=True, eq=False)
class _File:
    """A file of the window. ``growing`` when it has several extents or begins with a hole."""

    folder: Folder
    name: bytes
    entry: Entry
    growing: GrowingFile | None = None
    failed: bool = False

    @property
    def path(self) -> bytes:
        return self.folder.path_of(self.name)


class WindowWriter:
    """``plan`` and ``close`` belong to one thread; ``read`` may run in several."""

    def __init__(self, context: Context, number: int, window: Window) -> None:
        self.number = number
        self.last_folder = window.last_folder
        self._context = context
        self._window = window
        self._folders: list[Folder] = []
        self._wanted: dict[bytes, list[tuple[_File, int]]] = {}
        self._links: list[_File] = []
        self._firsts: list[_File] = []
        self._growing: list[GrowingFile] = []

    # plan

    def plan(self) -> None:
        for path, entries in self._window.runs:
            folder = self._folder(path, len(entries))
            if folder is not None:
                self._plan_run(folder, entries)
        self._window.runs.clear()

    def _folder(self, path: bytes, entries: int) -> Folder | None:
        try:
            folder = self._context.target.directory(path)
        except BlockedError as error:
            why = error.strerror or "something stands in the way"
            self._context.report("TargetBlocked", path, f"{why}; {entries} entries left out")
            return None
        except OSError as error:
            self._failed(path, error, f"{error.strerror}; {entries} entries left out")
            return None
        folder.users += 1
        self._folders.append(folder)
        return folder

    def _failed(self, path: bytes, error: OSError, message: str = "") -> None:
        """Report what concerns one entry; raise what concerns the whole target."""
        try:
            fail(error, path)
        except OSError:
            self._context.report("NotRestored", path, message or error.strerror or str(error))

    def _plan_run(self, folder: Folder, entries: list[Entry]) -> None:
        self._note_folders(folder, entries)
        for entry in entries:
            try:
                if not is_name(entry.name):
                    self._context.report("NameRefused", folder.path, "a name leads elsewhere")
                elif entry.type == EntryType.DIRECTORY:
                    self._directory(folder, entry)
                else:
                    self._entry(folder, entry)
            except OSError as error:
                self._failed(folder.path_of(entry.name), error)

    def _note_folders(self, folder: Folder, entries: list[Entry]) -> None:
        """Only folders of ours get attributes, unless everything is overwritten; so a later run
        must know which they are."""
        context = self._context
        if context.plan.conflict == "overwrite" and context.selection.is_everything:
            return
        names = [one.name for one in entries if one.type == EntryType.DIRECTORY]
        if not folder.fresh:
            names = [name for name in names if not context.target.is_directory(folder, name)]
        context.journal.will_make([folder.path_of(name) for name in names])

    def _directory(self, folder: Folder, entry: Entry) -> None:
        context, name = self._context, entry.name
        path, overwrites = folder.path_of(name), context.plan.conflict == "overwrite"
        made = context.target.make(folder, name)
        if not made and not context.target.is_directory(folder, name):
            if not overwrites:
                context.report("TargetBlocked", path, "something that is no folder has the name")
                return
            if not context.writer.clear_way(folder, name):
                return
            made = context.target.make(folder, name)
        context.progress.directories += 1
        ours = made or context.journal.made(path)
        if ours or (overwrites and context.selection.covers(path)):
            context.waiting.add(path, entry)

    def _entry(self, folder: Folder, entry: Entry) -> None:
        context = self._context
        choice = context.names.choose(folder, entry)
        if not choice.writes:
            self._left_alone(folder, entry, choice)
            return
        context.progress.replaced_files += choice.case is Case.REPLACES
        context.progress.beside_files += choice.case is Case.BESIDE
        if entry.type != EntryType.FILE:
            context.writer.make_special(folder, choice.name, entry)
            context.progress.add(1, 0)
            return
        file = _File(folder, choice.name, entry)
        if entry.link_group:
            if context.links.first(entry.link_group) is not None:
                self._links.append(file)
                return
            context.links.remember(entry.link_group, file.path)
            self._firsts.append(file)
        self._want(file)

    def _left_alone(self, folder: Folder, entry: Entry, choice: Choice) -> None:
        context = self._context
        if choice.case is Case.KEPT:
            context.progress.skipped_files += 1
            return
        context.progress.add(1, entry.size)
        if entry.link_group:
            context.links.remember(entry.link_group, folder.path_of(choice.name))

    def _want(self, file: _File) -> None:
        """Note the chunks of a file; one without any is written here."""
        entry, context = file.entry, self._context
        extents = entry.extents
        if not extents:
            context.writer.write_whole(file.folder, file.name, entry, b"")
            context.progress.add(1, entry.size)
            return
        if len(extents) > 1 or extents[0][2]:
            file.growing = GrowingFile(context.writer, context.keys, file.folder, file.name, entry)
            self._growing.append(file.growing)
        for number, extent in enumerate(extents):
            self._wanted.setdefault(extent[0], []).append((file, number))

    # fetch

    def runs(self) -> Iterator[list[FrameLocation]]:
        """Frames to read, pack by pack; located in batches while the caller goes on."""
        source = self._context.source
        names = iter(list(self._wanted))
        while batch := list(islice(names, 4 * LOCATE_BATCH)):
            yield from source.runs(source.locate(batch))

    def read(self, run: list[FrameLocation]) -> None:
        """Fetch frames and write what needs them. TargetError, CancelledError, StoreError."""
        if self._context.cancelled():
            return
        done = [0, 0]

        def take(row: FrameLocation, plain: Buffer) -> None:
            self._take(row, memoryview(plain), done)

        try:
            self._context.source.read_run(run, take)
        except (IntegrityError, ObjectMissingError):
            self._read_singly(run, take)
        self._context.progress.add(done[0], done[1], sum([row.clen for row in run]))

    def _read_singly(
        self, run: list[FrameLocation], take: Callable[[FrameLocation, Buffer], None]
    ) -> None:
        """Something in the run is damaged: save what can be saved, name what cannot."""
        for row in run:
            if row.id not in self._wanted:
                continue
            try:
                self._context.source.read_run([row], take)
            except (IntegrityError, ObjectMissingError) as error:
                for file, _ in self._wanted.pop(row.id, ()):
                    self._damaged(file, error.message)

    def _take(self, row: FrameLocation, plain: memoryview, done: list[int]) -> None:
        for file, number in self._wanted.pop(row.id, ()):
            if file.failed:
                continue
            _, offset, _, length = file.entry.extents[number]
            try:
                if self._write(file, number, row, plain[offset : offset + length]):
                    done[0] += 1
                    done[1] += file.entry.size
            except IntegrityError as error:
                self._damaged(file, error.message)
            except OSError as error:
                file.failed = True
                self._failed(file.path, error)

    def _write(self, file: _File, number: int, row: FrameLocation, data: memoryview) -> bool:
        entry, context = file.entry, self._context
        _, _, at, length = entry.extents[number]
        if len(data) != length or at + length > entry.size:
            raise IntegrityError("its extents do not fit", code="ContentDamaged")
        if file.growing is not None:
            return file.growing.put(number, data)
        check_small(context.keys, entry, row.kind, row.id, data)
        context.writer.write_whole(file.folder, file.name, entry, data)
        return True

    def _damaged(self, file: _File, why: str) -> None:
        if not file.failed:
            file.failed = True
            self._context.report("ContentDamaged", file.path, why)
        if file.growing is not None:
            file.growing.give_up()

    # the end

    def close(self) -> None:
        """Everything read was written: add the hard links."""
        for file in self._firsts:
            if file.failed:
                self._context.links.forget(file.entry.link_group)
        links, self._links = self._links, []
        for file in links:
            if not self._link(file):
                self._restore_link_content(file)
        self.drop()

    def _link(self, file: _File) -> bool:
        context = self._context
        first = context.links.first(file.entry.link_group)
        if first is None:
            return False
        folder, _, name = first.rpartition(b"/")
        try:
            source = context.target.directory(folder, create=False)
            context.writer.link(source, name, file.folder, file.name)
        except OSError:
            return False
        context.progress.add(1, file.entry.size)
        return True

    def _restore_link_content(self, file: _File) -> None:
        """The first member is missing or cannot have another name: this one gets the content, and
        later ones are linked to it."""
        self._context.links.remember(file.entry.link_group, file.path)
        try:
            self._want(file)
            for run in self.runs():
                self.read(run)
        except OSError as error:
            self._failed(file.path, error)

    def drop(self) -> None:
        """Let go of folders, and of files that did not become whole."""
        for growing in self._growing:
            growing.give_up()
        self._growing = []
        for folder in self._folders:
            folder.users -= 1
        self._folders = []


def skip_window(context: Context, window: Window) -> None:
    """A window an interrupted run finished: its folders still wait for their attributes, and its
    hard links may get more names."""
    for path, entries in window.runs:
        for entry in entries:
            full = path + b"/" + entry.name if path else entry.name
            if entry.type == EntryType.DIRECTORY:
                overwrites = context.plan.conflict == "overwrite"
                if context.journal.made(full) or (overwrites and context.selection.covers(full)):
                    context.waiting.add(full, entry)
                context.progress.directories += 1
                continue
            context.progress.add(1, entry.size)
            if entry.link_group and context.links.first(entry.link_group) is None:
                _remember_link(context, path, entry)


def _remember_link(context: Context, path: bytes, entry: Entry) -> None:
    """Where the interrupted run put this member, if it did."""
    with contextlib.suppress(OSError):
        folder = context.target.directory(path, create=False)
        choice = context.names.choose(folder, entry)
        if choice.case is Case.ALREADY:
            context.links.remember(entry.link_group, folder.path_of(choice.name))
