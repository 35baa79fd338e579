"""The process: disks come over a socket, and answers go there, in the appliance's own words.

A block that is needed is asked for with a frame NEED, which the host answers with so many bytes.
The process gives everything else up before the first one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from holdfast.adapters.appliance.inside import wire
from holdfast.adapters.appliance.inside.volumes import (
    HEAD_BYTES,
    SMALLEST,
    TroubleError,
    kind_of,
    packed,
)
from holdfast.adapters.appliance.quick import ext
from holdfast.adapters.appliance.quick.partitions import OddTableError, Span, find_partitions
from holdfast.adapters.appliance.quick.sandbox import SandboxError, shut_in
from holdfast.adapters.appliance.quick.words import MAX_READ, NEED, NEEDED, NOT_HERE

MAX_LINKS, MAX_TARGET = 40, 4096
IN_NODE = 60  # a link of fewer bytes is kept in the node itself
ZEROS = bytes(wire.PIECE)
Send = Callable[[bytes, bytes], None]


class Host:
    """The socket ``fd``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def request(self) -> list[bytes]:
        (length,) = wire.LENGTH.unpack(self.exactly(wire.LENGTH.size))
        return self.exactly(length).split(b"\0")

    def exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            piece = os.read(self._fd, count - len(found))
            if not piece:
                os._exit(0)
            found += piece
        return bytes(found)

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        data = memoryview(wire.HEAD.pack(kind, len(payload)) + payload)
        while data:
            data = data[os.write(self._fd, data) :]


class Disk:
    """Number ``number`` of those the host serves."""

    def __init__(self, host: Host, number: int, size: int) -> None:
        self._host, self._number, self.size = host, number, size

    def read(self, offset: int, length: int) -> bytes:
        """Less at the end of the disk."""
        found = bytearray()
        end = min(offset + length, self.size)
        while offset < end:
            count = min(MAX_READ, end - offset)
            self._host.send(NEED, NEEDED.pack(self._number, offset, count))
            found += self._host.exactly(count)
            offset += count
        return bytes(found)


class Volume:
    """A partition, or a whole disk, and what it begins with."""

    def __init__(self, name: str, disk: Disk, span: Span) -> None:
        self.name, self.disk, self.span = name, disk, span
        self.head = disk.read(span.offset, min(HEAD_BYTES, span.size))
        self.kind = kind_of(self.head)

    def packed(self) -> bytes:
        return packed(self.name, self.kind, self.head, self.span.size)


class Volumes:
    def __init__(self, tsk: Any, disks: dict[str, Disk]) -> None:
        self._tsk, self._disks = tsk, disks
        self._known: dict[str, Volume] | None = None
        self._trees: dict[str, Any] = {}

    def every(self) -> dict[str, Volume]:
        """By name. TroubleError when a disk's table is odd."""
        if self._known is None:
            self._known = {one.name: one for one in self._found()}
        return self._known

    def _found(self) -> Iterator[Volume]:
        for name, disk in self._disks.items():
            try:
                spans = find_partitions(disk.read, disk.size)
            except OddTableError as error:
                raise TroubleError(NOT_HERE, str(error).encode()) from error
            whole = Volume(name, disk, Span(0, 0, disk.size))
            if spans[0].number and whole.kind:
                raise TroubleError(NOT_HERE, b"a disk begins as a file system and as a table")
            for span in spans:
                yield Volume(f"{name}-p{span.number}", disk, span) if span.number else whole

    def tree(self, name: bytes) -> Any:
        """The file system of a volume. TroubleError: it is left to the appliance."""
        volume = self.every().get(name.decode(errors="replace"))
        if volume is None or volume.kind != "ext4":
            raise TroubleError(NOT_HERE, name)
        if why := ext.unsure(volume.head[ext.BEGIN : ext.BEGIN + ext.LENGTH]):
            raise TroubleError(NOT_HERE, why.encode())
        if volume.name not in self._trees:
            kind = self._tsk.TSK_FS_TYPE_EXT_DETECT
            self._trees[volume.name] = self._tsk.FS_Info(self._image(volume), 0, kind)
        return self._trees[volume.name]

    def _image(self, volume: Volume) -> Any:
        read, start, size = volume.disk.read, volume.span.offset, volume.span.size

        tsk = self._tsk

        class Image(tsk.Img_Info):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__(url="", type=tsk.TSK_IMG_TYPE_EXTERNAL)

            def close(self) -> None: ...

            def read(self, offset: int, length: int) -> bytes:
                return read(start + offset, min(length, max(size - offset, 0)))

            def get_size(self) -> int:
                return size

        return Image()


