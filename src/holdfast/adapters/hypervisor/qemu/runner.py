"""Machines of ours under QEMU, as the port of ``ports/machine_runner`` has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.adapters.hypervisor.qemu import booting, handing
from holdfast.adapters.hypervisor.qemu.hypervisor import QemuHypervisor
from holdfast.adapters.hypervisor.qemu.kernels import check_kernels
from holdfast.adapters.hypervisor.qemu.qmp import NobodyListensError, QmpConnection
from holdfast.adapters.hypervisor.qemu.running import QemuRunning
from holdfast.errors import SourceError
from holdfast.machine_settings import MachineDisk, MachineEntry
from holdfast.ports.hypervisor import Machine
from holdfast.ports.machine_runner import RunPlan

Listing = Callable[[], Sequence[Machine]]


class QemuRunner:
    """``hypervisor``: whose machines they are among; ``host``: lists all of this host, if others
    have some too."""

    def __init__(self, hypervisor: QemuHypervisor, host: Listing | None = None) -> None:
        self._hypervisor = hypervisor
        self._host = host or hypervisor.machines

    def image(self, path: Path, size: int, backing: tuple[Path, str] | None) -> None:
        booting.make_image(path, size, backing)

    def start(self, plan: RunPlan) -> QemuRunning:
        if plan.startup.kernel or plan.startup.initrd:
            check_kernels(plan.startup, self._host())
        if plan.owner is not None:
            inside = [disk.path.name for disk in plan.disks if disk.path.parent == plan.home]
            try:
                handing.give_home(plan.home, inside, plan.owner)
            except OSError as error:
                raise _not_given(plan, error) from error
        booting.start(plan)
        return QemuRunning(plan, QmpConnection(plan.home / booting.CONTROL))

    def reach(self, plan: RunPlan) -> QemuRunning | None:
        try:
            return QemuRunning(plan, QmpConnection(plan.home / booting.CONTROL))
        except NobodyListensError:
            return None

    def is_named(self, uuid: str) -> bool:
        return self._hypervisor.is_named(uuid)

    def show(self, plan: RunPlan) -> None:
        entry = MachineEntry(
            name=plan.name,
            uuid=plan.uuid,
            qmp=str(plan.home / booting.BACKUP),
            agent=str(plan.home / booting.AGENT),
            disk=[MachineDisk(path=str(disk.path), lun=disk.lun) for disk in plan.disks],
        )
        self._hypervisor.adopt(entry)

    def forget(self, uuid: str) -> None:
        self._hypervisor.forget(uuid)

    @contextmanager
    def hold(self, uuid: str) -> Iterator[None]:
        with self._hypervisor.hold(uuid):
            yield


def _not_given(plan: RunPlan, error: OSError) -> SourceError:
    return SourceError(
        f"{plan.home} cannot be given to the user of {plan.name}: {error.strerror}",
        code="MachineNotStarted",
        hint="see what is there in place of the folder that was made for the machine",
    )
