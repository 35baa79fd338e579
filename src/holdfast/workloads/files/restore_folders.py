"""Directories whose attributes wait until their last child is written."""

from __future__ import annotations

import heapq
import struct

from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.workloads.files.paths import TargetTree
from holdfast.workloads.files.restore_writer import EntryWriter

RELEASE_EVERY = 128
_ROW = struct.Struct("<HIIq")


class WaitingFolders:
    """Kept packed, about 200 bytes each, in tree order."""

    def __init__(self, target: TargetTree, writer: EntryWriter) -> None:
        self._target = target
        self._writer = writer
        self._heap: list[tuple[bytes, bytes]] = []
        self._xattrs: dict[bytes, dict[bytes, bytes]] = {}

    def add(self, path: bytes, entry: Entry) -> None:
        """The directory ``path`` gets the attributes of ``entry`` when nothing more is written
        below it."""
        key = path.replace(b"/", b"\0")
        row = _ROW.pack(entry.mode, entry.uid, entry.gid, entry.mtime_ns)
        heapq.heappush(self._heap, (key, row))
        if entry.xattrs:
            self._xattrs[key] = entry.xattrs

    def leave(self, current: bytes | None) -> None:
        """Finish what runs after the one of directory ``current`` cannot touch, deepest first;
        None: everything."""
        last = None if current is None else current.replace(b"/", b"\0")
        ready: list[tuple[bytes, bytes]] = []
        growing: list[tuple[bytes, bytes]] = []
        while self._heap and (last is None or self._heap[0][0] <= last):
            item = heapq.heappop(self._heap)
            above = last is not None and (last == item[0] or last.startswith(item[0] + b"\0"))
            (growing if above else ready).append(item)
        for item in growing:
            heapq.heappush(self._heap, item)
        while ready:
            self._finish(*ready.pop())
            if len(ready) % RELEASE_EVERY == 0:
                self._target.release_old()

    def _finish(self, key: bytes, row: bytes) -> None:
        path = key.replace(b"\0", b"/")
        mode, uid, gid, mtime_ns = _ROW.unpack(row)
        name = path.rpartition(b"/")[2]
        entry = Entry(name, EntryType.DIRECTORY, mode, uid, gid, mtime_ns)
        entry.xattrs = self._xattrs.pop(key, {})
        try:
            folder = self._target.directory(path, create=False)
        except OSError:
            return  # something else stood in its way, which was reported
        self._writer.finish_directory(folder.fd, entry, path)
        self._target.finished(path)
