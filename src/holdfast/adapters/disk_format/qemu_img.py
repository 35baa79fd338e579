"""Disk files in the formats of other hypervisors than QEMU, written by ``qemu-img convert``.

It reads the disk from an NBD server of this process, on a socket in a private folder: nothing is
stored twice, and when this process dies, so does the conversion. What it made is not believed to
be the disk before the file was opened again (``holding``).
"""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

from holdfast.adapters.disk_format.holding import PIECE_BYTES, HeldPieces, MapReader
from holdfast.errors import CancelledError, TargetError
from holdfast.nbd.address import UnixSocket
from holdfast.nbd.server import NbdServer
from holdfast.ports.block_device import BlockSource, Extent
from holdfast.ports.disk_format import DiskFormat, Progress

PROGRAM, READER = "qemu-img", "qemu-io"
PROBE_BYTES, PROBES = 16 * 1024 * 1024, 256  # one piece is read of each; so many at a time
# What qemu-img calls a format, and how it is to be made. Without force_size a VHD is rounded up to
# cylinders, and the disk would change its size.
FORMATS = {
    DiskFormat.VHD: ("vpc", ["-o", "subformat=dynamic,force_size=on"]),
    DiskFormat.VHDX: ("vhdx", ["-o", "subformat=dynamic"]),
}
LARGEST = {DiskFormat.VHD: 2040 * 1024**3, DiskFormat.VHDX: 64 * 1024**4}
UNIT = {DiskFormat.VHDX: 1024 * 1024}  # [bytes] sizes are multiples of; else sectors of 512
POLL_SECONDS = 0.2
MAX_SAID = 4096  # [bytes] of its complaints we keep
_UNLIKE = re.compile(rb"Pattern verification failed at offset (\d+),")
_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")


