"""Restored disks as files: raw and qcow2 are written here, the others by ``qemu-img``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.adapters.disk_format.partial import PartialFile
from holdfast.adapters.disk_format.qcow2 import Qcow2File
from holdfast.adapters.disk_format.qemu_img import check_size, convert
from holdfast.adapters.disk_format.raw import RawFile, copy_disk
from holdfast.ports.block_device import BlockSource, BlockTarget
from holdfast.ports.disk_format import DiskFormat, Progress

OURS: dict[DiskFormat, Callable[[int, int, Path], BlockTarget]] = {
    DiskFormat.RAW: RawFile,
    DiskFormat.QCOW2: Qcow2File,
}


class SystemDiskFiles:
    """The ``DiskFiles`` of this machine."""

    def takes_blocks(self, kind: DiskFormat) -> bool:
        return kind in OURS

    @contextmanager
    def create(self, target: Path, kind: DiskFormat, size: int) -> Iterator[BlockTarget]:
        check_size(size, kind)
        with PartialFile(target) as partial:
            made = OURS[kind](partial.fd, size, partial.target)
            yield made
            partial.publish()

    def write(
        self,
        source: BlockSource,
        target: Path,
        kind: DiskFormat,
        *,
        progress: Progress = lambda done, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        if kind in OURS:
            with self.create(target, kind, source.size) as made:
                copy_disk(source, made, progress, cancelled)
            return
        with PartialFile(target) as partial:
            convert(source, partial.path, partial.target, kind, progress, cancelled)
            partial.publish()
