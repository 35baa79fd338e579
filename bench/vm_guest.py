"""The guest of the VM benchmark: a disk of a given size with data on it, and changes of 1 %.

The disk holds one ext4 file system with files of 64 MiB, half of them random bytes, half with four
bits of information a byte, as if half of a machine could be compressed. The guest itself writes the
changes, so what its file system does beside them counts.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from holdfast.testing.guest import GuestDisk, GuestFiles, GuestMachine

FILE_BYTES = 64 << 20
PIECE = 64 << 10
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def build_image(path: Path, size: int, data: int) -> None:
    """A qcow2 with a file system of ``size`` and files of ``data`` bytes; kept when it is there."""
    if path.exists():
        return
    tree, raw = path.with_suffix(".tree"), path.with_suffix(".raw")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(data // FILE_BYTES):
        content = rng.integers(0, 256, FILE_BYTES, np.uint8)
        if number % 2:
            content &= 0x0F
        (tree / f"data-{number}").write_bytes(content.tobytes())
    with raw.open("wb") as out:
        out.truncate(size)
    _run("mkfs.ext4", "-q", "-F", "-d", str(tree), str(raw))
    part = path.with_suffix(".part")
    _run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(part))
    part.replace(path)
    raw.unlink()
    shutil.rmtree(tree)


def change_script(data: int, seed: int, *, sequential: bool) -> str:
    """Shell lines that overwrite 1 % of the data: random pieces of 64 KiB, or one run of it."""
    files, pieces = data // FILE_BYTES, data // 100 // PIECE
    rng = random.Random(seed)
    if sequential:
        name, skip = rng.randrange(files), rng.randrange(max(1, FILE_BYTES // PIECE - pieces))
        return f"{_write(f'/mnt/a/data-{name}', str(skip), pieces)}; sync"
    places = rng.sample(range(data // PIECE), pieces)
    per = FILE_BYTES // PIECE
    words = " ".join(f"{place // per}:{place % per}" for place in places)
    write = _write("/mnt/a/data-${p%:*}", "${p#*:}", 1)
    return f"for p in {words}; do {write}; done; sync"


def _write(name: str, skip: str, count: int) -> str:
    return f"dd if=/dev/urandom of={name} bs=64k count={count} seek={skip} conv=notrunc 2>/dev/null"


class BenchGuest(GuestMachine):
    """A booted guest with one disk."""

    @property
    def image(self) -> Path:
        return self.disks[0].path

    @contextmanager
    def paused(self) -> Iterator[None]:
        """With its image on the host complete and at rest."""
        was = self.status
        self.control("stop")
        try:
            yield
        finally:
            if was == "running":
                self.control("cont")

    def change(self, script: str) -> None:
        self.shell(script, seconds=600)

    def dirty_bytes(self) -> int:
        """What the record of changes holds now, by QEMU's count."""
        nodes = self.control("query-named-block-nodes", flat=True)
        return sum(int(one["count"]) for node in nodes for one in node.get("dirty-bitmaps", ()))

    def read_bytes(self) -> int:
        """What the QEMU process has read so far, by the kernel's count."""
        words = dict(
            line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines()
        )
        return int(words["rchar"])


def boot(folder: Path, base: Path, files: GuestFiles) -> BenchGuest:
    """A guest with a copy of ``base``; ``folder`` has a short path."""
    image = folder / "disk.qcow2"
    shutil.copyfile(base, image)
    guest = BenchGuest(folder, [GuestDisk(image)], name="bench")
    guest.boot(files)
    guest.shell("ls /mnt/a/data-0; sync")
    return guest


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": SEARCH})
