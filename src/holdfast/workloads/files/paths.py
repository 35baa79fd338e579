"""Directories of a restore target, reached without ever following a link.

Every step is ``openat`` with O_NOFOLLOW from the target's own descriptor, so neither a link put in
the way nor a name from a manifest can lead outside.
"""

from __future__ import annotations

import os
import stat as st
from collections import OrderedDict
from pathlib import Path

from holdfast.errors import TargetError
from holdfast.vaultstore.entries import is_name

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_OPEN = 256


class BlockedError(OSError):
    """A path component is no directory of ours."""


class TargetTree:
    """Open directories below ``root``, least recently used ones closed. Not thread safe; the
    descriptors it hands out stay valid until ``release_old`` is called."""

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TargetError(
                f"the target {root} cannot be used: {error.strerror}",
                hint="choose a folder that can be created and written",
                target=str(root),
            ) from error
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self.created: set[bytes] = set()
        self.devices: dict[int, int] = {os.fstat(self._root).st_dev: os.dup(self._root)}

    def directory(self, path: bytes, *, create: bool = True) -> int:
        """A descriptor of ``path`` (relative, no leading slash). BlockedError when something that
        is no directory stands in the way; FileNotFoundError when absent and not to be created."""
        if not path:
            return self._root
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            return found
        folder, _, name = path.rpartition(b"/")
        parent = self.directory(folder, create=create)
        fd = self._enter(parent, name, path, create=create)
        self._open[path] = fd
        device = os.fstat(fd).st_dev
        if device not in self.devices:
            self.devices[device] = os.dup(fd)
        return fd

    def ensure(self, parent: int, name: bytes, path: bytes) -> bool:
        """Make directory ``path`` when its name is free; False when something else has it."""
        found = lstat_at(parent, name)
        if found is None:
            os.mkdir(name, 0o700, dir_fd=parent)
            self.created.add(path)
            return True
        return st.S_ISDIR(found.st_mode)

    def _enter(self, parent: int, name: bytes, path: bytes, *, create: bool) -> int:
        if not is_name(name):
            raise BlockedError(0, "the name would leave the target")
        try:
            return os.open(name, _OPEN, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            raise BlockedError(error.errno, "a link or file stands in the way") from error
        os.mkdir(name, 0o700, dir_fd=parent)
        self.created.add(path)
        return os.open(name, _OPEN, dir_fd=parent)

    def release_old(self) -> None:
        """Close descriptors beyond MAX_OPEN; call when no task uses any."""
        while len(self._open) > MAX_OPEN:
            _, fd = self._open.popitem(last=False)
            os.close(fd)

    def close(self) -> None:
        for fd in [*self._open.values(), *self.devices.values(), self._root]:
            os.close(fd)
        self._open.clear()
        self.devices.clear()


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
