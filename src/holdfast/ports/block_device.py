"""The block device port: a disk as runs of bytes, to read for a backup and to write for a restore.

Offsets and lengths are in bytes. ``0 <= offset`` and ``offset + length <= size`` are the caller's
duty; anything else is a UsageError (InvalidRange). Runs are yielded in ascending order, do not
overlap, lie inside the range asked for, and together cover exactly that range (``extents``) or
part of it (``dirty``). Neighbours of one kind may come as one run or as several.

All methods may be called from several threads at once; buffers belong to the caller again when
the call returns. A source raises SourceError, a target TargetError, when the device fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Protocol


class ExtentKind(Enum):
    """What a run of bytes holds.

    ``DATA``: must be read. ``ZERO``: reads as zeros, with room allocated. ``UNALLOCATED``: reads
    as zeros, nothing is stored. Only DATA needs reading; a restore writes zeros for the second and
    nothing for the third where its target begins empty.
    """

    DATA = "data"
    ZERO = "zero"
    UNALLOCATED = "unallocated"


class Extent(NamedTuple):
    """``length`` bytes (above 0) from ``offset``, all of one kind."""

    offset: int
    length: int
    kind: ExtentKind

    @property
    def end(self) -> int:
        """The first byte after the run."""
        return self.offset + self.length


class BlockSource(Protocol):
    """A disk that does not change while it is read. ``size`` is in bytes."""

    @property
    def size(self) -> int: ...

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What the range holds, run by run; a source that cannot tell calls all of it DATA."""
        ...

    def dirty(self, offset: int, length: int) -> Iterator[Extent] | None:
        """The runs written since the bitmap began, whatever they hold now (kind DATA; ask
        ``extents`` for the rest), or None when the source does not know: then everything may
        have changed. Runs may name more than was written, never less."""
        ...

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` (writable, one byte per item, contiguous) from ``offset``. When it
        raises, what the view holds is undefined."""
        ...


class BlockTarget(Protocol):
    """A disk to write. What was written is durable after ``flush`` returned, not before."""

    def write(self, offset: int, view: memoryview) -> None:
        """Write all of ``view`` at ``offset``. Idempotent; not atomic."""
        ...

    def write_zeroes(self, offset: int, length: int) -> None:
        """Make the range read as zeros, without storing them where the target can. Idempotent."""
        ...

    def flush(self) -> None:
        """Make everything written before durable."""
        ...
