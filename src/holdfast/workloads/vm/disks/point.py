"""What a recovery point of a machine holds: its disks and its description."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

from holdfast.errors import IntegrityError, NotFoundError
from holdfast.ports.object_store import Buffer
from holdfast.vaultstore.manifest_disk import DiskMap, open_disk_map
from holdfast.vaultstore.manifest_stream import read_stream
from holdfast.vaultstore.root import Root, Stream, decode_root
from holdfast.workloads.files.restore_fetch import ChunkSource
from holdfast.workloads.vm.disks.values import MACHINE_STREAM, MAX_MACHINE_BYTES, OS_DISK_LUN


@dataclass(frozen=True, slots=True)
class DiskEntry:
    """A disk as the point has it. Sizes in bytes; ``token``: of the point in time it is of."""

    lun: int
    size: int
    data_bytes: int
    sector_bytes: int
    identity: str
    token: str = ""


def is_machine(root: Root) -> bool:
    """Whether a point is one of a machine's disks."""
    return any(stream.kind == "disk-map" for stream in root.streams)


class MachinePoint:
    """One point, through chunks somebody verifies. Thread safe; a map of it is one caller's."""

    def __init__(self, source: ChunkSource) -> None:
        """IntegrityError (ManifestDamaged) when the point holds no disk."""
        self.source = source
        self._lock = threading.Lock()
        self.root = decode_root(source.pages([source.root_id])[0])
        self._streams: dict[int, Stream] = {}
        for stream in self.root.streams:
            lun = stream.parameters.get("lun")
            if stream.kind == "disk-map" and isinstance(lun, int) and lun >= OS_DISK_LUN:
                self._streams.setdefault(lun, stream)
        if not self._streams:
            raise IntegrityError("the recovery point holds no disk", code="ManifestDamaged")

    @property
    def disks(self) -> list[DiskEntry]:
        """By number. IntegrityError (ManifestDamaged)."""
        return [self._entry(lun) for lun in sorted(self._streams)]

    def _entry(self, lun: int) -> DiskEntry:
        stream = self._streams[lun]
        sector = stream.parameters.get("sector_bytes")
        return DiskEntry(
            lun=lun,
            size=self.open(lun).geometry.size,
            data_bytes=stream.logical_bytes,
            sector_bytes=sector if isinstance(sector, int) else 512,
            identity=str(stream.parameters.get("identity", "")),
            token=str(stream.parameters.get("token", "")),
        )

    def open(self, lun: int) -> DiskMap:
        """The map of a disk, its pages read when asked for. NotFoundError (DiskNotFound),
        IntegrityError."""
        stream = self._streams.get(lun)
        if stream is None:
            raise NotFoundError(
                f"the recovery point has no disk {lun}",
                code="DiskNotFound",
                hint=f"it has {', '.join(str(one) for one in sorted(self._streams))}",
            )
        return open_disk_map(stream, self._page)

    def _page(self, page_id: bytes) -> Buffer:
        with self._lock:
            return self.source.page(page_id)

    def description(self) -> bytes:
        """The machine's description, JSON as it was stored; b"" when there is none.
        IntegrityError."""
        for stream in self.root.streams:
            if stream.name == MACHINE_STREAM:
                return read_stream(stream, self.source.pages, MAX_MACHINE_BYTES)
        return b""

    def machine(self) -> dict[str, Any]:
        """The description, read. IntegrityError (ManifestDamaged)."""
        try:
            found = json.loads(self.description() or b"{}")
        except (ValueError, RecursionError) as error:
            raise _no_description() from error
        if not isinstance(found, dict):
            raise _no_description()
        return found


def _no_description() -> IntegrityError:
    return IntegrityError("the machine's description is damaged", code="ManifestDamaged")
