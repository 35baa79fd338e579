"""A disk that forgets at a power cut what was not synced, beneath the shipped local store.

The store runs as it is, over files in memory; what it asks of the disk is noted: bytes last once
their file was synced, names once their folder was, and so does the absence of a name. Before each
sync and each name there is a point at which the process may die.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from holdfast.adapters.object_store import local

_MEMORY = Path("/dev/shm")  # a folder of our own is made below it


class SimulatedDisk:
    """``moment`` is called before what may be interrupted, ``named`` when an object appeared."""

    def __init__(
        self, root: Path, moment: Callable[[str], None], named: Callable[[str, bytes], None]
    ) -> None:
        self.root = root
        self._moment = moment
        self._named = named
        self._synced: set[int] = set()  # inodes of temporary files whose bytes last
        self._named_bytes: dict[str, bytes] = {}  # of each object, what lasts of its bytes
        self._lasting: dict[str, set[str]] = {}  # names that last, by folder
        self._folders: set[str] = {str(root)}  # whose own names last

    # what the store asks

    def fsync(self, handle: int) -> None:
        self._moment("sync file")
        self._synced.add(os.fstat(handle).st_ino)

    def link(self, temporary: Path, path: Path) -> None:
        self._moment("name file")
        os.link(temporary, path)
        inode, data = path.stat().st_ino, path.read_bytes()
        self._named_bytes[str(path)] = data if inode in self._synced else b""
        self._synced.discard(inode)
        self._named(str(path.relative_to(self.root)), data)

    def sync_folder(self, folder: Path) -> None:
        self._moment("sync folder")
        above = str(folder)
        names = set(os.listdir(above))
        for name in names - self._lasting.get(above, set()):
            path = f"{above}/{name}"
            if path not in self._named_bytes and Path(path).is_dir():
                self._folders.add(path)
        self._lasting[above] = names

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    # power

    def cut(self) -> dict[str, bytes]:
        """Lose what does not last; the objects that are left."""
        kept = {Path(path): data for path, data in self._named_bytes.items() if self._lasts(path)}
        for path in [path for path in self.root.rglob("*") if path.is_file()]:
            if path not in kept:
                path.unlink()
        for path, data in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._named_bytes = {str(path): data for path, data in kept.items()}
        self._synced.clear()
        return {str(path.relative_to(self.root)): data for path, data in kept.items()}

    def _lasts(self, path: str) -> bool:
        """Whether the name is there after a power cut, and all folders above it."""
        above, _, name = path.rpartition("/")
        if name not in self._lasting.get(above, set()):
            return False
        while above != str(self.root):
            if above not in self._folders:
                return False
            above = above.rpartition("/")[0]
        return True


@contextmanager
def folder() -> Iterator[Path]:
    """A place for a disk, in memory where the system has one."""
    above = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="holdfast-simulation-", dir=above) as name:
        yield Path(name)


@contextmanager
def mounted(disk: SimulatedDisk) -> Iterator[None]:
    """Let the local store work on this disk."""
    with (
        patch.object(local, "os", disk),
        patch.object(local, "sync_folder", disk.sync_folder),
    ):
        yield
