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
        self._sound: dict[Path, bool] = {}  # objects, and whether their bytes last
        self._lasting: dict[Path, bytes] = {}  # what a power cut leaves
        self._folders: set[Path] = {root}  # whose own names last

    # what the store asks

    def fsync(self, handle: int) -> None:
        self._moment("sync file")
        self._synced.add(os.fstat(handle).st_ino)

    def link(self, temporary: Path, path: Path) -> None:
        self._moment("name file")
        os.link(temporary, path)
        inode = path.stat().st_ino
        self._sound[path] = inode in self._synced
        self._synced.discard(inode)
        self._named(str(path.relative_to(self.root)), path.read_bytes())

    def sync_folder(self, folder: Path) -> None:
        self._moment("sync folder")
        for path in [path for path in self._lasting if path.parent == folder]:
            if not path.exists():
                del self._lasting[path]
        for path in folder.iterdir():
            if path.is_dir():
                self._folders.add(path)
            else:
                sound = self._sound.get(path, False)
                self._lasting[path] = path.read_bytes() if sound else b""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    # power

    def cut(self) -> dict[str, bytes]:
        """Lose what does not last; the objects that are left."""
        kept = {path: data for path, data in self._lasting.items() if self._is_reached(path)}
        for path in [path for path in self.root.rglob("*") if path.is_file()]:
            if path not in kept:
                path.unlink()
        for path, data in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self._lasting = kept
        self._sound = dict.fromkeys(kept, True)
        self._synced.clear()
        return {str(path.relative_to(self.root)): data for path, data in kept.items()}

    def _is_reached(self, path: Path) -> bool:
        above = path.parents
        return all(folder in self._folders for folder in above if folder.is_relative_to(self.root))


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
