"""What a host's hypervisor knows of a machine, as the server is told it and as a point keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Literal

from holdfast.ports.hypervisor import Disk, Machine, PowerState, Startup
from holdfast.ports.vm_tasks import DiskSeen, KeptSeen, MachineSeen
from holdfast.ports.vm_tasks import PowerState as Power

HYPERVISOR = "qemu"
POWER: dict[PowerState, Power] = {
    PowerState.RUNNING: "running",
    PowerState.PAUSED: "paused",
    PowerState.OFF: "stopped",
    PowerState.UNREACHABLE: "unknown",
}
SYSTEMS: dict[str, Literal["Linux", "Windows"]] = {"linux": "Linux", "windows": "Windows"}


def remembered(machine: Machine, before: Machine | None) -> Machine:
    """With what a machine that is off or does not answer cannot tell now: as it was last seen."""
    if before is None:
        return machine
    return replace(
        machine,
        disks=machine.disks or before.disks,
        firmware=machine.firmware or before.firmware,
        cpus=machine.cpus or before.cpus,
        memory=machine.memory or before.memory,
        system=machine.system or before.system,
        startup=machine.startup if machine.startup.model else before.startup,
    )


def to_seen(
    machine: Machine, tags: Mapping[str, str], kept: tuple[KeptSeen, ...] = ()
) -> MachineSeen:
    return MachineSeen(
        uuid=machine.id,
        name=machine.name,
        hypervisor=HYPERVISOR,
        power_state=POWER[machine.power],
        agent_state=machine.agent.value,
        os_type=SYSTEMS.get(machine.system, "Unknown"),
        processors=machine.cpus,
        memory_bytes=machine.memory,
        disks=tuple(
            DiskSeen(lun=disk.lun, name=disk.name, size_bytes=disk.size, format=disk.format)
            for disk in machine.disks
        ),
        tags=dict(tags),
        kept=kept,
    )


def to_description(machine: Machine, disks: Sequence[Disk]) -> dict[str, Any]:
    """For the recovery point; ``disks`` are those in it. Read back by ``definition``."""
    return {
        "uuid": machine.id,
        "name": machine.name,
        "hypervisor": HYPERVISOR,
        "system": machine.system,
        "powerState": POWER[machine.power],
        "processors": machine.cpus,
        "memoryBytes": machine.memory,
        "firmware": machine.firmware,
        "startup": asdict(machine.startup),
        "disks": [
            {"lun": disk.lun, "name": disk.name, "path": disk.path, "format": disk.format}
            for disk in disks
        ],
    }


def read_startup(described: dict[str, Any]) -> Startup:
    """Of a recovery point's description; what it does not say is empty."""
    found = described.get("startup")
    told = found if isinstance(found, dict) else {}
    return Startup(**{field.name: str(told.get(field.name) or "") for field in fields(Startup)})
