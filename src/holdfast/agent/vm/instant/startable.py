"""Whether a machine can be started here as its recovery point describes it.

The description comes from the host that made the backup, so what it names on this one is looked at
first: a kernel must be a kernel, and what goes with it an archive that kernels unpack.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.agent.vm.seen import read_startup
from holdfast.errors import SourceError

MODEL = re.compile(r"[A-Za-z0-9._-]{0,64}")
KERNEL_AT, KERNEL = 0x202, (b"HdrS",)  # of Linux's boot protocol
ARCHIVES = (b"070701", b"070702", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"\x02!L\x18",
            b"BZh", b"\x5d\0\0", b"\x89LZO")  # fmt: skip


def check_startable(described: dict[str, Any]) -> None:
    """SourceError (FirmwareNotServed, KernelNotHere)."""
    if described.get("firmware") == "uefi":
        raise SourceError(
            "the machine starts by UEFI, whose variables are not in the recovery point",
            code="FirmwareNotServed",
            hint="restore it as a new machine (holdfast vm restore --new) and add its firmware",
        )
    startup = read_startup(described)
    if not MODEL.fullmatch(startup.model):
        raise _not_here(startup.model, "no name of a board")
    if startup.kernel and not _begins(startup.kernel, KERNEL_AT, KERNEL):
        raise _not_here(startup.kernel, "no kernel on this host")
    if startup.initrd and not _begins(startup.initrd, 0, ARCHIVES):
        raise _not_here(startup.initrd, "no initial file system on this host")


def _begins(path: str, offset: int, marks: Sequence[bytes]) -> bool:
    place = Path(path)
    try:
        if not place.is_absolute() or not place.is_file():
            return False
        with place.open("rb") as file:
            file.seek(offset)
            return file.read(16).startswith(tuple(marks))
    except OSError:
        return False


def _not_here(what: str, why: str) -> SourceError:
    return SourceError(
        f"the machine is not started from its disks alone, and {what[:200]} is {why}",
        code="KernelNotHere",
        hint="put the machine's kernel there, or restore it as a new machine",
    )
