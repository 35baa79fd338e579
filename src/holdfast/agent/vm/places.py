"""Where machines lie on this host, and how their folders are named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from holdfast.agent.vm.definition import described_disk

ODD = re.compile(r"[^A-Za-z0-9._-]+")


def beside_original(described: dict[str, Any], lun: int) -> Path | None:
    """The folder in which the original's own is, or its disks are; None when it is not here."""
    first = described_disk(described, lun).get("path")
    place = Path(str(first or "")).parent
    name = str(described.get("name") or "")
    if name and place.name in (name, instant_folder(name)):
        place = place.parent
    return place if first and place.is_absolute() and place.is_dir() else None


def home_of(described: dict[str, Any], otherwise: Path) -> Path:
    """Beside the original, or where the agent keeps machines."""
    disks = described.get("disks")
    for disk in disks if isinstance(disks, list) else ():
        lun = disk.get("lun") if isinstance(disk, dict) else None
        found = beside_original(described, lun) if isinstance(lun, int) else None
        if found is not None:
            return found
    otherwise.mkdir(parents=True, exist_ok=True, mode=0o700)
    return otherwise


def instant_folder(name: str) -> str:
    """Of a machine that runs from the vault."""
    return f"{plain_name(name)}.instant"


def plain_name(name: str) -> str:
    """A name as a file's: nothing that leads elsewhere."""
    return ODD.sub("_", name).lstrip(".")[:100] or "machine"
