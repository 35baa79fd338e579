"""Making one entry at the target: whole under its name, or not at all.

Content goes to a file without a name in the same directory (O_TMPFILE), or under a temporary one
where the file system has none such; owner, mode, attributes and times are set on the open
descriptor; then the name is given, by ``link`` or by ``rename``. A file without a name costs the
kernel two thirds of one that is renamed, and is gone with the process. Nothing is synced here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import stat as st
import threading
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import NoReturn

from holdfast.errors import TargetError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.workloads.files.bulk_write import BulkWriter
from holdfast.workloads.files.metadata import (
    Found,
    Report,
    apply_attributes,
    apply_xattrs,
    drop_foreign_xattrs,
    found_of,
)
from holdfast.workloads.files.paths import Folder, chmod_way, remove_at

PathReport = Callable[[str, bytes, str], None]
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS = getattr(os, "O_TMPFILE", 0) | os.O_RDWR | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EROFS, errno.EIO)
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.ENOENT)
PARTIAL = b".holdfast-partial-"
_CLONE_FS = 0x200  # of linux/sched.h: umask and working folder
_libc = ctypes.CDLL(None, use_errno=True)


class Owners:
    """Which owner an entry gets here: by name when the name exists, by number otherwise."""

    def __init__(self, users: Mapping[int, int], groups: Mapping[int, int]) -> None:
        self.users = users
        self.groups = groups

    def of(self, entry: Entry) -> tuple[int, int]:
        return (
            self.users.get(entry.uid, entry.uid),
            self.groups.get(entry.gid, entry.gid),
        )


class EntryWriter:
    """Writes entries; thread safe. ``token`` (8 hex digits) marks this restore's partial files.
    Failures of one entry are OSErrors; TargetError (TargetFull, TargetUnavailable) ends the run.
    ``leading``: folders that only lead to what is protected; attributes they are refused are no
    finding."""

    def __init__(
        self,
        owners: Owners,
        token: bytes,
        report: PathReport,
        leading: Container[bytes] = frozenset(),
    ) -> None:
        self._owners = owners
        self._report = report
        self._leading = leading
        self._uid = os.geteuid()
        self._masks = _Umask()
        self._numbers = itertools.count()
        self.bulk = BulkWriter()
        self.nameless = hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").exists()
        self.partial_prefix = PARTIAL + token + b"-"
        self._prefix = self.partial_prefix + b"%d-" % os.getpid()

    def _temporary(self) -> bytes:
        return self._prefix + b"%d" % next(self._numbers)

    def _reporter(self, path: bytes) -> Report:
        return lambda code, message: self._report(code, path, message)

    # files

    def begin_file(self, folder: Folder, entry: Entry) -> tuple[int, bytes]:
        """(descriptor, temporary name or none) of a new empty file in ``folder``."""
        mode = self._first_mode(folder, entry)
        if self.nameless:
            try:
                return os.open(".", _NAMELESS, mode, dir_fd=folder.fd), b""
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    fail(error, folder.path)
                self.nameless = False
        temporary = self._temporary()
        try:
            return os.open(temporary, _CREATE, mode, dir_fd=folder.fd), temporary
        except OSError as error:
            fail(error, folder.path)

    def _first_mode(self, folder: Folder, entry: Entry) -> int:
        """What a file is created with: its own mode, unless that would open it to others than it
        is for."""
        plain = self._owners.of(entry) == (self._uid, folder.gid) and not folder.inherits
        return entry.mode & 0o777 if plain else 0o600

    def finish_file(
        self, fd: int, folder: Folder, temporary: bytes, name: bytes, entry: Entry
    ) -> None:
        """Attributes, then the name. Closes ``fd``; drops the file when that fails."""
        try:
            try:
                self._file_attributes(fd, folder, name, entry)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
                temporary = temporary or self._first_name(fd, folder, name)
            finally:
                os.close(fd)
            if temporary:
                self._give_name(folder, temporary, name)
        except OSError as error:
            self.drop(folder, temporary)
            fail(error, folder.path_of(name))

    def write_whole(self, folder: Folder, name: bytes, entry: Entry, data: Buffer) -> None:
        """A file whose whole content is at hand; what ``data`` lacks at its end is a hole."""
        fd, temporary = self.begin_file(folder, entry)
        try:
            size = len(data)
            self.bulk.write(fd, data, 0)
            if entry.size != size:
                os.ftruncate(fd, entry.size)
        except OSError as error:
            os.close(fd)
            self.drop(folder, temporary)
            fail(error, folder.path_of(name))
        self.finish_file(fd, folder, temporary, name, entry)

    def _file_attributes(self, fd: int, folder: Folder, name: bytes, entry: Entry) -> None:
        """Most new files have what they need from their creation on."""
        owner, mode = self._owners.of(entry), self._first_mode(folder, entry)
        made = Found(self._uid, folder.gid, mode & ~self._masks.value)
        if folder.inherits:
            drop_foreign_xattrs(fd, entry)
            made = found_of(fd)
        elif owner == made[:2] and entry.mode == made.mode and not entry.xattrs:
            return
        apply_attributes(fd, entry, *owner, made, self._reporter(folder.path_of(name)))

    def _first_name(self, fd: int, folder: Folder, name: bytes) -> bytes:
        """Give a file without a name its own, if that is free; or a temporary one, which is
        returned."""
        way = b"/proc/self/fd/%d" % fd
        try:
            os.link(way, name, dst_dir_fd=folder.fd)
        except FileExistsError:
            temporary = self._temporary()
            os.link(way, temporary, dst_dir_fd=folder.fd)
            return temporary
        return b""

    def drop(self, folder: Folder, temporary: bytes) -> None:
        if not temporary:
            return  # it is gone once it is closed
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder.fd)

    def _give_name(self, folder: Folder, temporary: bytes, name: bytes) -> None:
        try:
            os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=folder.fd)  # only an empty one gives way
            os.rename(temporary, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)

    # everything else

    def make_special(self, folder: Folder, name: bytes, entry: Entry) -> None:
        """A symlink, FIFO or device node."""
        temporary, path = self._temporary(), folder.path_of(name)
        try:
            self._make(folder.fd, temporary, entry)
        except PermissionError as error:
            if entry.type in (EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE):
                self._report("NodeNotRestored", path, "device nodes can be made by root only")
                return
            fail(error, path)
        except OSError as error:
            fail(error, path)
        try:
            self._special_attributes(folder, temporary, entry, path)
            self._give_name(folder, temporary, name)
        except OSError as error:
            self.drop(folder, temporary)
            fail(error, path)

    @staticmethod
    def _make(folder: int, name: bytes, entry: Entry) -> None:
        if entry.type == EntryType.SYMLINK:
            os.symlink(entry.link_target, name, dir_fd=folder)
        elif entry.type == EntryType.FIFO:
            os.mkfifo(name, 0o600, dir_fd=folder)
        else:
            kind = st.S_IFCHR if entry.type == EntryType.CHARACTER_DEVICE else st.S_IFBLK
            os.mknod(name, kind | 0o600, entry.rdev, dir_fd=folder)

    def _special_attributes(self, folder: Folder, name: bytes, entry: Entry, path: bytes) -> None:
        uid, gid = self._owners.of(entry)
        report = self._reporter(path)
        if (uid, gid) != (self._uid, folder.gid):
            try:
                os.chown(name, uid, gid, dir_fd=folder.fd, follow_symlinks=False)
            except PermissionError:
                report("OwnerNotRestored", f"its owner {uid}:{gid} can be set by root only")
        if entry.type != EntryType.SYMLINK:
            way = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
            try:
                chmod_way(way, entry.mode)
            finally:
                os.close(way)
        if entry.xattrs:
            apply_xattrs(b"/proc/self/fd/%d/%s" % (folder.fd, name), entry, report)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=folder.fd, follow_symlinks=False)

    def link(self, source: Folder, source_name: bytes, folder: Folder, name: bytes) -> None:
        """Another name of a restored file. OSError when it cannot be."""
        temporary = self._temporary()
        os.link(
            source_name,
            temporary,
            src_dir_fd=source.fd,
            dst_dir_fd=folder.fd,
            follow_symlinks=False,
        )
        try:
            self._give_name(folder, temporary, name)
        finally:
            self.drop(folder, temporary)  # rename of two names of one file does nothing

    def clear_way(self, folder: Folder, name: bytes) -> bool:
        """Make room for a directory where something else stands; whether that worked."""
        try:
            remove_at(folder.fd, name)
        except OSError as error:
            self._report("TargetBlocked", folder.path_of(name), error.strerror or str(error))
            return False
        return True

    def finish_directory(self, fd: int, entry: Entry, path: bytes) -> None:
        """A directory's own attributes, once its children are in place."""
        report = _unsaid if path in self._leading else self._reporter(path)
        try:
            drop_foreign_xattrs(fd, entry)
            owner = self._owners.of(entry)
            apply_attributes(fd, entry, *owner, found_of(fd), report)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError as error:
            if error.errno in (*_FULL, *_BROKEN):
                fail(error, path)
            report("AttributeNotRestored", error.strerror or str(error))

    def remove_partials(self, folder: Folder, prefix: bytes = b"") -> None:
        """Take away what an interrupted run of this restore left half done in ``folder``; with
        ``prefix``, what one lost process did."""
        for name in os.listdir(folder.fd):
            raw = os.fsencode(name)
            if raw.startswith(prefix or self.partial_prefix):
                self.drop(folder, raw)


