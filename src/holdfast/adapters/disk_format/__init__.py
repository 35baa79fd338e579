"""Restored disks as files: raw ones are written here, the others by ``qemu-img``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from holdfast.adapters.disk_format.partial import PartialFile
from holdfast.adapters.disk_format.qemu_img import convert
from holdfast.adapters.disk_format.raw import copy_disk
from holdfast.ports.block_device import BlockSource
from holdfast.ports.disk_format import DiskFormat, Progress


class SystemDiskFiles:
    """The ``DiskFiles`` of this machine."""

    def write(
        self,
        source: BlockSource,
        target: Path,
        kind: DiskFormat,
        *,
        progress: Progress = lambda done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        with PartialFile(target) as partial:
            if kind is DiskFormat.RAW:
                copy_disk(source, partial, progress, cancelled)
            else:
                convert(source, partial.path, partial.target, kind, progress, cancelled)
            partial.publish()
