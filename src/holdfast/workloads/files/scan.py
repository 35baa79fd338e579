"""Walks what an item includes, in tree order, one directory at a time, in bounded memory.

Tree order is that of the manifest: a directory's entries sorted by name, then its subdirectories in
the same order. Mount points are listed and not entered, unless they are an include themselves.
Folders above an include are listed with the names that lead on, so that their attributes are
protected too; an include inside a folder that is passed over (a mount point, an excluded one) is
reached in the same way.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator, Sequence

from holdfast.errors import SourceError
from holdfast.workloads.files.listing import (
    ROW,
    FindingTuple,
    Listing,
    RowTuple,
    within_range,
)
from holdfast.workloads.files.selection import Excludes

Report = Callable[[str, bytes, str], None]
Stack = list[tuple[bytes, int]]
"""Directories still to visit, the next one last: path, and the device of the folder above. ANY
where none is asked for; NARROW for a folder of which only what leads to an include is listed."""
ANY, NARROW = -1, -2
RACY_NS = 2_000_000_000
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
LONG_PATH = 4000  # near PATH_MAX; such paths are opened step by step
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FORMAT, _DIRECTORY, _FILE, _CHARACTER, _BLOCK = 0o170000, 0o040000, 0o100000, 0o020000, 0o060000


def open_path(path: bytes, flags: int) -> int:
    """Open ``path`` (relative to "/"), however long it is."""
    if len(path) < LONG_PATH:
        return os.open(b"/" + path, flags | os.O_CLOEXEC)
    *folders, name = path.split(b"/")
    fd = os.open(b"/", _OPEN)
    try:
        for folder in folders:
            inner = os.open(folder, _OPEN, dir_fd=fd)
            os.close(fd)
            fd = inner
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def check_includes(includes: Sequence[bytes], base: bytes = b"") -> None:
    """SourceError (SourcePathMissing) when an include does not exist."""
    for path in includes:
        if not os.path.lexists(b"/" + _join(base, path)):
            raise _missing(path)


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name


class TreeWalk:
    """Iterates over listings. ``includes`` as ``normalise_includes`` gives them; ``base``: where
    "/" is mounted for reading (a volume snapshot), without leading slash; ``started_ns``: when the
    backup began. ``stack`` may be taken between two listings, to go on elsewhere with it. What
    cannot be read gathers in ``findings``. SourceError when an include vanishes before it is met.
    """

    def __init__(
        self,
        includes: Sequence[bytes],
        excludes: Excludes,
        base: bytes = b"",
        started_ns: int = 0,
        stack: Stack | None = None,
    ) -> None:
        self._included = frozenset(includes)
        self._leads = _leading_names(includes)
        self._excludes = excludes
        self._base = base
        self._racy_from = started_ns - RACY_NS if started_ns else 1 << 63
        self._owners: set[int] = set()
        self._groups: set[int] = set()
        self.findings: list[FindingTuple] = []
        top = ANY if b"" in self._included else NARROW
        self.stack: Stack = [(b"", top)] if stack is None else stack

    def __iter__(self) -> Iterator[Listing]:
        while self.stack:
            path, device = self.stack.pop()
            found = self._visit(path, device)
            if found is not None:
                yield found

    def take_findings(self) -> list[FindingTuple]:
        taken, self.findings = self.findings, []
        return taken

    def _visit(self, path: bytes, device: int) -> Listing | None:
        try:
            if device == NARROW:
                return self._narrow(path)
            return self._read(path, device)
        except OSError as error:
            self._unreadable(path, error)
            return None

    def _narrow(self, path: bytes) -> Listing:
        """A folder with the entries that lead to an include, as they are outside any snapshot."""
        rows = []
        for name in sorted(self._leads[path]):
            full = _join(path, name)
            try:
                rows.append((name, self._lstat(full)))
            except OSError as error:
                if full in self._included:
                    raise _missing(full) from error
                self._unreadable(full, error)
        found, below = self._listing(path, rows, ANY)
        for full, _ in below:
            self.stack.append((full, ANY if full in self._included else NARROW))
        return found

    def _lstat(self, path: bytes) -> os.stat_result:
        try:
            return os.lstat(b"/" + path)
        except FileNotFoundError:
            return os.lstat(b"/" + _join(self._base, path))

    def _read(self, path: bytes, device: int) -> Listing | None:
        fd = open_path(_join(self._base, path), _OPEN & ~os.O_CLOEXEC)
        try:
            here = os.fstat(fd).st_dev
            if device not in (ANY, here) and path not in self._included:
                return self._narrow(path) if path in self._leads else None
            entries, held = self._entries(path, fd)
            found, below = self._listing(path, entries, here)
            for full, name in below:
                passed_over = name in held and full not in self._included
                self.stack.append((full, NARROW if passed_over else here))
            return found
        finally:
            os.close(fd)

    def _entries(
        self, path: bytes, fd: int
    ) -> tuple[list[tuple[bytes, os.stat_result]], set[bytes]]:
        """Sorted names with ``lstat``, and those that an exclude matches but that lead to an
        include."""
        rows: list[tuple[bytes, os.stat_result]] = []
        excludes, leads = self._excludes, self._leads.get(path, ())
        held: set[bytes] = set()
        checks = bool(excludes)
        with os.scandir(fd) as listing:
            for entry in listing:
                name = entry.name.encode(_ENCODING, _ERRORS)
                if checks and excludes.match(path, name):
                    if name not in leads:
                        continue
                    held.add(name)
                try:
                    rows.append((name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._unreadable(_join(path, name), error)
        rows.sort()
        return rows, held

    def _listing(
        self, path: bytes, entries: list[tuple[bytes, os.stat_result]], device: int
    ) -> tuple[Listing, list[tuple[bytes, bytes]]]:
        """Pack the rows; the subdirectories (path, name), last first."""
        logical = 0
        snapshot, racy_from = bool(self._base), self._racy_from
        owners, groups = self._owners, self._groups
        rows: list[bytes] = []
        below: list[tuple[bytes, bytes]] = []
        found = Listing(path, b"", b"", 0, device, [], {}, [], [])
        for name, info in entries:
            mode, inode, dev, links, uid, gid, size = info[:7]
            ctime = info.st_ctime_ns
            kind = mode & _FORMAT
            if kind == _FILE:
                logical += size
            elif kind == _DIRECTORY:
                below.append((_join(path, name), name))
            elif kind in (_CHARACTER, _BLOCK):
                found.devices[len(rows)] = info.st_rdev
            if ctime >= racy_from:
                found.racy.append(len(rows))
            if uid not in owners:
                owners.add(uid)
                found.owners.append(uid)
            if gid not in groups:
                groups.add(gid)
                found.groups.append(gid)
            dev = 0 if snapshot else dev
            row = (inode, dev, size, info.st_mtime_ns, ctime, mode, uid, gid, links)
            try:
                rows.append(ROW.pack(*row))
            except struct.error:
                rows.append(self._far_times(_join(path, name), row))
        below.reverse()
        found.names = b"\0".join([name for name, _ in entries])
        found.rows, found.logical_bytes = b"".join(rows), logical
        return found, below

    def _far_times(self, path: bytes, row: RowTuple) -> bytes:
        """A row whose times lie beyond what 64 bits of nanoseconds hold."""
        message = "its time is kept as the last one that the format holds"
        self.findings.append(("TimeOutOfRange", path, message))
        return ROW.pack(*row[:3], within_range(row[3]), within_range(row[4]), *row[5:])

    def _unreadable(self, path: bytes, error: OSError) -> None:
        code = "FileVanished" if isinstance(error, FileNotFoundError) else "Unreadable"
        self.findings.append((code, path, error.strerror or str(error)))


def _leading_names(includes: Sequence[bytes]) -> dict[bytes, set[bytes]]:
    """Folders that lie above an include -> the names in them that lead to one."""
    found: dict[bytes, set[bytes]] = {}
    for path in includes:
        parts = path.split(b"/") if path else []
        for depth, name in enumerate(parts):
            found.setdefault(b"/".join(parts[:depth]), set()).add(name)
    return found


def _missing(path: bytes) -> SourceError:
    shown = os.fsdecode(b"/" + path)
    return SourceError(
        f"the include path {shown} does not exist",
        code="SourcePathMissing",
        hint="mount or create it, or change the item: holdfast item update --include ...",
        target=shown,
    )
