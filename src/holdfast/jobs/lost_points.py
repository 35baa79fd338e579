"""Recovery points the catalog knows and the vault's log does not hold: noticed, named, taken off.

The log is the truth. A point that left by record (it expired) is known from the record that made
it; any other is lost: the vault's folder is an older copy, or was written to elsewhere. Such rows
leave the catalog at once, so that nothing is planned or restored on their word, and are named in
`vault show`, the audit record and the log for ``NAMED_FOR``. Points the log holds and the catalog
does not come back, so that putting the right folder back undoes it all.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import audit, items, jobs, points, upkeep
from holdfast.catalog.database import Catalog
from holdfast.catalog.points import PointRow
from holdfast.jobs.facts import point_row
from holdfast.vaultstore.vault import Vault

log = logging.getLogger(__name__)
KIND = "lost-points"
CODE = "RecoveryPointsLost"
NAMED_FOR = timedelta(days=30)
MOST_NAMED = 1000


def reconcile(catalog: Catalog, vault: Vault, vault_id: str, now: datetime) -> list[str]:
    """Bring the catalog's points in step with a vault just opened; the ids of lost ones. While a
    job changes the points itself, it does so."""
    with catalog.read() as connection:
        busy = any(
            jobs.active_jobs_of(connection, vault_id, kind=kind) for kind in ("expire", "import")
        )
    if busy:
        return []
    lost = note_lost(catalog, vault, vault_id, now)
    _bring_back(catalog, vault, vault_id)
    return lost


def note_lost(catalog: Catalog, vault: Vault, vault_id: str, now: datetime) -> list[str]:
    """Take lost points off the catalog and write down which; their ids."""
    with catalog.read() as connection:
        suspects = points.point_ids(connection, vault_id)
        suspects -= {record.rp_id for record in vault.recovery_points()}
        rows = [points.get_point(connection, vault_id, rp_id) for rp_id in sorted(suspects)]
    lost = [row for row in rows if row and not vault.held_once(row.rp_id, row.sequence)]
    if not lost:
        return []
    with catalog.write() as connection:
        _write_down(connection, vault_id, lost, now)
        points.remove_points(connection, vault_id, [row.rp_id for row in lost])
        refresh_latest(connection, vault_id)
    return [row.rp_id for row in lost]


def _write_down(
    connection: Connection, vault_id: str, lost: Sequence[PointRow], now: datetime
) -> None:
    known = {item.id: item.friendly_name for item in items.items_of_vault(connection, vault_id)}
    named = [
        {"id": row.rp_id, "time": row.time.isoformat(), "item": known.get(row.item_id, "")}
        for row in lost[:MOST_NAMED]
    ]
    detail = f"{len(lost)} recovery points are not in the vault's log"
    run = upkeep.Finding(vault_id, KIND, "Failed", detail, {"points": named}, now)
    upkeep.add_finding(connection, run)
    entry = audit.by_server(
        now,
        "Holdfast.Backup/vaults/recoveryPoints/lost",
        f"vault {vault_id}",
        {"points": named},
        CODE,
    )
    audit.append(connection, entry)
    log.error("vault %s: %s: %s", vault_id, detail, ", ".join(row["id"] for row in named[:20]))


def _bring_back(catalog: Catalog, vault: Vault, vault_id: str) -> None:
    """Rows of points the log holds, of items the catalog knows."""
    with catalog.read() as connection:
        known = points.point_ids(connection, vault_id)
        owners = {row.item_key: row.id for row in items.items_of_vault(connection, vault_id)}
    absent = [
        record
        for record in vault.recovery_points()
        if record.rp_id not in known and record.item_key in owners
    ]
    if not absent:
        return
    with catalog.write() as connection:
        for record in absent:
            points.put_point(connection, point_row(record, vault_id, owners[record.item_key]))
        refresh_latest(connection, vault_id)


def lost_lately(connection: Connection, vault_id: str, now: datetime) -> list[dict[str, str]]:
    """Lost points ({id, time, item}) that are still to be named: not come back since."""
    found = upkeep.findings_since(connection, vault_id, KIND, now - NAMED_FOR)
    named = {one["id"]: one for run in found for one in run.result.get("points", ())}
    back = points.point_ids(connection, vault_id)
    return [one for rp_id, one in sorted(named.items()) if rp_id not in back]


def refresh_latest(connection: Connection, vault_id: str) -> None:
    """Let items name the newest point they have."""
    for item in items.items_of_vault(connection, vault_id):
        latest = points.latest_point(connection, item.id)
        rp_id = latest.rp_id if latest else ""
        if rp_id != item.latest_point_id:
            at = latest.time if latest else None
            items.change_item(connection, item.id, latest_point_id=rp_id, latest_point_at=at)
