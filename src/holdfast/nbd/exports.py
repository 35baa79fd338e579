"""What a server serves: disks to read, found by name."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from holdfast.errors import ConflictError, InternalError, NotFoundError, UsageError
from holdfast.nbd import wire
from holdfast.ports.block_device import Extent, ExtentKind


class BlockReader(Protocol):
    """A disk to serve; every ``BlockSource`` is one. Called from several threads at once. What
    it raises becomes the error of the request, and the connection goes on."""

    @property
    def size(self) -> int: ...

    def extents(self, offset: int, length: int) -> Iterator[Extent]: ...

    def read_into(self, offset: int, view: memoryview) -> None: ...


@dataclass(frozen=True, slots=True)
class Export:
    """A disk under its name. ``description`` is shown to clients that ask."""

    name: str
    reader: BlockReader
    size: int
    description: str = ""


class ExportTable:
    """The exports of a server, added and removed while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._exports: dict[str, Export] = {}

    def add(self, name: str, reader: BlockReader, description: str) -> None:
        """UsageError (InvalidExportName), ConflictError (ExportExists)."""
        export = Export(name, reader, reader.size, description)
        if len(name.encode(errors="replace")) > wire.MAX_NAME or not name.isprintable():
            raise UsageError(
                f"{name[:80]!r} cannot name a disk that is served over the network",
                code="InvalidExportName",
                hint=f"use at most {wire.MAX_NAME:,} bytes of printable text",
            )
        with self._lock:
            if name in self._exports:
                raise ConflictError(
                    f"a disk is served as '{name}' already",
                    code="ExportExists",
                    hint="stop serving it first, or choose another name",
                )
            self._exports[name] = export

    def remove(self, name: str) -> Export:
        """NotFoundError (ExportNotFound)."""
        with self._lock:
            export = self._exports.pop(name, None)
        if export is None:
            raise NotFoundError(
                f"no disk is served as '{name}'", code="ExportNotFound", hint="check the name"
            )
        return export

    def find(self, name: str) -> Export | None:
        """Compared in constant time: on a port the name may be what keeps others out."""
        wanted, found = name.encode(), None
        for export in self.all():
            if hmac.compare_digest(export.name.encode(), wanted):
                found = export
        return found

    def all(self) -> list[Export]:
        with self._lock:
            return list(self._exports.values())


def runs_of(export: Export, offset: int, length: int) -> Iterator[Extent]:
    """The reader's extents, checked: they cover the range in order. InternalError if not."""
    at, end = offset, offset + length
    for extent in export.reader.extents(offset, length):
        if extent.offset != at or not 0 < extent.length <= end - at:
            raise InternalError(f"the disk '{export.name}' tells its extents out of order")
        yield extent
        at = extent.end
    if at != end:
        raise InternalError(f"the disk '{export.name}' tells too few extents")


def state_of(kind: ExtentKind) -> int:
    """The flags of base:allocation."""
    if kind is ExtentKind.DATA:
        return 0
    return wire.STATE_ZERO | (wire.STATE_HOLE if kind is ExtentKind.UNALLOCATED else 0)
