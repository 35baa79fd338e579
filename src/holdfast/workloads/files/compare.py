"""An inventory of a tree, every byte and attribute, and what differs between two."""

from __future__ import annotations

import os
import stat as st
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from holdfast.workloads.files.metadata import read_xattrs
from holdfast.workloads.files.scan import open_path

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
V = TypeVar("V")
BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Attributes:
    """What must be equal. ``content``: hash of a file, target of a link; ``links``: the number of
    names, for files with several."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    content: bytes
    links: int
    rdev: int
    xattrs: tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Inventory:
    """Path (bytes, absolute) to attributes; paths that could not be read with the reason."""

    entries: dict[bytes, Attributes] = field(default_factory=dict)
    unreadable: dict[bytes, str] = field(default_factory=dict)


@dataclass(slots=True)
class Difference:
    """``lines``: one per difference; ``unreadable``: left out of the comparison."""

    lines: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    compared: int = 0


def take_inventory(roots: Iterable[Path]) -> Inventory:
    """Everything below ``roots``, themselves included; sockets are left out."""
    inventory = Inventory()
    for root in roots:
        for path, info in _walk(os.fsencode(root)):
            if st.S_ISSOCK(info.st_mode):
                continue
            try:
                inventory.entries[path] = _attributes(path, info)
            except OSError as error:
                inventory.unreadable[path] = error.strerror or str(error)
    return inventory


def _walk(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    device = os.lstat(root).st_dev
    stack = [root]
    yield root, os.lstat(root)
    while stack:
        folder = stack.pop()
        try:
            fd = open_path(folder.lstrip(b"/"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            with os.scandir(fd) as listing:
                for entry in listing:
                    path = folder + b"/" + os.fsencode(entry.name)
                    info = entry.stat(follow_symlinks=False)
                    yield path, info
                    if st.S_ISDIR(info.st_mode) and info.st_dev == device:
                        stack.append(path)
        finally:
            os.close(fd)


def _attributes(path: bytes, info: os.stat_result) -> Attributes:
    kind = st.S_IFMT(info.st_mode)
    size, links, content = 0, 0, b""
    if st.S_ISREG(info.st_mode):
        size = info.st_size
        links = info.st_nlink
        content = _hash(path)
    elif st.S_ISLNK(info.st_mode):
        content = os.readlink(path)  # noqa: PTH115 - bytes
    return Attributes(
        kind,
        st.S_IMODE(info.st_mode),
        info.st_uid,
        info.st_gid,
        info.st_mtime_ns,
        size,
        content,
        links,
        info.st_rdev if kind in (st.S_IFCHR, st.S_IFBLK) else 0,
        tuple(sorted(read_xattrs(path).items())),
    )


def _hash(path: bytes) -> bytes:
    hasher = blake3()
    fd = open_path(path.lstrip(b"/"), _READ)
    try:
        while data := os.read(fd, BLOCK):
            hasher.update(data)
    finally:
        os.close(fd)
    return hasher.digest()


_FIELDS = ("kind", "mode", "uid", "gid", "mtime_ns", "size", "content", "rdev", "xattrs")


def compare_inventories(
    before: Inventory,
    after: Inventory,
    *,
    strip_left: str = "",
    strip_right: str = "",
    owners: bool = True,
) -> Difference:
    """What differs, paths matched after taking the prefixes off. Without ``owners``, owner, group
    and what needs root (setuid bits, privileged attributes) are not compared."""
    found = Difference()
    left = _strip(before.entries, strip_left)
    right = _strip(after.entries, strip_right)
    skipped = _strip(before.unreadable, strip_left)
    found.unreadable = [f"{os.fsdecode(path)}: {why}" for path, why in sorted(skipped.items())]
    for path, was in left.items():
        now = right.get(path)
        if now is None:
            found.lines.append(f"{_show(path)}: missing")
            continue
        found.compared += 1
        if different := _different(was, now, owners=owners):
            found.lines.append(f"{_show(path)}: {', '.join(different)}")
    extra = right.keys() - left.keys() - skipped.keys()
    found.lines += [f"{_show(path)}: not in the original" for path in sorted(extra)]
    return found


def _strip(entries: dict[bytes, V], prefix: str) -> dict[bytes, V]:
    cut = os.fsencode(prefix)
    return {path.removeprefix(cut): value for path, value in entries.items()}


def _different(was: Attributes, now: Attributes, *, owners: bool) -> list[str]:
    names = []
    for name in _FIELDS:
        old, new = getattr(was, name), getattr(now, name)
        if not owners:
            if name in ("uid", "gid"):
                continue
            if name == "mode":
                old, new = old & 0o1777, new & 0o1777
            if name == "xattrs":
                old, new = _plain(old), _plain(new)
        if old != new:
            shown = "" if isinstance(old, bytes | tuple) else f" ({old} -> {new})"
            names.append(name + shown)
    return names


def _plain(xattrs: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in xattrs if pair[0].startswith(b"user.")]


def _show(path: bytes) -> str:
    return os.fsdecode(path).encode(errors="backslashreplace").decode()
