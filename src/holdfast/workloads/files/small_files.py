"""Reading small files, one after another, into bundles of one buffer.

Runs in the agent's own process or in a reader process of its own (``reader_process``), so it
imports little and speaks in plain values. Per file it costs five system calls: open, read, fstat,
listxattr, close.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import msgspec
from blake3 import blake3

from holdfast.vaultstore.bundling import BUNDLE_MAX, SMALL_FILE_BYTES, closes_bundle
from holdfast.workloads.files.listing import within_range
from holdfast.workloads.files.metadata import read_xattrs
from holdfast.workloads.files.scan import open_path

MAX_KNOWN = 50_000  # digests of small files remembered, two generations: about 20 MB
BUFFER_BYTES = 6 * 1024 * 1024 + SMALL_FILE_BYTES
_OFFSET_BITS = 24  # a bundle ends well below 16 MiB
NAME_BYTES = 48
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOATIME = getattr(os, "O_NOATIME", 0)

Wanted = tuple[bytes, int, bool]
"""A file to read: path without leading slash, mtime [ns] when it was listed, whether this user may
leave its access time alone (root and the owner may)."""


class Oddity(msgspec.Struct, array_like=True, omit_defaults=True):
    """What is out of the ordinary about a file. ``gone``: it could not be read at all, and why;
    ``mtime_ns``: it changed since it was listed; ``unsure``: and again while it was read;
    ``unread``: why its extended attributes could not be; ``large``: it has outgrown small files and
    was not read."""

    gone: tuple[int, str] | None = None
    mtime_ns: int | None = None
    unsure: bool = False
    xattrs: dict[bytes, bytes] = {}
    unread: str = ""
    large: bool = False


class Row(msgspec.Struct, array_like=True, gc=False, omit_defaults=True):
    """What was read of a file. ``bundle``: number of its bundle in this reading; ``known``: id of
    an earlier bundle that holds the same content. ``digest`` is empty when there is nothing."""

    size: int = 0
    digest: bytes = b""
    offset: int = 0
    bundle: int = 0
    known: bytes = b""
    odd: Oddity | None = None


class Reading(msgspec.Struct, array_like=True):
    """What one reading put into the buffer. ``bundles``: (start, length, 48-byte name). ``rows``
    may be fewer than were wanted: the buffer was full. ``slot``: which buffer, where there are
    several."""

    bundles: list[tuple[int, int, bytes]]
    rows: list[Row]
    slot: int = 0


class _Generation:
    """Digests of one stretch of reading -> number of the bundle and offset in it, as one number."""

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}
        self.bundles: list[bytes] = []

    def find(self, digest: bytes) -> tuple[bytes, int] | None:
        place = self.places.get(digest)
        if place is None:
            return None
        return self.bundles[place >> _OFFSET_BITS], place & (1 << _OFFSET_BITS) - 1


class KnownContent:
    """Where content was put: digest -> (bundle id, offset). Bounded; finds copies across
    directories."""

    def __init__(self) -> None:
        self._new, self._old = _Generation(), _Generation()

    def find(self, digest: bytes) -> tuple[bytes, int] | None:
        return self._new.find(digest) or self._old.find(digest)

    def add(self, bundle_id: bytes, members: Sequence[Row]) -> None:
        """Note the members of a bundle."""
        new = self._new
        lead = len(new.bundles) << _OFFSET_BITS
        new.bundles.append(bundle_id)
        new.places.update({row.digest: lead | row.offset for row in members})
        if len(new.places) > MAX_KNOWN:
            self._old, self._new = new, _Generation()


class BundleReader:
    """Fills buffers with bundles. One thread at a time. ``base``: where "/" is read from, without
    leading slash; keys: of 32 bytes, for content and for bundles."""

    def __init__(self, base: bytes, data_key: bytes, bundle_key: bytes) -> None:
        self._lead = b"/" + base + b"/" if base else b"/"
        self._data_key = data_key
        self._bundle_key = bundle_key
        self._known = KnownContent()
        self._noatime = _NOATIME

    def read(self, buffer: memoryview, wanted: Sequence[Wanted]) -> Reading:
        """Read files until ``buffer`` (BUFFER_BYTES) has no room for another bundle. A bundle ends
        where content says, and at the end of ``wanted``."""
        known, rows = self._known, []
        bundles: list[tuple[int, int, bytes]] = []
        start = end = 0
        members: list[Row] = []
        for one in wanted:
            row = self._take(one, buffer[end : end + SMALL_FILE_BYTES])
            rows.append(row)
            size, digest = row.size, row.digest
            if not digest:
                continue
            if place := known.find(digest):
                row.known, row.offset = place
                continue
            row.offset, row.bundle = end - start, len(bundles)
            members.append(row)
            end += size
            if closes_bundle(end - start, digest, size):
                bundles.append(self._close(buffer, start, end, members))
                start, members = end, []
                if end + BUNDLE_MAX + SMALL_FILE_BYTES > len(buffer):
                    return Reading(bundles, rows)
        if members:
            bundles.append(self._close(buffer, start, end, members))
        return Reading(bundles, rows)

    def _close(
        self, buffer: memoryview, start: int, end: int, members: list[Row]
    ) -> tuple[int, int, bytes]:
        name = blake3(buffer[start:end], key=self._bundle_key).digest(length=NAME_BYTES)
        self._known.add(name[:32], members)
        return start, end - start, name

    def _take(self, one: Wanted, room: memoryview) -> Row:
        """Read one file to the beginning of ``room``."""
        path, mtime_ns, mine = one
        try:
            fd = self._open(path, mine)
        except OSError as error:
            return _lost(error)
        row = Row()
        try:
            size = os.readv(fd, [room])
            now = os.fstat(fd)
            if size != now.st_size or within_range(now.st_mtime_ns) != mtime_ns:
                size = _again(fd, room, row)
                if size == len(room):
                    return Row(odd=Oddity(large=True))
            if xattrs := _xattrs(fd, row):
                _odd(row).xattrs = xattrs
        except OSError as error:
            return _lost(error)
        finally:
            os.close(fd)
        row.size = size
        if size:
            row.digest = blake3(room[:size], key=self._data_key).digest()
        return row

    def _open(self, path: bytes, mine: bool) -> int:
        full = self._lead + path
        try:
            return _opened(full, _READ | self._noatime if mine else _READ)
        except PermissionError:
            if not mine or not self._noatime:
                raise
        found = _opened(full, _READ)
        self._noatime = 0  # this file system does not let us
        return found


def _opened(full: bytes, flags: int) -> int:
    try:
        return os.open(full, flags)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    return open_path(full[1:], flags)


def _xattrs(fd: int, row: Row) -> dict[bytes, bytes]:
    try:
        return read_xattrs(fd)
    except OSError as error:
        _odd(row).unread = error.strerror or str(error)
        return {}


def _again(fd: int, room: memoryview, row: Row) -> int:
    """The file changed since it was listed: read it once more; mark it when it changes again. A
    full ``room`` means that the file is no small one any more."""
    before = os.fstat(fd)
    size = os.preadv(fd, [room], 0)
    after = os.fstat(fd)
    odd = _odd(row)
    odd.mtime_ns = within_range(after.st_mtime_ns)
    odd.unsure = size != after.st_size or before.st_mtime_ns != after.st_mtime_ns
    return size


def _odd(row: Row) -> Oddity:
    if row.odd is None:
        row.odd = Oddity()
    return row.odd


def _lost(error: OSError) -> Row:
    return Row(odd=Oddity(gone=(error.errno or 0, error.strerror or str(error))))
