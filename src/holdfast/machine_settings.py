"""Machines named in an agent's settings: bare QEMU processes that no libvirt knows.

In ``holdfast.toml`` of the agent::

    [[machine]]
    name = "web1"
    uuid = "0d9a1f52-6f5c-4d1c-9a3d-0f8a4f6b7c10"
    qmp = "/run/web1/backup.sock"        # a monitor socket of its own
    agent = "/run/web1/agent.sock"       # the guest agent's channel; may be left out
    [[machine.disk]]
    path = "/vm/web1/root.qcow2"
    [[machine.disk]]
    path = "/vm/web1/data.img"
    format = "raw"
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

import msgspec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
SOCKET_PATH_BYTES = 107  # what the kernel takes
MAX_LUN = 63
MAX_FREEZE_SECONDS = 7200
NO_LIBVIRT, SYSTEM_LIBVIRT = "no", "qemu:///system"
LIBVIRT_SOCKETS = ("/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock")


class LibvirtSettings(Protocol):
    """The agent's settings that concern libvirt."""

    @property
    def libvirt(self) -> str: ...
    @property
    def libvirt_scratch(self) -> str: ...
    @property
    def libvirt_scratch_percent(self) -> int: ...
    @property
    def libvirt_freeze_seconds(self) -> int: ...


class MachineDisk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``lun``: by default the first disk is the operating system's (-1), the next count from 0.
    ``key``: a secret of the host's key vault (``key_settings``)."""

    path: str
    format: Literal["qcow2", "raw"] = "qcow2"
    name: str = ""
    lun: int | None = None
    key: str = ""


class MachineEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``scratch``: folder for what the guest overwrites during a backup, empty for the agent's own;
    ``scratch_percent``: how much of each disk's size it may take. ``freeze_seconds``: how long the
    guest may take to freeze, its scripts included. ``key``: a secret of the host's key vault, for
    all disks."""

    name: str
    uuid: str
    qmp: str
    disk: list[MachineDisk]
    agent: str = ""
    scratch: str = ""
    scratch_percent: int = 20
    freeze_seconds: int = 60
    key: str = ""

    @property
    def id(self) -> str:
        """The UUID in its usual form."""
        return str(UUID(self.uuid))

    @property
    def luns(self) -> list[int]:
        """Of each disk, in order."""
        return [at - 1 if disk.lun is None else disk.lun for at, disk in enumerate(self.disk)]


class LibvirtEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A libvirt whose machines are found by themselves. ``scratch``: folder, empty for the one of
    the machine's first disk; the rest as for a machine of the settings."""

    uri: str
    scratch: str = ""
    scratch_percent: int = 20
    freeze_seconds: int = 60


def libvirt_entry(settings: LibvirtSettings) -> LibvirtEntry | None:
    """None when the host's libvirt is not to be used."""
    uri = settings.libvirt or default_libvirt()
    if uri in ("", NO_LIBVIRT):
        return None
    return LibvirtEntry(
        uri=uri,
        scratch=settings.libvirt_scratch,
        scratch_percent=settings.libvirt_scratch_percent,
        freeze_seconds=settings.libvirt_freeze_seconds,
    )


def default_libvirt() -> str:
    """The system's, when its daemon's socket is there, for this user."""
    usable = any(os.access(one, os.R_OK | os.W_OK) for one in LIBVIRT_SOCKETS)
    return SYSTEM_LIBVIRT if usable else ""


def libvirt_problems(settings: LibvirtSettings) -> list[str]:
    """What is wrong with them, one sentence each."""
    found: list[str] = []
    uri = settings.libvirt
    if uri not in ("", NO_LIBVIRT) and not uri.startswith("qemu"):
        found.append("libvirt must be empty, no, or an address as qemu:///system")
    if settings.libvirt_scratch and not Path(settings.libvirt_scratch).is_absolute():
        found.append("libvirt_scratch must be an absolute path")
    if not 1 <= settings.libvirt_scratch_percent <= 100:
        found.append("libvirt_scratch_percent must be from 1 to 100")
    if not 1 <= settings.libvirt_freeze_seconds <= MAX_FREEZE_SECONDS:
        found.append(f"libvirt_freeze_seconds must be from 1 to {MAX_FREEZE_SECONDS}")
    return found


def problems(machines: Iterable[MachineEntry]) -> list[str]:
    """What is wrong with them, one sentence each; empty when nothing is."""
    found: list[str] = []
    names: set[str] = set()
    ids: dict[str, str] = {}
    paths: dict[str, str] = {}
    for machine in machines:
        wrong = list(_of_machine(machine))
        found += wrong
        if machine.name in names:
            found.append(f"two machines are named {machine.name}")
        names.add(machine.name)
        if wrong:
            continue
        if (other := ids.setdefault(machine.id, machine.name)) != machine.name:
            found.append(f"machines {other} and {machine.name} have the same uuid")
        for disk in machine.disk:
            place = os.path.normpath(disk.path)
            if place in paths:
                found.append(f"{place} is a disk of {paths[place]} and of {machine.name}")
            paths[place] = machine.name
    return found


def _of_machine(machine: MachineEntry) -> Iterable[str]:
    what = f"machine {machine.name!r}"
    if not NAME.fullmatch(machine.name):
        yield f"{what}: name must be 1 to 63 letters, digits, '.', '_' or '-'"
    try:
        UUID(machine.uuid)
    except ValueError:
        yield f"{what}: uuid {machine.uuid!r} is no UUID"
    yield from _of_socket(what, "qmp", machine.qmp)
    if machine.agent:
        yield from _of_socket(what, "agent", machine.agent)
    if machine.agent == machine.qmp:
        yield f"{what}: qmp and agent are the same socket"
    if machine.scratch and not Path(machine.scratch).is_absolute():
        yield f"{what}: scratch must be an absolute path"
    if not 1 <= machine.scratch_percent <= 100:
        yield f"{what}: scratch_percent must be from 1 to 100"
    if not 1 <= machine.freeze_seconds <= MAX_FREEZE_SECONDS:
        yield f"{what}: freeze_seconds must be from 1 to {MAX_FREEZE_SECONDS}"
    yield from _of_disks(what, machine)


def _of_socket(what: str, field: str, path: str) -> Iterable[str]:
    if not Path(path).is_absolute():
        yield f"{what}: {field} must be the absolute path of a unix socket"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        yield f"{what}: {field} is longer than the {SOCKET_PATH_BYTES} bytes of a socket"


def _of_disks(what: str, machine: MachineEntry) -> Iterable[str]:
    if not machine.disk:
        yield f"{what}: it needs at least one [[machine.disk]]"
    for disk in machine.disk:
        if not Path(disk.path).is_absolute():
            yield f"{what}: disk path {disk.path!r} must be absolute"
    luns = machine.luns
    for lun in luns:
        if not -1 <= lun <= MAX_LUN:
            yield f"{what}: lun must be -1 (operating system) or from 0 to {MAX_LUN}"
    if len(set(luns)) != len(luns):
        yield f"{what}: two disks have the same lun"
