"""The life of a protected item: stop, suspend, delete, undelete; protecting and resuming follow.

Each is one change of the catalog with the job that tells of it, so a server that dies has done all
of it or nothing. Deleted data stays in the store untouched until its period ends; only the purge
job, then the collect, take anything away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from holdfast.catalog import containers, items, points, vaults
from holdfast.catalog import jobs as job_rows
from holdfast.catalog.items import ItemRow
from holdfast.catalog.vaults import VaultRow
from holdfast.domain.lifecycle import (
    CONTAINER_SOFT_DELETED,
    SOFT_DELETED,
    STOPPED,
    check_asked_state,
    check_item_step,
    soft_deleted,
)
from holdfast.domain.soft_delete import purge_time
from holdfast.domain.virtual_machines import WORKLOAD
from holdfast.errors import ConflictError
from holdfast.ports.jobs import JobSpec
from holdfast.services import alerts, immutable
from holdfast.services.etags import check_etag
from holdfast.services.holding import hold_vault
from holdfast.services.items import SavedItem, find_item, protect_item, record_job
from holdfast.services.platform import Platform
from holdfast.services.vault_bodies import soft_delete_of

Body = dict[str, Any]
DISABLE, UNDELETE, DELETE = "DisableBackup", "Undelete", "DeleteBackupData"


def put_item(
    platform: Platform,
    vault: VaultRow,
    container: str,
    name: str,
    properties: Body,
    by: str,
    if_match: str | None = None,
) -> SavedItem:
    """Undelete (``isRehydrate``), stop (``protectionState`` ProtectionStopped), suspend
    (BackupsSuspended), or protect, change and resume an item, as the body says. UsageError
    (UserErrorNotSupported) for a state that no item is put into."""
    if properties.get("isRehydrate"):
        return _undelete(platform, vault, container, name, by, if_match)
    state = properties.get("protectionState")
    check_asked_state(state)
    if state in STOPPED:
        return _stop(platform, vault, container, name, str(state), by, if_match)
    return protect_item(platform, vault, container, name, properties, by, if_match)


def _held(
    connection: Connection, vault: VaultRow, container: str, name: str, *, idle: bool
) -> ItemRow:
    """The item, held until the transaction ends with its vault. ConflictError
    (UserErrorOperationInProgress) when it must be idle and is not."""
    hold_vault(connection, vault)
    _, found = find_item(connection, vault, container, name)
    row = items.lock_item(connection, found.id) or found
    running = job_rows.active_jobs_of(connection, vault.id, item_id=row.id) if idle else []
    if running:
        raise ConflictError(
            f"{row.friendly_name} has a running job ({running[0].operation}, {running[0].id})",
            code="UserErrorOperationInProgress",
            hint="wait for it or cancel it, then try again",
        )
    return row


def _stop(
    platform: Platform,
    vault: VaultRow,
    container: str,
    name: str,
    state: str,
    by: str,
    if_match: str | None,
) -> SavedItem:
    """Stopping for ever takes the policy away; suspending leaves it to go on expiring points."""
    with platform.catalog.write() as connection:
        old = _held(connection, vault, container, name, idle=False)
        check_etag(if_match, old.etag, f"item {old.friendly_name}")
        if old.deleted_at is not None:
            raise soft_deleted(old.friendly_name)
        check_item_step(old.life_state, state)
        values: Body = {"protection_state": state, "next_run_at": None}
        if state == "ProtectionStopped":
            values |= {"policy_id": None, "properties": immutable.kept_by(connection, old)}
        row = _changed(platform, connection, old, values)
        alerts.item_changed(platform, connection, old, row)
        job = record_job(platform, connection, row, "disable", by)
    platform.jobs.wake()
    return SavedItem(row, job, DISABLE)


def _changed(platform: Platform, connection: Connection, old: ItemRow, values: Body) -> ItemRow:
    written = {**values, "etag": platform.new_etag(), "updated_at": platform.now()}
    items.change_item(connection, old.id, **written)
    vaults.note_life(connection, old.vault_id)
    return replace(old, **written)


def delete_item(platform: Platform, vault: VaultRow, container: str, name: str, by: str) -> str:
    """Stop protection and delete the data; the job's id. With soft delete all of it stays for the
    vault's period and can be undeleted; without, a job removes it at once. Deleting again changes
    nothing. ConflictError (UserErrorVaultImmutable) before its points have expired."""
    with platform.catalog.write() as connection:
        row = _held(connection, vault, container, name, idle=True)
        held = vaults.get_vault(connection, vault.id) or vault
        setting = soft_delete_of(held)
        if row.deleted_at is None:
            immutable.check_delete(connection, held, row, platform.now())
            count = points.count_points(connection, row.id)
            alerts.data_deleted(platform, connection, row, by, count)
        if row.deleted_at is None and not setting.keeps:
            job = _remove(platform, connection, row, by)
        else:
            if row.deleted_at is None:
                _mark(platform, connection, row, setting.days)
            job = record_job(platform, connection, row, "delete", by)
    platform.jobs.wake()
    return job


def _mark(platform: Platform, connection: Connection, row: ItemRow, days: int) -> None:
    check_item_step(row.life_state, SOFT_DELETED)
    now = platform.now()
    values: Body = {
        "protection_state": "ProtectionStopped",
        "policy_id": None,
        "properties": immutable.kept_by(connection, row),
        "missed_ranges": [],
        "next_run_at": None,
        "deleted_at": now,
        "purge_at": purge_time(now, days, row.latest_point_at),
        "days_deleted": 0,
        "soft_delete_days": days,
    }
    _changed(platform, connection, row, values)
    if row.workload_type == WORKLOAD:  # its container is nothing without it
        containers.change_container(
            connection, row.container_id, registration_status=CONTAINER_SOFT_DELETED, updated_at=now
        )


def _remove(platform: Platform, connection: Connection, row: ItemRow, by: str) -> str:
    spec = JobSpec(
        kind="purge",
        vault_id=row.vault_id,
        entity_name=row.friendly_name,
        item_id=row.id,
        parameters={"immediate": True},
        created_by=by,
    )
    _changed(
        platform,
        connection,
        row,
        {"protection_state": "ProtectionStopped", "policy_id": None, "next_run_at": None},
    )
    return platform.jobs.create(connection, spec)


def _undelete(
    platform: Platform, vault: VaultRow, container: str, name: str, by: str, if_match: str | None
) -> SavedItem:
    """Back to stopped protection, with all recovery points; also when the period has ended, until
    the maintenance takes it. Its machine counts as registered again."""
    with platform.catalog.write() as connection:
        old = _held(connection, vault, container, name, idle=True)
        check_etag(if_match, old.etag, f"item {old.friendly_name}")
        if old.deleted_at is None:
            raise ConflictError(
                f"the data of {old.friendly_name} is not deleted",
                code="UserErrorItemNotSoftDeleted",
                hint="there is nothing to undelete; see: holdfast item list",
            )
        check_item_step(old.life_state, "ProtectionStopped")
        nothing = {"deleted_at": None, "purge_at": None, "soft_delete_days": None}
        row = _changed(
            platform, connection, old, {**nothing, "protection_state": "ProtectionStopped"}
        )
        holder = containers.get_container(connection, row.container_id)
        if holder is not None and holder.registration_status == CONTAINER_SOFT_DELETED:
            containers.change_container(
                connection, holder.id, registration_status="Registered", updated_at=platform.now()
            )
        alerts.data_undeleted(platform, connection, row)
        job = record_job(platform, connection, row, "undelete", by)
    platform.jobs.wake()
    return SavedItem(row, job, UNDELETE)