def convert(
    source: BlockSource,
    path: Path,
    target: Path,
    kind: DiskFormat,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> None:
    """Write ``source`` to ``path`` (absolute; what is there is overwritten); errors speak of
    ``target``, where it will be. What ``source`` raises, CancelledError, TargetError (DiskNotHeld,
    FormatUnavailable, DiskTooLarge, DiskSizeUneven, TargetFull, TargetUnavailable)."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise TargetError(
            f"a disk in the format {kind.value} is written by {PROGRAM}, which is not here",
            code="FormatUnavailable",
            hint="install it (Debian: apt install qemu-utils), or restore to the format qcow2",
        )
    check_size(source.size, kind)
    watched = _Watched(source)
    with _served(watched) as address:
        name, options = FORMATS[kind]
        command = [program, "convert", "-p", "-f", "raw", "-O", name, *options]
        command += [address.uri("disk"), str(path)]
        code, said = _run(command, lambda out: _follow(out, source.size, progress, cancelled))
    if watched.failure is not None:
        raise watched.failure
    if code or _complaints(said):
        raise _refused(target, code, said)
    _check_held([program, "map", "--output=json", "-f", name, str(path)], watched.held, target)
    if kind is DiskFormat.VHDX:  # whose map says that all of it is data
        _check_pieces(name, path, watched.held, target, source.size)
    progress(source.size, source.size)


def _complaints(said: str) -> list[str]:
    """It says that it could not write its last tables, and ends with 0 all the same."""
    return [line for line in said.splitlines() if line.strip() and "warning:" not in line]


def _check_held(command: list[str], held: HeldPieces, target: Path) -> None:
    """TargetError (DiskNotHeld) when the file lacks what the disk holds, or cannot be opened."""
    found = MapReader(held)

    def take(output: IO[bytes]) -> None:
        for line in output:
            found.take(line)

    try:
        code, said = _run(command, take)
    except (ValueError, KeyError) as error:
        raise _not_held(target, f"what it holds cannot be told ({error})") from error
    if code or not found.end:
        raise _not_held(target, f"it cannot be opened ({_shortened(code, said)})")
    if found.lost is not None:
        raise _not_held(target, f"what the disk has at byte {found.lost:,} is not in it")


def _check_pieces(name: str, path: Path, held: HeldPieces, target: Path, size: int) -> None:
    """TargetError (DiskNotHeld) when a piece that held something reads as zeros. Where there is no
    program to read with, the file was opened at least."""
    program = shutil.which(READER)
    if program is None:
        return
    wanted = held.one_in_each(PROBE_BYTES)
    while batch := list(islice(wanted, PROBES)):
        told: list[bytes] = []
        command = [program, "-r", "-f", name]
        for at in batch:
            command += ["-c", f"read -P 0 {at} {min(PIECE_BYTES, size - at)}"]
        _run([*command, str(path)], lambda out, told=told: told.extend(out))  # type: ignore[misc]
        other_than_zeros = {int(found[1]) for found in map(_UNLIKE.match, told) if found}
        for at in batch:
            if at not in other_than_zeros:
                raise _not_held(target, f"what the disk has at byte {at:,} is not in it")


def check_size(size: int, kind: DiskFormat) -> None:
    """TargetError (DiskTooLarge, DiskSizeUneven) when a format cannot hold a disk."""
    largest, unit = LARGEST.get(kind, size), UNIT.get(kind, 512)
    if size > largest:
        raise TargetError(
            f"a disk of {size:,} bytes is more than the {largest:,} of the format {kind.value}",
            code="DiskTooLarge",
            hint="choose another format: qcow2 or raw",
        )
    if size % unit:
        raise TargetError(
            f"a disk of {size:,} bytes does not fit the format {kind.value}, in steps of {unit:,}",
            code="DiskSizeUneven",
            hint="choose another format: qcow2 or raw",
        )


class _Watched:
    """The source, with the first thing it raised kept: qemu-img knows only that a read failed.
    ``held``: where what was read held something."""

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self.held = HeldPieces(source.size)
        self.failure: Exception | None = None

    @property
    def size(self) -> int:
        return self._source.size

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        with self._watch():
            yield from self._source.extents(offset, length)

    def read_into(self, offset: int, view: memoryview) -> None:
        with self._watch():
            self._source.read_into(offset, view)
            self.held.note(offset, view)

    @contextmanager
    def _watch(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error
            raise


@contextmanager
def _served(source: _Watched) -> Iterator[UnixSocket]:
    folder = Path(tempfile.mkdtemp(prefix="holdfast-"))
    try:
        with NbdServer() as server:
            server.add("disk", source)
            yield server.listen_unix(folder / "disk")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str], follow: Callable[[IO[bytes]], None]) -> tuple[int, str]:
    """(exit code, what it complained about); ``follow`` reads all it prints."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
        ) as process,
    ):
        try:
            if process.stdout is not None:
                follow(process.stdout)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        complaints.seek(0)
        return code, complaints.read(MAX_SAID).decode(errors="replace").strip()


def _follow(
    output: IO[bytes], size: int, progress: Progress, cancelled: Callable[[], bool]
) -> None:
    """Report until it prints no more. CancelledError."""
    handle, held = output.fileno(), b""
    while True:
        if cancelled():
            raise CancelledError("the restore of the disk was cancelled")
        if not select.select([handle], [], [], POLL_SECONDS)[0]:
            continue
        printed = os.read(handle, 4096)
        if not printed:
            return
        held = (held + printed)[-64:]
        if found := _PERCENT.findall(held):
            progress(int(size * min(float(found[-1]), 100.0) / 100), size)


def _shortened(code: int, said: str) -> str:
    return " ".join(said.split())[-300:] or f"it ended with {code}"


def _not_held(target: Path, why: str) -> TargetError:
    return TargetError(
        f"{PROGRAM} wrote {target}, but the file is not the disk: {why}",
        code="DiskNotHeld",
        hint="see in the system's log whether the file system there has failed, then restore "
        "again, or to the format raw",
        retry="later",
    )


def _refused(target: Path, code: int, said: str) -> TargetError:
    why = _shortened(code, said)
    if os.strerror(errno.ENOSPC) in said:
        return TargetError(
            f"no room is left for {target}: {why}",
            code="TargetFull",
            hint="free space there or choose another folder, then restore again",
            retry="later",
        )
    return TargetError(
        f"{PROGRAM} could not write {target}: {why}",
        code="TargetUnavailable",
        hint="check the folder, and that the program works: qemu-img --version",
    )
