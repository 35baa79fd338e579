"""How long a guest's writes take, by libvirt's word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.adapters.hypervisor.libvirt.connection import Connection
from holdfast.domain.guest_pace import Written


def count_writes(connection: Connection, domain: Any, targets: Sequence[str]) -> dict[str, Written]:
    """By the disk's target (vda). A disk whose times libvirt does not know is left out. SourceError
    (LibvirtFailed)."""
    libvirt = connection.libvirt
    writes = libvirt.VIR_DOMAIN_BLOCK_STATS_WRITE_REQ
    spent = libvirt.VIR_DOMAIN_BLOCK_STATS_WRITE_TOTAL_TIMES
    found: dict[str, Written] = {}
    for target in targets:
        try:
            told = domain.blockStatsFlags(target, 0)
        except connection.error as error:
            what = f"libvirt does not say what the guest writes to {target}"
            raise connection.failed(what, error) from error
        if writes in told and spent in told:
            found[target] = Written(int(told[writes]), int(told[spent]))
    return found
