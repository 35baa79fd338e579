"""POSIX access control lists written as the kernel takes them: no program needs to be installed."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER, USER, OWNERS_GROUP, GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
VERSION, NOBODY = 2, 0xFFFFFFFF
Rights = Mapping[int, int]


def set_acl(path: Path, users: Rights, groups: Rights, *, default: bool = False) -> None:
    """Grant ids rights (bits of rwx) beside those of the mode; ``default``: to what is made in the
    folder from now on."""
    mode = path.stat().st_mode
    named = [*users.values(), *groups.values()]
    mask = (mode >> 3) & 7
    for rights in named:
        mask |= rights
    entries = [(OWNER, (mode >> 6) & 7, NOBODY)]
    entries += [(USER, rights, number) for number, rights in sorted(users.items())]
    entries += [(OWNERS_GROUP, (mode >> 3) & 7, NOBODY)]
    entries += [(GROUP, rights, number) for number, rights in sorted(groups.items())]
    entries += [(MASK, mask, NOBODY), (OTHERS, mode & 7, NOBODY)]
    packed = struct.pack("<I", VERSION) + b"".join(struct.pack("<HHI", *one) for one in entries)
    os.setxattr(path, DEFAULT if default else ACCESS, packed)


def remove_acl(path: Path) -> None:
    """Leave what the mode says."""
    os.removexattr(path, ACCESS)
