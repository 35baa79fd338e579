"""An inventory of a tree, every byte and attribute, and what differs between two."""

from __future__ import annotations

import os
import stat as st
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from blake3 import blake3

from holdfast.workloads.files.content import data_ranges
from holdfast.workloads.files.metadata import read_link, read_xattrs
from holdfast.workloads.files.scan import open_path

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
V = TypeVar("V")
BLOCK = 1024 * 1024
SPARSE_FROM = 128 * 1024  # [bytes] smaller files may lose their holes
SPARSE_SLACK = 64 * 1024  # [bytes] a file system may fill, a range of data


class Attributes(NamedTuple):
    """What must be equal. ``content``: hash of a file, target of a link. ``inode``: (device,
    number) of a file with several names, else None. ``holes``: bytes that are not stored."""

    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    content: bytes
    rdev: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    inode: tuple[int, int] | None
    holes: int


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


def take_inventory(roots: Iterable[Path], threads: int = 3) -> Inventory:
    """Everything below ``roots``, themselves included; sockets are left out, other file systems
    are not entered."""
    inventory = Inventory()
    with ThreadPoolExecutor(threads, "inventory") as pool:
        waiting: set[Future[_Folder]] = set()
        for root in roots:
            path = os.fsencode(root)
            info = os.lstat(path)
            _add(inventory, path, info, path)
            if st.S_ISDIR(info.st_mode):
                waiting.add(pool.submit(_folder, path, info.st_dev))
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for found in (task.result() for task in done):
                inventory.entries.update(found.inventory.entries)
                inventory.unreadable.update(found.inventory.unreadable)
                waiting.update(pool.submit(_folder, path, found.device) for path in found.below)
    return inventory


@dataclass(slots=True)
class _Folder:
    """What one directory holds."""

    device: int
    inventory: Inventory = field(default_factory=Inventory)
    below: list[bytes] = field(default_factory=list)


def _folder(path: bytes, device: int) -> _Folder:
    found = _Folder(device)
    try:
        fd = open_path(path.lstrip(b"/"), _FOLDER)
    except OSError as error:
        found.inventory.unreadable[path] = error.strerror or str(error)
        return found
    try:
        with os.scandir(fd) as listing:
            for entry in listing:
                name = os.fsencode(entry.name)
                info = entry.stat(follow_symlinks=False)
                full = path.rstrip(b"/") + b"/" + name
                _add(found.inventory, full, info, b"/proc/self/fd/%d/%s" % (fd, name))
                if st.S_ISDIR(info.st_mode) and info.st_dev == device:
                    found.below.append(full)
    finally:
        os.close(fd)
    return found


def _add(inventory: Inventory, path: bytes, info: os.stat_result, way: bytes) -> None:
    """``way``: a short path to the same entry."""
    if st.S_ISSOCK(info.st_mode):
        return
    try:
        inventory.entries[path] = _attributes(way, info)
    except OSError as error:
        inventory.unreadable[path] = error.strerror or str(error)


def _attributes(way: bytes, info: os.stat_result) -> Attributes:
    kind = st.S_IFMT(info.st_mode)
    size, content, inode, holes = 0, b"", None, 0
    if kind == st.S_IFREG:
        size = info.st_size
        inode = (info.st_dev, info.st_ino) if info.st_nlink > 1 else None
        content, holes = _content(way, info)
    elif kind == st.S_IFLNK:
        content = read_link(way)
    return Attributes(
        kind,
        st.S_IMODE(info.st_mode),
        info.st_uid,
        info.st_gid,
        info.st_mtime_ns,
        size,
        content,
        info.st_rdev if kind in (st.S_IFCHR, st.S_IFBLK) else 0,
        tuple(sorted(read_xattrs(way).items())),
        inode,
        holes,
    )


def _content(way: bytes, info: os.stat_result) -> tuple[bytes, int]:
    """(hash, bytes in holes) of a file."""
    size = info.st_size
    if not size:
        return b"", 0
    fd = os.open(way, _READ)
    try:
        hasher = blake3()
        while data := os.read(fd, min(size + 1, BLOCK)):
            hasher.update(data)
            if len(data) == size:
                break
        holes = 0
        if size >= SPARSE_FROM and info.st_blocks * 512 + SPARSE_SLACK < size:
            holes = size - sum(end - start for start, end in data_ranges(fd, size))
        return hasher.digest(), holes
    finally:
        os.close(fd)


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
    found.unreadable = [f"{_show(path)}: {why}" for path, why in sorted(skipped.items())]
    left_links, right_links = _link_names(left), _link_names(right)
    for path, was in left.items():
        now = right.get(path)
        if now is None:
            found.lines.append(f"{_show(path)}: missing")
            continue
        found.compared += 1
        different = [] if was[:9] == now[:9] else _different(was, now, owners=owners)
        if was.holes - now.holes > SPARSE_SLACK:
            different.append(f"holes ({was.holes} -> {now.holes})")
        if was.inode is not None and left_links[was.inode] != _names(right_links, path, now):
            different.append("hard links")
        if different:
            found.lines.append(f"{_show(path)}: {', '.join(different)}")
    extra = right.keys() - left.keys() - skipped.keys()
    found.lines += [f"{_show(path)}: not in the original" for path in sorted(extra)]
    return found


def _strip(entries: dict[bytes, V], prefix: str) -> dict[bytes, V]:
    cut = os.fsencode(prefix)
    return {path.removeprefix(cut): value for path, value in entries.items()}


def _link_names(entries: dict[bytes, Attributes]) -> dict[tuple[int, int], set[bytes]]:
    """Which paths are names of one file."""
    names: dict[tuple[int, int], set[bytes]] = {}
    for path, entry in entries.items():
        if entry.inode is not None:
            names.setdefault(entry.inode, set()).add(path)
    return names


def _names(links: dict[tuple[int, int], set[bytes]], path: bytes, entry: Attributes) -> set[bytes]:
    return {path} if entry.inode is None else links[entry.inode]


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
            shown = "" if isinstance(old, bytes | tuple | list) else f" ({old} -> {new})"
            names.append(name + shown)
    return names


def _plain(xattrs: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    return [pair for pair in xattrs if pair[0].startswith(b"user.")]


def _show(path: bytes) -> str:
    return os.fsdecode(path).encode(errors="backslashreplace").decode()
