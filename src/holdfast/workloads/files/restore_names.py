"""Under which name an entry is restored when something has its name, and what is there already."""

from __future__ import annotations

import os
import stat as st
from enum import Enum, auto
from typing import NamedTuple

from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.vaultstore.ids import IdKeys
from holdfast.workloads.files.paths import Folder, lstat_at
from holdfast.workloads.files.restore_content import has_content
from holdfast.workloads.files.restore_plan import Conflict
from holdfast.workloads.files.restore_writer import Owners

MAX_NAME, MAX_COPIES = 255, 1000
_KINDS = {
    EntryType.FILE: st.S_IFREG,
    EntryType.SYMLINK: st.S_IFLNK,
    EntryType.FIFO: st.S_IFIFO,
    EntryType.CHARACTER_DEVICE: st.S_IFCHR,
    EntryType.BLOCK_DEVICE: st.S_IFBLK,
}


class Case(Enum):
    """NEW: nothing is there. REPLACES: something gives way. BESIDE: a copy next to what is there.
    KEPT: what is there stays. ALREADY: an interrupted run restored it."""

    NEW = auto()
    REPLACES = auto()
    BESIDE = auto()
    KEPT = auto()
    ALREADY = auto()


class Choice(NamedTuple):
    name: bytes
    case: Case

    @property
    def writes(self) -> bool:
        return self.case in (Case.NEW, Case.REPLACES, Case.BESIDE)


class NameChooser:
    """``resumed``: entries that an interrupted run made are to be recognised. Not thread safe."""

    def __init__(
        self, conflict: Conflict, suffix: str, owners: Owners, keys: IdKeys, *, resumed: bool
    ) -> None:
        self._conflict = conflict
        self._suffix = os.fsencode(suffix)
        self._owners = owners
        self._keys = keys
        self._resumed = resumed
        self._privileged = os.geteuid() == 0
        self._promised: set[bytes] = set()

    def choose(self, folder: Folder, entry: Entry) -> Choice:
        """What to do with ``entry`` in ``folder``."""
        name = entry.name
        if folder.fresh:
            return Choice(name, Case.NEW)
        found = lstat_at(folder.fd, name)
        if found is None:
            return Choice(name, Case.NEW)
        if self._resumed and self._is_restored(folder, name, found, entry):
            return Choice(name, Case.ALREADY)
        if self._conflict == "skip":
            return Choice(name, Case.KEPT)
        if self._conflict == "overwrite":
            return Choice(name, Case.REPLACES)
        return self._beside(folder, entry)

    def _beside(self, folder: Folder, entry: Entry) -> Choice:
        """A copy's name that is free; what an earlier run put there is used again."""
        for number in range(1, MAX_COPIES):
            name = copy_name(entry.name, self._suffix, number)
            path = folder.path_of(name)
            if path in self._promised:
                continue
            found = lstat_at(folder.fd, name)
            if found is None:
                if len(entry.name) + len(self._suffix) > MAX_NAME:
                    self._promised.add(path)  # another long name may be cut to the same
                return Choice(name, Case.BESIDE)
            if self._is_restored(folder, name, found, entry):
                return Choice(name, Case.ALREADY)
        return Choice(entry.name, Case.KEPT)

    def _is_restored(
        self, folder: Folder, name: bytes, found: os.stat_result, entry: Entry
    ) -> bool:
        """Whether what is there is this very entry, whole."""
        if st.S_IFMT(found.st_mode) != _KINDS.get(EntryType(entry.type)):
            return False
        if found.st_mtime_ns != entry.mtime_ns or not self._same_rights(found, entry):
            return False
        if entry.type == EntryType.SYMLINK:
            return os.readlink(name, dir_fd=folder.fd) == entry.link_target
        if entry.type != EntryType.FILE:
            return found.st_rdev == entry.rdev or entry.type == EntryType.FIFO
        return found.st_size == entry.size and self._same_content(folder, name, entry)

    def _same_rights(self, found: os.stat_result, entry: Entry) -> bool:
        if self._privileged and (found.st_uid, found.st_gid) != self._owners.of(entry):
            return False
        link = entry.type == EntryType.SYMLINK
        return link or not self._privileged or st.S_IMODE(found.st_mode) == entry.mode

    def _same_content(self, folder: Folder, name: bytes, entry: Entry) -> bool:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
        except OSError:
            return False
        try:
            return has_content(fd, self._keys, entry)
        finally:
            os.close(fd)


def copy_name(name: bytes, suffix: bytes, number: int = 1) -> bytes:
    """``name`` with the suffix, cut between characters so that it stays a name."""
    tail = suffix if number == 1 else suffix + b"-%d" % number
    room = max(MAX_NAME - len(tail), 1)
    if len(name) > room:
        while room > 1 and name[room] & 0xC0 == 0x80:
            room -= 1
        name = name[:room]
    return name + tail
