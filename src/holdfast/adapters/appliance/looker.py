"""Keeps ``FileLooker``: the disks served to an appliance that runs as long as they are open."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from holdfast.adapters.appliance.channel import CODES, Channel, confused
from holdfast.adapters.appliance.image import ApplianceImage, build_image
from holdfast.adapters.appliance.inside import wire
from holdfast.adapters.appliance.machine import ApplianceMachine, ServedDisk
from holdfast.errors import SourceError
from holdfast.nbd.server import NbdServer
from holdfast.ports.block_device import BlockSource
from holdfast.ports.point_files import (
    FileKind,
    Finish,
    FoundFile,
    Hole,
    Piece,
    Problem,
    Volume,
)

log = logging.getLogger("holdfast.appliance")
SILENCE_SECONDS = 60.0
MAX_VOLUMES = 1000
MAX_QUESTION = wire.MAX_REQUEST - 1024
MAX_LINK = 4096  # as long as Linux takes a path to be
MAX_PATH, MAX_TEXT = MAX_LINK + 255, 1000
KINDS = {
    b"f": FileKind.FILE,
    b"d": FileKind.FOLDER,
    b"l": FileKind.LINK,
    b"p": FileKind.FIFO,
    b"c": FileKind.DEVICE,
    b"b": FileKind.DEVICE,
}


class ApplianceLooker:
    """``cache``: where the appliance is kept, and built when it is not there."""

    def __init__(self, cache: Path, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._cache = cache
        self._silence = silence_seconds

    @contextmanager
    def open(
        self, disks: Mapping[str, BlockSource], stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[AppliancePoint]:
        image = build_image(self._cache)
        with ExitStack() as ending:
            server = ending.enter_context(NbdServer())
            machine = _start(image, server, disks)
            ending.callback(machine.close)
            point = AppliancePoint(machine, Channel(machine.port, self._silence, stopped))
            try:
                point.greet()
                yield point
            except SourceError as error:
                if error.code in ("ApplianceLost", "ApplianceSilent", "ApplianceConfused"):
                    log.warning(
                        "the appliance: %s; its last words: %s", error, machine.last_words()
                    )
                raise


def _start(
    image: ApplianceImage, server: NbdServer, disks: Mapping[str, BlockSource]
) -> ApplianceMachine:
    """Each disk over a connection of its own, so that nobody else can come to it."""
    pairs = {name: socket.socketpair() for name in disks}
    try:
        served = [ServedDisk(name, name, disk.size, pairs[name][1]) for name, disk in disks.items()]
        machine = ApplianceMachine(image, served)
        for name, (ours, _) in pairs.items():
            server.add(name, disks[name])
            server.accept(ours, listed=False)
        return machine
    except BaseException:
        for ours, _ in pairs.values():
            ours.close()
        raise
    finally:
        for _, theirs in pairs.values():
            theirs.close()


class AskedPoint:
    """See ``PointFiles``. Whoever answers is at the other end of ``channel``."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def greet(self) -> None:
        self._channel.greet()

    def volumes(self) -> list[Volume]:
        found: list[Volume] = []
        for kind, payload in self._channel.ask(b"volumes", short=True):
            if kind == wire.VOLUME and len(found) < MAX_VOLUMES:
                found.append(_volume(payload))
        return found

    def list(self, path: bytes, after: bytes, limit: int) -> tuple[list[FoundFile], bool]:
        rows: list[FoundFile] = []
        more = False
        for kind, payload in self._channel.ask(b"list", path, after, b"%d" % limit, short=True):
            if kind == wire.ENTRY:
                if len(rows) >= limit:
                    raise confused("a list is longer than was asked")
                rows.append(_row(payload))
            more = payload == b"more" if kind == wire.END else more
        return rows, more

    def read(self, paths: Sequence[bytes]) -> Iterator[Piece]:
        for some in _batches(paths):
            for kind, payload in self._channel.ask(b"read", *some):
                if kind != wire.END:
                    yield _piece(kind, payload)


class AppliancePoint(AskedPoint):
    """Answered by the appliance ``machine``."""

    def __init__(self, machine: ApplianceMachine, channel: Channel) -> None:
        super().__init__(channel)
        self.machine = machine


def _batches(paths: Sequence[bytes]) -> Iterator[list[bytes]]:
    """As many paths as one question has room for."""
    some: list[bytes] = []
    room = MAX_QUESTION
    for path in paths:
        if some and len(path) >= room:
            yield some
            some, room = [], MAX_QUESTION
        some.append(path)
        room -= len(path) + 1
    yield some


def _piece(kind: bytes, payload: bytes) -> Piece:
    match kind:
        case wire.DATA:
            return payload
        case wire.HOLE:
            return Hole(_number(payload))
        case wire.ENTRY:
            return _row(payload)
        case wire.FINISH:
            return Finish.FILE
        case wire.PROBLEM:
            return _problem(payload)
    raise confused(f"it says {kind!r} where files are read")


def _volume(payload: bytes) -> Volume:
    fields = payload.split(b"\0")
    if len(fields) != 6 or not fields[3].isdigit() or len(fields[3]) > 18:
        raise confused("it tells of a volume that is none")
    name, kind, label, size, code, message = fields
    known = code.decode(errors="replace") if code.decode(errors="replace") in CODES else ""
    problem = (known, message.decode(errors="replace")[:MAX_TEXT]) if known else ("", "")
    return Volume(name[:255], kind.decode(errors="replace")[:20], label[:255], int(size), problem)


def _row(payload: bytes) -> FoundFile:
    names = payload[wire.ROW.size :].split(b"\0")
    if len(payload) < wire.ROW.size or len(names) != 2:
        raise confused("it tells of a file that is none")
    if len(names[0]) > MAX_PATH or len(names[1]) > MAX_LINK:
        raise confused("a path is longer than any can be")
    kind, mode, uid, gid, mtime_ns, size = wire.ROW.unpack_from(payload)
    if size >= 1 << 63 or not names[0]:
        raise confused("it tells of a file that is none")
    found = KINDS.get(kind, FileKind.OTHER)
    return FoundFile(names[0], found, mode & 0o7777, uid, gid, mtime_ns, size, names[1])


def _number(payload: bytes) -> int:
    if len(payload) != wire.SIZE.size:
        raise confused("a hole has no length")
    return int(wire.SIZE.unpack(payload)[0])


def _problem(payload: bytes) -> Problem:
    fields = payload.split(b"\0")
    if len(fields) != 3:
        raise confused("a problem is told of nothing")
    code = fields[0].decode(errors="replace")
    message = fields[2].decode(errors="replace")[:MAX_TEXT]
    return Problem(code if code in CODES else "FileUnreadable", fields[1][:MAX_PATH], message)
