"""Files of a machine's disks, whatever the file systems in them are.

Paths are bytes and begin with the name of a volume (``osdisk-p1/etc/hosts``); there is no slash at
their beginning or end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from holdfast.ports.block_device import BlockSource


class FileKind(Enum):
    """OTHER: sockets, and what nobody knows."""

    FILE = "file"
    FOLDER = "directory"
    LINK = "symlink"
    FIFO = "fifo"
    DEVICE = "device"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Volume:
    """``problem``: (code, message) why its files cannot be read, empty when that can be tried."""

    name: bytes
    file_system: str
    label: bytes
    size: int
    problem: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """``path``: the name in a list, the whole path in what is read. ``size`` of files only."""

    path: bytes
    kind: FileKind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    link_target: bytes = b""


@dataclass(frozen=True, slots=True)
class Hole:
    """So many zero bytes of the file that was last."""

    length: int


class Finish(Enum):
    """The file that was last is complete."""

    FILE = "file"


@dataclass(frozen=True, slots=True)
class Problem:
    """Of one path; the rest goes on."""

    code: str
    path: bytes
    message: str


Piece = FoundFile | bytes | Hole | Finish | Problem


class PointFiles(Protocol):
    """Disks that are open for looking. Not thread safe. SourceError (ApplianceSilent,
    ApplianceLost, ApplianceConfused), CancelledError."""

    def volumes(self) -> list[Volume]: ...

    def list(self, path: bytes, after: bytes, limit: int) -> tuple[list[FoundFile], bool]:
        """Rows of a folder by name, and whether there are more. NotFoundError (PathNotFound),
        SourceError (VolumeEncrypted, FileSystemUnknown, FileSystemUnreadable)."""
        ...

    def read(self, paths: Sequence[bytes]) -> Iterator[Piece]:
        """The paths and all below them, folders before what is in them; of a file its row, then
        its content, then ``Finish``."""
        ...


class FileLooker(Protocol):
    """Opens disks for looking."""

    def open(
        self, disks: Mapping[str, BlockSource], stopped: Callable[[], bool] = lambda: False
    ) -> AbstractContextManager[PointFiles]:
        """``disks`` by the names their volumes get. SourceError (ApplianceUnavailable, ...)."""
        ...
