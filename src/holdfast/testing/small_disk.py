"""A file system that is full soon: a tmpfs whose size a test chooses and changes. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A mounted tmpfs. ``size``: as mount takes it, such as "4m"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: str) -> None:
        """CalledProcessError when what is on it takes more."""
        _mount("-o", f"remount,size={size}", self.folder)

    def free(self) -> int:
        """Bytes that still fit."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int) -> Path:
        """A file that leaves about ``leave`` bytes free; remove it to make room."""
        ballast = self.folder / "ballast"
        with ballast.open("wb") as out:
            os.posix_fallocate(out.fileno(), 0, self.free() - leave)
        return ballast


def can_mount() -> bool:
    return os.geteuid() == 0


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """Mounted at ``folder`` (made when missing); unmounted at the end."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)
