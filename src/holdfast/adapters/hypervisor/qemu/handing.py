"""Files and folders of ours that QEMU is to use, which may run as another user.

Whoever owns a folder can put a link in the place of anything in it, and what root does to a path
there is then done to something else. So a folder is ours until everything in it is done, and what
is in it is reached by handles.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.adapters.hypervisor.qemu.drives import Drive
from holdfast.ports.machine_runner import Owner

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOUND = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def new_folder(path: Path) -> Iterator[int]:
    """Made by us and only ours; its handle. FileExistsError when something is there."""
    path.mkdir(mode=0o700)
    with opened(path, FOLDER) as handle:
        found = os.fstat(handle)
        private = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
        if not private or os.listdir(handle):
            raise FileExistsError(None, "somebody put another folder in its place")
        yield handle


@contextmanager
def opened(path: Path | str, flags: int, folder: int | None = None) -> Iterator[int]:
    """A handle; what is made is for its owner alone."""
    handle = os.open(path, flags, 0o600, dir_fd=folder)
    try:
        yield handle
    finally:
        os.close(handle)


def give(handle: int, drive: Drive) -> None:
    """To who owns the disk."""
    give_as(handle, drive.disk.path)


def give_as(handle: int, image: str) -> None:
    """To who owns that image."""
    owner = os.stat(image)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(handle, owner.st_uid, owner.st_gid)


def give_folder(path: Path, drive: Drive) -> None:
    """A folder that holds nothing of which we do more."""
    with opened(path, FOLDER) as handle:
        give(handle, drive)


def give_home(home: Path, names: Sequence[str], owner: Owner) -> None:
    """A folder of ours and the files of those names in it, itself last. One that is the owner's
    already was given before. OSError."""
    with opened(home, FOLDER) as folder:
        found = os.fstat(folder)
        if found.st_uid == owner.uid:
            return
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise FileExistsError(None, "somebody put another folder in its place")
        for name in names:
            with opened(name, FOUND, folder) as file:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise FileExistsError(None, f"{name} is no file")
                os.fchown(file, owner.uid, owner.gid)
        os.fchown(folder, owner.uid, owner.gid)
