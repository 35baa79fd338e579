"""Deleting vaults, and bringing deleted ones back.

A vault that holds nothing, or only deleted items, is deleted softly: it leaves its name, its folder
is not touched, and until its period ends it comes back whole.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import access, containers, items, places, vaults
from holdfast.catalog import jobs as job_rows
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.immutability import is_immutable
from holdfast.domain.names import is_same_location
from holdfast.domain.soft_delete import purge_time
from holdfast.errors import ConflictError, NotFoundError
from holdfast.jobs.erase import PURGING, forget_rows
from holdfast.services import immutable
from holdfast.services.platform import Platform
from holdfast.services.vault_bodies import soft_delete_of

NOT_EMPTY = "ServiceResourceNotEmptyWithBackendMessage"


def delete_vault(platform: Platform, group: str, name: str) -> bool:
    """Delete a vault that protects nothing; False when there was none. With soft delete it can be
    undeleted until its period ends. Without, it is forgotten at once, and its objects stay in the
    store until the folder is removed by hand: ``vault import`` brings them back.

    ConflictError (ServiceResourceNotEmptyWithBackendMessage) while anything is protected,
    (UserErrorVaultImmutable) while an immutable vault holds recovery points."""
    with platform.catalog.write() as connection:
        found = vaults.find_vault(connection, platform.subscription_id, group, name)
        row = vaults.lock_vault(connection, found.id) if found is not None else None
        if row is None or row.deleted_at is not None:
            return False
        _check_empty(connection, row)
        immutable.check_whole(connection, row)
        _check_idle(connection, row)
        _forget_roles(connection, row)
        if soft_delete_of(row).keeps:
            _mark(platform, connection, row)
        else:
            forget_rows(connection, row)
    platform.vaults.forget(row.id)
    return True


def _forget_roles(connection: Connection, row: VaultRow) -> None:
    """Roles go with the name: another vault may have it while this one is deleted."""
    group = f"/subscriptions/{row.subscription_id}/resourceGroups/{row.group_key}"
    vault = f"{group}/providers/Microsoft.RecoveryServices/vaults/{row.name}"
    access.remove_assignments_below(connection, vault)


def _check_empty(connection: Connection, row: VaultRow) -> None:
    live = items.count_live_items(connection, row.id)
    if live:
        raise _not_empty(
            row,
            f"{live} protected item(s)",
            "delete the data of its items first: holdfast item disable --delete-data"
            if not is_immutable(row.immutability)
            else "the vault is immutable: its points must expire first, then their data may be "
            "deleted: holdfast item disable --keep-policy",
        )
    if containers.agents_of_vault(connection, row.id):
        raise _not_empty(
            row,
            "registered machines",
            "unregister them first: holdfast container unregister HOST",
        )
    if items.count_items(connection, row.id) and not soft_delete_of(row).keeps:
        raise _not_empty(
            row,
            "deleted items that are kept for a while",
            "undelete them and delete their data again, now that soft delete is off; or turn it on",
        )


def _not_empty(row: VaultRow, what: str, hint: str) -> ConflictError:
    return ConflictError(
        f"Vault {row.name} cannot be deleted: there are existing resources within the vault: "
        f"{what}.",
        code=NOT_EMPTY,
        hint=hint,
    )


def _check_idle(connection: Connection, row: VaultRow) -> None:
    running = job_rows.active_jobs_of(connection, row.id)
    if running:
        raise ConflictError(
            f"vault {row.name} has a running job ({running[0].operation}, {running[0].id})",
            code="UserErrorOperationInProgress",
            hint="wait for it or cancel it, then try again",
        )


def _mark(platform: Platform, connection: Connection, row: VaultRow) -> None:
    """What lies in it is kept as long as the vault itself."""
    now, days = platform.now(), soft_delete_of(row).days
    purge_at = purge_time(now, days)
    for item in items.items_of_vault(connection, row.id):
        latest = max(item.purge_at or purge_at, purge_at)
        items.change_item(connection, item.id, purge_at=latest)
    vaults.note_life(connection, row.id)
    vaults.change_vault(
        connection,
        row.id,
        name_key=vaults.deleted_key(row.id),
        deleted_at=now,
        purge_at=purge_at,
        days_deleted=0,
        etag=platform.new_etag(),
        updated_at=now,
    )


def list_deleted(platform: Platform, location: str) -> list[VaultRow]:
    """Deleted vaults of a location, the one that goes next first."""
    with platform.catalog.read() as connection:
        rows = vaults.deleted_vaults(connection)
    return [row for row in rows if is_same_location(row.location, location)]


def find_deleted(platform: Platform, location: str, name: str) -> VaultRow:
    """By the vault's GUID. NotFoundError (DeletedVaultNotFound)."""
    for row in list_deleted(platform, location):
        if row.id == name.lower():
            return row
    raise NotFoundError(
        f"there is no deleted vault {name[:100]} in {location[:100]}",
        code="DeletedVaultNotFound",
        hint="see which there are: holdfast vault list-deleted",
    )


def undelete_vault(platform: Platform, location: str, name: str, group: str) -> VaultRow:
    """Bring a deleted vault back, under its name, into ``group``. Its items stay deleted until each
    is undeleted.

    NotFoundError (DeletedVaultNotFound, ResourceGroupNotFound), ConflictError (VaultExists) when
    another vault has the name now, (UserErrorOperationInProgress) when it is going for good."""
    found = find_deleted(platform, location, name)
    with platform.catalog.write() as connection:
        row = vaults.lock_vault(connection, found.id)
        if row is None or row.deleted_at is None:
            raise NotFoundError(
                f"vault {found.name} is not deleted any more",
                code="DeletedVaultNotFound",
                hint="somebody else undeleted it; see: holdfast vault list",
            )
        if row.state == PURGING:
            raise ConflictError(
                f"vault {row.name} is being removed for good",
                code="UserErrorOperationInProgress",
                hint="its time had run out; it cannot be brought back",
            )
        _check_idle(connection, row)
        _check_place(platform, connection, row, group)
        values: dict[str, Any] = {
            "group_key": group.lower(),
            "name_key": row.name.lower(),
            "deleted_at": None,
            "purge_at": None,
            "etag": platform.new_etag(),
            "updated_at": platform.now(),
        }
        vaults.change_vault(connection, row.id, **values)
        return replace(row, **values)


def _check_place(platform: Platform, connection: Connection, row: VaultRow, group: str) -> None:
    if places.get_group(connection, platform.subscription_id, group) is None:
        raise NotFoundError(
            f"Resource group '{group}' could not be found.",
            code="ResourceGroupNotFound",
            hint="create it first: PUT the resource group",
        )
    if vaults.find_vault(connection, platform.subscription_id, group, row.name) is not None:
        raise ConflictError(
            f"{group} has another vault {row.name} now",
            code="VaultExists",
            hint="undelete it into another resource group: --recovery-group GROUP",
        )
