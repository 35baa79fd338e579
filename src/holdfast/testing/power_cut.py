"""A disk that loses its power: what fsync promised is there afterwards, and nothing else.

While it watches, the system calls a folder store makes are counted, and before the chosen one the
process is gone. ``survivors`` then writes what a disk that keeps no unsynced byte and no unsynced
name would hold: bytes last once their file was synced, names once their folder was.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CALLS = ("write", "fsync", "link", "unlink", "mkdir")
Names = dict[str, tuple[int, bytes] | None]  # name: inode and synced bytes, None for a folder


class PowerCut(BaseException):
    """The machine is off."""


class WatchedDisk:
    """The folder ``root``, taken as durable when the watch begins. ``at``: the call before which
    the power fails, counted from 0; -1 never. ``calls`` names them in order."""

    def __init__(self, root: Path, at: int = -1) -> None:
        self._root = root
        self._at = at
        self._synced: dict[int, bytes] = {}
        self._lasting: dict[Path, Names] = {}
        self._open: set[int] = set()
        self.calls: list[str] = []
        self.dead = False
        for folder, folders, _ in os.walk(root):
            self._lasting[Path(folder)] = {}
            for name in folders:
                self._lasting[Path(folder)][name] = None
            self._lasting[Path(folder)] = self._listing(Path(folder), whole=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[WatchedDisk]:
        """Watch until the block ends, by itself or because the power failed."""
        real = {name: getattr(os, name) for name in (*CALLS, "open", "close")}
        for name in CALLS:
            setattr(os, name, self._before(name, real[name]))
        setattr(os, "open", self._opening(real["open"]))  # noqa: B010
        setattr(os, "close", self._closing(real["close"]))  # noqa: B010
        try:
            yield self
        except PowerCut:
            pass
        finally:
            for name, call in real.items():
                setattr(os, name, call)
            for handle in self._open:
                with contextlib.suppress(OSError):
                    os.close(handle)

    def _before(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if not self.dead and len(self.calls) == self._at:
                self.dead = True
            if self.dead:
                raise PowerCut
            self.calls.append(name)
            if name == "fsync":  # no disk is waited for: what it promises is kept here
                self._sync(int(args[0]))
                return None
            return real(*args, **more)

        return call

    def _opening(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(*args: Any, **more: Any) -> int:
            handle = real(*args, **more)
            self._open.add(handle)
            return handle

        return call

    def _closing(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(handle: int) -> None:
            self._open.discard(handle)
            real(handle)

        return call

    def _sync(self, handle: int) -> None:
        found = os.fstat(handle)
        place = Path(f"/proc/self/fd/{handle}")
        if stat.S_ISDIR(found.st_mode):
            folder = place.readlink()
            self._lasting[folder] = self._listing(folder, whole=False)
        else:
            self._synced[found.st_ino] = place.read_bytes()

    def _listing(self, folder: Path, *, whole: bool) -> Names:
        """What would be found in a folder whose names last from now on."""
        before, names = self._lasting.get(folder, {}), Names()
        with os.scandir(folder) as scan:
            for entry in scan:
                if entry.is_dir():
                    names[entry.name] = None
                    continue
                inode, known = entry.inode(), before.get(entry.name)
                kept = known[1] if known is not None and known[0] == inode else b""
                data = Path(entry.path).read_bytes() if whole else self._synced.get(inode, kept)
                names[entry.name] = (inode, data)
        return names

    def survivors(self, target: Path) -> Path:
        """Write what is left after the power cut to ``target``, a new folder."""
        self._write(self._root, target)
        return target

    def _write(self, folder: Path, target: Path) -> None:
        target.mkdir()
        for name, kept in self._lasting.get(folder, {}).items():
            if kept is None:
                self._write(folder / name, target / name)
            else:
                (target / name).write_bytes(kept[1])
