"""Writing files that were found on a machine's disks into a folder of this host.

What tells of them may lie: every name is checked, no link is followed, nothing is written outside
of the folder or of a volume that was asked for, and nothing grants a privilege on this host: no
setuid or setgid, no device nodes, no attributes.
"""

from __future__ import annotations

import os
import stat as st
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holdfast.errors import SourceError
from holdfast.ports.point_files import FileKind, Finish, FoundFile, Hole, Piece, Problem
from holdfast.vaultstore.entries import Entry, EntryType, is_name
from holdfast.workloads.files.paths import BlockedError, Folder, TargetTree, lstat_at
from holdfast.workloads.files.restore_folders import WaitingFolders
from holdfast.workloads.files.restore_names import MAX_COPIES, copy_name
from holdfast.workloads.files.restore_sync import sync_file_systems
from holdfast.workloads.files.restore_writer import EntryWriter, Owners, PathReport, fail

Conflict = Literal["overwrite", "skip", "keep-both"]
TYPES = {
    FileKind.FILE: EntryType.FILE,
    FileKind.FOLDER: EntryType.DIRECTORY,
    FileKind.LINK: EntryType.SYMLINK,
    FileKind.FIFO: EntryType.FIFO,
}
SHOWN = 1400  # bytes of a path in a finding
GRANTING = st.S_ISUID | st.S_ISGID


@dataclass(slots=True)
class Written:
    """``bytes``: of content, without holes."""

    files: int = 0
    folders: int = 0
    skipped: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Open:
    """The file that is being written."""

    folder: Folder
    entry: Entry
    fd: int
    temporary: bytes
    at: int = 0


