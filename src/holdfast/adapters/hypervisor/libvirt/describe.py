"""What a list of machines shows of one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast.adapters.hypervisor.libvirt.agent import ask_agent
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.adapters.hypervisor.libvirt.domains import Domain, DomainDisk, read_domain
from holdfast.adapters.hypervisor.libvirt.writes import count_writes
from holdfast.adapters.hypervisor.qemu import images
from holdfast.domain.guest_pace import Counts
from holdfast.errors import SourceError
from holdfast.ports.hypervisor import AgentState, Disk, Machine, PowerState

KIB = 1024


def describe(connection: Connection, domain: Any, seen: Machine | None) -> Machine | None:
    """None when it is gone. ``seen``: as it was last, for what only its agent can tell."""
    try:
        read = read_domain(str(domain.XMLDesc(0)))
        state, most, _, cpus, _ = domain.info()
        power = _power(connection.libvirt, state)
        agent, system = AgentState.UNKNOWN, ""
        if power is PowerState.RUNNING and seen is None:
            agent, system = ask_agent(connection, domain, read.agent)
    except connection.error:
        return None
    if seen is not None:
        agent, system = seen.agent, seen.system
    disks, problem = _disks(read)
    return Machine(
        id=read.id,
        name=read.name,
        power=power,
        agent=agent,
        disks=disks,
        firmware=read.firmware,
        cpus=int(cpus),
        memory=int(most) * KIB,
        problem=problem or read.problem,
        system=system,
        writes=_writes(connection, domain, read, power),
    )


def _writes(connection: Connection, domain: Any, read: Domain, power: PowerState) -> Counts:
    """None of a machine that is off, or stops right now."""
    if power is not PowerState.RUNNING:
        return {}
    with suppress(SourceError):
        return count_writes(connection, domain, [disk.target for disk in read.disks])
    return {}


def _power(libvirt: Any, state: int) -> PowerState:
    if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
        return PowerState.RUNNING
    if state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED):
        return PowerState.PAUSED
    if state == libvirt.VIR_DOMAIN_NOSTATE:
        return PowerState.UNREACHABLE
    return PowerState.OFF


def _disks(read: Domain) -> tuple[tuple[Disk, ...], str]:
    """Those that can be looked at, and what is wrong with the others."""
    found: list[Disk] = []
    problems: list[str] = []
    for one in read.disks:
        try:
            found.append(disk_of(one))
        except SourceError as error:
            problems.append(error.message)
    return tuple(found), "; ".join(problems)


def disk_of(one: DomainDisk) -> Disk:
    """SourceError (DiskUnreadable)."""
    path = Path(one.path)
    size = images.image_size(path, one.format)
    mark = images.identity(path, one.format)
    return Disk(one.lun, one.name, one.path, one.format, size, mark)
