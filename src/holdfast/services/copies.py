"""Vaults over several disks: what is told of the disks, what a person asks for, and the copies that
are written by themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from holdfast.catalog import places, vaults
from holdfast.catalog.places import Region
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import HoldfastError, NotFoundError
from holdfast.ports.copied_store import CopiedStore, CopyMember, addresses_of, copied
from holdfast.services.platform import Platform
from holdfast.services.regions import get_region

log = logging.getLogger(__name__)
Body = dict[str, Any]


def catch_up(platform: Platform, is_over: Callable[[], bool]) -> int:
    """Write copies that disks of any store lack, at the rate of the settings; how many."""
    rate, written = platform.settings.copies_bytes_per_second, 0
    for store in _stores(platform):
        try:
            done = store.catch_up(rate, is_over)
        except HoldfastError as error:  # the others have theirs all the same
            log.warning("copies: %s (%s)", error.message, error.code)
            continue
        written += done.copies
        if done.copies or done.mended:
            log.info("wrote %d copies (%d bytes), %d anew", done.copies, done.size, done.mended)
    return written


def _stores(platform: Platform) -> Iterator[CopiedStore]:
    """Every store of several disks: of regions, and of vaults that lie elsewhere."""
    with platform.catalog.read() as connection:
        found = {(row.store_url, row.name) for row in places.list_regions(connection)}
        rows = [*vaults.list_vaults(connection), *vaults.deleted_vaults(connection)]
    found |= {(row.store_url, row.region) for row in rows}
    for url in sorted({url for url, _ in found if _is_several(url)}):
        region = next(name for one, name in sorted(found) if one == url)
        store = copied(platform.vaults.store(url, region))
        if store is not None:
            yield store


def _is_several(url: str) -> bool:
    """Whether an address names several stores, without opening any."""
    return len(addresses_of(url)) > 1


def store_of(platform: Platform, row: VaultRow) -> CopiedStore | None:
    """A vault's store when it lies on several disks."""
    if not _is_several(row.store_url):
        return None
    return copied(platform.vaults.store(row.store_url, row.region))


def copies_body(store: CopiedStore, prefix: str) -> Body:
    """What `vault show` tells of copies: the disks, and what lies on fewer than all."""
    disks = store.members()
    short = store.shortage(prefix)
    return {
        "count": len(disks),
        "disks": disks_body(disks),
        "objectsWithFewer": short.objects,
        "bytesWithFewer": short.size,
        "warnings": [*_warnings(disks)],
    }


def disks_body(disks: Sequence[CopyMember]) -> list[Body]:
    return [
        {
            "number": disk.number,
            "store": disk.address,
            "decides": disk.is_home,
            "missing": disk.missing,
            "wrongReads": disk.wrong,
        }
        for disk in disks
    ]


def _warnings(disks: Sequence[CopyMember]) -> Iterator[str]:
    yield from (text for text in map(missing_text, disks) if text)
    devices = [disk.device for disk in disks]
    if len(set(devices)) == 1 and devices[0] is not None:
        yield (
            "all copies lie on one device, which takes them all with it: give each store a disk of "
            "its own"
        )
    for disk in disks:
        if disk.wrong:
            yield (
                f"{disk.address} gave other bytes than other disks {disk.wrong} times: what was "
                "read is right, its copies are written anew; look at the disk"
            )


def missing_text(disk: CopyMember) -> str:
    """A disk that takes no part, in words; empty when it does."""
    if not disk.missing:
        return ""
    what = "nothing can be written until it is back or another disk decides"
    else_what = "what is written goes to the others"
    return f"{disk.address} is missing ({disk.missing}): {what if disk.is_home else else_what}"


def disks_of_region(platform: Platform, row: Region) -> list[Body]:
    """The disks of a region; empty when it has one store."""
    if not _is_several(row.store_url):
        return []
    store = copied(platform.vaults.store(row.store_url, row.name))
    return disks_body(store.members()) if store is not None else []


def adopt_disk(platform: Platform, name: str, address: str) -> Region:
    """Take an empty disk in place of one that was lost. NotFoundError (RegionNotFound,
    StoreNotInRegion), ConflictError, StoreUnavailableError."""
    row, store, number = _member(platform, name, address)
    store.adopt(number)
    return row


def fail_over(platform: Platform, name: str, address: str, accept_loss: bool) -> Region:
    """Let another disk decide what is written. Errors as ``adopt_disk``."""
    row, store, number = _member(platform, name, address)
    store.fail_over(number, accept_loss)
    return row


def _member(platform: Platform, name: str, address: str) -> tuple[Region, CopiedStore, int]:
    row = get_region(platform, name)
    store = copied(platform.vaults.store(row.store_url, row.name))
    disks = store.members() if store is not None else ()
    for disk in disks:
        if store is not None and disk.address.rstrip("/") == address.rstrip("/"):
            return row, store, disk.number
    raise NotFoundError(
        f"region {row.name} keeps no copies in {address}",
        code="StoreNotInRegion",
        hint=f"give one of its stores: holdfast region show {row.name}",
    )


def missing_disks(platform: Platform, row: VaultRow) -> list[str]:
    """Disks of a vault's store that take no part, in words."""
    try:
        store = store_of(platform, row)
        disks = store.members() if store is not None else ()
    except HoldfastError:  # told by those who use it
        return []
    return [text for text in map(missing_text, disks) if text]
