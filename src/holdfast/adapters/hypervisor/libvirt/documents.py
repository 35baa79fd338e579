"""The XML libvirt is given for a backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

BITMAP = "changes"  # what an export calls its record of changes


@dataclass(frozen=True, slots=True)
class Wanted:
    """A disk of a backup. ``since``: the checkpoint its changes count from, empty for none.
    ``keeps``: it can have a record of changes from now on."""

    target: str
    scratch: Path
    since: str
    keeps: bool


def backup(socket: Path, wanted: Sequence[Wanted], others: Sequence[str]) -> str:
    """A pull backup of these disks and not of the others."""
    root = Element("domainbackup", mode="pull")
    SubElement(root, "server", transport="unix", socket=str(socket))
    disks = SubElement(root, "disks")
    for one in wanted:
        disk = SubElement(disks, "disk", name=one.target, backup="yes", type="file")
        disk.set("exportname", one.target)
        disk.set("backupmode", "incremental" if one.since else "full")
        if one.since:
            disk.set("incremental", one.since)
            disk.set("exportbitmap", BITMAP)
        SubElement(disk, "driver", type="qcow2")
        SubElement(disk, "scratch", file=str(one.scratch))
    for target in others:
        SubElement(disks, "disk", name=target, backup="no")
    return ElementTree.tostring(root, encoding="unicode")


def checkpoint(name: str, kept: Sequence[str], others: Sequence[str]) -> str:
    """From this moment the changes of these disks are recorded under that name."""
    root = Element("domaincheckpoint")
    SubElement(root, "name").text = name
    _disks(root, name, kept, others)
    return ElementTree.tostring(root, encoding="unicode")


def known_checkpoint(name: str, kept: Sequence[str], others: Sequence[str], domain: str) -> str:
    """One whose bitmaps are in the images while libvirt does not know of it (any more). When it was
    made does not matter. ``domain``: the machine's own XML, which libvirt wants in it."""
    root = Element("domaincheckpoint")
    SubElement(root, "name").text = name
    SubElement(root, "creationTime").text = "0"
    _disks(root, name, kept, others)
    root.append(ElementTree.fromstring(domain))  # noqa: S314 - written by the host's libvirt
    return ElementTree.tostring(root, encoding="unicode")


def _disks(root: Element, name: str, kept: Sequence[str], others: Sequence[str]) -> None:
    disks = SubElement(root, "disks")
    for target in kept:
        SubElement(disks, "disk", name=target, checkpoint="bitmap", bitmap=name)
    for target in others:
        SubElement(disks, "disk", name=target, checkpoint="no")
