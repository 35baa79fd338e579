"""The weekly test of a vault's store, by the daily upkeep.

A failure is shown (`vault show`, metrics) and the test is repeated daily until it passes. Only
where it proves that create-if-absent does not hold do backups of the vault stop: two writers could
then both believe that their record is the next, and one would lose a recovery point.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Connection

from holdfast.catalog import upkeep, vaults
from holdfast.catalog.database import Catalog
from holdfast.catalog.upkeep import MaintenanceRun
from holdfast.errors import ConflictError, HoldfastError
from holdfast.vaultstore.probe import NOT_ATOMIC
from holdfast.vaultstore.vault import Vault

log = logging.getLogger(__name__)
KIND = "probe"
EVERY = timedelta(days=7)
PASSED, FAILED = "Completed", "Failed"


def last_probe(connection: Connection, vault_id: str) -> MaintenanceRun | None:
    """The newest test after the one at the vault's creation."""
    return upkeep.last_run(connection, vault_id, KIND)


def probe_if_due(catalog: Catalog, vault: Vault, vault_id: str, now: datetime) -> None:
    """Test the store a week after the last test (or the vault's creation), or when that failed."""
    with catalog.read() as connection:
        last = last_probe(connection, vault_id)
        row = vaults.get_vault(connection, vault_id)
    since = last.started_at if last is not None else row.created_at if row is not None else now
    failed = last is not None and last.status == FAILED
    if not failed and since <= now < since + EVERY:
        return
    found = _probed(vault, vault_id, now, last)
    with catalog.write() as connection:
        upkeep.add_finding(connection, found)


def _probed(
    vault: Vault, vault_id: str, now: datetime, last: MaintenanceRun | None
) -> upkeep.Finding:
    """``atomic`` in the result: whether create-if-absent held when that was seen last."""
    try:
        proven = vault.probe_store()
    except HoldfastError as error:
        log.warning("vault %s: the test of its store failed: %s", vault_id, error.message)
        before = last is None or bool(last.result.get("atomic"))
        result = {"code": error.code, "atomic": before and error.code != NOT_ATOMIC}
        return upkeep.Finding(vault_id, KIND, FAILED, error.message, result, now)
    return upkeep.Finding(vault_id, KIND, PASSED, proven, {"code": "", "atomic": True}, now)


def require_atomic(connection: Connection, vault_id: str) -> None:
    """ConflictError (StoreCreateNotAtomic) when the last test that could tell showed that the
    store's create-if-absent does not hold."""
    last = last_probe(connection, vault_id)
    if last is not None and not last.result.get("atomic"):
        raise ConflictError(
            f"the vault's store was tested at {last.started_at:%F %T} UTC and overwrites what "
            "exists: a backup could lose another",
            code=NOT_ATOMIC,
            hint="Restores go on. Mend the store (conditional writes must work), then have it "
            "tested again: holdfast vault expire NAME -g GROUP",
        )
