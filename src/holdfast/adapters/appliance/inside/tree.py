"""Files of a mounted volume: listed, and read with all that lies below.

Links on the way to a path are followed inside the volume only; what a path names is never followed.
"""

from __future__ import annotations

import os
import stat as st

from . import wire
from .volumes import TroubleError, Volumes

TYPE_CHECKING = False  # the appliance's Python has no typing
if TYPE_CHECKING:
    from collections.abc import Callable

    Send = Callable[[bytes, bytes], None]
MAX_LINKS = 40
KINDS = {
    st.S_IFREG: b"f",
    st.S_IFDIR: b"d",
    st.S_IFLNK: b"l",
    st.S_IFIFO: b"p",
    st.S_IFCHR: b"c",
    st.S_IFBLK: b"b",
    st.S_IFSOCK: b"s",
}


def list_folder(send: Send, known: Volumes, path: bytes, after: bytes, limit: int) -> bytes:
    """Rows of a folder by name, from behind ``after``; a single row for what is no folder. "more"
    when there are more than ``limit``."""
    root, inner = resolve(known, path)
    place = os.path.join(root, inner)
    if not st.S_ISDIR(os.lstat(place).st_mode):
        send(wire.ENTRY, row_of(place, path.rpartition(b"/")[2]))
        return b""
    names = sorted(name for name in os.listdir(place) if name > after)
    for name in names[:limit]:
        try:
            send(wire.ENTRY, row_of(os.path.join(place, name), name))
        except OSError as error:
            send(wire.PROBLEM, trouble(b"FileUnreadable", path + b"/" + name, error))
    return b"more" if len(names) > limit else b""


def read_path(send: Send, known: Volumes, path: bytes) -> None:
    """Rows and content of a path and all below it, folders before what is in them."""
    try:
        root, inner = resolve(known, path)
    except TroubleError as error:
        send(wire.PROBLEM, b"\0".join((error.code, path, error.message)))
        return
    volume = path.split(b"/")[0]
    waiting = [inner]
    while waiting:
        inner = waiting.pop()
        shown = volume + b"/" + inner if inner else volume
        try:
            waiting += reversed(_read_one(send, os.path.join(root, inner), inner, shown))
        except OSError as error:
            send(wire.PROBLEM, trouble(b"FileUnreadable", shown, error))


def _read_one(send: Send, place: bytes, inner: bytes, shown: bytes) -> list[bytes]:
    """Send one entry; what lies in it."""
    mode = os.lstat(place).st_mode
    if st.S_ISDIR(mode):
        below = sorted(os.listdir(place))
        send(wire.ENTRY, row_of(place, shown))
        return [os.path.join(inner, name) for name in below]
    if not st.S_ISREG(mode):
        send(wire.ENTRY, row_of(place, shown))
        return []
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        send(wire.ENTRY, row_of(place, shown))
        _send_content(send, fd)
    finally:
        os.close(fd)
    return []


def _send_content(send: Send, fd: int) -> None:
    """Data and holes; FINISH only when all was read."""
    size, at = os.fstat(fd).st_size, 0
    while at < size:
        start = _next(fd, at, os.SEEK_DATA, size)
        if start > at:
            send(wire.HOLE, wire.SIZE.pack(start - at))
        stop = _next(fd, start, os.SEEK_HOLE, size) if start < size else size
        at = start
        while at < stop:
            data = os.pread(fd, min(wire.PIECE, stop - at), at)
            if not data:
                return
            send(wire.DATA, data)
            at += len(data)
    send(wire.FINISH, b"")


def _next(fd: int, at: int, what: int, size: int) -> int:
    """Where data (or a hole) begins next; without the file system's help all is data."""
    try:
        return min(os.lseek(fd, at, what), size)
    except OSError as error:
        return size if error.errno == 6 or what == os.SEEK_HOLE else at


def row_of(place: bytes, name: bytes) -> bytes:
    info = os.lstat(place)
    kind = KINDS.get(st.S_IFMT(info.st_mode), b"s")
    target = os.readlink(place) if kind == b"l" else b""
    mode, size = info.st_mode & 0o7777, info.st_size if kind == b"f" else 0
    head = wire.ROW.pack(kind, mode, info.st_uid, info.st_gid, info.st_mtime_ns, size)
    return head + name + b"\0" + target


def trouble(code: bytes, path: bytes, error: OSError) -> bytes:
    return b"\0".join((code, path, (error.strerror or "failed").encode()))


def resolve(known: Volumes, path: bytes) -> tuple[bytes, bytes]:
    """(folder of the volume, path in it): links on the way followed. TroubleError."""
    volume, _, rest = path.partition(b"/")
    root = known.mount(volume.decode(errors="replace")).encode()
    left, at, hops = rest.split(b"/")[::-1], b"", 0
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            at = at.rpartition(b"/")[0]
            continue
        here = os.path.join(at, name)
        try:
            info = os.lstat(os.path.join(root, here))
        except OSError as error:
            raise TroubleError(b"PathNotFound", path + b" is not in the volume") from error
        if st.S_ISLNK(info.st_mode) and left:
            hops += 1
            if hops > MAX_LINKS:
                raise TroubleError(b"PathNotFound", path + b" leads through too many links")
            target = os.readlink(os.path.join(root, here))
            left += target.split(b"/")[::-1]
            at = b"" if target.startswith(b"/") else at
            continue
        at = here
    return root, at