def fail(error: OSError, path: bytes) -> NoReturn:
    """Raise TargetError when the whole target is unusable; otherwise the error of this entry."""
    shown = os.fsdecode(path)
    if error.errno in _FULL:
        raise TargetError(
            f"the target is full while writing /{shown}",
            code="TargetFull",
            hint="free space there and start the restore again: it goes on where it stopped",
            retry="later",
        ) from error
    if error.errno in _BROKEN:
        raise TargetError(
            f"the target failed at /{shown}: {error.strerror}",
            hint="check the target's file system; the restore can be started again",
        ) from error
    raise error


def _unsaid(_code: str, _message: str) -> None:
    """A report nobody asked for."""


class _Umask(threading.local):
    """The umask of the asking thread, as it was when it first asked."""

    def __init__(self) -> None:
        self.value = _umask()


def open_umask() -> None:
    """Let this thread's new files have the mode they are made with, and save a chmod each: a umask
    of its own (Linux), which is nothing. Elsewhere it stays as it is."""
    unshare = getattr(_libc, "unshare", None)
    if unshare is not None and unshare(_CLONE_FS) == 0:
        os.umask(0)


def _umask() -> int:
    """This thread's umask; 0o777 (assume nothing) where it cannot be read without changing it."""
    try:
        with open("/proc/thread-self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o777
