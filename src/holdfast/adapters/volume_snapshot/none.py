"""No snapshot: files are read live, and the recovery point says so."""

from __future__ import annotations

from holdfast.ports.volume_snapshot import SourceSnapshot


class NoSnapshots:
    """Serves everything."""

    def take(self, paths: tuple[bytes, ...]) -> SourceSnapshot | None:
        return SourceSnapshot(
            b"", "CrashConsistent", "files were read live, without a volume snapshot"
        )

    def release(self, snapshot: SourceSnapshot) -> None:
        """Nothing to remove."""

    def remove_leftovers(self) -> int:
        return 0
