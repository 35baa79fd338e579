"""Which kernels of this host a recovery point may have started.

The point may be of another host, whose owner is not this one's: a path it names is read for its
guest, by root where QEMU runs as root. So it is a file that machines of this host are started with,
one beside their disks, or one of the host's own kernels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from holdfast.errors import SourceError
from holdfast.ports.hypervisor import Machine, Startup

BOOT = Path("/boot")


def check_kernels(startup: Startup, machines: Iterable[Machine]) -> None:
    """SourceError (MachineNotStarted)."""
    known: set[Path] = set()
    folders: set[Path] = set()
    for machine in machines:
        for text in (machine.startup.kernel, machine.startup.initrd):
            if text:
                known.add(Path(text).resolve())
        folders |= {Path(disk.path).parent.resolve() for disk in machine.disks}
    for text in (startup.kernel, startup.initrd):
        path = Path(text).resolve()
        if text and not (path in known or path.parent in folders or path.is_relative_to(BOOT)):
            raise SourceError(
                f"{text[:200]} is no file that machines of this host are started with",
                code="MachineNotStarted",
                hint=f"put the machine's kernel in {BOOT} or beside the disks of this host's "
                "machines, under the path the recovery point names, or restore it as a new machine",
            )
