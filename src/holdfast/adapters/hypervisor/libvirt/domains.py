"""What a domain's XML says of a machine. Decides; asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from holdfast.ports.hypervisor import OS_DISK_LUN

AGENT_CHANNEL = "org.qemu.guest_agent.0"
FORMATS = ("qcow2", "raw")
LAST_ORDER = 1 << 30


@dataclass(frozen=True, slots=True)
class DomainDisk:
    """``target``: the name libvirt has for it, as vda. ``format``: qcow2 or raw."""

    lun: int
    target: str
    path: str
    format: str

    @property
    def name(self) -> str:
        return "os-disk" if self.lun == OS_DISK_LUN else f"data-disk-{self.lun}"


@dataclass(frozen=True, slots=True)
class Domain:
    """``agent``: connected, disconnected, or empty when there is no channel or it is not known.
    ``problem``: why a backup would not have all of the machine."""

    id: str
    name: str
    firmware: str
    agent: str
    disks: tuple[DomainDisk, ...]
    problem: str = ""


def read_domain(text: str) -> Domain:
    """Of libvirt's own XML, of a machine that runs or not."""
    root = ElementTree.fromstring(text)  # noqa: S314 - written by the host's libvirt
    found: list[tuple[int, str, str, str]] = []
    odd: list[str] = []
    for disk in root.iterfind("devices/disk"):
        _take_disk(disk, found, odd)
    found.sort(key=lambda one: one[0])
    luns = luns_of([target for _, target, _, _ in found])
    return Domain(
        id=(root.findtext("uuid") or "").lower(),
        name=root.findtext("name") or "",
        firmware=_firmware(root),
        agent=_agent(root),
        disks=tuple(
            DomainDisk(lun, target, path, form)
            for lun, (_, target, path, form) in zip(luns, found, strict=True)
        ),
        problem="; ".join(odd),
    )


def _take_disk(
    disk: ElementTree.Element, found: list[tuple[int, str, str, str]], odd: list[str]
) -> None:
    """Into ``found`` as (place in the boot order, target, path, format), or why not into ``odd``.
    Media, and disks the guest cannot write or shares with others, are no part of a machine."""
    kind = disk.get("device", "disk")
    shared = disk.find("readonly") is not None or disk.find("shareable") is not None
    if kind in ("cdrom", "floppy") or shared:
        return
    target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
    name = target.get("dev", "") if target is not None else ""
    path = (source.get("file") or source.get("dev") or "") if source is not None else ""
    form = driver.get("type", "raw") if driver is not None else "raw"
    if kind != "disk" or not path or form not in FORMATS:
        what = disk.get("type", "?") if not path else (form if kind == "disk" else kind)
        odd.append(f"disk {name} is of a kind that is not backed up ({what})")
        return
    boot = disk.find("boot")
    order = int(boot.get("order", LAST_ORDER)) if boot is not None else LAST_ORDER
    found.append((order, name, path, form))


def luns_of(targets: Sequence[str]) -> list[int]:
    """The first is the operating system's; the others keep the number of their letter, so that one
    keeps its LUN when another is taken away: vdb 0, vdc 1, ... or the next that is free."""
    taken: set[int] = set()
    luns: list[int] = []
    for at, target in enumerate(targets):
        lun = OS_DISK_LUN if at == 0 else max(0, _letters(target) - 1)
        while lun in taken:
            lun += 1
        taken.add(lun)
        luns.append(lun)
    return luns


def _letters(target: str) -> int:
    """vda 0, vdb 1, ... sdaa 26."""
    number = 0
    for letter in target[2:].lower():
        if not "a" <= letter <= "z":
            break
        number = number * 26 + ord(letter) - ord("a") + 1
    return max(0, number - 1)


def _firmware(root: ElementTree.Element) -> str:
    loader = root.find("os/loader")
    system = root.find("os")
    by_name = system is not None and system.get("firmware") == "efi"
    flash = loader is not None and loader.get("type") == "pflash"
    return "uefi" if by_name or flash else "bios"


def _agent(root: ElementTree.Element) -> str:
    for target in root.iterfind("devices/channel/target"):
        if target.get("name") == AGENT_CHANNEL:
            return target.get("state", "disconnected")
    return ""
