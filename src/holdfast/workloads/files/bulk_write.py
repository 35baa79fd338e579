"""Writing content of restored files: large pieces leave the page cache as soon as they are on disk.

A restore writes much and reads nothing back. Kept in the page cache, its data drives out what
others want there, waits for the sync at the end, and costs a fresh page for each 4 KiB: on a small
virtual machine several times the copying itself. Linux 6.14 and later have a flag for it
(RWF_DONTCACHE, on ext4, XFS and btrfs); elsewhere these are plain writes.
"""

from __future__ import annotations

import errno
import os

from holdfast.ports.object_store import Buffer

LARGE_BYTES = 32 * 1024  # for smaller ones a write to the disk each costs more than the pages
_DONTCACHE = 0x80  # RWF_DONTCACHE of linux/fs.h; the os module does not name it yet
_REFUSED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class BulkWriter:
    """``uncached``: whether large pieces are still tried that way. Thread safe."""

    def __init__(self, *, uncached: bool = hasattr(os, "pwritev")) -> None:
        self.uncached = uncached

    def write(self, fd: int, data: Buffer, offset: int) -> None:
        """All of ``data`` at ``offset``. OSError as the kernel gives it."""
        view = memoryview(data)
        while view:
            done = self._some(fd, view, offset)
            view, offset = view[done:], offset + done

    def _some(self, fd: int, view: memoryview, offset: int) -> int:
        if self.uncached and len(view) >= LARGE_BYTES:
            try:
                return os.pwritev(fd, [view], offset, _DONTCACHE)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self.uncached = False
        return os.pwrite(fd, view, offset)
