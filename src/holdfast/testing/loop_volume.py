"""A btrfs volume on a loop device, for tests. Needs root and btrfs-progs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VOLUME_BYTES = 200 * 1024 * 1024


def run(*words: str) -> bool:
    """Whether a program ended well."""
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def btrfs_missing() -> str:
    """Why there can be no volume here; empty when there can."""
    if os.geteuid() != 0 or shutil.which("mkfs.btrfs") is None:
        return "needs root and btrfs-progs: a loop device is formatted and mounted"
    if "btrfs" not in Path("/proc/filesystems").read_text() and not run("modprobe", "btrfs"):
        return "this kernel knows no btrfs"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    return ""


@contextmanager
def btrfs_volume(folder: Path) -> Iterator[Path]:
    """A new volume mounted at ``folder/volume``; unmounted at the end. AssertionError when it
    cannot be made."""
    image, where = folder / "volume.img", folder / "volume"
    with image.open("wb") as out:
        out.truncate(VOLUME_BYTES)
    where.mkdir()
    assert run("mkfs.btrfs", "-q", str(image)), "the image was not formatted"
    assert run("mount", "-o", "loop", str(image), str(where)), "the image was not mounted"
    try:
        yield where
    finally:
        run("umount", str(where))
