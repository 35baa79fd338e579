"""Reading content: small files into content-defined bundles, large ones into such chunks.

A task is a batch of small files or one large file. It runs on a worker thread, stores chunks
through the ChunkWriter and fills in the entries' extents, digests and extended attributes. Batches
of many small files are read by a process of their own (``reader_process``).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.bundling import SMALL_FILE_BYTES
from holdfast.vaultstore.chunker import MAX_CHUNK, Cutter
from holdfast.vaultstore.entries import Entry, ExtentTuple
from holdfast.vaultstore.ids import ChunkKind, chunk_name, content_hasher
from holdfast.workloads.files.child import ChildLostError
from holdfast.workloads.files.listing import within_range
from holdfast.workloads.files.metadata import read_xattrs
from holdfast.workloads.files.reader_process import ReaderProcess
from holdfast.workloads.files.scan import Report, open_path
from holdfast.workloads.files.small_files import (
    BUFFER_BYTES,
    BundleReader,
    Oddity,
    Reading,
    Wanted,
)
from holdfast.workloads.packing import ChunkWriter

log = logging.getLogger(__name__)
WINDOW_BYTES = 2 * MAX_CHUNK
MANY_FILES = 256  # from so many on a batch is worth a process of its own
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_NOATIME = getattr(os, "O_NOATIME", 0)


@dataclass(slots=True)
class Source:
    """A file to read; ``entry`` says what was listed. ``path``: without leading slash. ``read``:
    its content is stored; ``gone``: it could not be read at all and leaves the manifest;
    ``unsure``: read again next time."""

    path: bytes
    entry: Entry
    read: bool = False
    gone: bool = False
    unsure: bool = False


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
        self._process: ReaderProcess | None = None
        self._alone = not hasattr(os, "memfd_create")

    def prepare(self, id_keys: dict[int, bytes], seed: int) -> None:
        self._keys = id_keys
        self._cutter = Cutter(seed)
        keys = (id_keys[ChunkKind.DATA], id_keys[ChunkKind.BUNDLE])
        self._bundles = BundleReader(self._base, *keys)

    def close(self) -> None:
        """End what was started; no task may be running."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _buffer(self) -> memoryview:
        try:
            found: memoryview = self._local.buffer
        except AttributeError:
            found = self._local.buffer = memoryview(bytearray(max(WINDOW_BYTES, BUFFER_BYTES)))
        return found

    def _open(self, source: Source) -> int:
        path = self._base + b"/" + source.path if self._base else source.path
        if self._user not in (0, source.entry.uid):
            return open_path(path, _READ)
        try:
            return open_path(path, _READ | self._noatime)
        except PermissionError:
            found = open_path(path, _READ)
        self._noatime = 0  # this file system does not let us
        return found

    def _failed(self, source: Source, number: int, why: str) -> None:
        source.gone = True
        code = "FileVanished" if number in (errno.ENOENT, errno.ELOOP) else "Unreadable"
        self._report(code, source.path, why)

    # small files

    def read_small(self, sources: list[Source]) -> None:
        """A batch of small files: bundles end where content says, and at the batch's end."""
        user = self._user
        wanted: list[Wanted] = [
            (one.path, one.entry.mtime_ns, user in (0, one.entry.uid)) for one in sources
        ]
        at = 0
        while at < len(wanted):
            with self._reading_of(wanted[at:]) as (buffer, reading):
                self._store(buffer, reading)
                self._note(sources[at : at + len(reading.rows)], reading)
                at += len(reading.rows)
        for source in sources:
            if not source.read and not source.gone:
                self.read_large(source)

    def read(self, source: Source) -> None:
        """One file of any size, on the calling thread."""
        if source.entry.size >= SMALL_FILE_BYTES:
            self.read_large(source)
        else:
            self.read_small([source])

    @contextmanager
    def _reading_of(self, wanted: Sequence[Wanted]) -> Iterator[tuple[memoryview, Reading]]:
        process = self._helper(len(wanted))
        if process is not None:
            try:
                with process.read(wanted) as found:
                    yield found
                    return
            except ChildLostError as error:
                log.warning("the reader process is lost (%s); reading goes on without", error)
                self._alone = True
        buffer = self._buffer()[:BUFFER_BYTES]
        with self._reading:
            reading = self._bundles.read(buffer, wanted)
        yield buffer, reading

    def _helper(self, files: int) -> ReaderProcess | None:
        """The process that reads batches of many files; started with the first of them."""
        if self._alone or files < MANY_FILES:
            return None
        with self._reading:
            if self._process is None and not self._alone:
                keys = (self._keys[ChunkKind.DATA], self._keys[ChunkKind.BUNDLE])
                try:
                    self._process = ReaderProcess(self._base, *keys)
                except OSError as error:
                    log.warning("no reader process can be started: %s", error)
                    self._alone = True
        return self._process

    def _store(self, buffer: memoryview, reading: Reading) -> None:
        named: list[tuple[bytes, Buffer]] = [
            (name, buffer[start : start + size]) for start, size, name in reading.bundles
        ]
        self._writer.store(ChunkKind.BUNDLE, named)

    def _note(self, sources: list[Source], reading: Reading) -> None:
        """Fill in the entries of what was read and stored."""
        ids = [name[:32] for _, _, name in reading.bundles]
        for source, row in zip(sources, reading.rows, strict=True):
            if row.odd is not None and row.odd.large:
                continue  # it is read once more, as what it is now
            entry = source.entry
            entry.size = row.size
            if row.digest:
                entry.digest = row.digest
                entry.extents = ((row.known or ids[row.bundle], row.offset, 0, row.size),)
            if row.odd is not None:
                self._note_odd(source, row.odd)
            source.read = not source.gone

    def _note_odd(self, source: Source, odd: Oddity) -> None:
        if odd.gone is not None:
            self._failed(source, *odd.gone)
            return
        source.entry.xattrs = odd.xattrs
        if odd.unread:
            source.unsure = True
            self._report("AttributeUnreadable", source.path, odd.unread)
        if odd.mtime_ns is not None:
            source.entry.mtime_ns = odd.mtime_ns
        if odd.unsure:
            source.unsure = True
            self._report("FileChanged", source.path, "it changed while it was read")

    # large files

    def read_large(self, source: Source) -> None:
        """One file in windows; holes are kept."""
        try:
            fd = self._open(source)
        except OSError as error:
            self._failed(source, error.errno or 0, error.strerror or str(error))
            return
        try:
            before = os.fstat(fd)
            self._xattrs(fd, source)
            extents, digest = self._windows(fd, before.st_size)
            after = os.fstat(fd)
        except OSError as error:
            self._failed(source, error.errno or 0, error.strerror or str(error))
            return
        finally:
            os.close(fd)
        entry = source.entry
        source.read = True
        entry.extents, entry.digest = extents, digest
        entry.size, entry.mtime_ns = before.st_size, within_range(before.st_mtime_ns)
        changed = (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size)
        if changed:
            source.unsure = True
            self._report("FileChanged", source.path, "it changed while it was read")

    def _xattrs(self, fd: int, source: Source) -> None:
        try:
            source.entry.xattrs = read_xattrs(fd)
        except OSError as error:
            source.unsure = True
            self._report("AttributeUnreadable", source.path, error.strerror or str(error))

    def _windows(self, fd: int, size: int) -> tuple[list[ExtentTuple], bytes]:
        """Extents and digest. A file that is one chunk has that chunk's id as its digest."""
        extents: list[ExtentTuple] = []
        ranges = data_ranges(fd, size)
        hasher = content_hasher(self._keys)
        for start, end in ranges:
            alone = len(ranges) == 1
            if self._range(fd, start, end, extents, hasher.update, alone=alone):
                return extents, extents[0][0]
        return extents, hasher.digest()

    def _range(
        self,
        fd: int,
        start: int,
        end: int,
        extents: list[ExtentTuple],
        update: Callable[[Buffer], object],
        *,
        alone: bool,
    ) -> bool:
        """Chunks of one data range; all of it goes to ``update``, unless it is ``alone`` in its
        file and one chunk: then the answer is True."""
        buffer = self._buffer()[:WINDOW_BYTES]
        at, held = start, 0
        while at + held < end or held:
            want, before = min(WINDOW_BYTES, end - at), held
            while held < want:
                count = os.preadv(fd, [buffer[held:want]], at + held)
                if count == 0:
                    end = at + held  # the file became shorter
                    break
                held += count
            last = at + held >= end
            used = self._chunks(buffer[:held], at, last, extents)
            if alone and last and at == start and len(extents) == 1:
                return True
            update(buffer[before:held])
            buffer[: held - used] = buffer[used:held]  # may overlap: it is moved, not copied
            at, held = at + used, held - used
            if used == 0:
                return False
        return False

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
        try:
            end = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            end = size  # it became shorter; what is missing is noticed when it is read
        ranges.append((start, min(end, size)))
        at = end
    return ranges
