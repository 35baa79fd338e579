"""Disks of recovery points as files a hypervisor opens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import Protocol

from holdfast.ports.block_device import BlockSource, BlockTarget


class DiskFormat(Enum):
    """Formats a disk can be restored to; the value is the file name's ending."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VHD = "vhd"
    VHDX = "vhdx"


Progress = Callable[[int, int], None]  # bytes of the disk that are done, and in all


class DiskFiles(Protocol):
    """Writes whole disks. Thread safe."""

    def takes_blocks(self, kind: DiskFormat) -> bool:
        """Whether ``create`` makes this format."""
        ...

    def create(
        self, target: Path, kind: DiskFormat, size: int
    ) -> AbstractContextManager[BlockTarget]:
        """A disk of ``size`` bytes of zeros to write to, and to flush. Leaving the ``with`` in
        peace makes ``target`` be there, whole and durable; an error leaves nothing. Raises as
        ``write``."""
        ...

    def write(
        self,
        source: BlockSource,
        target: Path,
        kind: DiskFormat,
        *,
        progress: Progress = lambda done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make ``target`` hold ``source``: whole and durable on return, and until then not there
        (what is written lies beside it). Zeros take no room. ``source`` is read by several threads.

        Raises ConflictError (TargetExists) when ``target`` is there: nothing is overwritten;
        TargetError (TargetFull, TargetUnavailable, DiskNotHeld, DiskTooLarge, DiskSizeUneven,
        FormatUnavailable); what ``source`` raises; CancelledError soon after ``cancelled`` says so.
        Nothing is left then.
        """
        ...
