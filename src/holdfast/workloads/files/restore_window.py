"""Writing one window of a restore.

``plan`` makes its directories and everything without content, and notes which chunks its files
need; each chunk is fetched once and written to all of them; ``close`` adds hard links once their
first members are in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from holdfast.vaultstore.entries import Entry, EntryType, is_name
from holdfast.vaultstore.values import FrameLocation
from holdfast.workloads.files.paths import BlockedError, Folder
from holdfast.workloads.files.restore_context import Context, RestoredFile
from holdfast.workloads.files.restore_names import Case, Choice
from holdfast.workloads.files.restore_pieces import WindowPieces
from holdfast.workloads.files.restore_plan import Window


class WindowWriter:
    """``plan`` and ``close`` belong to one thread; ``read`` may run in several."""

    def __init__(self, context: Context, number: int, window: Window) -> None:
        self.number = number
        self.last_folder = window.last_folder
        self._context = context
        self._window = window
        self._folders: list[Folder] = []
        self._pieces = WindowPieces(context)
        self._links: list[RestoredFile] = []
        self._firsts: list[RestoredFile] = []

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
            self._context.failed(path, error, f"{error.strerror}; {entries} entries left out")
            return None
        folder.users += 1
        self._folders.append(folder)
        return folder

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
                self._context.failed(folder.path_of(entry.name), error)

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
        file = RestoredFile(folder, choice.name, entry)
        if entry.link_group:
            if context.links.first(entry.link_group) is not None:
                self._links.append(file)
                return
            context.links.remember(entry.link_group, file.path)
            self._firsts.append(file)
        self._pieces.want(file)

    def _left_alone(self, folder: Folder, entry: Entry, choice: Choice) -> None:
        context = self._context
        if choice.case is Case.KEPT:
            context.progress.skipped_files += 1
            return
        context.progress.add(1, entry.size)
        if entry.link_group:
            context.links.remember(entry.link_group, folder.path_of(choice.name))

    # fetch

    def runs(self) -> Iterator[list[FrameLocation]]:
        """Frames to read, pack by pack."""
        return self._pieces.runs()

    def read(self, run: list[FrameLocation]) -> None:
        """Fetch frames and write what needs them. TargetError, CancelledError, StoreError."""
        self._pieces.read(run)

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

    def _link(self, file: RestoredFile) -> bool:
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

    def _restore_link_content(self, file: RestoredFile) -> None:
        """The first member is missing or cannot have another name: this one gets the content, and
        later ones are linked to it."""
        self._context.links.remember(file.entry.link_group, file.path)
        try:
            self._pieces.want(file)
            for run in self.runs():
                self.read(run)
        except OSError as error:
            self._context.failed(file.path, error)

    def drop(self) -> None:
        """Let go of folders, and of files that did not become whole."""
        self._pieces.drop()
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