class Node:
    """An entry of a file system. ``meta``: The Sleuth Kit's; OSError where that has none."""

    def __init__(self, tsk: Any, tree: Any, number: int) -> None:
        self._tsk, self._tree, self.number = tsk, tree, number
        self.file = tree.open_meta(inode=number)
        self.meta = self.file.info.meta
        if self.meta is None or not int(self.meta.flags) & int(tsk.TSK_FS_META_FLAG_ALLOC):
            raise OSError(5, "it is not in use")
        kinds = (
            (tsk.TSK_FS_META_TYPE_REG, b"f"),
            (tsk.TSK_FS_META_TYPE_DIR, b"d"),
            (tsk.TSK_FS_META_TYPE_LNK, b"l"),
            (tsk.TSK_FS_META_TYPE_FIFO, b"p"),
            (tsk.TSK_FS_META_TYPE_CHR, b"c"),
            (tsk.TSK_FS_META_TYPE_BLK, b"b"),
        )
        self.kind = next((word for known, word in kinds if self.meta.type == known), b"s")

    def below(self) -> dict[bytes, int]:
        """Names and numbers of what lies in a folder."""
        tsk, found = self._tsk, {}
        for entry in self.file.as_directory():
            name = entry.info.name
            deleted = not int(name.flags) & int(tsk.TSK_FS_NAME_FLAG_ALLOC)
            invented = name.type in (tsk.TSK_FS_NAME_TYPE_VIRT, tsk.TSK_FS_NAME_TYPE_VIRT_DIR)
            if name.name not in (b".", b"..") and not deleted and not invented:
                found[bytes(name.name)] = int(name.meta_addr)
        return found

    def at(self, number: int) -> Node:
        return Node(self._tsk, self._tree, number)

    def target(self) -> bytes:
        """Where a link leads."""
        if self.kind != b"l":
            return b""
        size = int(self.meta.size)
        if size < IN_NODE:
            found = self.meta.link or b""
            return found if isinstance(found, bytes) else os.fsencode(found)
        return self.content(0, min(size, MAX_TARGET))

    def content(self, offset: int, length: int) -> bytes:
        return bytes(self.file.read_random(offset, length)) if length else b""

    def row(self, name: bytes) -> bytes:
        meta = self.meta
        seconds = int(meta.mtime)
        seconds -= (1 << 32) if seconds >= 1 << 31 else 0  # signed on the disk
        size = int(meta.size) if self.kind == b"f" else 0
        mode, owner = int(meta.mode) & 0o7777, (int(meta.uid), int(meta.gid))
        when = seconds * 1_000_000_000 + int(meta.mtime_nano)
        return wire.ROW.pack(self.kind, mode, *owner, when, size) + name + b"\0" + self.target()


def resolve(tsk: Any, known: Volumes, path: bytes) -> tuple[Node, bytes]:
    """(entry, its path in the volume): links on the way followed, inside the volume. TroubleError,
    OSError."""
    volume, _, rest = path.partition(b"/")
    tree = known.tree(volume)
    way: list[tuple[bytes, Node]] = [(b"", Node(tsk, tree, int(tree.info.root_inum)))]
    left, hops = rest.split(b"/")[::-1], 0
    while left:
        name = left.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            way = way[:-1] or way
            continue
        here = way[-1][1]
        number = here.below().get(name) if here.kind == b"d" else None
        if number is None:
            raise TroubleError(b"PathNotFound", path + b" is not in the volume")
        found = here.at(number)
        if found.kind == b"l" and left:
            hops += 1
            if hops > MAX_LINKS:
                raise TroubleError(b"PathNotFound", path + b" leads through too many links")
            target = found.target()
            left += target.split(b"/")[::-1]
            way = way[:1] if target.startswith(b"/") else way
            continue
        way.append((name, found))
    return way[-1][1], b"/".join(name for name, _ in way[1:])


