"""Disk images for the test guest, and reading them back by a road of their own (qemu-img)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SIZE = 64 * 1024 * 1024
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def make_disk(path: Path, *, size: int = SIZE, image: str = "qcow2", label: str = "") -> Path:
    """An image with an ext4 file system over the whole disk. ``image``: qcow2 or raw."""
    raw = path.with_name(path.name + ".making")
    with raw.open("wb") as out:
        out.truncate(size)
    options = ("-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=0", "-L", label or path.stem)
    _run("mkfs.ext4", *options, str(raw))
    if image == "raw":
        raw.replace(path)
        return path
    _run("qemu-img", "convert", "-f", "raw", "-O", image, str(raw), str(path))
    raw.unlink()
    return path


def flatten(path: Path, to: Path, *, image: str = "qcow2", in_use: bool = False) -> Path:
    """The disk's bytes as a raw file. ``in_use``: read it although a (stopped) machine has it."""
    share = ("-U",) if in_use else ()
    _run("qemu-img", "convert", *share, "-f", image, "-O", "raw", str(path), str(to))
    return to


def _run(*words: str) -> None:
    environment = {**os.environ, "PATH": SEARCH}
    subprocess.run(words, check=True, capture_output=True, env=environment, timeout=120)
