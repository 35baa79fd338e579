"""Volumes of btrfs and XFS on a loop device, for tests. They need root and mkfs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

MIB = 1024 * 1024
VOLUME_BYTES = {"btrfs": 200 * MIB, "xfs": 400 * MIB}


def run(*words: str) -> bool:
    """Whether a program ended well."""
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def btrfs_missing() -> str:
    """Why there can be no btrfs volume here; empty when there can."""
    return volume_missing("btrfs")


def volume_missing(kind: str) -> str:
    """Why there can be no volume of a kind (btrfs or xfs) here; empty when there can."""
    if os.geteuid() != 0 or shutil.which(f"mkfs.{kind}") is None:
        return f"needs root and mkfs.{kind}: a loop device is formatted and mounted"
    if kind not in Path("/proc/filesystems").read_text() and not run("modprobe", kind):
        return f"this kernel knows no {kind}"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    return ""


def btrfs_volume(folder: Path) -> AbstractContextManager[Path]:
    """As ``volume``."""
    return volume(folder, "btrfs")


@contextmanager
def volume(folder: Path, kind: str, megabytes: int = 0) -> Iterator[Path]:
    """A new volume of that size, or a small one, mounted at ``folder/volume``, which lets files
    share their blocks; unmounted at the end. AssertionError when it cannot be made."""
    image, where = folder / "volume.img", folder / "volume"
    with image.open("wb") as out:
        out.truncate(megabytes * MIB or VOLUME_BYTES[kind])
    where.mkdir()
    assert run(f"mkfs.{kind}", "-q", str(image)), "the image was not formatted"
    assert run("mount", "-o", "loop", str(image), str(where)), "the image was not mounted"
    try:
        yield where
    finally:
        if not run("umount", str(where)):
            run("umount", "--lazy", str(where))  # somebody holds a file: no volume is left behind