def list_folder(send: Send, node: Node, path: bytes, after: bytes, limit: int) -> bytes:
    """As the appliance's."""
    if node.kind != b"d":
        send(wire.ENTRY, node.row(path.rpartition(b"/")[2]))
        return b""
    below = node.below()
    names = sorted(name for name in below if name > after)
    for name in names[:limit]:
        try:
            send(wire.ENTRY, node.at(below[name]).row(name))
        except OSError as error:
            send(wire.PROBLEM, trouble(path + b"/" + name, error))
    return b"more" if len(names) > limit else b""


def read_tree(send: Send, node: Node, shown: bytes) -> None:
    """Rows and content of an entry and all below it, folders before what is in them."""
    waiting = [(shown, node.number)]
    while waiting:
        path, number = waiting.pop()
        try:
            found = node.at(number)
            send(wire.ENTRY, found.row(path))
            if found.kind == b"d":
                below = sorted(found.below().items(), reverse=True)
                waiting += [(path + b"/" + name, inner) for name, inner in below]
            elif found.kind == b"f":
                send_content(send, found)
        except OSError as error:
            send(wire.PROBLEM, trouble(path, error))


def send_content(send: Send, node: Node) -> None:
    at, size, hole = 0, int(node.meta.size), 0
    while at < size:
        data = node.content(at, min(wire.PIECE, size - at))
        if not data:
            raise OSError(5, "its content ends too early")
        at += len(data)
        if data == ZEROS[: len(data)]:
            hole += len(data)
            continue
        if hole:
            send(wire.HOLE, wire.SIZE.pack(hole))
            hole = 0
        send(wire.DATA, data)
    if hole:
        send(wire.HOLE, wire.SIZE.pack(hole))
    send(wire.FINISH, b"")


def trouble(path: bytes, error: OSError) -> bytes:
    why = (error.strerror or str(error) or "failed").encode(errors="replace")[:500]
    return b"\0".join((b"FileUnreadable", path, why.replace(b"\0", b"?")))


def answer(host: Host, tsk: Any, known: Volumes, fields: list[bytes]) -> bytes:
    """Do one request; what its END says."""
    match fields:
        case [b"volumes"]:
            return _tell_volumes(host, known)
        case [b"list", path, after, limit]:
            node, _ = resolve(tsk, known, path)
            return list_folder(host.send, node, path, after, int(limit))
        case [b"read", *paths]:
            for path in paths:  # before anything is told: the appliance does all or nothing
                known.tree(path.partition(b"/")[0])
            for path in paths:
                _read(host, tsk, known, path)
            return b""
    return NOT_HERE + b"\0unknown request"


def _tell_volumes(host: Host, known: Volumes) -> bytes:
    found = [one for one in known.every().values() if one.kind != "swap"]
    shown = [one for one in found if one.kind or one.span.size >= SMALLEST]
    if any(one.kind == "lvm" for one in shown):
        return NOT_HERE + b"\0logical volumes"
    for one in shown:
        host.send(wire.VOLUME, one.packed())
    return b""


def _read(host: Host, tsk: Any, known: Volumes, path: bytes) -> None:
    try:
        node, inner = resolve(tsk, known, path)
    except TroubleError as error:
        host.send(wire.PROBLEM, b"\0".join((error.code, path, error.message)))
        return
    volume = path.partition(b"/")[0]
    read_tree(host.send, node, volume + b"/" + inner if inner else volume)


def serve(host: Host, tsk: Any, disks: dict[str, Disk]) -> None:
    known = Volumes(tsk, disks)
    host.send(wire.READY)
    while True:
        fields = host.request()
        try:
            said = answer(host, tsk, known, fields)
        except TroubleError as error:
            said = error.code + b"\0" + error.message
        except (OSError, MemoryError) as error:  # The Sleuth Kit's own errors are of the first kind
            said = NOT_HERE + b"\0" + str(error).encode(errors="replace")[:500].replace(b"\0", b"?")
        host.send(wire.END, said)


def main() -> None:
    """Arguments: the socket's number, then name and size of each disk."""
    import pytsk3

    host, told = Host(int(sys.argv[1])), sys.argv[2:]
    pairs = zip(told[::2], told[1::2], strict=True)
    disks = {name: Disk(host, at, int(size)) for at, (name, size) in enumerate(pairs)}
    try:
        shut_in()
    except SandboxError as error:
        sys.exit(f"this process cannot be shut in: {error}")
    serve(host, pytsk3, disks)


if __name__ == "__main__":
    main()
