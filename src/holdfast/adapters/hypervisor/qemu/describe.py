"""What a list of machines shows of one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from holdfast.adapters.hypervisor.qemu import images
from holdfast.adapters.hypervisor.qemu.drives import named_disk, read_drives
from holdfast.adapters.hypervisor.qemu.opening import connect
from holdfast.adapters.hypervisor.qemu.qmp import QmpConnection, QmpRefusedError
from holdfast.adapters.hypervisor.qemu.quiesce import ask_agent
from holdfast.adapters.hypervisor.qemu.writes import count_writes
from holdfast.errors import SourceError
from holdfast.machine_settings import MachineEntry
from holdfast.ports.hypervisor import AgentState, Disk, Machine, PowerState, Startup


def describe(entry: MachineEntry) -> Machine:
    """Asks the machine; never raises SourceError."""
    try:
        monitor = connect(entry)
    except SourceError as error:
        return _bare(entry, PowerState.UNREACHABLE, (), error.message)
    if monitor is None:
        return _off(entry)
    with monitor:
        try:
            return _live(entry, monitor, *ask_agent(monitor, entry))
        except SourceError as error:
            return _bare(entry, PowerState.UNREACHABLE, (), error.message)


def describe_held_live(
    entry: MachineEntry, monitor: QmpConnection, seen: Machine | None
) -> Machine:
    """Over a connection that a snapshot holds; ``seen``: as it was last, for what only its agent
    can tell."""
    try:
        if seen is None:
            return _live(entry, monitor, AgentState.UNKNOWN, "")
        return _live(entry, monitor, seen.agent, seen.system)
    except SourceError as error:
        return _bare(entry, PowerState.UNREACHABLE, (), error.message)


def _live(entry: MachineEntry, monitor: QmpConnection, agent: AgentState, system: str) -> Machine:
    """SourceError when the machine is lost meanwhile."""
    running = monitor.execute("query-status")["status"] == "running"
    disks: tuple[Disk, ...] = ()
    problem = ""
    try:
        disks = tuple(drive.disk for drive in read_drives(monitor, entry))
    except SourceError as error:
        problem = error.message
    memory = monitor.execute("query-memory-size-summary")
    return Machine(
        id=entry.id,
        name=entry.name,
        power=PowerState.RUNNING if running else PowerState.PAUSED,
        agent=agent,
        disks=disks,
        firmware=_firmware(monitor),
        cpus=len(monitor.execute("query-cpus-fast")),
        memory=int(memory["base-memory"]) + int(memory.get("plugged-memory", 0)),
        problem=problem,
        system=system,
        startup=_startup(monitor),
        writes=count_writes(monitor),
    )


def describe_held(entry: MachineEntry) -> Machine:
    """A machine that is off while we hold its images, or that is being opened."""
    try:
        return _bare(entry, PowerState.OFF, _disks(entry), "")
    except SourceError as error:
        return _bare(entry, PowerState.OFF, (), error.message)


def _off(entry: MachineEntry) -> Machine:
    """Off, or running without a monitor: then its images are locked."""
    try:
        for disk in entry.disk:
            images.check_free(Path(disk.path), disk.format)
        return _bare(entry, PowerState.OFF, _disks(entry), "")
    except SourceError as error:
        power = PowerState.UNREACHABLE if error.code == "DiskInUse" else PowerState.OFF
        return _bare(entry, power, (), error.message)


def _disks(entry: MachineEntry) -> tuple[Disk, ...]:
    return tuple(
        named_disk(entry, at, images.image_size(Path(disk.path), disk.format))
        for at, disk in enumerate(entry.disk)
    )


def _bare(entry: MachineEntry, power: PowerState, disks: tuple[Disk, ...], problem: str) -> Machine:
    return Machine(entry.id, entry.name, power, AgentState.UNKNOWN, disks, problem=problem)


def _firmware(monitor: QmpConnection) -> str:
    """UEFI is given as a flash drive; machines without one start by BIOS."""
    with suppress(QmpRefusedError):
        if monitor.execute("qom-get", path="/machine", property="pflash0"):
            return "uefi"
    with suppress(QmpRefusedError):
        flash = [one for one in monitor.execute("query-block") if "pflash" in str(one["device"])]
        return "uefi" if flash else "bios"
    return ""


def _startup(monitor: QmpConnection) -> Startup:
    """As the machine itself tells it."""

    def told(name: str) -> str:
        with suppress(QmpRefusedError):
            return str(monitor.execute("qom-get", path="/machine", property=name) or "")
        return ""

    model = told("type").removesuffix("-machine")
    return Startup(model, told("kernel"), told("initrd"), told("append"))
