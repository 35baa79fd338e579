"""Walks what an item includes, in tree order, one directory at a time, in bounded memory.

Tree order is that of the manifest: a directory's entries sorted by name, then its subdirectories in
the same order. Mount points are listed and not entered, unless they are an include themselves.
Folders above an include are listed with the names that lead on, so that their attributes are
protected too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from holdfast.errors import SourceError
from holdfast.workloads.files.listing import ROW, FindingTuple, Listing
from holdfast.workloads.files.selection import Excludes

Report = Callable[[str, bytes, str], None]
Stack = list[tuple[bytes, int]]
"""Directories still to visit, the next one last: (path, device of the folder above or -1)."""
RACY_NS = 2_000_000_000
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
            shown = os.fsdecode(b"/" + path)
            raise SourceError(
                f"the include path {shown} does not exist",
                code="SourcePathMissing",
                hint="mount or create it, or change the item: holdfast item update --include ...",
                target=shown,
            )


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name


class TreeWalk:
    """Iterates over listings. ``includes`` as ``normalise_includes`` gives them; ``base``: where
    "/" is mounted for reading (a volume snapshot), without leading slash; ``started_ns``: when the
    backup began. ``stack`` may be taken between two listings, to go on elsewhere with it. What
    cannot be read gathers in ``findings``."""

    def __init__(
        self,
        includes: Sequence[bytes],
        excludes: Excludes,
        base: bytes = b"",
        started_ns: int = 0,
        stack: Stack | None = None,
    ) -> None:
        self._included = frozenset(includes)
        self._above = _folders_above(includes)
        self._excludes = excludes
        self._base = base
        self._racy_from = started_ns - RACY_NS if started_ns else 1 << 63
        self._owners: set[int] = set()
        self._groups: set[int] = set()
        self.findings: list[FindingTuple] = []
        self.stack: Stack = [(b"", -1)] if stack is None else stack

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
            if path in self._above:
                return self._listing(path, self._leading(path), -1)
            return self._read(path, device)
        except OSError as error:
            self._unreadable(path, error)
            return None

    def _leading(self, path: bytes) -> list[tuple[bytes, os.stat_result]]:
        """The entries of a folder above the includes that lead to one, as they are outside any
        snapshot."""
        rows = []
        for name in sorted(self._above[path]):
            full = _join(path, name)
            try:
                rows.append((name, os.lstat(b"/" + full)))
            except OSError as error:
                self._unreadable(full, error)
        return rows

    def _read(self, path: bytes, device: int) -> Listing | None:
        fd = open_path(_join(self._base, path), _OPEN & ~os.O_CLOEXEC)
        try:
            here = os.fstat(fd).st_dev
            if device not in (-1, here) and path not in self._included:
                return None
            return self._listing(path, self._entries(path, fd), here)
        finally:
            os.close(fd)

    def _entries(self, path: bytes, fd: int) -> list[tuple[bytes, os.stat_result]]:
        rows: list[tuple[bytes, os.stat_result]] = []
        excludes = self._excludes
        checks = bool(excludes)
        with os.scandir(fd) as listing:
            for entry in listing:
                name = entry.name.encode("utf-8", "surrogateescape")
                if checks and excludes.match(path, name):
                    continue
                try:
                    rows.append((name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._unreadable(_join(path, name), error)
        rows.sort()
        return rows

    def _listing(
        self, path: bytes, entries: list[tuple[bytes, os.stat_result]], device: int
    ) -> Listing:
        """Note the subdirectories and pack the rows."""
        pack, logical = ROW.pack, 0
        snapshot, racy_from = bool(self._base), self._racy_from
        owners, groups = self._owners, self._groups
        rows: list[bytes] = []
        below: Stack = []
        found = Listing(path, b"", b"", 0, device, [], {}, [], [])
        for name, info in entries:
            mode, inode, dev, links, uid, gid, size = info[:7]
            ctime = info.st_ctime_ns
            kind = mode & _FORMAT
            if kind == _FILE:
                logical += size
            elif kind == _DIRECTORY:
                below.append((_join(path, name), device))
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
            rows.append(pack(inode, dev, size, info.st_mtime_ns, ctime, mode, uid, gid, links))
        self.stack.extend(reversed(below))
        found.names = b"\0".join([name for name, _ in entries])
        found.rows, found.logical_bytes = b"".join(rows), logical
        return found

    def _unreadable(self, path: bytes, error: OSError) -> None:
        code = "FileVanished" if isinstance(error, FileNotFoundError) else "Unreadable"
        self.findings.append((code, path, error.strerror or str(error)))


def _folders_above(includes: Sequence[bytes]) -> dict[bytes, set[bytes]]:
    """Folders that lie above an include and below none -> the names in them that lead to one."""
    found: dict[bytes, set[bytes]] = {}
    chosen = set(includes)
    for path in includes:
        parts = path.split(b"/") if path else []
        for depth, name in enumerate(parts):
            folder = b"/".join(parts[:depth])
            if folder in chosen:  # what follows is listed whole already
                break
            found.setdefault(folder, set()).add(name)
    return found
