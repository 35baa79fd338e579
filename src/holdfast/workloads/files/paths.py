"""Directories of a restore target, reached without ever following a link.

Every step is ``openat`` with O_NOFOLLOW from the target's own descriptor, so neither a link put in
the way nor a name from a manifest can lead outside, and no path is too long.
"""

from __future__ import annotations

import contextlib
import os
import resource
import stat as st
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import TargetError
from holdfast.vaultstore.entries import is_name
from holdfast.workloads.files.metadata import has_default_acl

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_OPEN = 256  # folders kept open between windows
WISHED_DESCRIPTORS, SPARE_DESCRIPTORS = 4096, 300


class BlockedError(OSError):
    """A path component is no directory of ours."""


@dataclass(slots=True)
class Folder:
    """An open directory of the target. ``gid``: of what is made in it; ``inherits``: it hands an
    ACL down; ``fresh``: this run made it, so it held nothing before; ``users``: windows that keep
    it open."""

    path: bytes
    fd: int
    gid: int
    inherits: bool
    fresh: bool
    users: int = 0

    def path_of(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class TargetTree:
    """Open directories below ``root``, least recently used ones closed. Not thread safe; a folder
    it hands out stays open until ``release_old`` is called, and longer while it has users.
    ``on_open`` is called with each folder opened that this run did not make."""

    def __init__(
        self,
        root: Path,
        on_open: Callable[[Folder], None] | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        """With ``read_only`` nothing is made or changed. TargetError for a useless ``root``."""
        self._on_open = on_open
        self._read_only = read_only
        self._open: OrderedDict[bytes, Folder] = OrderedDict()
        self._unlocked: dict[bytes, int] = {}
        self._privileged = os.geteuid() == 0
        self._gid = os.getegid()
        self.devices: dict[int, int] = {}
        self.created: set[bytes] = set()
        try:
            if not read_only:
                root.mkdir(parents=True, exist_ok=True)
            fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise target_unusable(root, error) from error
        self._top = self._met(b"", fd)

    def directory(self, path: bytes, *, create: bool = True) -> Folder:
        """The open folder ``path`` (relative, no leading slash). BlockedError when something that
        is no directory stands in the way; FileNotFoundError when absent and not to be created."""
        if path.startswith(b"/"):
            raise BlockedError(0, "the name would leave the target")
        above, missing = path, []
        while above and above not in self._open:
            above, _, name = above.rpartition(b"/")
            missing.append(name)
        folder = self._known(above)
        for name in reversed(missing):
            folder = self._enter(folder, name, create=create)
        return folder

    def _known(self, path: bytes) -> Folder:
        if not path:
            return self._top
        self._open.move_to_end(path)
        return self._open[path]

    def make(self, parent: Folder, name: bytes) -> bool:
        """Make a directory; False when the name is taken."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent.fd)
        except FileExistsError:
            return False
        self.created.add(parent.path_of(name))
        return True

    def is_directory(self, parent: Folder, name: bytes) -> bool:
        found = lstat_at(parent.fd, name)
        return found is not None and st.S_ISDIR(found.st_mode)

    def _enter(self, parent: Folder, name: bytes, *, create: bool) -> Folder:
        if not is_name(name):
            raise BlockedError(0, "the name would leave the target")
        path = parent.path_of(name)
        try:
            fd = os.open(name, _OPEN, dir_fd=parent.fd)
        except FileNotFoundError:
            if not create:
                raise
            self.make(parent, name)
            fd = os.open(name, _OPEN, dir_fd=parent.fd)
        except PermissionError:
            if self._read_only:
                raise
            fd = self._force(parent, name, path)
        except OSError as error:
            raise BlockedError(error.errno, "a link or file stands in the way") from error
        if path in self.created:
            self.created.discard(path)
            folder = Folder(path, fd, parent.gid, parent.inherits, fresh=True)
        else:
            folder = self._met(path, fd)
        self._open[path] = folder
        return folder

    def _met(self, path: bytes, fd: int) -> Folder:
        """A directory that was there before."""
        info = os.fstat(fd)
        if info.st_dev not in self.devices:
            self.devices[info.st_dev] = os.dup(fd)
        gid = info.st_gid if info.st_mode & st.S_ISGID else self._gid
        folder = Folder(path, fd, gid, has_default_acl(fd), fresh=False)
        locked = info.st_uid == os.geteuid() and info.st_mode & 0o300 != 0o300
        if locked and not self._privileged and not self._read_only:
            self._unlock(path, fd, info.st_mode)
        if self._on_open is not None:
            self._on_open(folder)
        return folder

    def _force(self, parent: Folder, name: bytes, path: bytes) -> int:
        """Open a directory that its owner closed to himself."""
        found = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        way = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent.fd)
        try:
            chmod_way(way, st.S_IMODE(found.st_mode) | 0o700)
        finally:
            os.close(way)
        self._unlocked[path] = st.S_IMODE(found.st_mode)
        return os.open(name, _OPEN, dir_fd=parent.fd)

    def _unlock(self, path: bytes, fd: int, mode: int) -> None:
        self._unlocked.setdefault(path, st.S_IMODE(mode))
        os.fchmod(fd, st.S_IMODE(mode) | 0o700)

    @property
    def top_fd(self) -> int:
        """Descriptor of the target itself."""
        return self._top.fd

    def device_descriptors(self) -> list[int]:
        """A descriptor on each file system met so far."""
        return list(self.devices.values())

    def finished(self, path: bytes) -> None:
        """The folder has its final mode; it is not to be closed again to its owner."""
        self._unlocked.pop(path, None)

    def release_old(self) -> None:
        """Close folders beyond MAX_OPEN that have no users."""
        excess = len(self._open) - MAX_OPEN
        if excess <= 0:
            return
        idle = [path for path, folder in self._open.items() if not folder.users]
        for path in idle[:excess]:
            os.close(self._open.pop(path).fd)

    def lock_again(self) -> None:
        """Give folders that were opened up by force, and got no attributes, their mode back."""
        for path, mode in reversed(self._unlocked.items()):
            with contextlib.suppress(OSError):
                os.fchmod(self.directory(path, create=False).fd, mode)
        self._unlocked.clear()

    def close(self) -> None:
        for folder in [*self._open.values(), self._top]:
            os.close(folder.fd)
        for fd in self.devices.values():
            os.close(fd)
        self._open.clear()
        self.devices.clear()


def target_unusable(root: Path, error: OSError) -> TargetError:
    return TargetError(
        f"the target {root} cannot be used: {error.strerror}",
        hint="choose a folder that can be created and written",
        target=str(root),
    )


def chmod_way(fd: int, mode: int) -> None:
    """``chmod`` of what an O_PATH descriptor stands for."""
    Path(f"/proc/self/fd/{fd}").chmod(mode)


def lstat_at(folder: int, name: bytes) -> os.stat_result | None:
    """``lstat`` of a name in an open directory, or None."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def remove_at(folder: int, name: bytes) -> None:
    """Remove whatever has the name, so that a restored entry of another type can have it. A
    directory is removed only when it is empty."""
    found = lstat_at(folder, name)
    if found is None:
        return
    if st.S_ISDIR(found.st_mode):
        os.rmdir(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


def folders_at_once() -> int:
    """How many folders may be open in one window, after raising this process's soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < min(hard, WISHED_DESCRIPTORS):
        wished = WISHED_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wished, WISHED_DESCRIPTORS), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(16, min(500, (soft - MAX_OPEN - SPARE_DESCRIPTORS) // 3))
