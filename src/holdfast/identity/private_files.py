"""Private files and folders: never half, never readable by others."""

from __future__ import annotations

from pathlib import Path

from holdfast.files import PRIVATE, write_whole

__all__ = ["PRIVATE", "PUBLIC", "make_folder", "write_whole"]
PUBLIC = 0o644


def make_folder(path: Path) -> None:
    """A folder only its owner may enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
