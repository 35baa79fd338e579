"""Rules about virtual machines: their names in ARM, who claims them, their disks, consistency."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from holdfast.errors import ConflictError, HoldfastError, NotFoundError, UsageError

MANAGEMENT, WORKLOAD = "AzureIaasVM", "VM"
CONTAINER_PREFIX, ITEM_PREFIX, FAMILY = "IaasVMContainer", "VM", "iaasvmcontainerv2"
LEVELS = ("CrashConsistent", "FileSystemConsistent", "AppConsistent")  # ascending
WISHES = dict(zip(("crash", "file-system", "application"), LEVELS, strict=True))
OS_DISK_LUN, MAX_LUN = -1, 63
MAX_NAME = 64
Claim = Literal["Present", "Missing", "Moved", "ClaimedTwice"]
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_LUN = re.compile(r"-1|[0-9]{1,2}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?")


def resource_name(name: str, uuid: str) -> str:
    """A hypervisor's name as ARM takes names; one of which nothing is left is named by its id."""
    kept = _NOT_IN_NAMES.sub("-", name).strip("._-")[:MAX_NAME].rstrip("._-")
    return kept or f"vm-{uuid[:8]}"


def free_name(wanted: str, host: str, taken: Collection[str]) -> str:
    """``wanted``, or with its host's name, or with a number, so that it differs from ``taken``
    (lower case)."""
    if wanted.lower() not in taken:
        return wanted
    at_host = resource_name(f"{wanted[: MAX_NAME - 1 - len(host)]}-{host}", host)
    tried, number = at_host, 2
    while tried.lower() in taken:
        tried, number = f"{at_host[: MAX_NAME - 5]}-{number}", number + 1
    return tried


def check_machine_name(name: str) -> str:
    """UsageError (InvalidName) for what no virtual machine may be named."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:100]!r} is no name for a virtual machine",
            code="InvalidName",
            hint="1 to 64 letters, digits, full stops, hyphens and underscores",
        )
    return name


def container_name(group: str, machine: str) -> str:
    return f"{CONTAINER_PREFIX};{FAMILY};{group};{machine}"


def item_name(group: str, machine: str) -> str:
    return f"{ITEM_PREFIX};{FAMILY};{group};{machine}"


def is_machine(container: str) -> bool:
    """Whether a container's name is that of a virtual machine."""
    return container.partition(";")[0].lower() == CONTAINER_PREFIX.lower()


def names_in(full: str) -> tuple[str, str] | None:
    """(group, machine) of a container's or item's full name; None when it has another form."""
    first, *rest = full.split(";")
    known = (CONTAINER_PREFIX.lower(), ITEM_PREFIX.lower())
    if first.lower() not in known or len(rest) != 3 or rest[0].lower() != FAMILY:
        return None
    return rest[1], rest[2]


def claim_of(hosts: Collection[str], bound: str | None = None) -> Claim:
    """What the hosts that report a machine make of it. ``bound``: the host it was protected on:
    a machine found elsewhere is not taken for the same until somebody says so."""
    if not hosts:
        return "Missing"
    if len(hosts) > 1:
        return "ClaimedTwice"
    return "Present" if bound is None or bound in hosts else "Moved"


def claim_error(claim: Claim, machine: str, hosts: Iterable[str]) -> HoldfastError:
    """Why nothing is done with a machine that is not simply there."""
    where = ", ".join(sorted(hosts))
    if claim == "ClaimedTwice":
        return ConflictError(
            f"virtual machine {machine} is claimed by several hosts: {where}",
            code="UserErrorVmClaimedByTwoHosts",
            hint="Remove it, or change its UUID, on all but one; unregister a host that is gone.",
        )
    if claim == "Moved":
        return ConflictError(
            f"virtual machine {machine} is now on another host: {where}",
            code="UserErrorVmMoved",
            hint="Say that it is the same: holdfast vm protect NAME --policy P",
        )
    return NotFoundError(
        f"no host reports virtual machine {machine} any more",
        code="UserErrorVmNotFoundV2",
        hint="See what its host reports (holdfast vm list); its recovery points can be restored.",
    )


def read_luns(given: object, least: int) -> list[int] | None:
    """LUNs from ``least`` on, sorted, of a body's list; None when it is no such list. The Azure
    command line sends them as texts."""
    if not isinstance(given, list) or len(given) > MAX_LUN + 2:
        return None
    found = set()
    for one in given:
        text = one if isinstance(one, str) else ""
        number = int(text) if _LUN.fullmatch(text) else one
        if isinstance(number, bool) or not isinstance(number, int):
            return None
        if not least <= number <= MAX_LUN:
            return None
        found.add(number)
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Which disks are backed up: those listed, or all but those. The system's always is."""

    luns: frozenset[int] = frozenset()
    inclusive: bool = False

    def includes(self, lun: int) -> bool:
        return lun == OS_DISK_LUN or (lun in self.luns) == self.inclusive


@dataclass(frozen=True, slots=True)
class ConsistencyWish:
    """What is tried first for a machine, and below what its backups fail; ``minimum`` is empty when
    it has none of its own."""

    wish: str = "AppConsistent"
    minimum: str = ""

    def __post_init__(self) -> None:
        if self.wish not in LEVELS or self.minimum not in ("", *LEVELS):
            raise _no_level()
        if self.minimum and LEVELS.index(self.minimum) > LEVELS.index(self.wish):
            raise UsageError(
                "the least consistency is above the one that is tried",
                code="InvalidConsistency",
                hint="give a higher --consistency, or a lower --at-least",
            )


def level_of(text: str) -> str:
    """A level by its own name or by the word of the command line. UsageError
    (InvalidConsistency)."""
    named = {level.lower(): level for level in LEVELS} | WISHES
    if text.lower() not in named:
        raise _no_level()
    return named[text.lower()]


def _no_level() -> UsageError:
    return UsageError(
        "that is no level of consistency",
        code="InvalidConsistency",
        hint="give application, file-system or crash",
    )
