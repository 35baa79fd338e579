"""Raw disk images with partitions and file systems, made with Debian's tools as root, for tests of
what reads them. The host's kernel mounts them: they are made here and now."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20
SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-J", "size=4"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
    "ntfs": ("mkfs.ntfs", "-q", "-Q", "-F"),
    "vfat": ("mkfs.vfat",),
}
TOOLS = (*(words[0] for words in MAKERS.values()), "sfdisk", "losetup", "ntfs-3g", "mcopy", "lvm")
SIZES = {"ext4": 32, "xfs": 300, "btrfs": 120, "ntfs": 16, "vfat": 40}  # [MiB] that will do
Fill = Callable[[Path], object]


def missing_image_tools() -> list[str]:
    """What making images needs and this machine lacks; root is one."""
    missing = [name for name in TOOLS if shutil.which(name, path=SEARCH) is None]
    return missing if os.geteuid() == 0 else [*missing, "root"]


def partitioned(path: Path, label: str, sizes: Sequence[int]) -> Path:
    """An image with a partition table (``gpt`` or ``dos``) and partitions of so many MiB."""
    with path.open("wb") as image:
        image.truncate((sum(sizes) + 4) * MIB)
    rows = "".join(f"size={size}M\n" for size in sizes)
    run("sfdisk", "-q", str(path), said=f"label: {label}\n{rows}")
    return path


@contextmanager
def partition(path: Path, number: int | None) -> Iterator[str]:
    """A loop device over a partition, or over the whole image."""
    words = ["losetup", "-f", "--show"]
    if number is not None:
        table = json.loads(run("sfdisk", "-J", str(path)))["partitiontable"]["partitions"]
        row = table[number - 1]
        words += ["-o", str(row["start"] * 512), "--sizelimit", str(row["size"] * 512)]
    device = run(*words, str(path)).strip()
    try:
        yield device
    finally:
        run("losetup", "-d", device)


def put_files(path: Path, number: int | None, kind: str, fill: Fill, *options: str) -> None:
    """Make a file system, and have ``fill`` put files into its mounted folder."""
    with partition(path, number) as device:
        run(*MAKERS[kind], *options, device)
        if kind == "vfat":
            _fill_fat(device, fill)
            return
        with mounted(device, kind) as folder:
            fill(folder)


@contextmanager
def mounted(device: str, kind: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hf-mount-"))
    words = ("ntfs-3g",) if kind == "ntfs" else ("mount", "-t", kind)
    run(*words, device, str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))
        folder.rmdir()


def _fill_fat(device: str, fill: Fill) -> None:
    """Without the kernel, which may not know it."""
    with tempfile.TemporaryDirectory(prefix="hf-fat-") as name:
        fill(Path(name))
        for path in sorted(Path(name).iterdir()):
            run("mcopy", "-s", "-Q", "-i", device, str(path), "::/")


def run(*words: str, said: str = "") -> str:
    """What a program prints; AssertionError with its words when it fails."""
    environment = {**os.environ, "PATH": SEARCH}
    done = subprocess.run(
        words,
        input=said.encode(),
        capture_output=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, f"{words}: {done.stderr!r}"
    return done.stdout.decode()


def make_logical_volume(folder: Path, kind: str, fill: Fill) -> list[Path]:
    """Two images that hold the logical volume vg0/root together, with a file system. The host's
    kernel need not know of volume groups: the extents are written where the metadata says."""
    images = [folder / "lvm-a", folder / "lvm-b"]
    for path in images:
        with path.open("wb") as raw:
            raw.truncate(24 * MIB)
    with partition(images[0], None) as first, partition(images[1], None) as second:
        filters = f'["a|^{first}$|", "a|^{second}$|", "r|.*|"]'
        settings = f"devices{{filter={filters} use_devicesfile=0}} activation{{udev_sync=0}}"

        def lvm(*words: str) -> str:
            return run("lvm", *words, "--driverloaded", "n", "--config", settings)

        lvm("pvcreate", "-q", first, second)
        lvm("vgcreate", "-q", "-An", "vg0", first, second)
        lvm("lvcreate", "-q", "-An", "-an", "-Zn", "-Wn", "-l", "100%FREE", "-n", "root", "vg0")
        names = {first: images[0], second: images[1]}
        said = lvm("lvs", "--noheadings", "--segments", "-o", "seg_pe_ranges", "vg0/root")
        ranges = [line.strip().rsplit(":", 1) for line in said.splitlines()]
    runs = [(names[device], part.split("-")) for device, part in ranges]
    extents = [(image, int(first), int(last)) for image, (first, last) in runs]
    _write_extents(folder / "lvm-file-system", kind, fill, extents)
    return images


def _write_extents(
    whole: Path, kind: str, fill: Fill, runs: Sequence[tuple[Path, int, int]]
) -> None:
    extent, start = 4 * MIB, MIB
    with whole.open("wb") as raw:
        raw.truncate(sum(last - first + 1 for _, first, last in runs) * extent)
    put_files(whole, None, kind, fill)
    with whole.open("rb") as source:
        for image, first, last in runs:
            with image.open("r+b") as out:
                out.seek(start + first * extent)
                out.write(source.read((last - first + 1) * extent))
