"""Source snapshots: a still picture of a volume to read from while the original changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """A snapshot to read. ``base``: where "/" is to be read from (no leading slash; empty for the
    live file system). ``consistency`` and ``reason`` are recorded on the recovery point."""

    base: bytes
    consistency: str
    reason: str


class VolumeSnapshots(Protocol):
    """Takes and removes snapshots. An adapter that cannot serve the paths says None, and another
    one is asked; the adapter ``none`` serves everything."""

    def take(self, paths: tuple[bytes, ...]) -> SourceSnapshot | None:
        """A snapshot that covers all include paths (no leading slashes), or None. Raises
        SourceError (SnapshotFailed) when the volume has snapshots but taking one failed."""
        ...

    def release(self, snapshot: SourceSnapshot) -> None:
        """Remove the snapshot; idempotent."""
        ...

    def remove_leftovers(self) -> int:
        """Remove snapshots an interrupted run left; how many."""
        ...
