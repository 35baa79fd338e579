"""Which snapshot adapter serves an item."""

from __future__ import annotations

from pathlib import Path

from holdfast.adapters.volume_snapshot.btrfs import BtrfsSnapshots
from holdfast.adapters.volume_snapshot.none import NoSnapshots
from holdfast.ports.volume_snapshot import VolumeSnapshots


def snapshot_adapters(state: Path) -> list[VolumeSnapshots]:
    """In the order they are asked. ``state``: a folder where adapters note what they took."""
    return [BtrfsSnapshots(state), NoSnapshots()]
