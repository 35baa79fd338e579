"""The four data sets of ``make bench``: what is in them, and what changes between two backups.

Contents are pieces of the machine's own files, put together by a seed: as compressible as what
people have, and the same again on the same machine. A set is built once and kept. Its changes
follow from the seed and from how many there were before; delete the folder to begin anew.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trees import build_tree, change_one_percent, regular_files, walk_files

SEED = 20261128
GIB = 1 << 30
SLOT = 4 << 20  # [bytes] runs of data in the disk image
PAGE = 4096  # [bytes] where a file begins in a file system
PIECE = 64 << 10  # [bytes] a change of the disk image
POOL_BYTES = 64 << 20
SMALL_FILES, SMALL_BYTES = 200_000, 8 << 10
FOLDER_FILES = 100
MIXED_FILES, MIXED_BYTES = 100_000, 3_500_000_000
IMAGE_BYTES, IMAGE_DATA = 20 * GIB, 5 * GIB
DUMP_BYTES, DUMP_PLACES = 2 * GIB, 200
CONFIGS = 20  # small files beside an image or a dump


@dataclass(frozen=True, slots=True)
class DataSet:
    """``build``: into a folder, at a scale. ``change``: 1 % of it, by a number. ``sparse``: it has
    holes, which a restore has to bring back where it can."""

    name: str
    title: str
    build: Callable[[Path, float], None]
    change: Callable[[Path, float, int], None]
    sparse: bool = False

    def made(self, data: Path, scale: float) -> Path:
        """The folder to back up, built when it is not there."""
        target = data / f"{self.name}-{scale:g}"
        changes = self._changes(data, scale)
        if not changes.exists():
            shutil.rmtree(target, ignore_errors=True)
            print(f"building {self.name}", flush=True)
            self.build(target, scale)
            changes.write_text("0")
        return target

    def change_again(self, data: Path, scale: float) -> None:
        """1 % of it, never the same twice: a change made again would change nothing."""
        changes = self._changes(data, scale)
        number = int(changes.read_text()) + 1
        changes.write_text(str(number))
        self.change(data / f"{self.name}-{scale:g}", scale, number)

    def _changes(self, data: Path, scale: float) -> Path:
        """How many changes there were since it was built; not there before it is built."""
        return data / f"{self.name}-{scale:g}.changes"


def one_file(tree: Path) -> Path:
    """A small file somewhere in the middle, the same whenever the tree is."""
    names = [path for path in regular_files(tree) if 0 < path.stat().st_size < 1 << 20]
    return names[len(names) // 2]


def own_bytes(seed: int) -> Iterator[bytes]:
    """The contents of the machine's own files in an order drawn by ``seed``, over and over."""
    names = list(walk_files(Path("/usr")))
    random.Random(seed).shuffle(names)
    while True:
        for name in names:
            path = Path(name)
            if path.is_file() and not path.is_symlink():
                yield path.read_bytes()


