"""Attributes of files beyond their content: captured at backup, applied at restore.

ACLs and file capabilities are extended attributes (``system.posix_acl_*``, ``security.capability``)
and are kept as such. Order of application: owner (changing it clears setuid and capabilities),
``user.*`` attributes (they need a writable mode), mode, all other attributes, times; directories
after their children.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from holdfast.vaultstore.entries import Entry, EntryType
from holdfast.workloads.files.listing import RowTuple

_TYPES = {
    st.S_IFREG: EntryType.FILE,
    st.S_IFDIR: EntryType.DIRECTORY,
    st.S_IFLNK: EntryType.SYMLINK,
    st.S_IFIFO: EntryType.FIFO,
    st.S_IFCHR: EntryType.CHARACTER_DEVICE,
    st.S_IFBLK: EntryType.BLOCK_DEVICE,
}
_FILE = EntryType.FILE  # enum members are slow to look up
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_VOLATILE = frozenset({b"security.evm", b"security.ima", b"system.nfs4_acl"})
_SPREAD = 0x9E3779B97F4A7C15  # odd: spreads device numbers over 64 bits
_MASK = 2**64 - 1
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LONG_PATH = 4000  # [bytes] near PATH_MAX; such paths are walked step by step
ACCESS_ACL, DEFAULT_ACL = b"system.posix_acl_access", b"system.posix_acl_default"
Report = Callable[[str, str], None]
T = TypeVar("T")


def entry_type(mode: int) -> EntryType | None:
    """None for sockets and unknown kinds, which cannot be protected."""
    return _TYPES.get(mode & 0o170000)


def link_group(device: int, inode: int) -> int:
    """A number that all names of one file share, and no other file of its device."""
    return (device * _SPREAD ^ inode) & _MASK or 1


def new_entry(name: bytes, row: RowTuple, kind: EntryType, rdev: int = 0) -> Entry:
    """An entry with what a listing's row says; content, target and extended attributes come
    later."""
    inode, device, size, mtime, _, mode, uid, gid, links = row
    entry = Entry(name, kind, mode & 0o7777, uid, gid, mtime)
    if kind is _FILE:
        entry.size = size
        if links > 1:
            entry.link_group = link_group(device, inode)
    elif rdev:
        entry.rdev = rdev
    return entry


def read_xattrs(path: bytes | int) -> dict[bytes, bytes]:
    """Extended attributes of an absolute path (a link is not followed, however long the path is)
    or a descriptor. OSError but for file systems without any."""
    if isinstance(path, bytes) and len(path) >= LONG_PATH:
        return _beside(path, _read_xattrs)
    return _read_xattrs(path)


def _read_xattrs(path: bytes | int) -> dict[bytes, bytes]:
    follow: dict[str, Any] = {} if isinstance(path, int) else {"follow_symlinks": False}
    try:
        names = os.listxattr(path, **follow)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return {}
        raise
    found: dict[bytes, bytes] = {}
    for name in names:
        raw = os.fsencode(name)
        if raw in _VOLATILE:
            continue
        try:
            found[raw] = os.getxattr(path, name, **follow)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
    return found


def read_link(path: bytes) -> bytes:
    """Target of the link at an absolute path, however long the path is."""
    if len(path) >= LONG_PATH:
        return _beside(path, os.readlink)
    return os.readlink(path)  # noqa: PTH115 - bytes


def _beside(path: bytes, read: Callable[[bytes], T]) -> T:
    """Call ``read`` with a short way to ``path``, through its open folder."""
    *folders, name = path.strip(b"/").split(b"/")
    fd = os.open(b"/", _STEP)
    try:
        for folder in folders:
            inner = os.open(folder, _STEP, dir_fd=fd)
            os.close(fd)
            fd = inner
        return read(b"/proc/self/fd/%d/%s" % (fd, name))
    finally:
        os.close(fd)


class Found(NamedTuple):
    """What an open file or directory has before attributes are applied."""

    uid: int
    gid: int
    mode: int


def found_of(fd: int) -> Found:
    info = os.fstat(fd)
    return Found(info.st_uid, info.st_gid, st.S_IMODE(info.st_mode))


def apply_attributes(fd: int, entry: Entry, uid: int, gid: int, now: Found, report: Report) -> None:
    """Owner ``uid``:``gid``, mode and extended attributes of ``entry``; times are left to the
    caller. What is refused (for lack of privilege, or by the file system) is reported as
    (code, message)."""
    mode, owned = entry.mode, True
    if (now.uid, now.gid) != (uid, gid):
        mode, owned = _apply_owner(fd, entry, uid, gid, now, report)
    user, other = _sorted_xattrs(entry.xattrs)
    opened = bool(user) and not now.mode & st.S_IWUSR  # without root, only who may write sets them
    if opened:
        with contextlib.suppress(OSError):
            os.fchmod(fd, now.mode | st.S_IWUSR)
    _apply_xattrs(fd, user, report)
    if opened or mode != now.mode or not owned or (now.uid, now.gid) != (uid, gid):
        os.fchmod(fd, mode)
    _apply_xattrs(fd, other, report)


def _apply_owner(
    fd: int, entry: Entry, uid: int, gid: int, now: Found, report: Report
) -> tuple[int, bool]:
    """The mode that may be set afterwards, and whether the owner is as wanted."""
    try:
        os.fchown(fd, uid, gid)
    except OSError:
        return _apply_part_of_owner(fd, entry, uid, gid, now, report), False
    return entry.mode, True


def _apply_part_of_owner(
    fd: int, entry: Entry, uid: int, gid: int, now: Found, report: Report
) -> int:
    """Without privilege: the group where it may be set. setuid and setgid are granted only under
    the owner and group they were meant for."""
    mode = entry.mode
    if uid != now.uid:
        report("OwnerNotRestored", f"its owner {uid} can be set by root only")
        mode &= ~st.S_ISUID
    if gid != now.gid:
        try:
            os.fchown(fd, -1, gid)
        except OSError:
            report("GroupNotRestored", f"its group {gid} cannot be set by this user")
            mode &= ~st.S_ISGID
    if mode != entry.mode:
        report("ModeNotRestored", "setuid and setgid were left out, as the owner differs")
    return mode


def _sorted_xattrs(xattrs: dict[bytes, bytes]) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    user = {name: value for name, value in xattrs.items() if name.startswith(b"user.")}
    return user, {name: value for name, value in xattrs.items() if name not in user}


def apply_xattrs(target: bytes | int, entry: Entry, report: Report) -> None:
    """All extended attributes of a link or special file by path, or of an open file."""
    _apply_xattrs(target, entry.xattrs, report)


def _apply_xattrs(target: bytes | int, xattrs: dict[bytes, bytes], report: Report) -> None:
    follow: dict[str, Any] = {} if isinstance(target, int) else {"follow_symlinks": False}
    for name, value in xattrs.items():
        try:
            os.setxattr(target, name, value, **follow)
        except OSError as error:
            shown = name.decode(errors="replace")
            report("AttributeNotRestored", f"{shown}: {error.strerror}")


def drop_foreign_xattrs(fd: int, entry: Entry) -> None:
    """Take off ACLs and ``user.*`` attributes that ``entry`` does not have: inherited from a
    folder's default ACL, or of an older directory."""
    try:
        names = [os.fsencode(name) for name in os.listxattr(fd)]
    except OSError:
        return
    for name in names:
        ours = name in (ACCESS_ACL, DEFAULT_ACL) or name.startswith(b"user.")
        if ours and name not in entry.xattrs:
            with contextlib.suppress(OSError):
                os.removexattr(fd, name)


def has_default_acl(fd: int) -> bool:
    """Whether new entries of this directory inherit an ACL."""
    try:
        os.getxattr(fd, DEFAULT_ACL)
    except OSError:
        return False
    return True
