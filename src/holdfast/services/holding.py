"""Holding a vault while something about it, or about what it protects, is decided."""

from __future__ import annotations

from sqlalchemy import Connection

from holdfast.catalog import vaults
from holdfast.catalog.vaults import VaultRow
from holdfast.errors import NotFoundError


def hold_vault(connection: Connection, vault: VaultRow) -> VaultRow:
    """The vault as it is now, held until the transaction ends: a deletion of it, or another change
    of how its items stand, waits for this one or was before. NotFoundError (ResourceNotFound) when
    it was deleted since it was looked up."""
    row = vaults.lock_vault(connection, vault.id)
    if row is None or row.deleted_at is not None:
        raise NotFoundError(
            f"The Resource 'Microsoft.RecoveryServices/vaults/{vault.name}' under resource group "
            f"'{vault.group_key}' was not found.",
            hint="it was deleted a moment ago; see: holdfast vault list-deleted",
        )
    return row
