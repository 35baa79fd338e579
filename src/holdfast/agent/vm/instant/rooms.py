"""Folders of ours between those of the user machines run as.

Who owns the folder above can rename ours or put a link in its place. So a folder is reached by its
handle, only we change it until all in it is done, and then it is given away. Meanwhile QEMU's group
passes through it to the images, which are QEMU's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.adapters.disk_format.partial import failed
from holdfast.agent.vm.staging import FILE, ROOM, opened
from holdfast.errors import TargetError
from holdfast.ports.machine_runner import MachineRunner, Owner

PRIVATE, PASSED = 0o700, 0o710


class Room:
    """``owner``: who gets it in the end; None for ourselves."""

    def __init__(self, path: Path, handle: int, owner: Owner | None) -> None:
        self.path, self._handle, self._owner = path, handle, owner
        self.inside = Path(f"/proc/{os.getpid()}/fd/{handle}")  # also for programs we start

    @property
    def number(self) -> int:
        """Of the folder in its file system, whatever its name is."""
        return os.fstat(self._handle).st_ino

    def take(self) -> None:
        """Ours from now on, for QEMU to pass through."""
        if self._owner is not None:
            os.fchown(self._handle, os.geteuid(), self._owner.gid)
            os.fchmod(self._handle, PASSED)

    def image(
        self, runner: MachineRunner, name: str, size: int, backing: tuple[Path, str] | None = None
    ) -> None:
        """A new one in the place of what has the name. TargetError."""
        try:
            self.remove(name)
            runner.image(self.inside / name, size, backing)
            self._give(name)
        except TargetError as error:
            error.message = error.message.replace(str(self.inside), str(self.path))
            raise
        except OSError as error:
            raise failed(self.path / name, error) from error

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._handle)

    def clear(self) -> None:
        for name in os.listdir(self._handle):
            self.remove(name)

    def give(self) -> None:
        """With all that is in it: nothing more is done here."""
        for name in os.listdir(self._handle):
            if stat.S_ISREG(os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mode):
                self._give(name)
        os.fsync(self._handle)
        os.fchmod(self._handle, PRIVATE)
        if self._owner is not None:
            os.fchown(self._handle, self._owner.uid, self._owner.gid)

    def _give(self, name: str) -> None:
        with opened(name, FILE, self._handle) as handle:
            os.fsync(handle)
            if self._owner is not None:
                os.fchown(handle, self._owner.uid, self._owner.gid)
                os.fchmod(handle, 0o600)


@contextmanager
def new_room(path: Path, owner: Owner | None) -> Iterator[Room]:
    """OSError, also when somebody put another folder in its place."""
    path.mkdir(mode=PRIVATE)
    with opened(path, ROOM) as handle:
        found = os.fstat(handle)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077 or os.listdir(handle):
            raise FileExistsError(None, "somebody put another folder in its place")
        yield Room(path, handle, owner)


@contextmanager
def known_room(path: Path, number: int, owner: Owner | None) -> Iterator[Room | None]:
    """One that was made before; None when it is not there, or not that one."""
    try:
        handle = os.open(path, ROOM)
    except OSError:
        yield None
        return
    try:
        room = Room(path, handle, owner)
        yield room if room.number == number else None
    finally:
        os.close(handle)


def remove_file(path: Path) -> None:
    """Unless its folder is a link. OSError."""
    with suppress(FileNotFoundError), opened(path.parent, ROOM) as folder:
        os.unlink(path.name, dir_fd=folder)
