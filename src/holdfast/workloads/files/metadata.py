"""Attributes of files beyond their content: captured at backup, applied at restore.

ACLs and file capabilities are extended attributes (``system.posix_acl_*``, ``security.capability``)
and are kept as such. Order of application: owner, then mode (changing the owner clears setuid and
capabilities), then extended attributes, then times; directories after their children.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as st
from collections.abc import Callable
from typing import Any

from holdfast.vaultstore.entries import Entry, EntryType

_TYPES = {
    st.S_IFREG: EntryType.FILE,
    st.S_IFDIR: EntryType.DIRECTORY,
    st.S_IFLNK: EntryType.SYMLINK,
    st.S_IFIFO: EntryType.FIFO,
    st.S_IFCHR: EntryType.CHARACTER_DEVICE,
    st.S_IFBLK: EntryType.BLOCK_DEVICE,
}
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_VOLATILE = frozenset({b"security.evm", b"security.ima", b"system.nfs4_acl"})
Report = Callable[[str, str], None]


def entry_type(mode: int) -> EntryType | None:
    """None for sockets and unknown kinds, which cannot be protected."""
    return _TYPES.get(st.S_IFMT(mode))


def new_entry(name: bytes, found: os.stat_result, kind: EntryType) -> Entry:
    """An entry with what ``lstat`` says; content, target and extended attributes come later."""
    mode = found.st_mode
    entry = Entry(name, kind, st.S_IMODE(mode), found.st_uid, found.st_gid, found.st_mtime_ns)
    if kind is EntryType.FILE:
        entry.size = found.st_size
        if found.st_nlink > 1:
            entry.link_group = (found.st_dev << 48 ^ found.st_ino) & (2**64 - 1) or 1
    elif kind in (EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE):
        entry.rdev = found.st_rdev
    return entry


def read_xattrs(path: bytes | int) -> dict[bytes, bytes]:
    """Extended attributes of a path (links are not followed) or descriptor. OSError but for file
    systems without any."""
    follow: dict[str, Any] = {} if isinstance(path, int) else {"follow_symlinks": False}
    try:
        names = os.listxattr(path, **follow)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return {}
        raise
    found = {}
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


def apply_owner(fd: int, entry: Entry, uid: int, gid: int, report: Report) -> None:
    """Owner and group, when they differ."""
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) == (uid, gid):
        return
    try:
        os.fchown(fd, uid, gid)
    except PermissionError:
        if found.st_gid != gid:
            with contextlib.suppress(OSError):
                os.fchown(fd, -1, gid)
        report("OwnerNotRestored", f"owner {uid}:{gid} needs root")


def apply_mode(fd: int, entry: Entry, report: Report, *, owned: bool) -> None:
    """Permission bits; setuid and setgid only for who owns the file as it was."""
    mode = entry.mode if owned else entry.mode & ~(st.S_ISUID | st.S_ISGID)
    if mode != entry.mode:
        report("ModeNotRestored", "setuid and setgid were left out, as the owner differs")
    if st.S_IMODE(os.fstat(fd).st_mode) != mode:
        os.fchmod(fd, mode)


def apply_xattrs(target: bytes | int, entry: Entry, report: Report) -> None:
    """Extended attributes, ACLs and capabilities among them; what is refused is reported."""
    follow: dict[str, Any] = {} if isinstance(target, int) else {"follow_symlinks": False}
    for name, value in entry.xattrs.items():
        try:
            os.setxattr(target, name, value, **follow)
        except OSError as error:
            shown = name.decode(errors="replace")
            report("AttributeNotRestored", f"{shown}: {error.strerror}")