class FoundFilesWriter:
    """Writes below ``target``, only into ``volumes`` (first names of paths). ``token``: 8 letters
    that mark its half-done files; ``suffix``: of copies. TargetError, SourceError
    (ApplianceConfused)."""

    def __init__(
        self,
        target: Path,
        volumes: Iterable[bytes],
        report: PathReport,
        *,
        conflict: Conflict = "overwrite",
        token: bytes = b"00000000",
        suffix: bytes = b".restored",
    ) -> None:
        self.written = Written()
        self._volumes = frozenset(volumes)
        self._report = report = _shortened(report)
        self._conflict, self._suffix = conflict, suffix
        self._writer = EntryWriter(Owners({}, {}), token, report)
        self._tree = TargetTree(target, self._writer.remove_partials)
        self._waiting = WaitingFolders(self._tree, self._writer)
        self._folders: set[bytes] = set()
        self._open: _Open | None = None
        self._content = False  # whether content belongs to a file that is left out

    def take(self, pieces: Iterable[Piece], moved: Callable[[], object] = lambda: None) -> Written:
        """Write everything, make it durable. ``moved`` is called after every piece."""
        try:
            for piece in pieces:
                self._take(piece)
                moved()
            self._drop()
            self._waiting.leave(None)
            sync_file_systems(self._tree.device_descriptors())
            return self.written
        finally:
            self._drop()
            self._tree.lock_again()
            self._tree.close()

    def _take(self, piece: Piece) -> None:
        match piece:
            case FoundFile():
                self._drop()
                self._begin(piece)
            case bytes():
                self._data(piece)
            case Hole(length):
                self._skip(length)
            case Finish.FILE:
                self._finish()
            case Problem(code, path, message):
                self._drop()
                self.written.skipped += 1
                self._report(code, path, message)

    # entries

    def _begin(self, found: FoundFile) -> None:
        self._tree.release_old()
        names = found.path.split(b"/")
        if names[0] not in self._volumes or not all(map(is_name, names)):
            raise _liar(f"it names {found.path[:200]!r}, which was not asked for")
        self._content = found.kind is FileKind.FILE
        entry = self._entry(found, names[-1])
        if entry is None:
            return
        try:
            self._place(found, entry)
        except BlockedError as error:
            self._left_out("TargetBlocked", found.path, str(error))
        except OSError as error:
            self._failed(found.path, error)

    def _entry(self, found: FoundFile, name: bytes) -> Entry | None:
        if found.kind not in TYPES:
            self._left_out("SpecialFile", found.path, "devices and sockets are not restored here")
            return None
        mode = found.mode
        if mode & GRANTING and found.kind is not FileKind.LINK:
            mode &= ~GRANTING
            if found.kind is FileKind.FILE:
                self._report("ModeNotRestored", found.path, "setuid and setgid were left out")
        kind = TYPES[found.kind]
        return Entry(
            name,
            kind,
            mode,
            found.uid,
            found.gid,
            found.mtime_ns,
            size=found.size,
            link_target=found.link_target,
        )

    def _place(self, found: FoundFile, entry: Entry) -> None:
        if entry.type == EntryType.DIRECTORY:
            self._folder(found.path, entry)
            return
        folder = self._tree.directory(found.path.rpartition(b"/")[0])
        name = self._choose(folder, entry.name)
        if name is None:
            self.written.skipped += 1
            return
        entry.name = name
        if entry.type == EntryType.FILE:
            fd, temporary = self._writer.begin_file(folder, entry)
            folder.users += 1
            self._open = _Open(folder, entry, fd, temporary)
            return
        self._writer.make_special(folder, name, entry)
        self.written.files += 1

    def _folder(self, path: bytes, entry: Entry) -> None:
        """Once: paths that were asked for may lie in each other."""
        self._tree.directory(path)
        if path not in self._folders:
            self._folders.add(path)
            self._waiting.add(path, entry)
            self.written.folders += 1

    def _choose(self, folder: Folder, name: bytes) -> bytes | None:
        """Under which name; None when what is there stays."""
        if self._conflict == "overwrite" or lstat_at(folder.fd, name) is None:
            return name
        if self._conflict == "keep-both":
            for number in range(1, MAX_COPIES):
                copy = copy_name(name, self._suffix, number)
                if lstat_at(folder.fd, copy) is None:
                    return copy
        return None

    def _left_out(self, code: str, path: bytes, message: str) -> None:
        self.written.skipped += 1
        self._report(code, path, message)

    def _failed(self, path: bytes, error: OSError) -> None:
        """One entry is left out. TargetError when nothing more can be written at all."""
        try:
            fail(error, path)
        except OSError:
            self._left_out("NotRestored", path, error.strerror or str(error))

    # content

    def _data(self, data: bytes) -> None:
        one = self._room(len(data))
        if one is None:
            return
        try:
            self._writer.bulk.write(one.fd, data, one.at - len(data))
            self.written.bytes += len(data)
        except OSError as error:
            self._open = None  # what is left of its content is passed over
            one.folder.users -= 1
            self._abandon(one)
            self._failed(one.folder.path_of(one.entry.name), error)

    def _skip(self, length: int) -> None:
        self._room(length)

    def _room(self, length: int) -> _Open | None:
        """The open file, moved on. SourceError when its content is not what was announced."""
        one = self._open
        if one is None:
            if not self._content:
                raise _liar("content comes without a file")
            return None
        one.at += length
        if one.at > one.entry.size:
            raise _liar("a file is longer than was announced")
        return one

    def _finish(self) -> None:
        one, self._open, self._content = self._open, None, False
        if one is None:
            return
        one.folder.users -= 1
        if one.at != one.entry.size:
            self._abandon(one)
            raise _liar("a file is shorter than was announced")
        path = one.folder.path_of(one.entry.name)
        try:
            os.ftruncate(one.fd, one.entry.size)
        except OSError as error:
            self._abandon(one)
            self._failed(path, error)
            return
        try:
            self._writer.finish_file(one.fd, one.folder, one.temporary, one.entry.name, one.entry)
            self.written.files += 1
        except OSError as error:
            self._failed(path, error)
        self._tree.release_old()

    def _drop(self) -> None:
        """A file whose content did not come whole is not there at all."""
        one, self._open, self._content = self._open, None, False
        if one is not None:
            one.folder.users -= 1
            self._abandon(one)
            path = one.folder.path_of(one.entry.name)
            self._left_out("FileUnreadable", path, "its content could not be read to the end")

    def _abandon(self, one: _Open) -> None:
        os.close(one.fd)
        self._writer.drop(one.folder, one.temporary)


def _shortened(report: PathReport) -> PathReport:
    """Findings are sent by hundreds, and each may be as long as what is reported likes."""

    def tell(code: str, path: bytes, message: str) -> None:
        report(code, path if len(path) <= SHOWN else path[:SHOWN] + b"...", message)

    return tell


def _liar(why: str) -> SourceError:
    return SourceError(
        f"the machine that reads the file systems answers nonsense: {why}",
        code="ApplianceConfused",
        hint="the file system may be made to do harm: restore the disk, and look at it with care",
    )
