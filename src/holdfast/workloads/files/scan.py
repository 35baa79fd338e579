"""Walks what an item includes, in tree order, one directory at a time, in bounded memory.

Tree order is that of the manifest: a directory's entries sorted by name, then its subdirectories in
the same order. Mount points are listed and not entered, unless they are an include themselves.
Folders above an include are listed with that one name, so that their attributes are protected too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from holdfast.errors import SourceError
from holdfast.workloads.files.selection import Excludes

Report = Callable[[str, bytes, str], None]
_DIRECTORY = 0o040000
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LONG_PATH = 4000  # near PATH_MAX; such paths are opened step by step


@dataclass(slots=True)
class Directory:
    """A scanned directory: ``path`` without leading slash, names (bytes, sorted) with ``lstat``.
    ``device``: of the directory itself; -1 above the includes."""

    path: bytes
    names: list[bytes]
    stats: list[os.stat_result]
    device: int = -1


@dataclass(slots=True)
class _Node:
    """A folder above includes: the names that lead on."""

    children: dict[bytes, _Node] = field(default_factory=dict)
    included: bool = False


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


def scan(
    includes: tuple[bytes, ...], excludes: Excludes, report: Report, base: bytes = b""
) -> Iterator[Directory]:
    """Directories in tree order. ``includes`` as ``normalise_includes`` gives them. ``base``: where
    "/" is mounted for reading (a volume snapshot), without leading slash.

    SourceError (SourcePathMissing) when an include does not exist. What cannot be read below is
    reported as (code, path, message).
    """
    top = _Node()
    for path in includes:
        node = top
        for part in path.split(b"/") if path else []:
            node = node.children.setdefault(part, _Node())
        node.included = True
        if not os.path.lexists(b"/" + _join(base, path)):
            shown = os.fsdecode(b"/" + path)
            raise SourceError(
                f"the include path {shown} does not exist",
                code="SourcePathMissing",
                hint="mount or create it, or change the item: holdfast item update --include ...",
                target=shown,
            )
    yield from _Scanner(excludes, report, base).walk(top)


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder and name else folder or name


class _Scanner:
    def __init__(self, excludes: Excludes, report: Report, base: bytes) -> None:
        self._excludes = excludes
        self._report = report
        self._base = base

    def walk(self, top: _Node) -> Iterator[Directory]:
        stack: list[tuple[bytes, _Node | None, int]] = [(b"", top, -1)]
        while stack:
            path, node, device = stack.pop()
            above = node is not None and not node.included
            found = self._above(path, node or top) if above else self._list(path, node, device)
            if found is None:
                continue
            yield found
            stack.extend(self._below(found, node))

    def _below(self, found: Directory, node: _Node | None) -> list[tuple[bytes, _Node | None, int]]:
        """Subdirectories to visit, last first."""
        children = node.children if node is not None else {}
        following: list[tuple[bytes, _Node | None, int]] = []
        for name, info in zip(reversed(found.names), reversed(found.stats), strict=True):
            if info.st_mode & 0o170000 == _DIRECTORY:
                following.append((_join(found.path, name), children.get(name), found.device))
        return following

    def _above(self, path: bytes, node: _Node) -> Directory:
        names = sorted(node.children)
        stats = [os.lstat(b"/" + _join(path, name)) for name in names]
        return Directory(path, names, stats)

    def _list(self, path: bytes, node: _Node | None, device: int) -> Directory | None:
        try:
            fd = open_path(_join(self._base, path), _OPEN & ~os.O_CLOEXEC)
        except OSError as error:
            self._unreadable(path, error)
            return None
        try:
            here = os.fstat(fd).st_dev
            if device not in (-1, here) and not (node is not None and node.included):
                return None
            return self._entries(path, fd, here)
        except OSError as error:
            self._unreadable(path, error)
            return None
        finally:
            os.close(fd)

    def _entries(self, path: bytes, fd: int, device: int) -> Directory:
        rows: list[tuple[bytes, os.stat_result]] = []
        excludes = self._excludes
        checks = bool(excludes)
        with os.scandir(fd) as listing:
            for entry in listing:
                name = os.fsencode(entry.name)
                if checks and excludes.match(path, name):
                    continue
                try:
                    rows.append((name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._unreadable(_join(path, name), error)
        rows.sort()
        return Directory(path, [row[0] for row in rows], [row[1] for row in rows], device)

    def _unreadable(self, path: bytes, error: OSError) -> None:
        code = "FileVanished" if isinstance(error, FileNotFoundError) else "Unreadable"
        self._report(code, path, error.strerror or str(error))
