"""Reading content: small files into content-defined bundles, large ones into such chunks.

A task is a batch of small files or one large file. It runs on a worker thread over that thread's
reused buffer, stores chunks through the ChunkWriter and fills in the entries' extents and digests.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.chunker import (
    BUNDLE_MAX,
    MAX_CHUNK,
    SMALL_FILE_BYTES,
    Cutter,
    closes_bundle,
)
from holdfast.vaultstore.entries import Entry, ExtentTuple
from holdfast.vaultstore.ids import ChunkKind, chunk_name, content_hasher
from holdfast.workloads.files.scan import open_path
from holdfast.workloads.packing import ChunkWriter

WINDOW_BYTES = 2 * MAX_CHUNK
MAX_SMALL_KNOWN = 80_000  # digests of small files remembered, two generations: about 40 MB
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_NOATIME = getattr(os, "O_NOATIME", 0)
Place = tuple[bytes, int]


@dataclass(slots=True)
class Source:
    """A file to read. ``path``: without leading slash. ``read``: its content is stored; ``gone``:
    it could not be read at all and leaves the manifest; ``unsure``: read again next time."""

    path: bytes
    entry: Entry
    stat: os.stat_result
    read: bool = False
    gone: bool = False
    unsure: bool = False


Report = Callable[[str, bytes, str], None]


class SmallFiles:
    """Where the content of small files lies: digest -> (bundle id, offset). Bounded, and shared by
    all threads; it finds copies across directories."""

    def __init__(self) -> None:
        self._new: dict[bytes, Place] = {}
        self._old: dict[bytes, Place] = {}

    def find(self, digest: bytes) -> Place | None:
        return self._new.get(digest) or self._old.get(digest)

    def add(self, digest: bytes, place: Place) -> None:
        self._new[digest] = place
        if len(self._new) > MAX_SMALL_KNOWN:
            self._old, self._new = self._new, {}


class ContentReader:
    """Runs tasks; thread safe, with one buffer per thread."""

    def __init__(self, writer: ChunkWriter, base: bytes, report: Report) -> None:
        self._writer = writer
        self._base = base
        self._report = report
        self._local = threading.local()
        self._noatime = _NOATIME
        self._user = os.geteuid()
        self._reading = threading.Lock()

    def prepare(self, id_keys: dict[int, bytes], seed: int) -> None:
        self._keys = id_keys
        self._cutter = Cutter(seed)
        self._small = SmallFiles()

    def _buffer(self) -> memoryview:
        try:
            found: memoryview = self._local.buffer
        except AttributeError:
            found = self._local.buffer = memoryview(bytearray(WINDOW_BYTES + SMALL_FILE_BYTES))
        return found

    def _open(self, source: Source) -> int:
        path = self._base + b"/" + source.path if self._base else source.path
        if self._user not in (0, source.stat.st_uid):
            return open_path(path, _READ)
        try:
            return open_path(path, _READ | self._noatime)
        except PermissionError:
            self._noatime = 0
            return open_path(path, _READ)

    def _failed(self, source: Source, error: OSError) -> None:
        source.gone = True
        code = "FileVanished" if error.errno in (errno.ENOENT, errno.ELOOP) else "Unreadable"
        self._report(code, source.path, error.strerror or str(error))

    # small files

    def read_small(self, sources: list[Source]) -> None:
        """A batch of small files: bundles end where content says, and at the batch's end.

        Reading is many short system calls, which threads only slow each other down in; so one
        thread reads at a time while the others compress."""
        buffer = self._buffer()
        at = 0
        while at < len(sources):
            with self._reading:
                ready, at = self._fill(buffer, sources, at)
            self._store(ready)
        for source in sources:
            source.read = not source.gone

    def _fill(
        self, buffer: memoryview, sources: list[Source], at: int
    ) -> tuple[list[_Bundle], int]:
        """Bundles read from ``sources[at:]`` until the buffer is full; where to go on."""
        bundle = _Bundle(buffer)
        ready: list[_Bundle] = []
        while at < len(sources):
            source = sources[at]
            at += 1
            digest = self._take(source, bundle)
            if digest is None or not closes_bundle(bundle.size, digest, source.entry.size):
                continue
            ready.append(bundle)
            end = bundle.start + bundle.size
            bundle = _Bundle(buffer, end)
            if end + BUNDLE_MAX + SMALL_FILE_BYTES > len(buffer):
                break
        if bundle.members:
            ready.append(bundle)
        return ready, at

    def _take(self, source: Source, bundle: _Bundle) -> bytes | None:
        """Read a file to the bundle's end; its digest when it became a member."""
        room = bundle.room()
        try:
            fd = self._open(source)
        except OSError as error:
            self._failed(source, error)
            return None
        try:
            size = os.readv(fd, [room])
            now = os.fstat(fd)
            if size != now.st_size or now.st_mtime_ns != source.stat.st_mtime_ns:
                size = self._again(fd, source, room)
        except OSError as error:
            self._failed(source, error)
            return None
        finally:
            os.close(fd)
        entry = source.entry
        entry.size = size
        if size == 0:
            return None
        digest = chunk_name(self._keys, ChunkKind.DATA, room[:size])[:32]
        entry.digest = digest
        if place := self._small.find(digest):
            entry.extents = ((place[0], place[1], 0, size),)
            return None
        bundle.add(entry, size)
        return digest

    def _again(self, fd: int, source: Source, room: memoryview) -> int:
        """The file changed while it was read: read it once more; say so when it changes again."""
        before = os.fstat(fd)
        size = os.preadv(fd, [room], 0)
        after = os.fstat(fd)
        source.entry.mtime_ns = after.st_mtime_ns
        if size != after.st_size or before.st_mtime_ns != after.st_mtime_ns:
            source.unsure = True
            self._report("FileChanged", source.path, "it changed while it was read")
        return min(size, SMALL_FILE_BYTES - 1) if size == len(room) else size

    def _store(self, bundles: list[_Bundle]) -> None:
        named: list[tuple[bytes, Buffer]] = []
        for bundle in bundles:
            data = bundle.data()
            named.append((chunk_name(self._keys, ChunkKind.BUNDLE, data), data))
        self._writer.store(ChunkKind.BUNDLE, named)
        for bundle, (name, _) in zip(bundles, named, strict=True):
            for entry, offset in bundle.members:
                entry.extents = ((name[:32], offset, 0, entry.size),)
                self._small.add(entry.digest, (name[:32], offset))

    # large files

    def read_large(self, source: Source) -> None:
        """One file in windows; holes are kept."""
        try:
            fd = self._open(source)
        except OSError as error:
            self._failed(source, error)
            return
        try:
            before = os.fstat(fd)
            extents, digest = self._windows(fd, before.st_size)
            after = os.fstat(fd)
        except OSError as error:
            self._failed(source, error)
            return
        finally:
            os.close(fd)
        entry = source.entry
        source.read = True
        entry.extents, entry.digest = extents, digest
        entry.size, entry.mtime_ns = before.st_size, before.st_mtime_ns
        changed = (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)
        if changed:
            source.unsure = True
            self._report("FileChanged", source.path, "it changed while it was read")

    def _windows(self, fd: int, size: int) -> tuple[list[ExtentTuple], bytes]:
        extents: list[ExtentTuple] = []
        hasher = content_hasher(self._keys)
        for start, end in data_ranges(fd, size):
            self._range(fd, start, end, extents, hasher.update)
        return extents, hasher.digest()

    def _range(
        self,
        fd: int,
        start: int,
        end: int,
        extents: list[ExtentTuple],
        update: Callable[[Buffer], object],
    ) -> None:
        """Chunks of one data range."""
        buffer = self._buffer()[:WINDOW_BYTES]
        at, held = start, 0
        while at + held < end or held:
            want = min(WINDOW_BYTES, end - at)
            while held < want:
                count = os.preadv(fd, [buffer[held:want]], at + held)
                if count == 0:
                    end = at + held  # the file became shorter
                    break
                update(buffer[held : held + count])
                held += count
            used = self._chunks(buffer[:held], at, at + held >= end, extents)
            buffer[: held - used] = bytes(buffer[used:held])
            at, held = at + used, held - used
            if used == 0:
                return

    def _chunks(self, window: memoryview, at: int, last: bool, extents: list[ExtentTuple]) -> int:
        """Store the chunks of a window; how many bytes they took."""
        named: list[tuple[bytes, Buffer]] = []
        used = 0
        for length in self._cutter.cut(window, last=last):
            data = window[used : used + length]
            name = chunk_name(self._keys, ChunkKind.DATA, data)
            named.append((name, data))
            extents.append((name[:32], 0, at + used, length))
            used += length
        self._writer.store(ChunkKind.DATA, named)
        return used


class _Bundle:
    """Small files one after another, from ``start`` of the thread's buffer."""

    __slots__ = ("_buffer", "members", "size", "start")

    def __init__(self, buffer: memoryview, start: int = 0) -> None:
        self._buffer = buffer
        self.start = start
        self.size = 0
        self.members: list[tuple[Entry, int]] = []

    def room(self) -> memoryview:
        end = self.start + self.size
        return self._buffer[end : end + SMALL_FILE_BYTES]

    def add(self, entry: Entry, size: int) -> None:
        self.members.append((entry, self.size))
        self.size += size

    def data(self) -> memoryview:
        return self._buffer[self.start : self.start + self.size]


def data_ranges(fd: int, size: int) -> list[tuple[int, int]]:
    """(start, end) of a file's data, without its holes."""
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return ranges
            return [(0, size)]
        end = os.lseek(fd, start, os.SEEK_HOLE)
        ranges.append((start, min(end, size)))
        at = end
    return ranges
