"""Checkpoints: libvirt's name for bitmaps of several disks that began in one moment.

One is named ``holdfast-TOKEN`` after the recovery point it counts from. libvirt lets the old one
record beside the new, so the two phases are plain: commit removes the old, rollback the new. What
libvirt forgot (a host that was set up again) is told to it from the catalog, when the images still
have the bitmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from holdfast.adapters.hypervisor.libvirt import documents
from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.adapters.hypervisor.libvirt.domains import DomainDisk
from holdfast.ports.hypervisor import Generations

PREFIX = "holdfast-"


def checkpoint_name(token: str) -> str:
    return PREFIX + token


def choose(
    disk: DomainDisk, identity: str, generations: Generations, known: Sequence[str]
) -> tuple[str, str]:
    """The checkpoint an increment of the disk can count from, or "" and why it is read in full."""
    parent = generations.parents.get(disk.lun)
    if parent is None:
        return "", "first backup of this disk"
    if parent.identity != identity:
        return "", "another image has taken the place of this disk"
    if disk.format != "qcow2":
        return "", "libvirt keeps no record of changes for a raw image"
    name = checkpoint_name(parent.token)
    if name not in known:
        return "", "the record of changes is gone: the machine ended before it was stored"
    return name, ""


def known_names(domain: Any) -> list[str]:
    """Of ours."""
    names = [str(one.getName()) for one in domain.listAllCheckpoints()]
    return [name for name in names if name.startswith(PREFIX)]


def make_known(
    connection: Connection, domain: Any, name: str, kept: Sequence[str], others: Sequence[str]
) -> bool:
    """Tell libvirt of a checkpoint the catalog knows; False when its bitmaps are not in the images
    or are incomplete."""
    libvirt = connection.libvirt
    flags = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
    flags |= libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
    text = documents.known_checkpoint(name, kept, others, domain.XMLDesc(0))
    try:
        domain.checkpointCreateXML(text, flags)
    except connection.error:
        return False
    return True


def remove(connection: Connection, domain: Any, name: str) -> None:
    """Idempotent. One whose bitmaps are gone is forgotten. libvirt's error when neither works."""
    try:
        found = domain.checkpointLookupByName(name)
    except connection.error:
        return
    try:
        found.delete(0)
    except connection.error:
        found.delete(connection.libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)


def keep_only(connection: Connection, domain: Any, committed: str | None) -> None:
    """All of ours but the committed one go."""
    kept = checkpoint_name(committed) if committed else ""
    for name in known_names(domain):
        if name != kept:
            with suppress(connection.error):
                remove(connection, domain, name)
