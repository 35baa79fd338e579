"""Making one entry at the target: whole under its name, or not at all.

Content goes to a temporary name in the same directory; owner, mode, attributes and times are set
on the open descriptor; then the name is given by ``rename``. Nothing is synced here: one ``syncfs``
per file system ends a restore.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat as st
from collections.abc import Callable, Iterator
from typing import Literal

from holdfast.errors import StoreFullError, TargetError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.workloads.files.metadata import apply_xattrs
from holdfast.workloads.files.paths import lstat_at, remove_at

Conflict = Literal["overwrite", "skip", "keep-both"]
Report = Callable[[str, bytes, str], None]
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
PARTIAL = b".holdfast-partial-"


class Owners:
    """Which owner an entry gets here: by name when the name exists, by number otherwise."""

    def __init__(self, users: dict[int, int], groups: dict[int, int]) -> None:
        self._users = users
        self._groups = groups

    def of(self, entry: Entry) -> tuple[int, int]:
        return (
            self._users.get(entry.uid, entry.uid),
            self._groups.get(entry.gid, entry.gid),
        )


class EntryWriter:
    """Writes entries; thread safe. ``suffix``: of copies kept beside an existing file."""

    def __init__(self, owners: Owners, conflict: Conflict, suffix: bytes, report: Report) -> None:
        self._owners = owners
        self._conflict = conflict
        self._suffix = suffix
        self._report = report
        self._root = os.geteuid() == 0
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._numbers = itertools.count()
        self._prefix = PARTIAL + str(os.getpid()).encode() + b"-"

    def choose_name(self, folder: int, entry: Entry, *, resumed: bool) -> bytes | None:
        """The name to write, or None to leave what is there."""
        found = lstat_at(folder, entry.name)
        if found is None:
            return entry.name
        if resumed and _is_restored(found, entry):
            return None
        if self._conflict == "skip":
            return None
        if self._conflict == "overwrite":
            return entry.name
        copy = entry.name[: 255 - len(self._suffix)] + self._suffix
        there = lstat_at(folder, copy)
        return None if there is not None and _is_restored(there, entry) else copy

    def begin_file(self, folder: int, path: bytes) -> tuple[int, bytes]:
        """(descriptor, temporary name) of a new file in ``folder``."""
        name = self._prefix + str(next(self._numbers)).encode()
        with _target_errors(path):
            return os.open(name, _CREATE, 0o600, dir_fd=folder), name

    def finish_file(
        self, fd: int, folder: int, temporary: bytes, name: bytes, entry: Entry, path: bytes
    ) -> None:
        """Attributes, then the name. Closes ``fd``."""
        try:
            with _target_errors(path):
                self._attributes(fd, entry, path)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        self._give_name(folder, temporary, name, path)

    def write_small(
        self, folder: int, name: bytes, entry: Entry, data: Buffer, path: bytes
    ) -> None:
        """A file whose whole content is at hand."""
        fd, temporary = self.begin_file(folder, path)
        try:
            with _target_errors(path):
                if len(data):
                    write_all(fd, data, 0)
                if entry.size != len(data):
                    os.ftruncate(fd, entry.size)
        except BaseException:
            os.close(fd)
            self.drop(folder, temporary)
            raise
        self.finish_file(fd, folder, temporary, name, entry, path)

    def drop(self, folder: int, temporary: bytes) -> None:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)

    def _give_name(self, folder: int, temporary: bytes, name: bytes, path: bytes) -> None:
        try:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=folder)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as error:
                self.drop(folder, temporary)
                self._report("TargetBlocked", path, f"a folder has the name: {error.strerror}")

    def _attributes(self, fd: int, entry: Entry, path: bytes) -> None:
        mode = entry.mode
        if not self._own(fd, entry, path):
            mode &= ~(st.S_ISUID | st.S_ISGID)
        os.fchmod(fd, mode)
        if entry.xattrs:
            apply_xattrs(fd, entry, lambda code, message: self._report(code, path, message))

    def _own(self, fd: int, entry: Entry, path: bytes) -> bool:
        uid, gid = self._owners.of(entry)
        if self._root:
            os.fchown(fd, uid, gid)
            return True
        if gid != self._gid:
            try:
                os.fchown(fd, -1, gid)
            except PermissionError:
                self._report("GroupNotRestored", path, f"group {gid} needs root")
        if uid != self._uid:
            self._report("OwnerNotRestored", path, f"owner {uid} needs root")
            return False
        return True

    def make_special(self, folder: int, name: bytes, entry: Entry, path: bytes) -> None:
        """A symlink, FIFO or device node."""
        temporary = self._prefix + str(next(self._numbers)).encode()
        try:
            with _target_errors(path):
                self._make(folder, temporary, entry)
        except PermissionError as error:
            self._report("NodeNotRestored", path, f"needs root: {error.strerror}")
            return
        self._special_attributes(folder, temporary, entry, path)
        self._give_name(folder, temporary, name, path)

    @staticmethod
    def _make(folder: int, name: bytes, entry: Entry) -> None:
        if entry.type == EntryType.SYMLINK:
            os.symlink(entry.link_target, name, dir_fd=folder)
        elif entry.type == EntryType.FIFO:
            os.mkfifo(name, 0o600, dir_fd=folder)
        else:
            kind = st.S_IFCHR if entry.type == EntryType.CHARACTER_DEVICE else st.S_IFBLK
            os.mknod(name, kind | 0o600, entry.rdev, dir_fd=folder)

    def _special_attributes(self, folder: int, name: bytes, entry: Entry, path: bytes) -> None:
        uid, gid = self._owners.of(entry)
        if self._root:
            os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)
        elif uid != self._uid:
            self._report("OwnerNotRestored", path, f"owner {uid} needs root")
        if entry.type != EntryType.SYMLINK:
            os.chmod(name, entry.mode, dir_fd=folder)
        if entry.xattrs:
            where = f"/proc/self/fd/{folder}/".encode() + name
            apply_xattrs(where, entry, lambda code, message: self._report(code, path, message))
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)

    def link(self, source: tuple[int, bytes], folder: int, name: bytes, path: bytes) -> None:
        """Another name of a restored file."""
        temporary = self._prefix + str(next(self._numbers)).encode()
        with _target_errors(path):
            os.link(source[1], temporary, src_dir_fd=source[0], dst_dir_fd=folder,
                    follow_symlinks=False)  # fmt: skip
        self._give_name(folder, temporary, name, path)
        self.drop(folder, temporary)  # rename of two names of one file does nothing

    def clear_way(self, folder: int, name: bytes, path: bytes) -> bool:
        """Make room for a directory where something else stands; whether that worked."""
        try:
            remove_at(folder, name)
        except OSError as error:
            self._report("TargetBlocked", path, error.strerror or str(error))
            return False
        return True

    def finish_directory(self, fd: int, entry: Entry, path: bytes) -> None:
        """A directory's own attributes, once its children are in place."""
        try:
            self._attributes(fd, entry, path)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError as error:
            self._report("AttributeNotRestored", path, error.strerror or str(error))


def write_all(fd: int, data: Buffer, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def _is_restored(found: os.stat_result, entry: Entry) -> bool:
    """Whether what is there looks like this very entry, restored before an interruption."""
    if entry.type == EntryType.FILE:
        same = st.S_ISREG(found.st_mode) and found.st_size == entry.size
        return same and found.st_mtime_ns == entry.mtime_ns
    return st.S_ISLNK(found.st_mode) and found.st_mtime_ns == entry.mtime_ns


@contextlib.contextmanager
def _target_errors(path: bytes) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(
                f"the target is full while writing /{os.fsdecode(path)}",
                code="TargetFull",
                hint="free space there and start the restore again: it goes on where it stopped",
            ) from error
        if error.errno in (errno.EROFS, errno.EIO):
            raise TargetError(
                f"the target failed at /{os.fsdecode(path)}: {error.strerror}",
                hint="check the target's file system; the restore can be started again",
            ) from error
        raise
