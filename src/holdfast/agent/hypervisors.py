"""Which hypervisors of this host are served: machines of the settings, and those of libvirt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from holdfast.adapters.appliance import ApplianceLooker
from holdfast.adapters.appliance.quick import QuickLooker
from holdfast.adapters.disk_format import SystemDiskFiles
from holdfast.adapters.hypervisor.joined import JoinedHypervisor
from holdfast.adapters.image_copy import ReflinkCopies
from holdfast.adapters.key_vault import FolderKeyVault
from holdfast.agent.vm.executor import Running, VmExecutor
from holdfast.agent.vm.kept.copies import KeptCopies
from holdfast.agent.vm.keys import HostKeys
from holdfast.agent.vm.recovery import NoHypervisor
from holdfast.agent.vm_work import VmWork
from holdfast.errors import SourceError, UsageError
from holdfast.key_settings import keys_by_machine
from holdfast.machine_settings import LibvirtEntry, libvirt_entry
from holdfast.ports.clock import Clock, Random
from holdfast.ports.hypervisor import Hypervisor
from holdfast.settings import AgentSettings

log = logging.getLogger("holdfast.agent")
NOT_SERVED = "the machines of this host's libvirt are not served"
NO_LIBRARY = "install Holdfast with the extra vm for that: pip install 'holdfast[vm]'"


def find_vms(
    settings: AgentSettings, data: Path, clock: Clock, rng: Random, host: str
) -> VmWork | None:
    """What serves the machines the settings name and those of the host's libvirt; None when there
    are neither. A libvirt nobody named, which this installation cannot serve, keeps no agent from
    its files. UsageError (HypervisorSupportMissing)."""
    entry = libvirt_entry(settings)
    if entry is None and not settings.machine:
        return None
    try:
        parts, running = _bare_qemu(settings, data)
        if entry is not None:
            parts += _libvirt(entry, data, wanted=bool(settings.libvirt))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "qemu":
            raise
        if not settings.machine and not settings.libvirt:
            log.warning("%s; %s", NOT_SERVED, NO_LIBRARY)
            return None
        raise UsageError(
            "this host has virtual machines to serve, but QEMU's library is not installed",
            code="HypervisorSupportMissing",
            hint="install Holdfast with the extra vm: pip install 'holdfast[vm]', or set libvirt "
            'to "no" and name no machine in holdfast.toml',
        ) from error
    if len(parts) == 1 and not settings.machine:
        return None
    joined = parts[0] if len(parts) == 1 else JoinedHypervisor(parts)
    looker = QuickLooker(ApplianceLooker(appliance_of(settings, data)))
    files = SystemDiskFiles()
    found = VmExecutor(
        joined,
        files,
        clock,
        rng,
        host,
        running(joined),
        looker,
        write_latency_ms=settings.guest_write_latency_ms,
        keys=host_keys(settings),
        kept=_kept_copies(data, clock) if settings.machine_copies else None,
    )
    found.start()
    return found


def _kept_copies(data: Path, clock: Clock) -> KeptCopies:
    from holdfast.adapters.hypervisor.qemu import read_image

    return KeptCopies(ReflinkCopies(), data / "machines", clock, read_image)


def appliance_of(settings: AgentSettings, data: Path) -> Path:
    """Where the machine that reads file systems is kept."""
    return Path(settings.appliance_dir) if settings.appliance_dir else data / "appliance"


def host_keys(settings: AgentSettings) -> HostKeys:
    """Keys of encrypted volumes, as the settings say."""
    entry = settings.key_vault
    vault = FolderKeyVault(Path(entry.path)) if entry is not None else None
    return HostKeys(vault, keys_by_machine(entry, settings.machine))


def recovery_host(settings: AgentSettings, clock: Clock, rng: Random, host: str) -> VmWork:
    """What restores machines of other hosts, as files, on a host that has none."""
    keys = host_keys(settings)
    return VmExecutor(NoHypervisor(), SystemDiskFiles(), clock, rng, host, keys=keys)


def _bare_qemu(
    settings: AgentSettings, data: Path
) -> tuple[list[Hypervisor], Callable[[Hypervisor], Running]]:
    """Machines of the settings, and those that run from the vault: those of libvirt's too. The
    second is given all machines of the host."""
    from holdfast.adapters.hypervisor.qemu import QemuHypervisor, QemuRunner

    log.info("%d virtual machines of the settings are served", len(settings.machine))
    hypervisor = QemuHypervisor(settings.machine, data)
    return [hypervisor], lambda every: Running(
        QemuRunner(hypervisor, every.machines), data / "machines"
    )


def _libvirt(entry: LibvirtEntry, data: Path, *, wanted: bool) -> list[Hypervisor]:
    """``wanted``: the settings name it; otherwise a host without the binding goes without."""
    try:
        from holdfast.adapters.hypervisor.libvirt import LibvirtHypervisor

        found = LibvirtHypervisor(entry, data)
    except (SourceError, ModuleNotFoundError) as error:
        if not wanted:
            log.warning("%s: %s", NOT_SERVED, error)
            return []
        if isinstance(error, SourceError):
            raise UsageError(error.message, code=error.code, hint=error.hint) from error
        raise
    log.info("the virtual machines of libvirt at %s are served", entry.uri)
    return [found]
