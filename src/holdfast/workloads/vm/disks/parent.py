"""The point before, read by its pages through the backup's own session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from holdfast.errors import AccessError, HoldfastError, IntegrityError, NotFoundError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.grant import ParentPoint
from holdfast.vaultstore.manifest_disk import DiskMap, open_disk_map
from holdfast.vaultstore.root import Stream, decode_root
from holdfast.workloads.files.restore_fetch import ChunkFetcher
from holdfast.workloads.transport import RestoreTransport
from holdfast.workloads.vm.disks.values import DisksTransport

T = TypeVar("T")


class ParentUnreadableError(IntegrityError):
    """The point before cannot be read: the disks are read whole instead."""

    code = "ParentUnreadable"


class ParentDisk(NamedTuple):
    """A disk of the point before: what a source needs to know to tell its changes since then."""

    lun: int
    identity: str
    token: str
    size: int
    grid_exponent: int


def parent_disks(transport: DisksTransport) -> list[ParentDisk]:
    """The disks of this session's parent point; none when there is no parent, or it cannot be
    read (which the backup will say)."""
    point = transport.grant.parent
    if point is None:
        return []
    try:
        streams = Parent(transport, point).disks
        return [
            ParentDisk(
                lun=int(stream.parameters["lun"]),
                identity=str(stream.parameters.get("identity", "")),
                token=str(stream.parameters.get("token", "")),
                size=int(stream.parameters["size"]),
                grid_exponent=int(stream.parameters["grid_exponent"]),
            )
            for stream in streams
        ]
    except (ParentUnreadableError, KeyError, TypeError, ValueError):
        return []


class Parent:
    """Disks of the point before. Thread safe; a map is one caller's."""

    def __init__(self, transport: RestoreTransport, point: ParentPoint) -> None:
        """ParentUnreadableError."""
        self.rp_id = point.rp_id
        self._fetcher = ChunkFetcher(transport)
        with readable():
            root = decode_root(self._fetcher.pages([point.root_id])[0])
        self.disks = [stream for stream in root.streams if stream.kind == "disk-map"]

    def find(self, lun: int, identity: str) -> Stream | None:
        """The same disk: by identity, or the one with its number."""
        for stream in self.disks:
            if identity and stream.parameters.get("identity") == identity:
                return stream
        for stream in self.disks:
            if stream.parameters.get("lun") == lun:
                return stream
        return None

    def open(self, stream: Stream) -> DiskMap:
        """A map whose reads raise ParentUnreadableError."""
        with readable():
            return open_disk_map(stream, self._page)

    def _page(self, page_id: bytes) -> Buffer:
        return self._fetcher.pages([page_id])[0]


@contextmanager
def readable() -> Iterator[None]:
    """Says of damage met inside that it is the parent's."""
    try:
        yield
    except (IntegrityError, NotFoundError, AccessError) as error:
        raise ParentUnreadableError(_why(error)) from error


def from_parent(read: Callable[[], T]) -> T:
    """What ``read`` reads of the parent. ParentUnreadableError."""
    with readable():
        return read()


def _why(error: HoldfastError) -> str:
    return f"the recovery point before cannot be read ({error.message})"
