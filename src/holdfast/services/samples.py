"""The daily sample of what each vault and item holds."""

from __future__ import annotations

import logging
from datetime import timedelta

from holdfast.catalog import items, points, usage, vaults
from holdfast.catalog.usage import WHOLE, UsageSample
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import HoldfastError
from holdfast.services.platform import Platform

log = logging.getLogger("holdfast.alerts")
KEPT = timedelta(days=400)


def take_samples(platform: Platform) -> int:
    """Of every vault that has none of today; how many. A vault that does not open has none."""
    today, taken = platform.now().date(), 0
    with platform.catalog.read() as connection:
        rows = vaults.list_vaults(connection)
        missing = [row for row in rows if not usage.has_sample(connection, row.id, today)]
    for row in missing:
        try:
            samples = sample_of(platform, row)
        except HoldfastError as error:
            log.info("vault %s has no sample of today: %s", row.name, error.message)
            continue
        with platform.catalog.write() as connection:
            usage.put_samples(connection, samples)
            taken += 1
    with platform.catalog.write() as connection:
        usage.remove_samples_before(connection, today - KEPT)
    return taken


def sample_of(platform: Platform, vault: VaultRow) -> list[UsageSample]:
    """What the vault and its items hold now."""
    today = platform.now().date()
    figures = platform.vaults.open(vault.id).statistics()
    found = []
    with platform.catalog.read() as connection:
        sums = usage.sums_by_item(connection, vault.id)
        newest = [point for _, _, point in sums.values()]
        sizes = points.logical_sizes(connection, vault.id, newest)
        for item in items.items_of_vault(connection, vault.id):
            stored, count, point = sums.get(item.id, (0, 0, ""))
            logical = sizes.get(point, 0)
            found.append(UsageSample(vault.id, today, item.id, logical, stored, count))
    logical = sum(one.logical_bytes for one in found)
    whole = UsageSample(
        vault.id, today, WHOLE, logical, figures.stored_bytes, figures.recovery_points
    )
    return [whole, *found]