def _pool(seed: int) -> bytes:
    pool = bytearray()
    for content in own_bytes(seed):
        pool += content[: POOL_BYTES // 64]
        if len(pool) >= POOL_BYTES:
            return bytes(pool)
    return bytes(pool)


def build_small(target: Path, scale: float) -> None:
    """Files of 0 to 8 KiB, no two alike."""
    draw, pool = random.Random(SEED), _pool(SEED)
    for number in range(int(SMALL_FILES * scale)):
        folder = target / f"{number // FOLDER_FILES // 100:03}" / f"{number // FOLDER_FILES:05}"
        if number % FOLDER_FILES == 0:
            folder.mkdir(parents=True)
        size = draw.randrange(SMALL_BYTES + 1)
        start = draw.randrange(len(pool) - size)
        content = b"%d\n" % number + pool[start : start + size]
        (folder / f"file-{number}").write_bytes(content[:size])


def build_mixed(target: Path, scale: float) -> None:
    files, size = int(MIXED_FILES * scale), int(MIXED_BYTES * scale)
    build_tree(target, files, size, min(1.0, scale))


def change_files(target: Path, scale: float, number: int) -> None:
    change_one_percent(target, number)


def _configs(target: Path, draw: random.Random) -> None:
    """What lies beside an image or a dump: a few small files."""
    target.mkdir(parents=True)
    for number in range(CONFIGS):
        lines = [f"setting-{line} = {draw.random()}" for line in range(50)]
        (target / f"settings-{number:02}.ini").write_text("\n".join(lines) + "\n")


def _slots(scale: float) -> list[int]:
    """Where the disk image has data: numbers of slots, ascending."""
    draw = random.Random(SEED + 1)
    return sorted(draw.sample(range(int(IMAGE_BYTES * scale) // SLOT), _data_slots(scale)))


def _data_slots(scale: float) -> int:
    return int(IMAGE_DATA * scale) // SLOT


def build_image(target: Path, scale: float) -> None:
    """A sparse file; its data are files, each from the start of a page."""
    _configs(target, random.Random(SEED))
    contents, waiting = own_bytes(SEED + 1), bytearray()
    with (target / "disk.img").open("wb") as out:
        for slot in _slots(scale):
            while len(waiting) < SLOT:
                content = next(contents)
                waiting += content + bytes(-len(content) % PAGE)
            out.seek(slot * SLOT)
            out.write(waiting[:SLOT])
            del waiting[:SLOT]
        out.truncate(int(IMAGE_BYTES * scale) // SLOT * SLOT)


def change_image(target: Path, scale: float, number: int) -> None:
    """1 % of the data, in pieces of 64 KiB at random."""
    draw, slots = random.Random(SEED + number), _slots(scale)
    places = [slot * SLOT + offset for slot in slots for offset in range(0, SLOT, PIECE)]
    with (target / "disk.img").open("r+b") as out:
        for place in sorted(draw.sample(places, max(1, len(places) // 100))):
            out.seek(place)
            out.write(draw.randbytes(PIECE))


def _words() -> list[str]:
    """Words of the machine's own Python."""
    text = "".join(path.read_text() for path in sorted(Path(os.__file__).parent.glob("[a-m]*.py")))
    return sorted(set(re.findall(r"[a-z]{3,10}", text)))


def _rows(draw: random.Random, first: int) -> Iterator[bytes]:
    """Lines of a dump, without end."""
    words, number = _words(), first

    def word() -> str:
        return words[int(draw.random() * len(words))]

    while True:
        number += 1
        note = " ".join(word() for _ in range(12))
        yield (
            f"INSERT INTO orders VALUES ({number}, '{word()} {word()}', "
            f"'{word()}@{word()}.example', {draw.random() * 1000:.2f}, "
            f"'{draw.getrandbits(64):016x}', '{note}');\n"
        ).encode()


def build_dump(target: Path, scale: float) -> None:
    """One file of rows."""
    draw = random.Random(SEED + 2)
    _configs(target, draw)
    with (target / "dump.sql").open("wb") as out:
        _write_rows(out.write, _rows(draw, 0), int(DUMP_BYTES * scale))


def _write_rows(write: Callable[[bytes], object], rows: Iterator[bytes], size: int) -> None:
    """At least ``size`` bytes."""
    while size > 0:
        row = next(rows)
        write(row)
        size -= len(row)


def _copy(old: BinaryIO, new: BinaryIO, size: int) -> None:
    """``size`` bytes, or none when it is negative (two places in one row)."""
    while size > 0:
        data = old.read(min(size, 1 << 20))
        new.write(data)
        size -= len(data)


def change_dump(target: Path, scale: float, number: int) -> None:
    """1 % more rows, in places at random; all behind them moves."""
    draw = random.Random(SEED + number)
    rows = _rows(draw, 10**9 * (1 + number))
    path, staged = target / "dump.sql", target / "dump.sql.new"
    size = path.stat().st_size
    count = max(1, int(DUMP_PLACES * scale))
    places = sorted(draw.randrange(size) for _ in range(count))
    with path.open("rb") as old, staged.open("wb") as new:
        for place in places:
            _copy(old, new, place - old.tell())
            new.write(old.readline())
            _write_rows(new.write, rows, size // 100 // count)
        shutil.copyfileobj(old, new, 1 << 20)
    staged.replace(path)


DATA_SETS = (
    DataSet("small", "many small files", build_small, change_files),
    DataSet("mixed", "large mixed tree", build_mixed, change_files),
    DataSet(
        "image", "disk image, 1 % changed in pieces of 64 KiB", build_image, change_image, True
    ),
    DataSet("dump", "database dump with rows inserted", build_dump, change_dump),
)
