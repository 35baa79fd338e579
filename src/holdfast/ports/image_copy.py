"""Copies of disk images that share the image's blocks on its file system, until either changes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from holdfast.ports.hypervisor import Disk


class NotCopiedError(Exception):
    """There is no such copy of this image, or not here; the text says why."""


class Room(NamedTuple):
    """Of a file system, in bytes. ``device``: equal for two folders of one file system."""

    free: int
    total: int
    device: int


class Mark(NamedTuple):
    """What a file is known again by: it changes with any change of the file, and only the system
    sets it. Times in nanoseconds since 1970."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class ImageCopy(Protocol):
    """A copy that is being made. Not for several threads."""

    def follow(self) -> float:
        """Bring the copy up to what the image holds now; only what differs is looked at again. The
        seconds it took. Somebody may write to the image meanwhile: then the copy is of no one
        moment until ``follow`` is called while nobody does. NotCopiedError, OSError."""
        ...

    def ready(self) -> None:
        """Look up what the next ``follow`` needs to know, so that it is quick. OSError."""
        ...

    def finish(self) -> Mark:
        """Durable, and read-only from now on. OSError."""
        ...

    def drop(self) -> None:
        """Remove it. Idempotent; never raises."""
        ...

    def close(self) -> None:
        """Let go of the files. Idempotent."""
        ...


class ImageCopies(Protocol):
    """Thread safe."""

    def begin(self, disk: Disk, name: str) -> tuple[Path, ImageCopy]:
        """An empty copy of a disk's image, and where it lies: a file ``name`` in a folder of ours
        on the image's file system. NotCopiedError when that cannot copy so, or the image is not all
        of the disk; OSError."""
        ...

    def room(self, folder: Path) -> Room:
        """OSError."""
        ...

    def is_whole(self, copy: Path, mark: Mark) -> bool:
        """Whether it is there, and nobody touched it since ``finish``."""
        ...

    def opened(self, copy: Path, mark: Mark) -> AbstractContextManager[Path]:
        """A path by which this process and its children read the copy, whoever changes names
        meanwhile. NotCopiedError when it is not whole; OSError."""
        ...

    def clone(self, copy: Path, mark: Mark, target: Path) -> None:
        """A copy's copy: a new file of the agent's own (0600), without what QEMU keeps in images
        beside the disk. NotCopiedError: ``target`` is on another file system, or the copy is not
        whole; nothing is left then. OSError."""
        ...

    def remove(self, copy: Path) -> None:
        """Idempotent, also for what a killed agent left. OSError."""
        ...
