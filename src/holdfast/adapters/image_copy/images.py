"""What an image's file alone holds: a copy of a qcow2 file that needs another is no disk."""

from __future__ import annotations

import os
import stat
import struct

from holdfast.ports.hypervisor import Disk
from holdfast.ports.image_copy import NotCopiedError

MAGIC = b"QFI\xfb"
HEADER = struct.Struct(">4sIQIIQIIQQIIQ")  # of version 2 and on; to the snapshots' offset
FEATURES = struct.Struct(">Q")  # of version 3, behind it
EXTERNAL_DATA = 1 << 2


def check_image(fd: int, disk: Disk) -> None:
    """NotCopiedError unless the open file is a regular one that holds all of ``disk``. OSError."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise NotCopiedError("it is a device, not a file")
    size = _qcow2_size(fd) if disk.format == "qcow2" else found.st_size
    if size != disk.size:
        raise NotCopiedError(f"its file holds {size:,} bytes of {disk.size:,}")


def _qcow2_size(fd: int) -> int:
    """As the guest sees it."""
    head = os.pread(fd, HEADER.size + FEATURES.size, 0)
    if len(head) < HEADER.size + FEATURES.size or not head.startswith(MAGIC):
        raise NotCopiedError("its file is no qcow2 image")
    _, version, backing, _, _, size, encrypted = HEADER.unpack_from(head)[:7]
    if backing:
        raise NotCopiedError("its image stands on another one (a backing file)")
    if encrypted:
        raise NotCopiedError("QEMU encrypts its image")
    if version >= 3 and FEATURES.unpack_from(head, HEADER.size)[0] & EXTERNAL_DATA:
        raise NotCopiedError("its image keeps its data in another file")
    return int(size)
