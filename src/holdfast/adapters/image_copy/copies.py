"""Copies beside their images, in a folder that only the agent enters.

Who owns the image's folder can rename ours or put another in its place, but not make one that is
the agent's own, nor change a file in it without the system noting when: so a copy is believed when
its folder is the agent's and its mark is as it was left.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from holdfast.adapters.image_copy.images import check_image
from holdfast.adapters.image_copy.reflink import ReflinkCopy, mark_of, share, take_flags
from holdfast.ports.hypervisor import Disk
from holdfast.ports.image_copy import Mark, NotCopiedError, Room

FOLDER = ".holdfast-copies"
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAKE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
TOOL_SECONDS = 120


class ReflinkCopies:
    """See ports.image_copy.ImageCopies: on btrfs, XFS and others that share blocks and tell where
    they are."""

    def begin(self, disk: Disk, name: str) -> tuple[Path, ReflinkCopy]:
        image = Path(os.path.realpath(disk.path))
        place = image.parent / FOLDER / name
        with ExitStack() as undo:
            source = os.open(image, READ)
            undo.callback(os.close, source)
            check_image(source, disk)
            folder = _make_folder(place.parent)
            undo.callback(os.close, folder)
            target = os.open(name, MAKE, 0o600, dir_fd=folder)
            undo.callback(os.close, target)
            take_flags(source, target)
            undo.pop_all()
        return place, ReflinkCopy(source, target, folder, place)

    def room(self, folder: Path) -> Room:
        found = os.statvfs(folder)
        total = found.f_blocks * found.f_frsize
        return Room(found.f_bavail * found.f_frsize, total, folder.stat().st_dev)

    def is_whole(self, copy: Path, mark: Mark) -> bool:
        try:
            with _opened(copy) as fd:
                return mark_of(fd) == mark
        except (OSError, NotCopiedError):
            return False

    @contextmanager
    def opened(self, copy: Path, mark: Mark) -> Iterator[Path]:
        with _opened(copy) as fd:
            if mark_of(fd) != mark:
                raise NotCopiedError("it is not as it was left")
            yield Path(f"/proc/{os.getpid()}/fd/{fd}")

    def clone(self, copy: Path, mark: Mark, target: Path) -> None:
        with _opened(copy) as source:
            if mark_of(source) != mark:
                raise NotCopiedError("it is not as it was left")
            made = os.open(target, MAKE, 0o600)
            try:
                take_flags(source, made)
                os.ftruncate(made, mark.size)
                share(source, made, 0, mark.size)
                _drop_bitmaps(made)
                os.fsync(made)
            except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
                target.unlink()
                raise NotCopiedError(f"it could not be copied ({error})") from error
            finally:
                os.close(made)

    def remove(self, copy: Path) -> None:
        with suppress(FileNotFoundError):
            folder = _open_folder(copy.parent)
            try:
                os.unlink(copy.name, dir_fd=folder)
            finally:
                os.close(folder)
            with suppress(OSError):
                copy.parent.rmdir()  # when it was the last


def _make_folder(path: Path) -> int:
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    return _open_folder(path)


def _open_folder(path: Path) -> int:
    """A handle. NotCopiedError when it is not the agent's alone; OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(handle)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(handle)
        raise NotCopiedError(f"{path} is not the agent's own folder")
    return handle


@contextmanager
def _opened(copy: Path) -> Iterator[int]:
    folder = _open_folder(copy.parent)
    try:
        handle = os.open(copy.name, READ, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        yield handle
    finally:
        os.close(handle)


def _drop_bitmaps(made: int) -> None:
    """Records of changes count for the image they were made in."""
    if os.pread(made, 4, 0) != b"QFI\xfb":
        return
    path = f"/proc/self/fd/{made}"
    told: dict[str, Any] = json.loads(_tool(made, "info", "-f", "qcow2", "--output=json", path))
    for bitmap in told.get("format-specific", {}).get("data", {}).get("bitmaps", ()):
        _tool(made, "bitmap", "-f", "qcow2", "--remove", path, str(bitmap["name"]))


def _tool(handle: int, *words: str) -> str:
    done = subprocess.run(
        ("qemu-img", *words),
        capture_output=True,
        check=True,
        timeout=TOOL_SECONDS,
        text=True,
        pass_fds=[handle],
    )
    return done.stdout
